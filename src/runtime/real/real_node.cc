#include "runtime/real/real_node.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <latch>
#include <thread>

#include "runtime/aio/aio_driver.h"
#include "runtime/host/clock.h"
#include "runtime/host/doorbells.h"
#include "runtime/host/host_driver.h"
#include "runtime/real/helper_threads.h"
#include "runtime/real/processors.h"
#include "runtime/real/watchdog.h"
#include "runtime/scope.h"
#include "runtime/uring/uring_driver.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

constexpr uint32_t kShardsMax = 256;

// --- signals: the one thing that a process has once. The handler notes the signal and rings shard
// 0.
std::atomic<int> stop_signal{0};
std::atomic<const Doorbells*> signalled_doorbells{nullptr};

void note_signal(int signal) {
    // The user insists: the next one ends the process.
    if (signal == SIGINT) ::signal(SIGINT, SIG_DFL);
    stop_signal.store(signal, std::memory_order_relaxed);
    if (const Doorbells* doorbells = signalled_doorbells.load(std::memory_order_acquire))
        doorbells->ring(0);
}

class Signals {
  public:
    explicit Signals(const Doorbells* doorbells) {
        CHECK(signalled_doorbells.exchange(doorbells) == nullptr);
        stop_signal.store(0);
        struct sigaction action{};
        action.sa_handler = &note_signal;
        sigemptyset(&action.sa_mask);
        action.sa_flags = SA_RESTART;
        sigaction(SIGTERM, &action, &before_term_);
        sigaction(SIGINT, &action, &before_int_);
    }
    ~Signals() {
        sigaction(SIGTERM, &before_term_, nullptr);
        sigaction(SIGINT, &before_int_, nullptr);
        signalled_doorbells.store(nullptr);
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    // The signal that came, once; 0 if none.
    static int take() {
        if (stop_signal.load(std::memory_order_relaxed) == 0) return 0;
        return stop_signal.exchange(0);
    }

  private:
    struct sigaction before_term_{};
    struct sigaction before_int_{};
};

class Node;

// One shard's thread, and the messages that end it.
struct ShardThread {
    struct Control : Message {
        ShardThread* thread = nullptr;
    };
    Node* node = nullptr;
    ShardId id = 0;
    int processor = -1;
    Result<void> started;
    std::thread thread;

    // Used on the shard's thread alone.
    Shard* shard = nullptr;
    Scope* root = nullptr;
    bool leave = false;

    Control close;   // to this shard: close your remote scope
    Control closed;  // back to shard 0
    Control end;     // to this shard: leave the loop
};

class Node final : public RealNode {
  public:
    Node(const RealNodeOptions& options, const NodeMain& main, uint32_t count, bool pin, Logger log,
         Doorbells doorbells)
        : options_(options),
          main_(main),
          log_(std::move(log)),
          doorbells_(std::move(doorbells)),
          threads_(count),
          made_(count),
          ready_(count),
          left_(count) {
        const Processors processors = find_processors();
        for (uint32_t i = 0; i < count; ++i) {
            threads_[i].node = this;
            threads_[i].id = i;
            if (pin) threads_[i].processor = processors.usable[i];
        }
        group_.shards.resize(count, nullptr);
    }

    Result<int> run(DriverChoice driver) {
        choice_ = driver;
        if (options_.stall_threshold > Duration(0)) {
            watchdog_.emplace(Watchdog::Options{.threshold = options_.stall_threshold,
                                                .log = log_,
                                                .clock = &clock_,
                                                .shards = group_.count()});
        }
        helpers_.emplace(std::max(1u, group_.count() / 2), group_, doorbells_);
        set_helpers(group_, &*helpers_);
        for (ShardThread& thread : threads_)
            thread.thread = std::thread([this, &thread] { run_shard(thread); });
        for (ShardThread& thread : threads_) thread.thread.join();
        set_helpers(group_, nullptr);
        for (ShardThread& thread : threads_) {
            if (!thread.started) return fail(thread.started.error());
        }
        return exit_code_;
    }

    Shard& shard() override { return *group_.shards[0]; }
    std::string_view driver_name() const override { return driver_name_; }
    uint32_t shard_count() const override { return group_.count(); }
    StopToken stop_token() override { return stop_.token(); }
    void request_stop() override { stop_.request_stop(); }
    StallCounts stalls(ShardId shard) const override {
        return watchdog_ ? watchdog_->counts(shard) : StallCounts{};
    }

  private:
    Result<std::unique_ptr<Driver>> make_driver(ShardId id) {
        const HostOptions host{
            .shard = id, .clock = &clock_, .doorbells = &doorbells_, .log = log_};
        if (choice_ == DriverChoice::kUring) return UringDriver::create(host);
        return AioDriver::create(host);
    }

    void run_shard(ShardThread& self) {
        pthread_setname_np(pthread_self(), fmt::format("weir-{}", self.id).c_str());
        if (self.processor >= 0) pin_this_thread(self.processor);
        auto driver = make_driver(self.id);
        if (!driver) {
            self.started = fail(driver.error());
            failed_.store(true);
        } else if (self.id == 0) {
            driver_name_ = (*driver)->name();
        }
        made_.arrive_and_wait();
        if (failed_.load()) return;
        uint64_t seed = 0;
        (*driver)->fill_entropy({reinterpret_cast<uint8_t*>(&seed), sizeof seed});
        Shard shard(
            {.id = self.id, .driver = driver->get(), .group = &group_, .log = log_, .seed = seed});
        shard.open_rings(group_.count());
        ready_.arrive_and_wait();
        Shard::set_current(&shard);
        {
            Scope root;
            self.shard = &shard;
            self.root = &root;
            if (self.id == 0) root.spawn(run_main());
            if (watchdog_) watchdog_->attach(shard);
            run_loop(self, **driver);
            if (watchdog_) watchdog_->detach(self.id);
        }
        // No shard is destroyed while another may still look at it.
        left_.arrive_and_wait();
        Shard::set_current(nullptr);
    }

    void run_loop(ShardThread& self, Driver& driver) {
        Shard& shard = *self.shard;
        while (!self.leave || self.root->size() > 0) {
            if (self.id == 0) take_signal();
            helpers_->deliver(self.id);
            if (!shard.turn() && shard.prepare_to_park()) {
                if (helpers_->has_done(self.id)) {
                    shard.unpark();
                    driver.poll(Instant{});
                } else {
                    park(self, driver);
                }
            } else {
                driver.poll(Instant{});
            }
        }
    }

    void park(ShardThread& self, Driver& driver) {
        Shard& shard = *self.shard;
        if (watchdog_) watchdog_->parks(self.id);
        driver.poll(self.leave ? Instant{} : shard.next_deadline());
        if (watchdog_) watchdog_->wakes(self.id);
        shard.unpark();
    }

    void take_signal() {
        if (!options_.handle_signals) return;
        const int signal = Signals::take();
        if (signal == 0) return;
        log_.info("runtime", "stopping", "signal={}", signal == SIGTERM ? "SIGTERM" : "SIGINT");
        stop_.request_stop();
    }

    // Shard 0's root. When main ended: all remote scopes close, its own last; then all loops end.
    Task<void> run_main() {
        exit_code_ = co_await main_(*this);
        size_t left = threads_.size() - 1;
        still_open_ = left;
        for (ShardThread& thread : threads_) {
            if (thread.id == 0) continue;
            thread.close.thread = thread.closed.thread = thread.end.thread = &thread;
            thread.close.run = [](Message& message) {
                ShardThread& target = *static_cast<ShardThread::Control&>(message).thread;
                target.root->spawn(target.node->close_shard(&target));
            };
            threads_[0].shard->send(thread.id, thread.close);
        }
        while (still_open_ > 0) (void)co_await all_closed_.wait();
        co_await threads_[0].shard->remote_scope().close();
        for (ShardThread& thread : threads_) {
            if (thread.id == 0) continue;
            thread.end.run = [](Message& message) {
                static_cast<ShardThread::Control&>(message).thread->leave = true;
            };
            threads_[0].shard->send(thread.id, thread.end);
        }
        threads_[0].leave = true;
    }

    Task<void> close_shard(ShardThread* self) {
        co_await self->shard->remote_scope().close();
        self->closed.run = [](Message& message) {
            Node& node = *static_cast<ShardThread::Control&>(message).thread->node;
            if (--node.still_open_ == 0) node.all_closed_.notify_all();
        };
        self->shard->send(0, self->closed);
    }

    const RealNodeOptions& options_;
    const NodeMain& main_;
    const Logger log_;
    const HostClock clock_;
    const Doorbells doorbells_;
    DriverChoice choice_ = DriverChoice::kAuto;
    ShardGroup group_;
    std::vector<ShardThread> threads_;
    std::latch made_, ready_, left_;
    std::atomic<bool> failed_{false};
    std::string_view driver_name_;
    int exit_code_ = 0;

    std::optional<Watchdog> watchdog_;
    std::optional<HelperThreads> helpers_;

    // Shard 0's.
    StopSource stop_;
    WaitQueue all_closed_;
    size_t still_open_ = 0;

  public:
    const Doorbells& doorbells() const { return doorbells_; }
};

Result<int> run_with(const RealNodeOptions& options, const NodeMain& main, DriverChoice driver,
                     const Logger& log) {
    const Processors processors = find_processors();
    const uint32_t count =
        options.shards == 0 ? std::min(processors.allowed, kShardsMax) : options.shards;
    if (count > kShardsMax)
        return fail(ErrorCode::kInvalidArgument, fmt::format("at most {} shards", kShardsMax));
    // Containers that share a host by quota would all be pinned to the same first processors.
    const bool pin = options.pin && count <= processors.usable.size() &&
                     processors.allowed == processors.usable.size();
    TRY_ASSIGN(Doorbells doorbells, Doorbells::create(count));
    Node node(options, main, count, pin, log, std::move(doorbells));
    std::optional<Signals> signals;
    if (options.handle_signals) signals.emplace(&node.doorbells());
    return node.run(driver);
}

}  // namespace

Result<DriverChoice> parse_driver_choice(std::string_view text) {
    if (text == "auto") return DriverChoice::kAuto;
    if (text == "uring") return DriverChoice::kUring;
    if (text == "aio") return DriverChoice::kAio;
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("no driver '{}': auto, uring or aio", text));
}

Result<int> run_real_node(RealNodeOptions options, NodeMain main) {
    // A peer that went away is an error of the send, not of the process.
    ::signal(SIGPIPE, SIG_IGN);
    if (!options.log_sink)
        options.log_sink = Logger::stderr_sink([] { return HostClock::wall_now().ms; });
    const Logger log(options.log_level, options.log_sink);
    if (options.driver != DriverChoice::kAuto) return run_with(options, main, options.driver, log);
    Result<int> result = run_with(options, main, DriverChoice::kUring, log);
    if (result || result.error().code != ErrorCode::kUnavailable) return result;
    log.warn("runtime", "using the aio driver", "because=\"{}\"", result.error().message);
    return run_with(options, main, DriverChoice::kAio, log);
}

}  // namespace weir::runtime

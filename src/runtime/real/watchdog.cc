#include "runtime/real/watchdog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "runtime/host/clock.h"
#include "runtime/real/frames.h"
#include "runtime/real/symbolize.h"

namespace weir::runtime {
namespace {

constexpr Duration kPeriod = 1ms;
constexpr int kQuietSamples = 2;       // with all shards parked, before the watchdog sleeps
constexpr Duration kReportEvery = 1s;  // of one shard
constexpr Duration kReportWhileRunning = 1s;
// Ignored by default, so that one that comes late hurts nobody.
constexpr int kTraceSignal = SIGURG;

Duration processor_time(clockid_t clock) {
    timespec ts{};
    if (clock_gettime(clock, &ts) != 0) return {};
    return ts.tv_sec * Duration(1s) + Duration(ts.tv_nsec);
}

// Whether the thread runs or would run, rather than waits for something in the kernel.
bool wants_processor(pid_t thread) {
    const int fd =
        ::open(fmt::format("/proc/self/task/{}/stat", thread).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    char text[256] = {};
    const ssize_t got = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    // proc(5): the state follows the name in parentheses.
    const std::string_view line(text, got > 0 ? static_cast<size_t>(got) : 0);
    return line.substr(std::min(line.rfind(')'), line.size())).starts_with(") R");
}

int64_t ms(Duration duration) { return duration / 1ms; }

struct Registers {
    uintptr_t pc = 0;
    uintptr_t frame = 0;
};

Registers registers_of(const void* context) {
    const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
    return {static_cast<uintptr_t>(machine.gregs[REG_RIP]),
            static_cast<uintptr_t>(machine.gregs[REG_RBP])};
#elif defined(__aarch64__)
    return {static_cast<uintptr_t>(machine.pc), static_cast<uintptr_t>(machine.regs[29])};
#else
    return {};
#endif
}

}  // namespace

thread_local Watchdog::Seat* Watchdog::this_seat = nullptr;

Watchdog::Watchdog(Options options) : options_(std::move(options)) {
    for (uint32_t i = 0; i < options_.shards; ++i) seats_.push_back(std::make_unique<Seat>());
    struct sigaction action{};
    action.sa_sigaction = &handle_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART | SA_SIGINFO;
    sigaction(kTraceSignal, &action, nullptr);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { serve(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void Watchdog::attach(Shard& shard) {
    Seat& seat = *seats_[shard.id()];
    pthread_attr_t attributes;
    void* low = nullptr;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &low, &size) != 0) size = 0;
        pthread_attr_destroy(&attributes);
    }
    seat.stack_low = reinterpret_cast<uintptr_t>(low);
    seat.stack_high = seat.stack_low + size;
    this_seat = &seat;
    {
        const std::lock_guard lock(mutex_);
        seat.shard = &shard;
        seat.thread_id = static_cast<pid_t>(syscall(SYS_gettid));
        pthread_getcpuclockid(pthread_self(), &seat.cpu_clock);
    }
    wakes(shard.id());
}

void Watchdog::detach(ShardId id) {
    const std::lock_guard lock(mutex_);
    Seat& seat = *seats_[id];
    if (seat.watching) end_of_step(seat, options_.clock->now());
    seat.shard = nullptr;
    seat.awake.store(false);
    this_seat = nullptr;
}

StallCounts Watchdog::counts(ShardId id) const {
    const Seat& seat = *seats_[id];
    return {.count = seat.stalls.load(std::memory_order_relaxed),
            .starved = seat.starved.load(std::memory_order_relaxed),
            .total = Duration(seat.stalled_ns.load(std::memory_order_relaxed)),
            .longest = Duration(seat.longest_ns.load(std::memory_order_relaxed))};
}

void Watchdog::rouse() {
    {
        const std::lock_guard lock(mutex_);
        asleep_.store(false, std::memory_order_relaxed);
    }
    changed_.notify_one();
}

bool Watchdog::any_awake() const {
    return std::ranges::any_of(
        seats_, [](const auto& seat) { return seat->awake.load(std::memory_order_relaxed); });
}

void Watchdog::sleep_while_parked(std::unique_lock<std::mutex>& lock) {
    asleep_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!any_awake()) {
        changed_.wait(lock,
                      [this] { return stopping_ || !asleep_.load(std::memory_order_relaxed); });
    }
    asleep_.store(false, std::memory_order_relaxed);
}

void Watchdog::serve() {
    pthread_setname_np(pthread_self(), "weir-watchdog");
    int quiet = 0;
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        quiet = any_awake() ? 0 : quiet + 1;
        if (quiet >= kQuietSamples) {
            sleep_while_parked(lock);
            quiet = 0;
        }
        changed_.wait_for(lock, kPeriod);
        const Instant now = options_.clock->now();
        for (const auto& seat : seats_) {
            if (seat->shard != nullptr) sample(*seat, now);
        }
    }
}

void Watchdog::sample(Seat& seat, Instant now) {
    const uint64_t step = seat.shard->steps();
    const bool running = seat.awake.load(std::memory_order_relaxed) && seat.shard->in_step();
    if (seat.watching && (!running || step != seat.step)) end_of_step(seat, now);
    if (!running) return;
    if (!seat.watching) {
        seat.watching = true;
        seat.judged = seat.stalled = seat.reporting = seat.said = false;
        seat.step = step;
        seat.since = now;
        seat.ran = processor_time(seat.cpu_clock);
        return;
    }
    // It may never end.
    if (seat.reporting && !seat.said && now - seat.since >= kReportWhileRunning) {
        seat.said = true;
        report(seat, "a step does not end", now);
    }
    if (seat.judged) return;
    // It began up to a period before it was first seen.
    if (now - seat.since + kPeriod >= options_.threshold) judge(seat, now);
}

void Watchdog::judge(Seat& seat, Instant now) {
    seat.judged = true;
    const Duration ran = processor_time(seat.cpu_clock) - seat.ran;
    if (2 * ran < now - seat.since && wants_processor(seat.thread_id)) {
        seat.starved.fetch_add(1, std::memory_order_relaxed);
        options_.log.debug("runtime", "a step waits for a processor", "shard={} ms={}",
                           seat.shard->id(), ms(now - seat.since));
        return;
    }
    seat.stalled = true;
    seat.stalls.fetch_add(1, std::memory_order_relaxed);
    if (seat.last_report.ns != 0 && now - seat.last_report < kReportEvery) {
        ++seat.suppressed;
        return;
    }
    seat.last_report = now;
    seat.reporting = true;
    seat.processor_percent = 100 * ran.count() / std::max<int64_t>(1, (now - seat.since).count());
    seat.stack = stack_of(seat);
}

void Watchdog::end_of_step(Seat& seat, Instant now) {
    seat.watching = false;
    if (!seat.stalled) return;
    const Duration held = now - seat.since;
    seat.stalled_ns.fetch_add(held.count(), std::memory_order_relaxed);
    seat.longest_ns.store(std::max(seat.longest_ns.load(std::memory_order_relaxed), held.count()),
                          std::memory_order_relaxed);
    if (seat.reporting) report(seat, "a step holds its shard", now);
}

void Watchdog::report(Seat& seat, std::string_view what, Instant now) {
    options_.log.warn("runtime", what,
                      "shard={} ms={} on_processor={}% not_reported={} stack=\"{}\"",
                      seat.shard->id(), ms(now - seat.since), seat.processor_percent,
                      std::exchange(seat.suppressed, 0), seat.stack);
}

std::string Watchdog::stack_of(Seat& seat) {
    constexpr int kPatience = 100;
    seat.trace.ready.store(false, std::memory_order_relaxed);
    seat.trace.wanted.store(true, std::memory_order_release);
    if (syscall(SYS_tgkill, getpid(), seat.thread_id, kTraceSignal) != 0) return "unknown";
    for (int i = 0; i < kPatience && !seat.trace.ready.load(std::memory_order_acquire); ++i)
        usleep(100);
    if (!seat.trace.ready.load(std::memory_order_acquire)) {
        seat.trace.wanted.store(false, std::memory_order_relaxed);
        return "unknown";  // blocked in the kernel, or without a processor
    }
    std::string text;
    for (const std::string& line : symbolize({seat.trace.frames.data(), seat.trace.count})) {
        if (!text.empty()) text += " < ";
        text += line;
        if (line.find("::Shard::turn") != std::string::npos)
            break;  // the loop below is always the same
    }
    return text;
}

__attribute__((no_sanitize("address", "thread"))) void Watchdog::handle_signal(int, siginfo_t*,
                                                                               void* context) {
    Seat* seat = this_seat;
    if (seat == nullptr || !seat->trace.wanted.exchange(false, std::memory_order_acquire)) return;
    const Registers registers = registers_of(context);
    Trace& trace = seat->trace;
    trace.count = follow_frames(registers.pc, registers.frame, {seat->stack_low, seat->stack_high},
                                trace.frames);
    trace.ready.store(true, std::memory_order_release);
}

}  // namespace weir::runtime

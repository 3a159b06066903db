// The stall detector: a thread that watches for a step that holds a shard too long, and reports it
// when it has ended, with its length and the stack that the shard's thread had at the threshold; a
// step of a second and more also while it runs. Each step that holds a shard delays everything else
// on it, so a report is a bug to mend, not an event to expect.
//
// It samples every millisecond while some shard is awake and sleeps in the kernel while all are
// parked: an idle node uses no processor. So the threshold is exact to a millisecond or so. A step
// that was long because the machine gave the thread no processor shows little cpu_ms.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/time.h"
#include "runtime/real/real_node.h"
#include "runtime/shard.h"

namespace weir::runtime {

class HostClock;

class Watchdog {
  public:
    struct Options {
        Duration threshold = 5ms;
        Logger log;
        const HostClock* clock = nullptr;  // outlives the watchdog
        uint32_t shards = 1;
    };
    explicit Watchdog(Options options);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    // On the shard's thread, around its loop.
    void attach(Shard& shard);
    void detach(ShardId id);
    // On the shard's thread, around its park.
    void parks(ShardId id) { seats_[id]->awake.store(false, std::memory_order_relaxed); }
    void wakes(ShardId id) {
        seats_[id]->awake.store(true, std::memory_order_relaxed);
        // Pairs with the fence in sleep_while_parked(): either it sees this shard awake, or we see
        // it asleep.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (asleep_.load(std::memory_order_relaxed)) rouse();
    }

    // From any thread.
    StallCounts counts(ShardId id) const;

  private:
    static constexpr size_t kFramesMax = 24;

    // Written by the signal handler on the shard's thread and read by the watchdog.
    struct Trace {
        std::atomic<bool> wanted{false};
        std::atomic<bool> ready{false};
        std::array<uintptr_t, kFramesMax> frames{};
        size_t count = 0;
    };
    struct alignas(64) Seat {
        std::atomic<bool> awake{false};
        std::atomic<uint64_t> stalls{0};
        std::atomic<uint64_t> starved{0};
        std::atomic<int64_t> stalled_ns{0};
        std::atomic<int64_t> longest_ns{0};
        Trace trace;
        uintptr_t stack_low = 0;
        uintptr_t stack_high = 0;

        // Under mutex_.
        const Shard* shard = nullptr;
        pid_t thread_id = 0;
        clockid_t cpu_clock = 0;

        // Only the watchdog uses these.
        bool watching = false;  // a step has been seen running
        uint64_t step = 0;
        Instant since;
        Duration ran{};       // the thread's processor time then
        bool judged = false;  // past the threshold: a stall, or starved
        bool stalled = false;
        bool reporting = false;  // its end is logged, with:
        std::string stack;
        int64_t processor_percent = 0;
        bool said = false;  // a report was logged before the step's end
        Instant last_report;
        uint64_t suppressed = 0;
    };

    static void handle_signal(int, siginfo_t*, void* context);
    static thread_local Seat* this_seat;

    void serve();
    bool any_awake() const;
    void sleep_while_parked(std::unique_lock<std::mutex>& lock);
    void sample(Seat& seat, Instant now);
    void end_of_step(Seat& seat, Instant now);
    void judge(Seat& seat, Instant now);
    void report(Seat& seat, std::string_view what, Instant now);
    std::string stack_of(Seat& seat);
    void rouse();

    const Options options_;
    std::vector<std::unique_ptr<Seat>> seats_;
    std::atomic<bool> asleep_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace weir::runtime

// Waiting within one shard: sleep, yield, queues of waiters, semaphores. Every wait ends by what it
// waits for, by a deadline, or by a stop token.
#pragma once

#include <cstdint>
#include <utility>

#include "base/intrusive_list.h"
#include "base/result.h"
#include "runtime/shard.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"

namespace weir::runtime {

struct WaitOptions {
    Instant deadline = Instant::never();
    StopToken stop = {};
};

// A suspended coroutine that ends its wait by the first of: wake(), its deadline, its stop token.
class ParkedWaiter {
  public:
    explicit ParkedWaiter(WaitOptions options) : options_(options), timer_(*this), stop_(*this) {}

    bool await_ready() const { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> h) {
        waiter_.handle = h;
        return park();
    }
    // kTimedOut at the deadline, kCancelled by the stop token.
    Result<void> await_resume() {
        switch (outcome_) {
            case Outcome::kWoken:
                return {};
            case Outcome::kTimedOut:
                return fail(ErrorCode::kTimedOut);
            default:
                return fail(ErrorCode::kCancelled);
        }
    }

    // Called by the holder of this waiter; once. The coroutine resumes on a later step.
    void wake() { end(Outcome::kWoken); }

  protected:
    enum class Outcome : uint8_t { kWaiting, kWoken, kTimedOut, kStopped };
    // The derived class links itself into its queue; called when the wait really begins.
    virtual void enqueue() {}
    // ... and out of it, when the wait ends otherwise than by wake().
    virtual void dequeue() {}
    ~ParkedWaiter() = default;

    bool park();
    void end(Outcome outcome);

    WaitOptions options_;
    Waiter waiter_;
    Outcome outcome_ = Outcome::kWaiting;

  private:
    struct DeadlineTimer : Timer {
        explicit DeadlineTimer(ParkedWaiter& owner);
        ParkedWaiter& owner;
    };
    struct Stopper : StopCallback {
        explicit Stopper(ParkedWaiter& owner);
        ParkedWaiter& owner;
    };
    DeadlineTimer timer_;
    Stopper stop_;
};

// Waiters in order. A wake-up is never spurious, but the world may have changed between wake and
// resume: re-check.
class WaitQueue {
  public:
    class Awaiter final : public ParkedWaiter, public ListHook {
      public:
        Awaiter(WaitQueue& queue, WaitOptions options) : ParkedWaiter(options), queue_(queue) {}
        ~Awaiter() = default;

      private:
        void enqueue() override { queue_.waiters_.push_back(*this); }
        void dequeue() override { unlink(); }
        WaitQueue& queue_;
    };

    [[nodiscard]] Awaiter wait(WaitOptions options = {}) { return Awaiter(*this, options); }
    bool empty() const { return waiters_.empty(); }
    void notify_one() {
        if (!waiters_.empty()) waiters_.pop_front().wake();
    }
    // Wakes those that wait now; those that begin to wait during it stay.
    void notify_all();

  private:
    friend class Awaiter;
    IntrusiveList<Awaiter> waiters_;
};

// co_await sleep_until(...): ok at the deadline, kCancelled by the token.
Task<Result<void>> sleep_until(Instant deadline, StopToken stop = {});
Task<Result<void>> sleep_for(Duration duration, StopToken stop = {});

// Lets others run; the coroutine goes to the end of its class's queue.
struct YieldAwaiter {
    Waiter waiter;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        Shard& shard = Shard::current();
        waiter.handle = h;
        waiter.work_class = shard.work_class();
        shard.make_runnable(waiter);
    }
    void await_resume() {}
};
[[nodiscard]] inline YieldAwaiter yield() { return {}; }

// Continues in another work class.
struct SwitchAwaiter : YieldAwaiter {
    WorkClass to;
    void await_suspend(std::coroutine_handle<> h) {
        Shard& shard = Shard::current();
        waiter.handle = h;
        waiter.work_class = to;
        shard.make_runnable(waiter);
    }
};
[[nodiscard]] inline SwitchAwaiter switch_to(WorkClass work_class) {
    return SwitchAwaiter{.to = work_class};
}

class Semaphore;

// Units of a semaphore, given back on destruction.
class Units {
  public:
    Units() = default;
    Units(Semaphore* semaphore, uint64_t count) : semaphore_(semaphore), count_(count) {}
    Units(Units&& other) noexcept
        : semaphore_(std::exchange(other.semaphore_, nullptr)),
          count_(std::exchange(other.count_, 0)) {}
    Units& operator=(Units&& other) noexcept;
    ~Units() { release(); }
    uint64_t count() const { return count_; }
    void release();
    // Keeps `count` of them and gives the others back.
    void shrink(uint64_t count);

  private:
    Semaphore* semaphore_ = nullptr;
    uint64_t count_ = 0;
};

// A counting semaphore of one shard; FIFO: a large request is not overtaken. The semaphore outlives
// its units.
class Semaphore {
  public:
    explicit Semaphore(uint64_t units) : available_(static_cast<int64_t>(units)), total_(units) {}
    ~Semaphore();

    class Awaiter final : public ParkedWaiter, public ListHook {
      public:
        Awaiter(Semaphore& semaphore, uint64_t count, WaitOptions options)
            : ParkedWaiter(options), semaphore_(semaphore), count_(count) {}
        ~Awaiter();
        bool await_ready();
        Result<Units> await_resume();

      private:
        friend class Semaphore;
        void enqueue() override { semaphore_.waiters_.push_back(*this); }
        // If the waiter that gives up was the first, the one behind it may fit.
        void dequeue() override {
            unlink();
            semaphore_.grant();
        }
        Semaphore& semaphore_;
        uint64_t count_;
        bool granted_ = false;
    };

    // Waits until `count` units are there. count <= total, or it would wait for ever: CHECKed.
    [[nodiscard]] Awaiter acquire(uint64_t count, WaitOptions options = {}) {
        CHECK(count <= total_);
        return Awaiter(*this, count, options);
    }
    std::optional<Units> try_acquire(uint64_t count);
    int64_t available() const { return available_; }
    uint64_t total() const { return total_; }
    bool has_waiters() const { return !waiters_.empty(); }

  private:
    friend class Units;
    void give_back(uint64_t count);
    void grant();

    int64_t available_;
    uint64_t total_;
    IntrusiveList<Awaiter> waiters_;
};

}  // namespace weir::runtime

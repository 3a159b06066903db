// Waits until a value that only grows has reached a point: a log's durable end, the number of its
// records in the journal. One shard.
#pragma once

#include <optional>

#include "runtime/wait.h"

namespace weir::runtime {

template <class Key>
class Milestones {
  public:
    class Awaiter final : public ParkedWaiter, public ListHook {
      public:
        Awaiter(Milestones& owner, Key target, WaitOptions options)
            : ParkedWaiter(options), owner_(owner), target_(target) {}
        ~Awaiter() = default;
        Result<void> await_resume() {
            if (error_) return fail(std::move(*error_));
            return ParkedWaiter::await_resume();
        }

      private:
        friend class Milestones;
        void enqueue() override { owner_.waiters_.push_back(*this); }
        void dequeue() override { unlink(); }
        Milestones& owner_;
        Key target_;
        std::optional<Error> error_;
    };

    [[nodiscard]] Awaiter wait(Key target, WaitOptions options = {}) {
        return Awaiter(*this, target, options);
    }
    bool empty() const { return waiters_.empty(); }

    // Wakes the waiters for `now` or less. Each waiter is looked at once per commit, and nearly
    // always its own.
    void reach(const Key& now) {
        if (waiters_.empty()) return;
        waiters_.for_each([&](Awaiter& waiter) {
            if (waiter.target_ > now) return;
            waiter.unlink();
            waiter.wake();
        });
    }
    // Fails the waiters for more than `limit`.
    void fail_beyond(const Key& limit, const Error& error) {
        waiters_.for_each([&](Awaiter& waiter) {
            if (waiter.target_ <= limit) return;
            waiter.unlink();
            waiter.error_ = error;
            waiter.wake();
        });
    }

  private:
    friend class Awaiter;
    IntrusiveList<Awaiter> waiters_;
};

}  // namespace weir::runtime

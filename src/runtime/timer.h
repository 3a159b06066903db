// Timers of one shard: a binary heap whose elements know their place, so that arming and disarming cost O(log n) and no allocation
// beyond the heap's own array. A Timer leaves the heap when it is destroyed.
#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"

namespace weir::runtime {

class TimerQueue;

class Timer {
  public:
    using Fire = void (*)(Timer&);

    explicit Timer(Fire fire) : fire_(fire) {}
    ~Timer() { disarm(); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    bool armed() const { return queue_ != nullptr; }
    Instant at() const { return at_; }
    void disarm();

  private:
    friend class TimerQueue;
    Fire fire_;  // runs on the shard's loop; wakes a waiter, never runs user code
    TimerQueue* queue_ = nullptr;
    Instant at_;
    size_t index_ = 0;
};

class TimerQueue {
  public:
    void arm(Timer& timer, Instant at);
    void disarm(Timer& timer);
    // Fires all that are due. Returns how many.
    size_t fire_due(Instant now);
    Instant next() const { return heap_.empty() ? Instant::never() : heap_.front()->at_; }

  private:
    void place(size_t index, Timer* timer);
    void sift_up(size_t index);
    void sift_down(size_t index);

    std::vector<Timer*> heap_;
};

inline void Timer::disarm() {
    if (queue_ != nullptr) queue_->disarm(*this);
}

}  // namespace weir::runtime

// The run queue of one shard: a FIFO a work class, and weighted fair choice among the classes that have work (start-time fair
// queueing by virtual time: a class's clock advances by the time it used divided by its weight).
#pragma once

#include <array>

#include "base/prng.h"
#include "base/time.h"
#include "runtime/driver.h"
#include "runtime/work_class.h"

namespace weir::runtime {

class Scheduler {
  public:
    void push(Waiter& waiter);
    bool empty() const;

    // Takes the next waiter of the class with the least virtual time. Not empty.
    Waiter& pop();
    // Charges the class that was popped last.
    void charge(WorkClass work_class, Duration used);

    // The simulator permutes the choice: with a Prng, pop() takes a random waiter of a random class.
    void shuffle_with(Prng* prng) { shuffle_ = prng; }

  private:
    struct Queue {
        IntrusiveList<Waiter> waiters;
        int64_t virtual_ns = 0;
    };
    // Waiters leave their list when their frame is destroyed, so emptiness is asked of the lists.
    std::array<Queue, kWorkClassCount> queues_;
    int64_t virtual_now_ns_ = 0;
    Prng* shuffle_ = nullptr;
};

}  // namespace weir::runtime

#include "runtime/scheduler.h"

#include <algorithm>

namespace weir::runtime {

bool Scheduler::empty() const {
    return std::ranges::all_of(queues_, [](const Queue& queue) { return queue.waiters.empty(); });
}

void Scheduler::push(Waiter& waiter) {
    Queue& queue = queues_[static_cast<size_t>(waiter.work_class)];
    // A class that slept does not save up time.
    if (queue.waiters.empty()) queue.virtual_ns = std::max(queue.virtual_ns, virtual_now_ns_);
    if (shuffle_ != nullptr && shuffle_->chance(0.5)) {
        queue.waiters.push_front(waiter);
    } else {
        queue.waiters.push_back(waiter);
    }
}

Waiter& Scheduler::pop() {
    Queue* best = nullptr;
    for (Queue& queue : queues_) {
        if (queue.waiters.empty()) continue;
        const bool better = best == nullptr || (shuffle_ != nullptr ? shuffle_->chance(0.5)
                                                                    : queue.virtual_ns < best->virtual_ns);
        if (better) best = &queue;
    }
    CHECK(best != nullptr);
    virtual_now_ns_ = std::max(virtual_now_ns_, best->virtual_ns);
    return best->waiters.pop_front();
}

void Scheduler::charge(WorkClass work_class, Duration used) {
    const auto index = static_cast<size_t>(work_class);
    constexpr int64_t kScale = 1000;
    queues_[index].virtual_ns += used.count() * kScale / kWorkClasses[index].weight + 1;
}

}  // namespace weir::runtime

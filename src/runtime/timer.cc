#include "runtime/timer.h"

#include "base/check.h"

namespace weir::runtime {

void TimerQueue::place(size_t index, Timer* timer) {
    heap_[index] = timer;
    timer->index_ = index;
}

void TimerQueue::sift_up(size_t index) {
    Timer* timer = heap_[index];
    while (index > 0) {
        const size_t parent = (index - 1) / 2;
        if (heap_[parent]->at_ <= timer->at_) break;
        place(index, heap_[parent]);
        index = parent;
    }
    place(index, timer);
}

void TimerQueue::sift_down(size_t index) {
    Timer* timer = heap_[index];
    while (true) {
        size_t child = 2 * index + 1;
        if (child >= heap_.size()) break;
        if (child + 1 < heap_.size() && heap_[child + 1]->at_ < heap_[child]->at_) ++child;
        if (timer->at_ <= heap_[child]->at_) break;
        place(index, heap_[child]);
        index = child;
    }
    place(index, timer);
}

void TimerQueue::arm(Timer& timer, Instant at) {
    timer.disarm();
    timer.queue_ = this;
    timer.at_ = at;
    heap_.push_back(&timer);
    timer.index_ = heap_.size() - 1;
    sift_up(timer.index_);
}

void TimerQueue::disarm(Timer& timer) {
    CHECK(timer.queue_ == this);
    const size_t index = timer.index_;
    Timer* last = heap_.back();
    heap_.pop_back();
    timer.queue_ = nullptr;
    if (last == &timer) return;
    place(index, last);
    sift_down(index);
    sift_up(last->index_);
}

size_t TimerQueue::fire_due(Instant now) {
    size_t fired = 0;
    while (!heap_.empty() && heap_.front()->at_ <= now) {
        Timer& timer = *heap_.front();
        disarm(timer);
        timer.fire_(timer);
        ++fired;
    }
    return fired;
}

}  // namespace weir::runtime

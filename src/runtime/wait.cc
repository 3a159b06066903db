#include "runtime/wait.h"

namespace weir::runtime {

ParkedWaiter::DeadlineTimer::DeadlineTimer(ParkedWaiter& o)
    : Timer([](Timer& timer) { static_cast<DeadlineTimer&>(timer).owner.end(Outcome::kTimedOut); }), owner(o) {}

ParkedWaiter::Stopper::Stopper(ParkedWaiter& o)
    : StopCallback([](StopCallback& callback) { static_cast<Stopper&>(callback).owner.end(Outcome::kStopped); }),
      owner(o) {}

bool ParkedWaiter::park() {
    if (options_.stop.stop_requested()) {
        outcome_ = Outcome::kStopped;
        return false;
    }
    Shard& shard = Shard::current();
    waiter_.work_class = shard.work_class();
    options_.stop.subscribe(stop_);
    if (options_.deadline != Instant::never()) shard.timers().arm(timer_, options_.deadline);
    enqueue();
    return true;
}

void ParkedWaiter::end(Outcome outcome) {
    CHECK(outcome_ == Outcome::kWaiting);
    outcome_ = outcome;
    timer_.disarm();
    stop_.unlink();
    if (outcome != Outcome::kWoken) dequeue();
    Shard::current().make_runnable(waiter_);
}

void WaitQueue::notify_all() {
    IntrusiveList<Awaiter> woken;
    while (!waiters_.empty()) woken.push_back(waiters_.pop_front());
    while (!woken.empty()) woken.pop_front().wake();
}

namespace {

class SleepAwaiter final : public ParkedWaiter {
  public:
    using ParkedWaiter::ParkedWaiter;
    ~SleepAwaiter() = default;
};

}  // namespace

Task<Result<void>> sleep_until(Instant deadline, StopToken stop) {
    Result<void> result = co_await SleepAwaiter({.deadline = deadline, .stop = stop});
    if (!result && result.error().code == ErrorCode::kTimedOut) co_return Result<void>{};
    co_return result;
}

Task<Result<void>> sleep_for(Duration duration, StopToken stop) {
    return sleep_until(Shard::current().now() + duration, stop);
}

Units& Units::operator=(Units&& other) noexcept {
    if (this != &other) {
        release();
        semaphore_ = std::exchange(other.semaphore_, nullptr);
        count_ = std::exchange(other.count_, 0);
    }
    return *this;
}

void Units::shrink(uint64_t count) {
    CHECK(count <= count_);
    if (semaphore_ != nullptr) semaphore_->give_back(count_ - count);
    count_ = count;
}

void Units::release() {
    if (semaphore_ != nullptr && !Shard::current_is_dying()) semaphore_->give_back(count_);
    semaphore_ = nullptr;
    count_ = 0;
}

Semaphore::~Semaphore() { CHECK(waiters_.empty() || Shard::current().dying()); }

Semaphore::Awaiter::~Awaiter() {
    // Granted, but destroyed before it resumed (the simulator's kill).
    if (granted_) semaphore_.give_back(count_);
}

bool Semaphore::Awaiter::await_ready() {
    if (!semaphore_.waiters_.empty() || semaphore_.available_ < static_cast<int64_t>(count_)) return false;
    semaphore_.available_ -= static_cast<int64_t>(count_);
    granted_ = true;
    outcome_ = Outcome::kWoken;
    return true;
}

Result<Units> Semaphore::Awaiter::await_resume() {
    if (Result<void> result = ParkedWaiter::await_resume(); !result) return std::unexpected(std::move(result).error());
    CHECK(granted_);
    granted_ = false;
    return Units(&semaphore_, count_);
}

std::optional<Units> Semaphore::try_acquire(uint64_t count) {
    if (!waiters_.empty() || available_ < static_cast<int64_t>(count)) return std::nullopt;
    available_ -= static_cast<int64_t>(count);
    return Units(this, count);
}

void Semaphore::give_back(uint64_t count) {
    available_ += static_cast<int64_t>(count);
    grant();
}

void Semaphore::grant() {
    while (!waiters_.empty()) {
        Awaiter& next = waiters_.front();
        if (available_ < static_cast<int64_t>(next.count_)) return;
        available_ -= static_cast<int64_t>(next.count_);
        next.granted_ = true;
        waiters_.pop_front().wake();
    }
}

}  // namespace weir::runtime

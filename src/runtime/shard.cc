#include "runtime/shard.h"

#include <algorithm>

#include "runtime/scope.h"

namespace weir::runtime {
namespace {

// The one thread_local above the frame pool: which shard this thread runs.
thread_local Shard* current_shard = nullptr;

// A turn runs coroutines for at most this long before it looks at messages, timers and the device again.
constexpr Duration kSlice = 100us;
// A class keeps the shard for one step at least; the clock is read every few steps.
constexpr int kStepsPerClockRead = 8;
constexpr int kMessagesPerTurn = 512;
// A shard that runs later than it was to by more than this has slept. Below the time in which anybody is taken for dead, above what a
// busy machine does to everybody.
constexpr Duration kSleepMin = 50ms;
constexpr Duration kSleepLogged = 1s;

}  // namespace

Shard::Shard(Options options)
    : id_(options.id),
      driver_(*options.driver),
      group_(*options.group),
      log_(std::move(options.log)),
      prng_(options.seed, "shard"),
      remote_scope_(std::make_unique<Scope>()) {
    if (group_.shards.size() <= id_) group_.shards.resize(id_ + 1, nullptr);
    CHECK(group_.shards[id_] == nullptr);
    group_.shards[id_] = this;
}

Shard::~Shard() {
    remote_scope_.reset();
    group_.shards[id_] = nullptr;
}

void Shard::drop_remote_scope() { remote_scope_.reset(); }

Shard& Shard::current() {
    CHECK(current_shard != nullptr);
    return *current_shard;
}

void Shard::set_current(Shard* shard) { current_shard = shard; }

bool Shard::current_is_dying() { return current_shard != nullptr && current_shard->dying(); }

void Shard::complete(Op& op) {
    CHECK(op.in_flight);
    op.in_flight = false;
    make_runnable(op.waiter);
}

bool Shard::need_preempt() const {
    if (preempt_) return true;
    // The clock is read each time (25 ns): what lies between two asks may be long.
    ++preempt_asks_;
    preempt_ = driver_.now() >= slice_end_;
    return preempt_;
}

void Shard::open_rings(uint32_t shard_count) {
    CHECK(inbox_.empty());
    for (uint32_t i = 0; i < shard_count; ++i) inbox_.push_back(std::make_unique<MessageRing>());
    overflow_ = std::vector<IntrusiveList<Message>>(shard_count);
}

void Shard::send(ShardId to, Message& message) {
    CHECK(to < group_.count());
    Shard& target = *group_.shards[to];
    if (!overflow_[to].empty() || !target.inbox_[id_]->push(&message)) {
        overflow_[to].push_back(message);
        overflowing_ = true;
        return;
    }
    wake(to);
}

void Shard::wake(ShardId to) {
    Shard& target = *group_.shards[to];
    // Pairs with the fence in prepare_to_park(): either the target sees the message, or we see that it is parked.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    // Whoever clears the flag rings: one doorbell a sleep, however many messages come until the target runs.
    if (target.parked_.load(std::memory_order_relaxed) && target.parked_.exchange(false, std::memory_order_relaxed)) {
        driver_.ring_doorbell(to);
    }
}

void Shard::flush_overflow() {
    overflowing_ = false;
    for (ShardId to = 0; to < overflow_.size(); ++to) {
        Shard& target = *group_.shards[to];
        bool pushed = false;
        while (!overflow_[to].empty()) {
            Message& message = overflow_[to].pop_front();
            if (!target.inbox_[id_]->push(&message)) {
                overflow_[to].push_front(message);
                overflowing_ = true;
                break;
            }
            pushed = true;
        }
        if (pushed) wake(to);
    }
}

bool Shard::receive() {
    bool more = false;
    for (auto& ring : inbox_) {
        int budget = kMessagesPerTurn;
        while (budget-- > 0) {
            Message* message = ring->pop();
            if (message == nullptr) break;
            message->run(*message);
        }
        more |= !ring->empty();
    }
    return more;
}

bool Shard::prepare_to_park() {
    parked_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (auto& ring : inbox_) {
        if (!ring->empty()) {
            unpark();
            return false;
        }
    }
    return !overflowing_;
}

// All of the time since the last look counts as slept: when in it the shard was stopped nobody knows, and what was not due then is not
// due now.
void Shard::observe(Instant now) {
    if (due_ != Instant::never() && now - due_ > kSleepMin) {
        const Duration slept = now - observed_;
        asleep_ += slept;
        ++sleeps_;
        if (slept >= kSleepLogged) log_.warn("runtime", "this shard did not run for a while", "ms={}", slept / 1ms);
    }
    observed_ = due_ = now;
}

Instant Shard::awake_now() {
    const Instant now = driver_.now();
    observe(now);
    return now - asleep_;
}

bool Shard::turn() {
    Instant now = driver_.now();
    observe(now);
    slice_end_ = now + kSlice;
    preempt_ = false;
    if (overflowing_) flush_overflow();
    bool more = receive();
    timers_.fire_due(now);
    int steps = 0;
    while (!scheduler_.empty()) {
        Waiter& waiter = scheduler_.pop();
        work_class_ = waiter.work_class;
        const WorkClass charged = work_class_;
        steps_.store(steps_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        in_step_.store(true, std::memory_order_relaxed);
        waiter.handle.resume();
        in_step_.store(false, std::memory_order_relaxed);
        if (++steps % kStepsPerClockRead == 0 || preempt_) {
            const Instant then = driver_.now();
            observe(then);
            scheduler_.charge(charged, then - now);
            now = then;
            if (now >= slice_end_) break;
        }
    }
    more |= overflowing_ || !scheduler_.empty();
    if (!more) due_ = std::max(observed_, timers_.next());
    return more;
}

}  // namespace weir::runtime

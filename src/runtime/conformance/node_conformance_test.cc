// Time, shards and the loop: what every driver does the same way.
#include <sys/resource.h>

#include <algorithm>

#include "runtime/conformance/conformance.h"
#include "runtime/conformance/must.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

Task<void> note_when_due(Duration delay, std::vector<int64_t>* order) {
    Shard& shard = Shard::current();
    const Instant due = shard.now() + delay;
    must(co_await sleep_until(due));
    EXPECT_GE(shard.now(), due) << "a timer never fires early";
    order->push_back(delay.count());
}

Task<void> timers(bool real_time) {
    std::vector<int64_t> order;
    Scope scope;
    const Instant begin = Shard::current().now();
    for (const int64_t ms : {30, 10, 20, 5, 25, 15}) scope.spawn(note_when_due(ms * 1ms, &order));
    co_await scope.join();
    EXPECT_TRUE(std::ranges::is_sorted(order));
    EXPECT_EQ(order.size(), 6u);
    const Duration taken = Shard::current().now() - begin;
    EXPECT_GE(taken, Duration(30ms));
    if (real_time) EXPECT_LT(taken, Duration(2s));
}

TEST_P(Conformance, timers_fire_in_order_and_not_early) {
    run([&](Shard&) { return timers(driver_->real_time()); });
}

Task<void> sleep_into_the_past() {
    Shard& shard = Shard::current();
    must(co_await sleep_for(5ms));
    must(co_await sleep_until(shard.now() - 3ms));
    must(co_await sleep_until(shard.now()));
    StopSource stop;
    stop.request_stop();
    EXPECT_EQ((co_await sleep_for(1h, stop.token())).error().code, ErrorCode::kCancelled);
}

TEST_P(Conformance, a_sleep_until_the_past_ends_at_once) {
    run([&](Shard&) { return sleep_into_the_past(); });
}

Task<void> many_timers() {
    constexpr int kTimers = 5000;
    std::vector<int64_t> order;
    Scope scope;
    Prng prng(11);
    for (int i = 0; i < kTimers; ++i)
        scope.spawn(note_when_due(Duration(prng.below(50'000'000)), &order));
    co_await scope.join();
    EXPECT_EQ(order.size(), static_cast<size_t>(kTimers));
}

TEST_P(Conformance, thousands_of_timers_fire) {
    run([&](Shard&) { return many_timers(); });
}

Task<void> precise_timer(bool real_time) {
    Shard& shard = Shard::current();
    Duration best = 1h;
    for (int i = 0; i < 20; ++i) {
        const Instant begin = shard.now();
        must(co_await sleep_for(200us));
        const Duration taken = shard.now() - begin;
        EXPECT_GE(taken, Duration(200us));
        best = std::min(best, taken);
    }
    if (real_time) EXPECT_LT(best, Duration(2ms)) << "parking must not round up to coarse ticks";
}

TEST_P(Conformance, a_short_sleep_is_short) {
    run([&](Shard&) { return precise_timer(driver_->real_time()); });
}

Task<void> clocks() {
    Shard& shard = Shard::current();
    EXPECT_GT(shard.wall_now().ms, 1'500'000'000'000) << "after 2017";
    const WallTime wall = shard.wall_now();
    const Instant instant = shard.now();
    must(co_await sleep_for(30ms));
    const int64_t wall_ms = shard.wall_now().ms - wall.ms;
    const int64_t ms = (shard.now() - instant).count() / 1'000'000;
    EXPECT_LE(std::abs(wall_ms - ms), 1000);
    uint8_t first[32] = {};
    uint8_t second[32] = {};
    shard.driver().fill_entropy(first);
    shard.driver().fill_entropy(second);
    EXPECT_FALSE(std::ranges::equal(first, second));
}

TEST_P(Conformance, clocks_advance_and_entropy_differs) {
    run([&](Shard&) { return clocks(); });
}

Task<uint32_t> shard_id() { co_return Shard::current().id(); }

Task<void> visit_all() {
    for (uint32_t to = 0; to < Shard::current().count(); ++to) {
        EXPECT_EQ(co_await on(to, [] { return shard_id(); }), to);
    }
    EXPECT_EQ(Shard::current().id(), 0u);
}

TEST_P(Conformance, a_call_runs_on_the_shard_that_it_names) {
    run_on(3, [&](Shard&) { return visit_all(); });
}

Task<uint64_t> slow_square(uint64_t x) {
    if (x % 3 == 0) (void)co_await sleep_for(1ms);
    co_await yield();
    co_return x* x;
}

Task<void> call_often(uint32_t to, uint64_t first, uint64_t count, uint64_t* sum) {
    for (uint64_t i = first; i < first + count; ++i) {
        const uint64_t square = co_await on(to, [i] { return slow_square(i); });
        EXPECT_EQ(square, i * i);
        *sum += 1;
    }
}

// Each shard calls the others from many coroutines, so that rings fill, overflow and wake parked
// shards.
Task<uint64_t> call_everybody(uint64_t callers, uint64_t calls) {
    uint64_t sum = 0;
    Scope scope;
    for (uint64_t caller = 0; caller < callers; ++caller) {
        const auto to =
            static_cast<uint32_t>((Shard::current().id() + 1 + caller) % Shard::current().count());
        scope.spawn(call_often(to, caller * calls, calls, &sum));
    }
    co_await scope.join();
    co_return sum;
}

Task<void> everybody_calls_everybody() {
    constexpr uint64_t kCallers = 1500;  // more than a ring holds
    constexpr uint64_t kCalls = 6;
    std::vector<Task<uint64_t>> tasks;
    for (uint32_t from = 0; from < Shard::current().count(); ++from) {
        tasks.push_back(on(from, [] { return call_everybody(kCallers, kCalls); }));
    }
    const std::vector<uint64_t> sums = co_await all(std::move(tasks));
    for (const uint64_t sum : sums) EXPECT_EQ(sum, kCallers * kCalls);
}

TEST_P(Conformance, shards_call_each_other_under_load) {
    run_on(3, [&](Shard&) { return everybody_calls_everybody(); });
}

Task<void> ping_parked_shard() {
    // Each call finds the other shard parked: a lost wake-up would hang here.
    for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(co_await on(1, [] { return shard_id(); }), 1u);
        if (i % 50 == 0) must(co_await sleep_for(2ms));
    }
}

TEST_P(Conformance, a_message_wakes_a_parked_shard) {
    run_on(2, [&](Shard&) { return ping_parked_shard(); });
}

Task<void> log_now(std::vector<int>* order, int id) {
    order->push_back(id);
    co_return;
}

Task<void> ordered_calls(std::vector<int>* order) {
    Scope scope;
    for (int i = 0; i < 3000; ++i) {
        auto call = [](std::vector<int>* o, int id) -> Task<void> {
            co_await on(1, [o, id] { return log_now(o, id); });
        };
        scope.spawn(call(order, i));
    }
    co_await scope.join();
}

Task<void> expect_all_arrived() {
    std::vector<int> order;  // shard 1 writes it while this shard waits
    co_await ordered_calls(&order);
    EXPECT_EQ(order.size(), 3000u);
    std::ranges::sort(order);
    for (int i = 0; i < 3000; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST_P(Conformance, more_calls_than_a_ring_holds_all_arrive) {
    run_on(2, [&](Shard&) { return expect_all_arrived(); });
}

struct Usage {
    Duration processor;
    int64_t sleeps;
};
Usage usage_so_far() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](timeval time) {
        return time.tv_sec * Duration(1s) + time.tv_usec * Duration(1us);
    };
    return {of(usage.ru_utime) + of(usage.ru_stime), usage.ru_nvcsw};
}

// How often a thread goes to sleep is the same on a machine with other work and in a build that is
// ten times slower; the processor time only tells a loop that never sleeps.
Task<void> idle_second() {
    must(co_await sleep_for(300ms));  // what the start woke has settled
    const Usage before = usage_so_far();
    must(co_await sleep_for(1s));
    const Usage after = usage_so_far();
    EXPECT_LT(after.sleeps - before.sleeps, 50);
    EXPECT_LT(after.processor - before.processor, Duration(100ms));
}

TEST_P(Conformance, an_idle_node_uses_no_processor) {
    if (!driver_->real_time()) GTEST_SKIP() << "time is virtual here";
    run_on(3, [&](Shard&) { return idle_second(); });
}

Task<void> spin_and_yield(Duration how_long, uint64_t* rounds) {
    Shard& shard = Shard::current();
    const Instant end = shard.now() + how_long;
    while (shard.now() < end) {
        if (shard.need_preempt()) co_await yield();
        ++*rounds;
    }
}

Task<void> io_while_busy() {
    // A coroutine that always has work does not keep timers from firing.
    uint64_t rounds = 0;
    Scope scope;
    scope.spawn(spin_and_yield(100ms, &rounds), WorkClass::kBackground);
    Duration worst = 0ms;
    for (int i = 0; i < 20; ++i) {
        const Instant due = Shard::current().now() + 2ms;
        must(co_await sleep_until(due));
        worst = std::max(worst, Shard::current().now() - due);
    }
    co_await scope.join();
    EXPECT_GT(rounds, 0u);
    EXPECT_LT(worst, Duration(50ms));
}

TEST_P(Conformance, a_busy_coroutine_that_yields_leaves_room_for_timers) {
    if (!driver_->real_time())
        GTEST_SKIP() << "time is virtual here: a spinning coroutine would never end";
    run([&](Shard&) { return io_while_busy(); });
}

}  // namespace
}  // namespace weir::runtime

#include "runtime/wait.h"

#include <gtest/gtest.h>

#include "runtime/buffer.h"
#include "runtime/memory.h"
#include "runtime/test_loop.h"

namespace weir::runtime {
namespace {

Task<Duration> measure_sleep(Duration d) {
    const Instant before = Shard::current().now();
    CHECK((co_await sleep_for(d)).has_value());
    co_return Shard::current().now() - before;
}

TEST(Sleep, lasts_as_long_as_asked) {
    TestLoop loop;
    EXPECT_EQ(loop.run(measure_sleep(250ms)), 250ms);
}

Task<void> stop_later(StopSource* stop) {
    (void)co_await sleep_for(10ms);
    stop->request_stop();
}

Task<Result<void>> sleep_stopped() {
    StopSource stop;
    Scope scope;
    scope.spawn(stop_later(&stop));
    Result<void> result = co_await sleep_for(1h, stop.token());
    co_await scope.close();
    co_return result;
}

TEST(Sleep, ends_by_its_stop_token) {
    TestLoop loop;
    EXPECT_EQ(loop.run(sleep_stopped()).error().code, ErrorCode::kCancelled);
    EXPECT_LT(loop.driver().now_.ns, Duration(1s).count());
}

Task<Result<void>> wait_with_deadline() {
    WaitQueue queue;
    co_return co_await queue.wait({.deadline = Shard::current().now() + 5ms});
}

TEST(WaitQueue, a_deadline_ends_the_wait) {
    TestLoop loop;
    EXPECT_EQ(loop.run(wait_with_deadline()).error().code, ErrorCode::kTimedOut);
}

Task<void> take(Semaphore* semaphore, uint64_t n, std::vector<uint64_t>* order) {
    auto units = co_await semaphore->acquire(n);
    CHECK(units.has_value());
    order->push_back(n);
    (void)co_await sleep_for(1ms);
}

Task<std::vector<uint64_t>> contend() {
    Semaphore semaphore(10);
    std::vector<uint64_t> order;
    Scope scope;
    for (const uint64_t n : {6, 10, 1, 2}) scope.spawn(take(&semaphore, n, &order));
    co_await scope.join();
    CHECK(semaphore.available() == 10);
    co_return order;
}

TEST(Semaphore, a_large_request_is_not_overtaken) {
    TestLoop loop;
    EXPECT_EQ(loop.run(contend()), (std::vector<uint64_t>{6, 10, 1, 2}));
}

Task<Result<Units>> acquire_with_deadline(Semaphore* semaphore) {
    auto held = semaphore->try_acquire(3);
    co_return co_await semaphore->acquire(2, {.deadline = Shard::current().now() + 5ms});
}

Task<void> give_up_in_front(Semaphore* semaphore, WaitOptions options) {
    CHECK(!(co_await semaphore->acquire(8, options)).has_value());
}

Task<void> count_second(Semaphore* semaphore, int* passed) {
    const auto units = co_await semaphore->acquire(3);
    CHECK(units.has_value());
    ++*passed;
}

Task<int> front_ends(bool by_stop) {
    Semaphore semaphore(10);
    std::optional<Units> held = semaphore.try_acquire(5);
    StopSource stop;
    int passed = 0;
    Scope scope;
    scope.spawn(give_up_in_front(&semaphore, {.deadline = Shard::current().now() + 5ms,
                                              .stop = stop.token()}));
    scope.spawn(count_second(&semaphore, &passed));
    (void)co_await sleep_for(1ms);
    CHECK(passed == 0);
    if (by_stop) stop.request_stop();
    (void)co_await sleep_for(10ms);
    const int before_the_holder_gave_back = passed;
    held.reset();
    co_await scope.join();
    co_return before_the_holder_gave_back;
}

TEST(Semaphore, a_front_waiter_that_gives_up_lets_the_next_one_through) {
    TestLoop loop;
    EXPECT_EQ(loop.run(front_ends(false)), 1);
    EXPECT_EQ(loop.run(front_ends(true)), 1);
}

TEST(SharedBytes, discharged_bytes_are_given_back_once_and_the_rest_with_the_block) {
    MemoryBudget memory(1000);
    IoBuffer buffer = IoBuffer::allocate(100, *memory.try_reserve(100));
    buffer.set_size(100);
    SharedBytes block = std::move(buffer).share();
    SharedBytes part = block.slice(10, 60);
    part.discharge();
    EXPECT_EQ(memory.used(), 40);
    block = {};
    EXPECT_EQ(memory.used(), 40);  // the part keeps the block
    part.slice(0, 60).discharge();
    EXPECT_EQ(memory.used(), 0);
    part = {};
    EXPECT_EQ(memory.used(), 0);
}

TEST(MemoryBudget, what_is_charged_counts_whether_it_fits_or_not) {
    MemoryBudget memory(100);
    {
        const Reservation reservation = memory.charge(150);
        EXPECT_EQ(memory.used(), 150);
        EXPECT_FALSE(memory.try_reserve(1));
    }
    EXPECT_TRUE(memory.try_reserve(100));
}

TEST(Semaphore, a_timed_out_wait_takes_nothing) {
    TestLoop loop;
    Semaphore semaphore(4);
    EXPECT_FALSE(loop.run(acquire_with_deadline(&semaphore)));
    EXPECT_EQ(semaphore.available(), 4);
}

Task<bool> reserve_after_release(MemoryBudget* budget) {
    auto first = budget->try_reserve(80);
    CHECK(first.has_value());
    CHECK(!budget->try_reserve(30).has_value());
    Scope scope;
    scope.spawn([](Reservation held) -> Task<void> { (void)co_await sleep_for(3ms); }(std::move(*first)));
    auto second = co_await budget->reserve(30);
    co_await scope.join();
    co_return second.has_value();
}

TEST(MemoryBudget, a_reservation_waits_until_it_fits) {
    TestLoop loop;
    MemoryBudget budget(100);
    EXPECT_TRUE(loop.run(reserve_after_release(&budget)));
    EXPECT_EQ(budget.used(), 0u);
    EXPECT_EQ(loop.run(budget.reserve(101)).error().code, ErrorCode::kResourceExhausted);
}

TEST(Scheduler, a_background_class_gets_its_share_and_no_more) {
    TestLoop loop;
    Scheduler scheduler;
    std::vector<Waiter> waiters(2);
    waiters[0].work_class = WorkClass::kProduce;
    waiters[1].work_class = WorkClass::kBackground;
    int produce = 0;
    scheduler.push(waiters[0]);
    scheduler.push(waiters[1]);
    for (int i = 0; i < 1150; ++i) {
        Waiter& next = scheduler.pop();
        produce += next.work_class == WorkClass::kProduce;
        scheduler.charge(next.work_class, 100us);
        scheduler.push(next);
    }
    EXPECT_NEAR(produce, 1000, 20);
}

}  // namespace
}  // namespace weir::runtime

#include "runtime/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "runtime/remote.h"
#include "runtime/test_loop.h"

namespace weir::runtime {
namespace {

struct Counted {
    explicit Counted(int* n) : live(n) { ++*live; }
    Counted(const Counted&) = delete;
    ~Counted() { --*live; }
    int* live;
};

Task<Result<int>> leaf(bool ok) {
    co_await yield();
    if (!ok) co_return fail(ErrorCode::kIo, "leaf");
    co_return 7;
}

Task<Result<int>> middle(bool ok, int* live) {
    Counted counted(live);
    const int value = co_await try_(leaf(ok));
    co_return value + 1;
}

Task<Result<std::string>> top(bool ok, int* live) {
    Counted counted(live);
    auto owned = std::make_unique<int>(3);
    const int value = co_await try_(middle(ok, live));
    co_return std::to_string(value + *owned);
}

TEST(Task, a_value_travels_up_through_try) {
    TestLoop loop;
    int live = 0;
    EXPECT_EQ(loop.run(top(true, &live)).value(), "11");
    EXPECT_EQ(live, 0);
}

TEST(Task, an_error_ends_each_coroutine_on_its_way_and_destroys_its_locals) {
    TestLoop loop;
    int live = 0;
    Result<std::string> result = loop.run(top(false, &live));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message, "leaf");
    EXPECT_EQ(live, 0);
}

Task<Result<void>> fails_from_a_plain_result() {
    co_await try_(Result<int>(fail(ErrorCode::kNotFound, "plain")));
    CHECK(false);
    co_return Result<void>{};
}

TEST(Task, a_plain_result_ends_the_coroutine_too) {
    TestLoop loop;
    EXPECT_EQ(loop.run(fails_from_a_plain_result()).error().code, ErrorCode::kNotFound);
}

TEST(Task, a_task_that_never_started_is_destroyed_with_its_arguments) {
    auto argument = std::make_shared<int>(1);
    {
        auto task = [](std::shared_ptr<int> p) -> Task<int> { co_return *p; }(argument);
        EXPECT_EQ(argument.use_count(), 2);
    }
    EXPECT_EQ(argument.use_count(), 1);
}

Task<Result<int>> deep(int depth) {
    if (depth == 0) co_return 0;
    const int below = co_await try_(deep(depth - 1));
    co_return below + 1;
}

Task<int> many_synchronous_completions() {
    int sum = 0;
    for (int i = 0; i < 200000; ++i) sum += (co_await deep(1)).value();
    co_return sum;
}

TEST(Task, synchronous_completions_do_not_grow_the_stack) {
    TestLoop loop;
    EXPECT_EQ(loop.run(many_synchronous_completions()), 200000);
}

Task<uint32_t> where() { co_return Shard::current().id(); }

Task<uint32_t> ask_shard(ShardId id) {
    const uint32_t before = Shard::current().id();
    const uint32_t there = co_await on(id, [] { return where(); });
    CHECK(Shard::current().id() == before);
    co_return there;
}

TEST(Remote, a_call_runs_on_the_other_shard_and_comes_home) {
    TestLoop loop(3);
    EXPECT_EQ(loop.run(ask_shard(2)), 2u);
    EXPECT_EQ(loop.run(ask_shard(0)), 0u);
}

Task<std::vector<uint32_t>> ask_many() {
    std::vector<Task<uint32_t>> tasks;
    for (uint32_t i = 0; i < 5000; ++i) tasks.push_back(ask_shard(1 + i % 2));
    co_return co_await all(std::move(tasks));
}

TEST(Remote, more_calls_than_the_ring_holds_all_come_home) {
    TestLoop loop(3);
    const auto answers = loop.run(ask_many());
    ASSERT_EQ(answers.size(), 5000u);
    for (uint32_t i = 0; i < 5000; ++i) ASSERT_EQ(answers[i], 1 + i % 2);
}

}  // namespace
}  // namespace weir::runtime

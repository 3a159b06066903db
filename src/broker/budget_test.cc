#include "broker/budget.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "broker/options.h"

namespace weir::broker {
namespace {

constexpr uint64_t kMemoryMin = 32_MiB;  // of --memory
constexpr uint64_t kTiB = uint64_t{1} << 40;

// Odd sizes too.
template <class F>
void for_each_budget(F f) {
    for (uint64_t memory = kMemoryMin; memory <= kTiB; memory += memory / 7 + 4097) {
        for (uint32_t shards = 1; shards <= 64; ++shards) f(memory, shards, divide(memory, shards));
    }
}

TEST(Budget, the_shares_are_all_of_the_memory_and_no_more) {
    for_each_budget([](uint64_t memory, uint32_t shards, const Budget& budget) {
        ASSERT_EQ(budget.total(), memory) << memory << " " << shards;
        ASSERT_LE(budget.unflushed_per_shard * shards, budget.unflushed);
        ASSERT_LE(budget.fetch_answers_per_shard * shards, budget.fetch_answers);
        ASSERT_LE(budget.producers_per_shard * shards, budget.producers);
        ASSERT_LE(2 * budget.cache_per_shard_max * shards, budget.requests);
    });
}

TEST(Budget, every_share_has_room_for_what_it_must_hold) {
    for_each_budget([](uint64_t memory, uint32_t shards, const Budget& budget) {
        // Frames of the transport are put together in pieces of 256 KiB; an append has 1 MiB.
        ASSERT_GE(budget.received, 2_MiB) << memory;
        ASSERT_GE(budget.sending, 1_MiB) << memory;
        // A hand-over of runs of some pages, and something being appended meanwhile.
        ASSERT_GE(budget.unflushed_per_shard, 64_KiB) << memory << " " << shards;
        ASSERT_GT(budget.requests, budget.unflushed) << memory << " " << shards;
        ASSERT_GE(budget.requests, memory * 15 / 32) << memory << " " << shards;
        ASSERT_GT(budget.unpacking, 0);
        ASSERT_GT(budget.answers, 0);
        ASSERT_GT(budget.producers_per_shard, 0);
    });
}

TEST(Budget, the_largest_request_of_100_MiB_fits_beside_its_half_grown_buffer_from_256_MiB_on) {
    // Kafka's socket.request.max.bytes; the buffer grows by eights: 16 MiB, then all of it.
    EXPECT_GE(divide(256_MiB, 1).requests, 100_MiB + 16_MiB);
}

TEST(Budget, the_default_is_no_more_than_half_of_a_small_machine) {
    for (const uint64_t machine : {64_MiB, 128_MiB, 256_MiB, 512_MiB, 1_GiB, 16_GiB, 1024_GiB}) {
        const auto options = make_options({}, {{"data", "x"}}, machine);
        ASSERT_TRUE(options) << options.error().to_string();
        EXPECT_LE(options->memory, std::max(machine / 2, 32_MiB)) << machine;
        EXPECT_GE(options->memory, 32_MiB) << machine;
        for (const uint32_t shards : {1u, 2u, 64u})
            EXPECT_EQ(divide(options->memory, shards).total(), options->memory);
    }
}

}  // namespace
}  // namespace weir::broker

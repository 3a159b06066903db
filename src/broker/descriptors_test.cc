#include "broker/descriptors.h"

#include <gtest/gtest.h>

namespace weir::broker {
namespace {

TEST(Descriptors, without_a_limit_nothing_is_bounded) {
    EXPECT_EQ(share_descriptors(0, 4).connections, UINT64_MAX);
}

TEST(Descriptors, what_all_may_have_open_fits_into_the_limit) {
    for (uint64_t limit = 96; limit < 100'000; limit += limit / 7) {
        for (const uint32_t shards : {1u, 2u, 4u, 16u}) {
            const DescriptorShares shares = share_descriptors(limit, shards);
            ASSERT_GE(shares.connections, 1u);
            ASSERT_GE(shares.open_segments, 4u);
            ASSERT_GE(shares.admin, 4u);
            if (limit < 64 * shards) continue;
            // A sixteenth is left for other nodes and short-lived files, at least.
            EXPECT_LE(shares.connections + 2ull * shares.open_segments * shards + shares.admin,
                      limit - limit / 16)
                << limit << " " << shards;
        }
    }
}

TEST(Descriptors, the_usual_limits_leave_half_or_more_for_clients) {
    EXPECT_GT(share_descriptors(1024, 1).connections, 512u);
    EXPECT_GT(share_descriptors(4096, 4).connections, 2048u);
    EXPECT_GT(share_descriptors(1'048'576, 16).connections, 20'000u);
    EXPECT_GE(share_descriptors(64, 1).connections, 8u);
}

}  // namespace
}  // namespace weir::broker

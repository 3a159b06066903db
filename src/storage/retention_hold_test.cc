#include "storage/retention_hold.h"

#include <gtest/gtest.h>

#include <optional>

namespace weir::storage {
namespace {

TEST(RetentionHold, the_lowest_of_all_holds_counts_and_one_that_is_released_does_not) {
    RetentionHolds holds;
    EXPECT_EQ(holds.lowest(), INT64_MAX);
    RetentionHold commit = holds.add(100);
    {
        const RetentionHold upload = holds.add(40);
        RetentionHold fold = holds.add(70);
        EXPECT_EQ(holds.lowest(), 40);
        fold.move_to(30);
        EXPECT_EQ(holds.lowest(), 30);
        fold.release();
        EXPECT_EQ(holds.lowest(), 40);
        EXPECT_FALSE(fold.holds());
    }
    EXPECT_EQ(holds.lowest(), 100);
    commit.move_to(250);
    EXPECT_EQ(holds.lowest(), 250);
}

TEST(RetentionHold, a_hold_may_be_moved_to_another_owner) {
    RetentionHolds holds;
    RetentionHold first = holds.add(5);
    RetentionHold second = std::move(first);
    EXPECT_EQ(holds.lowest(), 5);
    second = holds.add(9);  // replaces the one that it had
    EXPECT_EQ(holds.lowest(), 9);
}

TEST(RetentionHold, a_hold_that_outlives_its_log_holds_nothing) {
    std::optional<RetentionHolds> holds(std::in_place);
    RetentionHold hold = holds->add(5);
    EXPECT_TRUE(hold.holds());
    holds.reset();
    EXPECT_FALSE(hold.holds());
    hold.move_to(7);
    hold.release();
}

}  // namespace
}  // namespace weir::storage

#include "raft/term_table.h"

#include <gtest/gtest.h>

namespace weir::raft {
namespace {

TEST(TermTable, AnEmptyOneKnowsThatNothingLiesBelow) {
    const TermTable table;
    EXPECT_EQ(table.term_before({0, 0}), 0);
    EXPECT_EQ(table.last_term(), 0);
    EXPECT_EQ(table.end_of(7, {5, 0}).term, 0);
}

TEST(TermTable, TheTermBeforeAPositionIsOfTheEntryThatEndsThere) {
    // A term start at (0,0), data [0,10) in term 1; a term start at (10,0), data [10,12) in term 4.
    const TermTable table({{1, {0, 0}}, {4, {10, 0}}});
    EXPECT_EQ(table.term_before({0, 0}), 0);
    EXPECT_EQ(table.term_before({0, 1}), 1);
    EXPECT_EQ(table.term_before({10, 0}), 1);
    EXPECT_EQ(table.term_before({10, 1}), 4);
    EXPECT_EQ(table.term_before({12, 0}), 4);
}

TEST(TermTable, TheEndOfATermIsWhereTheNextBegins) {
    const TermTable table({{1, {0, 0}}, {4, {10, 0}}});
    EXPECT_EQ(table.end_of(0, {12, 0}).term, 0);
    EXPECT_EQ(table.end_of(3, {12, 0}).term, 1);
    EXPECT_EQ(table.end_of(3, {12, 0}).end, (Position{10, 0}));
    EXPECT_EQ(table.end_of(9, {12, 0}).term, 4);
    EXPECT_EQ(table.end_of(9, {12, 0}).end, (Position{12, 0}));
}

TEST(TermTable, CutsAtBothEndsKeepTheRowOfTheEntryBeforeThem) {
    TermTable table({{1, {0, 0}}, {2, {3, 0}}, {4, {10, 0}}});
    table.truncate_suffix({10, 0});
    EXPECT_EQ(table.last_term(), 2);
    table.append(5, {10, 0});
    table.append(5, {11, 0});
    EXPECT_EQ(table.size(), 3u);
    table.truncate_prefix({10, 0});
    EXPECT_EQ(table.size(), 2u);
    EXPECT_EQ(table.term_before({10, 0}), 2);
    table.truncate_prefix({10, 1});
    EXPECT_EQ(table.size(), 1u);
    EXPECT_EQ(table.term_before({10, 1}), 5);
}

TEST(TermTable, ItForgetsTheOldestTermsAndSaysSo) {
    TermTable table;
    const auto count = static_cast<int32_t>(kTermRowsMax);
    for (int32_t term = 1; term <= count; ++term) table.append(term, {term, 0});
    EXPECT_TRUE(table.knows({1, 0}));
    table.append(count + 1, {count + 1, 0});
    EXPECT_LE(table.size(), kTermRowsMax);
    EXPECT_FALSE(table.knows({1, 0}));
    const Position from = table.known_from({0, 0});
    EXPECT_TRUE(table.knows(from));
    EXPECT_EQ(table.term_before(from), static_cast<Term>(from.offset - 1));
    table.truncate_prefix(from);
    EXPECT_TRUE(table.knows(from));
}

TEST(TermTable, RowsFromElsewhereAreJudgedBeforeTheyAreTaken) {
    EXPECT_TRUE(TermTable::valid({}));
    EXPECT_TRUE(TermTable::valid({{1, {0, 0}}, {2, {0, 1}}}));
    EXPECT_FALSE(TermTable::valid({{2, {0, 0}}, {1, {5, 0}}}));
    EXPECT_FALSE(TermTable::valid({{1, {5, 0}}, {2, {5, 0}}}));
    EXPECT_FALSE(TermTable::valid({{0, {0, 0}}}));
    EXPECT_FALSE(TermTable::valid({{kTermMax + 1, {0, 0}}}));
    EXPECT_FALSE(TermTable::valid({{1, {-1, 0}}}));
}

}  // namespace
}  // namespace weir::raft

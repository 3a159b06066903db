#include "base/prng.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(Prng, the_same_seed_gives_the_same_draws_and_streams_differ) {
    Prng a(42, "disk"), b(42, "disk"), c(42, "net");
    bool differs = false;
    for (int i = 0; i < 100; ++i) {
        const uint64_t x = a.next();
        EXPECT_EQ(x, b.next());
        differs |= x != c.next();
    }
    EXPECT_TRUE(differs);
}

TEST(Prng, between_covers_both_ends) {
    Prng prng(1);
    bool first = false, last = false;
    for (int i = 0; i < 1000; ++i) {
        const uint64_t v = prng.between(3, 6);
        ASSERT_GE(v, 3u);
        ASSERT_LE(v, 6u);
        first |= v == 3;
        last |= v == 6;
    }
    EXPECT_TRUE(first && last);
}

}  // namespace
}  // namespace weir

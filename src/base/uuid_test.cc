#include "base/uuid.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace weir {
namespace {

TEST(Uuid, text_round_trips_and_never_begins_with_a_dash) {
    Prng prng(3);
    for (int i = 0; i < 1000; ++i) {
        const Uuid id = Uuid::random(prng.next(), prng.next());
        const std::string text = id.to_string();
        ASSERT_EQ(text.size(), 22u);
        ASSERT_NE(text[0], '-');
        ASSERT_EQ(Uuid::parse(text).value(), id);
    }
}

TEST(Uuid, bad_text_is_refused) {
    EXPECT_FALSE(Uuid::parse("short"));
    EXPECT_FALSE(Uuid::parse("AAAAAAAAAAAAAAAAAAAAA*"));
}

}  // namespace
}  // namespace weir

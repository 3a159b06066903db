#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/prng.h"

namespace weir {
namespace {

TEST(Crc32c, matches_the_vectors_of_rfc_3720) {
    std::vector<uint8_t> bytes(32, 0);
    EXPECT_EQ(crc32c(bytes), 0x8a9136aau);
    std::fill(bytes.begin(), bytes.end(), uint8_t{0xff});
    EXPECT_EQ(crc32c(bytes), 0x62a8ab43u);
    EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
}

TEST(Crc32c, fast_equals_slow_for_every_length_and_alignment) {
    Prng prng(7);
    std::vector<uint8_t> bytes(40000);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(prng.next());
    for (size_t size = 0; size < 300; ++size) {
        for (size_t from = 0; from < 9; ++from) {
            const Bytes part = Bytes(bytes).subspan(from, size);
            ASSERT_EQ(crc32c(part), crc32c_slow(part)) << size << " at " << from;
        }
    }
    for (int i = 0; i < 200; ++i) {
        const size_t from = prng.below(100);
        const Bytes part = Bytes(bytes).subspan(from, prng.below(bytes.size() - from));
        ASSERT_EQ(crc32c(part), crc32c_slow(part));
        const size_t cut = prng.below(part.size() + 1);
        const uint32_t a = crc32c(part.first(cut));
        ASSERT_EQ(crc32c(part.subspan(cut), a), crc32c(part));
        ASSERT_EQ(crc32c_combine(a, crc32c(part.subspan(cut)), part.size() - cut), crc32c(part));
    }
}

}  // namespace
}  // namespace weir

#include "kafka/client/partitioner.h"

#include <gtest/gtest.h>

namespace weir::kafka {
namespace {

// The values of Kafka's own test of its hash (UtilsTest.testMurmur2).
TEST(Partitioner, the_hash_is_the_java_clients) {
    EXPECT_EQ(static_cast<int32_t>(murmur2(as_bytes("21"))), -973932308);
    EXPECT_EQ(static_cast<int32_t>(murmur2(as_bytes("foobar"))), -790332482);
    EXPECT_EQ(static_cast<int32_t>(murmur2(as_bytes("a-little-bit-long-string"))), -985981536);
    EXPECT_EQ(static_cast<int32_t>(murmur2(as_bytes("a-little-bit-longer-string"))), -1486304829);
    EXPECT_EQ(
        static_cast<int32_t>(murmur2(as_bytes("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"))),
        -58897971);
}

TEST(Partitioner, a_negative_hash_gives_a_partition_too) {
    for (int i = 0; i < 1000; ++i) {
        const std::string key = std::to_string(i);
        const int32_t partition = partition_of_key(as_bytes(key), 7);
        ASSERT_GE(partition, 0);
        ASSERT_LT(partition, 7);
    }
}

}  // namespace
}  // namespace weir::kafka

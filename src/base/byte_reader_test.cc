#include "base/byte_reader.h"

#include <gtest/gtest.h>

#include "base/byte_writer.h"

namespace weir {
namespace {

TEST(ByteReader, reads_back_what_the_writer_wrote) {
    ByteWriter writer;
    writer.write_i8(-5);
    writer.write_i16(-300);
    writer.write_i32(1 << 30);
    writer.write_i64(INT64_MIN);
    for (const int32_t v : {0, -1, 1, 63, -64, 64, INT32_MAX, INT32_MIN}) writer.write_varint(v);
    for (const int64_t v : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) writer.write_varlong(v);
    writer.write_unsigned_varint(UINT32_MAX);
    const std::vector<uint8_t> bytes = writer.flatten();
    ByteReader reader(bytes);
    EXPECT_EQ(reader.read_i8(), -5);
    EXPECT_EQ(reader.read_i16(), -300);
    EXPECT_EQ(reader.read_i32(), 1 << 30);
    EXPECT_EQ(reader.read_i64(), INT64_MIN);
    for (const int32_t v : {0, -1, 1, 63, -64, 64, INT32_MAX, INT32_MIN}) EXPECT_EQ(reader.read_varint(), v);
    for (const int64_t v : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) EXPECT_EQ(reader.read_varlong(), v);
    EXPECT_EQ(reader.read_unsigned_varint(), UINT32_MAX);
    EXPECT_TRUE(reader.ok());
    EXPECT_EQ(reader.remaining(), 0u);
}

TEST(ByteReader, a_read_past_the_end_fails_for_good) {
    const uint8_t bytes[] = {1, 2, 3};
    ByteReader reader(bytes);
    EXPECT_EQ(reader.read_i32(), 0);
    EXPECT_FALSE(reader.ok());
    EXPECT_EQ(reader.read_u8(), 0);
}

TEST(ByteReader, an_overlong_varint_is_malformed) {
    const uint8_t six[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x01};
    ByteReader reader(six);
    reader.read_unsigned_varint();
    EXPECT_FALSE(reader.ok());
    const uint8_t overflow[] = {0xff, 0xff, 0xff, 0xff, 0x1f};
    ByteReader reader2(overflow);
    reader2.read_unsigned_varint();
    EXPECT_FALSE(reader2.ok());
}

TEST(ByteWriter, external_bytes_land_where_they_were_added) {
    const uint8_t external[] = {9, 9};
    ByteWriter writer;
    writer.write_i8(1);
    writer.add_external(external);
    writer.write_i8(2);
    EXPECT_EQ(writer.size(), 4u);
    EXPECT_EQ(writer.flatten(), (std::vector<uint8_t>{1, 9, 9, 2}));
}

}  // namespace
}  // namespace weir

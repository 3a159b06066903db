#include "kafka/records/legacy.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "base/byte_writer.h"
#include "base/prng.h"
#include "base/units.h"
#include "kafka/records/record.h"

namespace weir::kafka {
namespace {

struct OldMessage {
    int8_t magic = 1;
    uint8_t attributes = 0;
    int64_t timestamp = 1000;
    NullableBytes key = as_bytes("key");
    NullableBytes value = as_bytes("value");
};

void write_nullable(ByteWriter& writer, const NullableBytes& bytes) {
    writer.write_i32(bytes ? static_cast<int32_t>(bytes->size()) : -1);
    if (bytes) writer.write_bytes(*bytes);
}

std::vector<uint8_t> encode(const OldMessage& message) {
    ByteWriter body;
    body.write_i8(message.magic);
    body.write_u8(message.attributes);
    if (message.magic == 1) body.write_i64(message.timestamp);
    write_nullable(body, message.key);
    write_nullable(body, message.value);
    const auto& bytes = body.inline_bytes();
    ByteWriter writer;
    writer.write_i64(0);
    writer.write_i32(static_cast<int32_t>(bytes.size()) + 4);
    writer.write_u32(static_cast<uint32_t>(crc32_z(0, bytes.data(), bytes.size())));
    writer.write_bytes(bytes);
    return writer.inline_bytes();
}

std::vector<uint8_t> joined(std::initializer_list<OldMessage> messages) {
    std::vector<uint8_t> all;
    for (const OldMessage& message : messages) {
        const auto bytes = encode(message);
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
}

std::vector<uint8_t> wrapped(Compression codec, Bytes set, int8_t magic = 1) {
    const auto packed = *compress(codec, set);
    return encode({.magic = magic,
                   .attributes = static_cast<uint8_t>(codec),
                   .key = {},
                   .value = Bytes(packed)});
}

BatchFault fault_of(Bytes set, BatchLimits limits = {}) {
    return up_convert(set, limits, Compression::kNone).verdict.fault;
}

TEST(Legacy, plain_and_compressed_messages_may_follow_one_another) {
    auto set = joined({{.timestamp = 7}, {.key = {}, .value = {}}});
    const auto more = wrapped(Compression::kSnappy, joined({{.timestamp = 9}, {}}));
    set.insert(set.end(), more.begin(), more.end());
    for (const Compression codec : {Compression::kNone, Compression::kZstd}) {
        const UpConversion up = up_convert(set, {}, codec);
        ASSERT_TRUE(up.verdict.ok()) << up.verdict.reason;
        EXPECT_EQ(up.verdict.header.records_count, 4);
        EXPECT_EQ(up.verdict.header.compression(), codec);
        EXPECT_EQ(up.verdict.max_timestamp.ms, 1000);
        EXPECT_EQ(up.verdict.max_timestamp_delta, 1);
        const auto open = OpenBatch::open(up.batch, 1000);
        ASSERT_TRUE(open);
        RecordIterator records = open->records();
        EXPECT_EQ(records.next()->timestamp.ms, 7);
        EXPECT_FALSE(records.next()->value);
        EXPECT_EQ(records.next()->timestamp.ms, 9);
        EXPECT_EQ(as_text(*records.next()->key), "key");
    }
}

TEST(Legacy, what_a_client_may_not_send_is_refused) {
    EXPECT_EQ(fault_of({}), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(joined({{.magic = 0}, {.magic = 1}})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(joined({{.magic = 2}})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(joined({{.attributes = 0x08}})), BatchFault::kInvalidTimestamp);
    EXPECT_EQ(fault_of(joined({{.attributes = 4}})), BatchFault::kUnsupportedCompressionType);
    EXPECT_EQ(fault_of(joined({{.attributes = 7}})), BatchFault::kUnsupportedCompressionType);
    EXPECT_EQ(fault_of(joined({{.attributes = 1, .value = {}}})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(joined({{.attributes = 1}})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(wrapped(Compression::kGzip, {})), BatchFault::kInvalidRecord);
    const auto nested = wrapped(Compression::kGzip, wrapped(Compression::kGzip, joined({{}})));
    EXPECT_EQ(fault_of(nested), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(wrapped(Compression::kGzip, joined({{.magic = 0}}))),
              BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(wrapped(Compression::kGzip, joined({{.magic = 0}}), 0)), BatchFault::kNone);
}

TEST(Legacy, keys_times_and_sizes_are_limited_as_in_any_batch) {
    const auto set = joined({{}, {.timestamp = 5, .key = {}}, {}});
    const UpConversion keyless = up_convert(set, {.key_required = true}, Compression::kNone);
    EXPECT_EQ(keyless.verdict.fault, BatchFault::kInvalidRecord);
    EXPECT_EQ(keyless.verdict.record_faults,
              (std::vector<RecordFault>{{1, RecordFaultKind::kNoKey}}));
    EXPECT_EQ(fault_of(set, {.timestamp_first = {6}}), BatchFault::kInvalidTimestamp);
    const size_t size = up_convert(set, {}, Compression::kNone).batch.size();
    EXPECT_EQ(fault_of(set, {.batch_bytes_max = size}), BatchFault::kNone);
    EXPECT_EQ(fault_of(set, {.batch_bytes_max = size - 1}), BatchFault::kMessageTooLarge);
}

TEST(Legacy, bombs_share_one_allowance) {
    const std::vector<uint8_t> zeros(1_MiB, 0);
    const auto one = wrapped(Compression::kGzip, joined({{.value = Bytes(zeros)}}));
    std::vector<uint8_t> many;
    for (int i = 0; i < 20; ++i) many.insert(many.end(), one.begin(), one.end());
    EXPECT_EQ(fault_of(one, {.batch_bytes_max = 64_MiB, .records_bytes_max = 2_MiB}),
              BatchFault::kNone);
    EXPECT_EQ(fault_of(many, {.batch_bytes_max = 64_MiB, .records_bytes_max = 2_MiB}),
              BatchFault::kMessageTooLarge);
}

TEST(Legacy, lz4_is_read_with_either_header_checksum_and_any) {
    auto packed = *compress(Compression::kLz4, joined({{.magic = 0}}));
    for (const int checksum : {0x82, 0x1a, 0x00}) {  // right, over the magic number too, and none
        packed[6] = static_cast<uint8_t>(checksum);
        const auto set = encode(
            {.magic = 0, .attributes = 3, .timestamp = 0, .key = {}, .value = Bytes(packed)});
        EXPECT_EQ(fault_of(set), BatchFault::kNone) << checksum;
        const bool right = decompress(Compression::kLz4, packed, 1000).has_value();
        EXPECT_EQ(right, checksum == 0x82);
    }
}

TEST(Legacy, noise_under_a_right_crc_never_crashes) {
    Prng prng(31);
    int accepted = 0;
    for (int round = 0; round < 3000; ++round) {
        auto plain = joined({{}, {.key = {}}});
        if (prng.chance(0.5)) plain[prng.below(plain.size())] = static_cast<uint8_t>(prng.next());
        const auto codec = static_cast<Compression>(prng.between(1, 3));
        auto packed = *compress(codec, plain);
        if (prng.chance(0.5)) packed[prng.below(packed.size())] = static_cast<uint8_t>(prng.next());
        const auto set = encode({.magic = 1,
                                 .attributes = static_cast<uint8_t>(codec),
                                 .timestamp = 0,
                                 .key = {},
                                 .value = Bytes(packed)});
        const UpConversion up = up_convert(set, {}, Compression::kLz4);
        if (!up.verdict.ok()) continue;
        ++accepted;
        ASSERT_TRUE(validate_batch(up.batch, {}).ok());
    }
    EXPECT_GT(accepted, 500);
    EXPECT_LT(accepted, 2800);
}

}  // namespace
}  // namespace weir::kafka

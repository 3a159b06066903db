#include "kafka/records/batch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "kafka/records/builder.h"
#include "kafka/records/record.h"

namespace weir::kafka {
namespace {

std::vector<uint8_t> make_batch(int records, BatchBuilder::Options options = {}) {
    BatchBuilder builder(options);
    for (int i = 0; i < records; ++i) {
        const std::string key = "key-" + std::to_string(i);
        const std::string value(static_cast<size_t>(i * 7 % 300), static_cast<char>('a' + i % 26));
        builder.append({.timestamp = {1000 + i * 10 % 70},
                        .key = as_bytes(key),
                        .value = as_bytes(value),
                        .headers = {}});
    }
    return *builder.build();
}

TEST(Batch, the_example_of_the_format_page_is_what_the_builder_writes) {
    const std::vector<uint8_t> example = {
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x47, 0xff, 0xff,
        0xff, 0xff, 0x02, 0x83, 0x6e, 0xd8, 0xdb, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x00, 0x01, 0x93, 0x7e, 0xd9, 0x72, 0x00, 0x00, 0x00, 0x01, 0x93, 0x7e, 0xd9, 0x72,
        0x05, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x00, 0x00, 0x00, 0x02, 0x12, 0x00, 0x00, 0x00, 0x02, 0x6b, 0x04, 0x68, 0x69,
        0x00, 0x16, 0x00, 0x0a, 0x02, 0x02, 0x6b, 0x01, 0x02, 0x02, 0x68, 0x02, 0x31};
    const RecordHeader headers[] = {{as_bytes("h"), as_bytes("1")}};
    BatchBuilder builder;
    builder.append({.timestamp = {1'733'000'000'000},
                    .key = as_bytes("k"),
                    .value = as_bytes("hi"),
                    .headers = {}});
    builder.append(
        {.timestamp = {1'733'000'000'005}, .key = as_bytes("k"), .value = {}, .headers = headers});
    EXPECT_EQ(*builder.build(), example);
}

TEST(Batch, header_fields_lie_where_the_format_says) {
    std::array<uint8_t, kBatchHeaderSize> bytes{};
    const BatchHeader header{.base_offset = 0x0102030405060708,
                             .batch_length = 0x090a0b0c,
                             .partition_leader_epoch = 0x0d0e0f10,
                             .magic = 2,
                             .crc = 0x12131415,
                             .attributes = 0x1617,
                             .last_offset_delta = 0x18191a1b,
                             .base_timestamp = {0x1c1d1e1f20212223},
                             .max_timestamp = {0x2425262728292a2b},
                             .producer_id = 0x2c2d2e2f30313233,
                             .producer_epoch = 0x3435,
                             .base_sequence = 0x36373839,
                             .records_count = 0x3a3b3c3d};
    write_batch_header(bytes, header);
    for (size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], i == 16 ? 2 : i + 1);
    const auto parsed = parse_batch_header(bytes);
    ASSERT_TRUE(parsed);
    std::array<uint8_t, kBatchHeaderSize> again{};
    write_batch_header(again, *parsed);
    EXPECT_EQ(again, bytes);
}

TEST(Batch, a_header_that_cannot_be_is_refused) {
    const auto batch = make_batch(3);
    for (size_t size = 0; size < kBatchHeaderSize; ++size) {
        EXPECT_FALSE(parse_batch_header(Bytes(batch).first(size)));
    }
    const auto code_after = [&](size_t at, std::vector<uint8_t> bytes) {
        auto changed = batch;
        std::copy(bytes.begin(), bytes.end(), changed.begin() + static_cast<ptrdiff_t>(at));
        const auto header = parse_batch_header(changed);
        return header ? std::optional<ErrorCode>{} : header.error().code;
    };
    EXPECT_EQ(code_after(16, {1}), ErrorCode::kUnsupported);
    EXPECT_EQ(code_after(16, {3}), ErrorCode::kUnsupported);
    EXPECT_EQ(code_after(8, {0, 0, 0, 48}), ErrorCode::kMalformed);
    EXPECT_EQ(code_after(8, {0xff, 0xff, 0xff, 0xff}), ErrorCode::kMalformed);
    EXPECT_EQ(code_after(23, {0x80, 0, 0, 0}), ErrorCode::kMalformed);
    EXPECT_EQ(code_after(57, {0xff, 0xff, 0xff, 0xff}), ErrorCode::kMalformed);
    EXPECT_EQ(code_after(0, {0x80}), ErrorCode::kMalformed);
    EXPECT_EQ(code_after(0, std::vector<uint8_t>{0x7f, 255, 255, 255, 255, 255, 255, 255}),
              ErrorCode::kMalformed);
    EXPECT_EQ(code_after(8, {0, 0, 0, 49}), std::nullopt);
}

TEST(Batch, any_changed_byte_under_the_crc_is_noticed) {
    const auto batch = make_batch(20);
    const BatchHeader header = *parse_batch_header(batch);
    ASSERT_TRUE(batch_crc_matches(batch, header));
    for (size_t at = 17; at < batch.size(); ++at) {
        for (const int flip : {0x01, 0x80, 0xff}) {
            auto changed = batch;
            changed[at] = static_cast<uint8_t>(changed[at] ^ flip);
            EXPECT_FALSE(batch_crc_matches(changed, load_batch_header(changed))) << at;
        }
    }
}

TEST(Batch, offset_and_epoch_are_outside_of_the_crc) {
    auto batch = make_batch(5);
    set_base_offset(batch, 123'456'789'012);
    set_partition_leader_epoch(batch, 77);
    const BatchHeader header = *parse_batch_header(batch);
    EXPECT_EQ(header.base_offset, 123'456'789'012);
    EXPECT_EQ(header.last_offset(), 123'456'789'016);
    EXPECT_EQ(header.next_offset(), 123'456'789'017);
    EXPECT_EQ(header.partition_leader_epoch, 77);
    EXPECT_TRUE(batch_crc_matches(batch, header));
}

TEST(Batch, log_append_time_keeps_the_crc_right_and_a_wrong_one_wrong) {
    for (const int records : {1, 2, 30, 5000}) {
        auto batch = make_batch(records);
        set_max_timestamp(batch, TimestampType::kLogAppendTime, {1'700'000'000'000});
        BatchHeader header = *parse_batch_header(batch);
        EXPECT_EQ(header.timestamp_type(), TimestampType::kLogAppendTime);
        EXPECT_EQ(header.max_timestamp.ms, 1'700'000'000'000);
        EXPECT_TRUE(batch_crc_matches(batch, header));
        set_max_timestamp(batch, TimestampType::kCreateTime, {5});
        header = *parse_batch_header(batch);
        EXPECT_EQ(header.timestamp_type(), TimestampType::kCreateTime);
        EXPECT_TRUE(batch_crc_matches(batch, header));
        batch.back() ^= 1;
        set_max_timestamp(batch, TimestampType::kLogAppendTime, {9});
        EXPECT_FALSE(batch_crc_matches(batch, *parse_batch_header(batch)));
        seal_batch(batch);
        EXPECT_TRUE(batch_crc_matches(batch, *parse_batch_header(batch)));
    }
}

TEST(Batch, sequence_numbers_wrap_to_zero) {
    BatchHeader header;
    header.base_sequence = INT32_MAX - 1;
    header.last_offset_delta = 1;
    EXPECT_EQ(header.last_sequence(), INT32_MAX);
    header.last_offset_delta = 2;
    EXPECT_EQ(header.last_sequence(), 0);
    header.last_offset_delta = 12;
    EXPECT_EQ(header.last_sequence(), 10);
}

TEST(Batch, iterator_stops_where_a_batch_is_cut_or_is_none) {
    std::vector<uint8_t> run;
    std::vector<size_t> ends;
    for (const int records : {1, 50, 7}) {
        const auto batch = make_batch(records);
        run.insert(run.end(), batch.begin(), batch.end());
        ends.push_back(run.size());
    }
    for (size_t size = 0; size <= run.size(); ++size) {
        BatchIterator batches(Bytes(run).first(size));
        size_t count = 0;
        while (const auto batch = batches.next()) {
            EXPECT_EQ(batch->bytes.size(), batch->header.size());
            ++count;
        }
        const auto whole = std::upper_bound(ends.begin(), ends.end(), size) - ends.begin();
        EXPECT_EQ(count, static_cast<size_t>(whole));
        EXPECT_FALSE(batches.is_malformed());
        EXPECT_EQ(batches.rest().size(),
                  size - (whole == 0 ? 0 : ends[static_cast<size_t>(whole) - 1]));
    }
    run[ends[0] + 16] = 9;
    BatchIterator batches(run);
    EXPECT_TRUE(batches.next());
    EXPECT_FALSE(batches.next());
    EXPECT_TRUE(batches.is_malformed());
    EXPECT_FALSE(batches.next());
}

}  // namespace
}  // namespace weir::kafka

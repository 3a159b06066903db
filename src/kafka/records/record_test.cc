#include "kafka/records/record.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <string>

#include "base/prng.h"
#include "kafka/records/builder.h"
#include "kafka/records/record_search.h"

namespace weir::kafka {
namespace {

constexpr size_t kPlainMax = 64 << 20;

// A record as a test keeps it: owns its bytes.
struct OwnedRecord {
    int64_t offset = 0;
    WallTime timestamp;
    std::optional<std::string> key;
    std::optional<std::string> value;
    std::vector<std::pair<std::string, std::optional<std::string>>> headers;
    bool operator==(const OwnedRecord&) const = default;
};

NullableBytes view(const std::optional<std::string>& text) {
    if (!text) return std::nullopt;
    return as_bytes(*text);
}
std::optional<std::string> own(const NullableBytes& bytes) {
    if (!bytes) return std::nullopt;
    return std::string(as_text(*bytes));
}

std::optional<std::string> random_bytes(Prng& prng, size_t size_max) {
    if (prng.chance(0.1)) return std::nullopt;
    std::string bytes(prng.below(size_max + 1), '\0');
    for (char& byte : bytes) byte = static_cast<char>(prng.chance(0.5) ? 'x' : prng.next());
    return bytes;
}

std::vector<OwnedRecord> random_records(Prng& prng) {
    std::vector<OwnedRecord> records(prng.between(1, 60));
    int64_t offset = 0;
    for (OwnedRecord& record : records) {
        record.offset = offset++;
        record.timestamp = {static_cast<int64_t>(prng.below(1'000'000)) - 10'000};
        record.key = random_bytes(prng, 30);
        record.value = random_bytes(prng, prng.chance(0.05) ? 70'000 : 300);
        record.headers.resize(prng.chance(0.3) ? prng.below(80) : 0);
        for (auto& [key, value] : record.headers) {
            key = random_bytes(prng, 10).value_or("");
            value = random_bytes(prng, 200);
        }
    }
    return records;
}

void append(BatchBuilder& builder, const OwnedRecord& record) {
    std::vector<RecordHeader> headers;
    for (const auto& [key, value] : record.headers) headers.push_back({as_bytes(key), view(value)});
    builder.append_at(static_cast<int32_t>(record.offset), {.timestamp = record.timestamp,
                                                            .key = view(record.key),
                                                            .value = view(record.value),
                                                            .headers = headers});
}

std::vector<OwnedRecord> read_all(const OpenBatch& open) {
    std::vector<OwnedRecord> all;
    RecordIterator records = open.records();
    while (const auto record = records.next()) {
        OwnedRecord& owned = all.emplace_back();
        owned = {record->offset, record->timestamp, own(record->key), own(record->value), {}};
        RecordHeaders headers = record->headers;
        while (const auto header = headers.next()) {
            owned.headers.emplace_back(as_text(header->key), own(header->value));
        }
    }
    EXPECT_TRUE(records.ok());
    return all;
}

TEST(Record, random_batches_come_back_as_they_were_built) {
    Prng prng(11);
    for (int round = 0; round < 100; ++round) {
        const auto records = random_records(prng);
        BatchBuilder builder({.compression = static_cast<Compression>(prng.below(5))});
        size_t bound = builder.plain_size();
        for (const OwnedRecord& record : records) {
            append(builder, record);
            std::vector<RecordHeader> headers;
            for (const auto& [key, value] : record.headers) {
                headers.push_back({as_bytes(key), view(value)});
            }
            bound += BatchBuilder::size_bound({.timestamp = record.timestamp,
                                               .key = view(record.key),
                                               .value = view(record.value),
                                               .headers = headers});
            EXPECT_LE(builder.plain_size(), bound);
        }
        const auto batch = builder.build();
        ASSERT_TRUE(batch);
        EXPECT_TRUE(builder.empty());
        const auto open = OpenBatch::open(*batch, kPlainMax);
        ASSERT_TRUE(open) << open.error().to_string();
        EXPECT_EQ(read_all(*open), records);
    }
}

TEST(Record, a_builder_starts_afresh_after_each_batch) {
    BatchBuilder builder({.producer_id = 5, .producer_epoch = 1, .base_sequence = 3});
    for (const char* value : {"first", "second"}) {
        builder.append({.timestamp = {1}, .key = {}, .value = as_bytes(value), .headers = {}});
        const auto batch = builder.build();
        ASSERT_TRUE(batch);
        const auto open = OpenBatch::open(*batch, kPlainMax);
        ASSERT_TRUE(open);
        EXPECT_EQ(open->header().records_count, 1);
        EXPECT_EQ(open->header().producer_id, 5);
        EXPECT_EQ(read_all(*open)[0].value, value);
    }
}

TEST(Record, offsets_may_have_gaps_but_must_ascend_and_stay_within_the_batch) {
    BatchBuilder builder({.base_offset = 1000});
    for (const int32_t delta : {2, 5, 9}) {
        builder.append_at(delta, {.timestamp = {1}, .key = {}, .value = {}, .headers = {}});
    }
    auto batch = *builder.build();
    std::vector<int64_t> offsets;
    for (const OwnedRecord& record : read_all(*OpenBatch::open(batch, kPlainMax))) {
        offsets.push_back(record.offset);
    }
    EXPECT_EQ(offsets, (std::vector<int64_t>{1002, 1005, 1009}));

    // Each record here is 7 bytes: length, attributes, and five numbers; the third is the offset
    // delta.
    for (const int bad : {2 << 1, 20 << 1, 0x01}) {
        auto changed = batch;
        changed[kBatchHeaderSize + 7 + 3] = static_cast<uint8_t>(bad);
        seal_batch(changed);
        const OpenBatch open = *OpenBatch::open(changed, kPlainMax);
        RecordIterator records = open.records();
        EXPECT_TRUE(records.next());
        EXPECT_FALSE(records.next());
        EXPECT_FALSE(records.ok());
        EXPECT_FALSE(records.next());
    }
}

TEST(Record, log_append_time_is_every_records_time) {
    BatchBuilder builder;
    for (const int64_t time : {10, 30, 20}) {
        builder.append({.timestamp = {time}, .key = {}, .value = {}, .headers = {}});
    }
    auto batch = *builder.build();
    set_max_timestamp(batch, TimestampType::kLogAppendTime, {500});
    for (const OwnedRecord& record : read_all(*OpenBatch::open(batch, kPlainMax))) {
        EXPECT_EQ(record.timestamp.ms, 500);
    }
}

TEST(Record, search_by_time_finds_the_first_record_at_or_after) {
    for (const Compression codec : {Compression::kNone, Compression::kZstd}) {
        BatchBuilder builder({.compression = codec, .base_offset = 100});
        for (const int64_t time : {10, 30, 20, 30}) {
            builder.append({.timestamp = {time}, .key = {}, .value = {}, .headers = {}});
        }
        const auto batch = *builder.build();
        const auto find = [&](int64_t time) {
            return *find_by_timestamp(batch, {time}, kPlainMax);
        };
        EXPECT_EQ(find(0), (OffsetAndTimestamp{100, {10}}));
        EXPECT_EQ(find(10), (OffsetAndTimestamp{100, {10}}));
        EXPECT_EQ(find(11), (OffsetAndTimestamp{101, {30}}));
        EXPECT_EQ(find(30), (OffsetAndTimestamp{101, {30}}));
        EXPECT_EQ(find(31), std::nullopt);
        EXPECT_EQ(*find_max_timestamp(batch, kPlainMax), (OffsetAndTimestamp{101, {30}}));
    }
}

// What finding a record in the whole, unpacked batch gives, finding it piece by piece gives too,
// within the memory of a piece.
TEST(Record, search_in_steps_finds_what_search_in_the_whole_finds) {
    for (const Compression codec : {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                                    Compression::kLz4, Compression::kZstd}) {
        BatchBuilder builder({.compression = codec, .base_offset = 100});
        const std::string value(1000, 'v');
        for (int64_t i = 0; i < 1500; ++i) {
            const int64_t time = i == 700 ? 90'000 : (i * 7919) % 50'000;
            builder.append(
                {.timestamp = {time}, .key = {}, .value = as_bytes(value), .headers = {}});
        }
        auto batch = *builder.build();
        for (const bool by_append : {false, true}) {
            if (by_append) set_max_timestamp(batch, TimestampType::kLogAppendTime, {77'000});
            int steps_max = 0;
            const auto find = [&](std::optional<WallTime> from, int64_t offset_min) {
                RecordSearch search(batch, {.from = from, .offset_min = offset_min}, kPlainMax);
                int steps = 1;
                while (search.step()) ++steps;
                steps_max = std::max(steps_max, steps);
                EXPECT_TRUE(search.result());
                return *search.result();
            };
            const auto open = OpenBatch::open(batch, kPlainMax);
            for (const int64_t time : {0, 1, 40'000, 49'999, 60'000, 77'000, 90'000, 90'001}) {
                for (const int64_t offset : {0, 100, 900, 1599, 1600}) {
                    std::optional<OffsetAndTimestamp> expected;
                    RecordIterator records = open->records();
                    while (const auto record = records.next()) {
                        if (record->timestamp.ms < time || record->offset < offset) continue;
                        expected = OffsetAndTimestamp{record->offset, record->timestamp};
                        break;
                    }
                    EXPECT_EQ(find(WallTime{time}, offset), expected) << time << " " << offset;
                }
            }
            EXPECT_EQ(find(std::nullopt, 0), *find_max_timestamp(batch, kPlainMax));
            EXPECT_GE(steps_max, 1500 * 1000 / static_cast<int>(kStepBytes)) << "of all records";
        }
        batch[batch.size() / 2] ^= 1;
        RecordSearch damaged(batch, {}, kPlainMax);
        while (damaged.step()) {
        }
        EXPECT_EQ(damaged.result().error().code, ErrorCode::kCorrupt);
    }
}

TEST(Record, a_batch_is_opened_only_if_whole_and_intact) {
    BatchBuilder builder({.compression = Compression::kLz4});
    builder.append({.timestamp = {1}, .key = {}, .value = as_bytes("some value"), .headers = {}});
    const auto batch = *builder.build();
    for (size_t size = 0; size < batch.size(); ++size) {
        const auto open = OpenBatch::open(Bytes(batch).first(size), kPlainMax);
        ASSERT_FALSE(open);
        EXPECT_EQ(open.error().code, ErrorCode::kMalformed);
    }
    for (size_t at = kBatchPrefixSize + 4; at < batch.size(); ++at) {
        auto changed = batch;
        changed[at] ^= 0x10;
        EXPECT_FALSE(OpenBatch::open(changed, kPlainMax)) << at;
    }
    auto unknown = batch;
    unknown[22] = 5;
    seal_batch(unknown);
    EXPECT_EQ(OpenBatch::open(unknown, kPlainMax).error().code, ErrorCode::kUnsupported);
}

TEST(Record, end_transaction_markers_are_read_as_written) {
    for (const bool committed : {false, true}) {
        const auto batch = build_end_transaction_marker(42, 7, {123}, {committed, 9});
        const auto open = OpenBatch::open(batch, kPlainMax);
        ASSERT_TRUE(open);
        EXPECT_TRUE(open->header().is_control());
        EXPECT_TRUE(open->header().is_transactional());
        EXPECT_EQ(open->header().producer_id, 42);
        EXPECT_EQ(open->header().producer_epoch, 7);
        EXPECT_EQ(open->header().base_sequence, -1);
        RecordIterator records = open->records();
        const auto record = records.next();
        ASSERT_TRUE(record);
        const auto marker = parse_end_transaction_marker(*record);
        ASSERT_TRUE(marker);
        EXPECT_EQ(marker->committed, committed);
        EXPECT_EQ(marker->coordinator_epoch, 9);
    }
    EXPECT_FALSE(parse_end_transaction_marker(Record{}));
}

TEST(Record, recompression_changes_the_codec_and_nothing_else) {
    Prng prng(12);
    for (int from = 0; from < 5; ++from) {
        for (int to = 0; to < 5; ++to) {
            const auto records = random_records(prng);
            BatchBuilder builder({.compression = static_cast<Compression>(from),
                                  .base_offset = 55,
                                  .partition_leader_epoch = 3,
                                  .producer_id = 8,
                                  .producer_epoch = 2,
                                  .base_sequence = 100,
                                  .transactional = true});
            for (const OwnedRecord& record : records) append(builder, record);
            auto batch = *builder.build();
            set_max_timestamp(batch, TimestampType::kLogAppendTime, {99});
            const auto packed = recompress(batch, static_cast<Compression>(to),
                                           kCompressionLevelDefault, kPlainMax);
            ASSERT_TRUE(packed) << packed.error().to_string();
            const OpenBatch before = *OpenBatch::open(batch, kPlainMax);
            const auto after = OpenBatch::open(*packed, kPlainMax);
            ASSERT_TRUE(after) << after.error().to_string();
            EXPECT_EQ(after->header().compression(), static_cast<Compression>(to));
            EXPECT_EQ(read_all(*after), read_all(before));
            BatchHeader expected = before.header();
            expected.attributes = static_cast<uint16_t>((expected.attributes & ~7) | to);
            expected.batch_length = after->header().batch_length;
            expected.crc = after->header().crc;
            std::array<uint8_t, kBatchHeaderSize> bytes{};
            write_batch_header(bytes, expected);
            EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), packed->begin()));
        }
    }
}

TEST(Record, recompression_goes_in_small_steps_and_stops_at_its_limit) {
    Prng prng(13);
    std::vector<uint8_t> value(3 << 20);
    for (uint8_t& byte : value) byte = static_cast<uint8_t>(prng.next() % 16);
    for (int from = 0; from < 5; ++from) {
        BatchBuilder builder({.compression = static_cast<Compression>(from)});
        builder.append({.timestamp = {1}, .key = {}, .value = Bytes(value), .headers = {}});
        const auto batch = *builder.build();
        for (int to = 0; to < 5; ++to) {
            Recompression whole(batch, static_cast<Compression>(to), kCompressionLevelDefault,
                                {.records_bytes_max = 4 << 20});
            int steps = 1;
            while (whole.step()) ++steps;
            EXPECT_GT(steps, 150);
            const auto packed = std::move(whole).result();
            ASSERT_TRUE(packed) << packed.error().to_string();
            const auto after = OpenBatch::open(*packed, 4 << 20);
            ASSERT_TRUE(after) << after.error().to_string();
            RecordIterator records = after->records();
            EXPECT_TRUE(std::ranges::equal(*records.next()->value, value));

            Recompression bounded(batch, static_cast<Compression>(to), kCompressionLevelDefault,
                                  {.records_bytes_max = 4 << 20, .batch_bytes_max = 500'000});
            int bounded_steps = 1;
            while (bounded.step()) ++bounded_steps;
            const auto refused = std::move(bounded).result();
            ASSERT_FALSE(refused);
            EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
            EXPECT_LT(bounded_steps, steps / 2);
        }
    }
}

}  // namespace
}  // namespace weir::kafka

// Batches and message sets as librdkafka and kafka-python sent them (testdata/capture.py).
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <utility>

#include "kafka/records/builder.h"
#include "kafka/records/legacy.h"
#include "kafka/records/record.h"
#include "kafka/records/validate.h"

namespace weir::kafka {
namespace {

struct Golden {
    std::string client;
    int magic;
    Compression codec;
    std::vector<uint8_t> bytes;
};

std::vector<uint8_t> from_hex(const std::string& hex) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

std::string read_file(const char* path) {
    std::string text;
    std::FILE* file = std::fopen(path, "r");
    if (file == nullptr) return text;
    char buffer[4096];
    while (const size_t size = std::fread(buffer, 1, sizeof buffer, file))
        text.append(buffer, size);
    std::fclose(file);
    return text;
}

// The lines are "client/magic/codec hex".
std::vector<Golden> read_goldens() {
    const std::string text = read_file(WEIR_TESTDATA "/golden.txt");
    std::vector<Golden> goldens;
    size_t at = 0;
    const auto take = [&](char end) {
        const size_t begin = std::exchange(at, text.find(end, at) + 1);
        return text.substr(begin, at - 1 - begin);
    };
    while (at < text.size()) {
        Golden& golden = goldens.emplace_back();
        golden.client = take('/');
        golden.magic = std::stoi(take('/'));
        golden.codec = compression_from_name(take(' ')).value();
        golden.bytes = from_hex(take('\n'));
    }
    return goldens;
}

// The four records that the capture script produces.
void expect_records(const Golden& golden, Bytes batch) {
    SCOPED_TRACE(golden.client + "/" + std::to_string(golden.magic) + "/" +
                 std::string(to_string(golden.codec)));
    const auto open = OpenBatch::open(batch, 1 << 20);
    ASSERT_TRUE(open) << open.error().to_string();
    EXPECT_EQ(open->header().compression(), golden.codec);
    std::string filler;
    for (int i = 0; i < (golden.codec == Compression::kNone ? 200 : 4000); ++i) {
        filler += "0123456789";
    }
    const std::optional<std::string> keys[] = {"k0", {}, "k2", "k3"};
    const std::optional<std::string> values[] = {"value 0", filler, {}, "last"};
    RecordIterator records = open->records();
    for (int i = 0; i < 4; ++i) {
        const auto record = records.next();
        ASSERT_TRUE(record);
        EXPECT_EQ(record->offset, i);
        EXPECT_EQ(record->timestamp.ms, golden.magic == 0 ? -1 : 1'700'000'000'000 + 5 * i);
        ASSERT_EQ(record->key.has_value(), keys[i].has_value());
        if (keys[i]) EXPECT_EQ(as_text(*record->key), *keys[i]);
        ASSERT_EQ(record->value.has_value(), values[i].has_value());
        if (values[i]) EXPECT_EQ(as_text(*record->value), *values[i]);
        ASSERT_EQ(record->headers.count(), golden.magic == 2 && i == 0 ? 3 : 0);
        if (record->headers.count() == 0) continue;
        RecordHeaders headers = record->headers;
        const RecordHeader trace = *headers.next();
        EXPECT_EQ(as_text(trace.key), "trace");
        EXPECT_EQ(as_text(trace.value.value()), "abc");
        const RecordHeader null = *headers.next();
        EXPECT_EQ(as_text(null.key), "null");
        EXPECT_EQ(null.value.has_value(), golden.client == "kafka-python");
        const RecordHeader empty = *headers.next();
        EXPECT_EQ(as_text(empty.key), "empty");
        ASSERT_TRUE(empty.value);
        EXPECT_TRUE(empty.value->empty());
        EXPECT_FALSE(headers.next());
    }
    EXPECT_FALSE(records.next());
    EXPECT_TRUE(records.ok());
}

TEST(Golden, every_format_and_codec_of_real_clients_is_read) {
    const auto goldens = read_goldens();
    ASSERT_EQ(goldens.size(), 26u);
    for (const Golden& golden : goldens) {
        if (golden.magic == 2) {
            const BatchVerdict verdict = validate_batch(golden.bytes, {});
            EXPECT_TRUE(verdict.ok()) << verdict.reason;
            EXPECT_EQ(verdict.max_timestamp, verdict.header.max_timestamp);
            expect_records(golden, golden.bytes);
            continue;
        }
        EXPECT_EQ(validate_batch(golden.bytes, {}).fault, BatchFault::kInvalidRecord);
        const UpConversion up = up_convert(golden.bytes, {}, message_set_compression(golden.bytes));
        ASSERT_TRUE(up.verdict.ok()) << up.verdict.reason;
        EXPECT_EQ(up.verdict.header.size(), up.batch.size());
        EXPECT_TRUE(validate_batch(up.batch, {}).ok());
        expect_records(golden, up.batch);
    }
}

TEST(Golden, any_changed_byte_of_an_old_message_is_refused) {
    for (const Golden& golden : read_goldens()) {
        if (golden.magic == 2 || golden.codec == Compression::kNone) continue;
        for (size_t at = 8; at < golden.bytes.size(); ++at) {
            auto changed = golden.bytes;
            changed[at] = static_cast<uint8_t>(changed[at] ^ 0x04);
            const UpConversion up = up_convert(changed, {}, Compression::kNone);
            EXPECT_FALSE(up.verdict.ok()) << golden.client << golden.magic << " " << at;
            EXPECT_TRUE(up.batch.empty());
        }
        for (size_t size = 0; size < golden.bytes.size(); ++size) {
            EXPECT_FALSE(
                up_convert(Bytes(golden.bytes).first(size), {}, Compression::kNone).verdict.ok());
        }
    }
}

TEST(Golden, our_builder_writes_what_librdkafka_writes) {
    for (const Golden& golden : read_goldens()) {
        if (golden.magic != 2 || golden.codec != Compression::kNone) continue;
        const OpenBatch open = *OpenBatch::open(golden.bytes, 1 << 20);
        BatchBuilder builder;
        RecordIterator records = open.records();
        while (const auto record = records.next()) {
            std::vector<RecordHeader> list;
            RecordHeaders headers = record->headers;
            while (const auto header = headers.next()) list.push_back(*header);
            builder.append({.timestamp = record->timestamp,
                            .key = record->key,
                            .value = record->value,
                            .headers = list});
        }
        auto batch = *builder.build();
        // The two clients fill the leader epoch, which is not theirs, with 0; librdkafka the unused
        // sequence too.
        set_partition_leader_epoch(batch, open.header().partition_leader_epoch);
        BatchHeader header = load_batch_header(batch);
        header.base_sequence = open.header().base_sequence;
        write_batch_header(batch, header);
        seal_batch(batch);
        EXPECT_EQ(batch, golden.bytes) << golden.client;
    }
}

}  // namespace
}  // namespace weir::kafka

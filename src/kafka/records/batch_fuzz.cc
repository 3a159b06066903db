// Record batches: what validate_batch() accepts can be read, whichever way it is read; nothing that
// comes in breaks anything.
#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"
#include "kafka/records/validate.h"

namespace weir::kafka {
namespace {

constexpr size_t kPlainMax = 1 << 20;

struct Reading {
    bool ok = false;
    int32_t count = 0;
    WallTime max_timestamp = kNoTimestamp;
};

Reading read_through(const OpenBatch& open) {
    Reading reading;
    RecordIterator records = open.records();
    while (const auto record = records.next()) {
        if (reading.count == 0 || record->timestamp > reading.max_timestamp) {
            reading.max_timestamp = record->timestamp;
        }
        ++reading.count;
        RecordHeaders headers = record->headers;
        while (headers.next()) {
        }
    }
    reading.ok = records.ok();
    return reading;
}

void check_whole_and_cut_agree(Bytes plain, const BatchHeader& header, size_t chunk_size) {
    const RecordScanner::Rules rules{.records_count = header.records_count,
                                     .base_timestamp = header.base_timestamp};
    RecordScanner whole(rules);
    const bool whole_ok = whole.feed(plain) && whole.finish();
    RecordScanner cut(rules);
    bool cut_ok = true;
    while (cut_ok && !plain.empty()) {
        const Bytes chunk = plain.first(std::min(plain.size(), chunk_size));
        cut_ok = cut.feed(chunk);
        plain = plain.subspan(chunk.size());
    }
    cut_ok = cut_ok && cut.finish();
    CHECK(whole_ok == cut_ok);
    if (!whole_ok) return;
    CHECK(whole.faults() == cut.faults());
    CHECK(whole.max_timestamp() == cut.max_timestamp());
}

void check_batch(Bytes batch) {
    const BatchVerdict verdict = validate_batch(batch, {.records_bytes_max = kPlainMax});
    CHECK(verdict.plain_records_size <= std::max(kPlainMax, batch.size()));
    const auto open = OpenBatch::open(batch, kPlainMax);
    (void)find_by_timestamp(batch, {1000}, kPlainMax);
    if (verdict.ok()) {
        CHECK(open.has_value());
        const Reading reading = read_through(*open);
        CHECK(reading.ok);
        CHECK(reading.count == verdict.header.records_count);
        CHECK(reading.max_timestamp == verdict.max_timestamp);
        const auto packed =
            recompress(batch, Compression::kLz4, kCompressionLevelDefault, kPlainMax);
        CHECK(packed.has_value());
        CHECK(validate_batch(*packed, {.records_bytes_max = kPlainMax}).ok());
        std::vector<uint8_t> stamped(batch.begin(), batch.end());
        set_max_timestamp(stamped, TimestampType::kLogAppendTime, {77});
        CHECK(batch_crc_matches(stamped, load_batch_header(stamped)));
    } else if (open) {
        (void)read_through(*open);
    }
    if (open)
        check_whole_and_cut_agree(open->plain_records(), open->header(), 1 + batch.size() % 7);
}

// A header that fits the bytes, so that the fuzzer gets past it at once.
std::vector<uint8_t> make_batch(Bytes plain, Compression codec, int32_t count) {
    const auto packed = compress(codec, plain);
    CHECK(packed.has_value());
    std::vector<uint8_t> batch(kBatchHeaderSize);
    batch.insert(batch.end(), packed->begin(), packed->end());
    BatchHeader header;
    header.batch_length = static_cast<int32_t>(batch.size() - kBatchPrefixSize);
    header.attributes = static_cast<uint16_t>(codec);
    header.last_offset_delta = count - 1;
    header.records_count = count;
    header.base_timestamp = {1000};
    write_batch_header(batch, header);
    seal_batch(batch);
    return batch;
}

void fuzz(Bytes input) {
    if (input.size() < 2) return;
    const uint8_t mode = input[0];
    const int32_t count = input[1] % 8 + 1;
    const Bytes rest = input.subspan(2);
    if (mode % 8 < 5) {
        check_batch(make_batch(rest, static_cast<Compression>(mode % 8), count));
        return;
    }
    if (mode % 8 == 5) {
        BatchIterator batches(rest);
        while (batches.next()) {
        }
        check_batch(rest);
        return;
    }
    // Any header, but a length, a magic and a CRC that fit.
    if (rest.size() < kBatchHeaderSize) return;
    std::vector<uint8_t> batch(rest.begin(), rest.end());
    store_be(batch.data() + 8, static_cast<int32_t>(batch.size() - kBatchPrefixSize));
    batch[16] = kBatchMagic;
    seal_batch(batch);
    check_batch(batch);
}

}  // namespace
}  // namespace weir::kafka

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    weir::kafka::fuzz({data, size});
    return 0;
}

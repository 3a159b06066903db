#include "kafka/records/validate.h"

#include <gtest/gtest.h>

#include <string>

#include "base/byte_writer.h"
#include "base/prng.h"
#include "base/units.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"

namespace weir::kafka {
namespace {

std::vector<uint8_t> make_batch(BatchBuilder::Options options, std::vector<int64_t> timestamps) {
    BatchBuilder builder(options);
    for (const int64_t timestamp : timestamps) {
        const std::string key = "key-" + std::to_string(builder.count());
        builder.append({.timestamp = {timestamp},
                        .key = as_bytes(key),
                        .value = as_bytes("some value, some value"),
                        .headers = {}});
    }
    return *builder.build();
}

std::vector<uint8_t> make_batch(Compression codec = Compression::kNone) {
    return make_batch({.compression = codec}, {10, 40, 30, 40});
}

// The batch with some of its bytes overwritten and the CRC right again.
std::vector<uint8_t> changed(std::vector<uint8_t> batch, size_t at, std::vector<uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), batch.begin() + static_cast<ptrdiff_t>(at));
    seal_batch(batch);
    return batch;
}

// A batch around records given as bytes.
std::vector<uint8_t> wrap(Bytes plain, int32_t count, Compression codec = Compression::kNone) {
    std::vector<uint8_t> batch =
        make_batch({}, std::vector<int64_t>(static_cast<size_t>(count), 10));
    BatchHeader header = load_batch_header(batch);
    const auto packed = *compress(codec, plain);
    batch.resize(kBatchHeaderSize);
    batch.insert(batch.end(), packed.begin(), packed.end());
    header.batch_length = static_cast<int32_t>(batch.size() - kBatchPrefixSize);
    header.attributes = static_cast<uint16_t>(codec);
    write_batch_header(batch, header);
    seal_batch(batch);
    return batch;
}

BatchFault fault_of(Bytes batch, BatchLimits limits = {}) {
    return validate_batch(batch, limits).fault;
}

constexpr Compression kAllCodecs[] = {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                                      Compression::kLz4, Compression::kZstd};

TEST(Validate, a_good_batch_passes_and_its_times_are_told) {
    Decompressor reused;
    for (const Compression codec : kAllCodecs) {
        const auto batch = make_batch(codec);
        const BatchVerdict verdict = validate_batch(batch, {}, &reused);
        EXPECT_TRUE(verdict.ok()) << verdict.reason;
        EXPECT_EQ(verdict.header.records_count, 4);
        EXPECT_EQ(verdict.max_timestamp.ms, 40);
        EXPECT_EQ(verdict.max_timestamp_delta, 1);
        EXPECT_EQ(verdict.offset_of_max_timestamp(100), 101);
        EXPECT_EQ(verdict.plain_records_size, make_batch().size() - kBatchHeaderSize);
        EXPECT_TRUE(verdict.record_faults.empty());
    }
}

TEST(Validate, any_changed_byte_is_refused) {
    for (const Compression codec : kAllCodecs) {
        const auto batch = make_batch(codec);
        for (size_t at = 0; at < batch.size(); ++at) {
            // The node writes these itself, so a client's are not looked at: base offset and leader
            // epoch.
            if (at < 8 || (at >= kBatchPrefixSize && at < kBatchPrefixSize + 4)) continue;
            for (const int flip : {0x01, 0x40, 0x80}) {
                auto bytes = batch;
                bytes[at] = static_cast<uint8_t>(bytes[at] ^ flip);
                EXPECT_NE(fault_of(bytes), BatchFault::kNone) << to_string(codec) << " " << at;
            }
        }
    }
}

TEST(Validate, a_cut_batch_is_refused_at_every_length) {
    const auto batch = make_batch();
    EXPECT_EQ(fault_of({}), BatchFault::kInvalidRecord);
    for (size_t size = 1; size < batch.size(); ++size) {
        EXPECT_EQ(fault_of(Bytes(batch).first(size)), BatchFault::kCorruptMessage) << size;
    }
}

TEST(Validate, one_batch_a_partition) {
    auto two = make_batch();
    const auto second = make_batch();
    two.insert(two.end(), second.begin(), second.end());
    EXPECT_EQ(fault_of(two), BatchFault::kInvalidRecord);
}

TEST(Validate, the_limit_on_size_is_on_the_batch_as_stored) {
    const auto batch = make_batch();
    EXPECT_EQ(fault_of(batch, {.batch_bytes_max = batch.size()}), BatchFault::kNone);
    EXPECT_EQ(fault_of(batch, {.batch_bytes_max = batch.size() - 1}), BatchFault::kMessageTooLarge);
}

TEST(Validate, header_fields_that_disagree_are_refused) {
    const auto batch = make_batch();
    EXPECT_EQ(fault_of(changed(batch, 57, {0, 0, 0, 3})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(batch, 23, {0, 0, 0, 4})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(batch, 57, {0x80, 0, 0, 0})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(changed(batch, 57, {0x80, 0, 0, 0}), 23, {0x7f, 255, 255, 255})),
              BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(batch, 57, {0, 0, 0, 0})), BatchFault::kInvalidRecord);
    // One record more, or fewer, than there is.
    EXPECT_EQ(fault_of(changed(changed(batch, 57, {0, 0, 0, 5}), 23, {0, 0, 0, 4})),
              BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(changed(batch, 57, {0, 0, 0, 3}), 23, {0, 0, 0, 2})),
              BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(batch, 7, {1})), BatchFault::kNone);  // a base offset is rewritten
    EXPECT_EQ(fault_of(changed(batch, 16, {1})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(batch, 16, {3})), BatchFault::kCorruptMessage);
}

TEST(Validate, attributes_that_are_not_a_clients_to_set_are_refused) {
    const auto batch = make_batch();
    EXPECT_EQ(fault_of(changed(batch, 22, {0x20})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(batch, 22, {0x40})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(changed(batch, 22, {0x08})), BatchFault::kInvalidTimestamp);
    EXPECT_EQ(fault_of(changed(batch, 22, {0x05})), BatchFault::kUnsupportedCompressionType);
    EXPECT_EQ(fault_of(changed(batch, 22, {0x10})), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(make_batch(Compression::kZstd), {.zstd_allowed = false}),
              BatchFault::kUnsupportedCompressionType);
    const auto transactional = make_batch(
        {.producer_id = 1, .producer_epoch = 0, .base_sequence = 0, .transactional = true}, {1});
    EXPECT_EQ(fault_of(transactional), BatchFault::kNone);
    EXPECT_EQ(fault_of(transactional, {.transactional_allowed = false}),
              BatchFault::kInvalidRecord);
    const auto marker = build_end_transaction_marker(1, 0, {5}, {true, 0});
    EXPECT_EQ(fault_of(marker), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault_of(marker, {.from_client = false}), BatchFault::kNone);
}

TEST(Validate, an_idempotent_batch_names_epoch_and_sequence) {
    const auto fault = [](int64_t id, int16_t epoch, int32_t sequence) {
        return fault_of(make_batch(
            {.producer_id = id, .producer_epoch = epoch, .base_sequence = sequence}, {1}));
    };
    EXPECT_EQ(fault(0, 0, 0), BatchFault::kNone);
    EXPECT_EQ(fault(0, -1, 0), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault(0, 0, -1), BatchFault::kInvalidRecord);
    EXPECT_EQ(fault(-2, 0, 0), BatchFault::kInvalidRecord);
    // Without a producer id the other two mean nothing; kafkajs sends zeros.
    EXPECT_EQ(fault(-1, 0, 0), BatchFault::kNone);
}

TEST(Validate, records_without_a_key_are_listed_where_keys_are_required) {
    for (const Compression codec : kAllCodecs) {
        BatchBuilder builder({.compression = codec});
        for (int i = 0; i < 6; ++i) {
            const NullableBytes key = i % 2 ? NullableBytes{} : as_bytes("");
            builder.append({.timestamp = {1}, .key = key, .value = {}, .headers = {}});
        }
        const auto batch = *builder.build();
        EXPECT_TRUE(validate_batch(batch, {}).ok());
        const BatchVerdict verdict = validate_batch(batch, {.key_required = true});
        EXPECT_EQ(verdict.fault, BatchFault::kInvalidRecord);
        using enum RecordFaultKind;
        EXPECT_EQ(verdict.record_faults,
                  (std::vector<RecordFault>{{1, kNoKey}, {3, kNoKey}, {5, kNoKey}}));
    }
}

TEST(Validate, timestamps_out_of_range_are_listed_and_none_is_always_in_range) {
    const auto batch = make_batch({}, {100, 99, 200, 201, -1});
    const BatchVerdict verdict =
        validate_batch(batch, {.timestamp_first = {100}, .timestamp_last = {200}});
    EXPECT_EQ(verdict.fault, BatchFault::kInvalidTimestamp);
    using enum RecordFaultKind;
    EXPECT_EQ(verdict.record_faults, (std::vector<RecordFault>{{1, kTimestamp}, {3, kTimestamp}}));
    EXPECT_EQ(fault_of(batch, {.timestamp_first = {99}, .timestamp_last = {201}}),
              BatchFault::kNone);
}

TEST(Validate, the_list_of_faults_is_bounded) {
    BatchBuilder builder;
    for (int i = 0; i < 5000; ++i) {
        builder.append({.timestamp = {1}, .key = {}, .value = {}, .headers = {}});
    }
    const BatchVerdict verdict = validate_batch(*builder.build(), {.key_required = true});
    EXPECT_EQ(verdict.record_faults.size(), kRecordFaultsMax);
}

TEST(Validate, offsets_within_a_batch_count_up_from_zero) {
    for (const Compression codec : {Compression::kNone, Compression::kLz4}) {
        BatchBuilder builder({.compression = codec});
        for (const int32_t delta : {0, 1, 3}) {
            builder.append_at(delta, {.timestamp = {1}, .key = {}, .value = {}, .headers = {}});
        }
        // The header is brought in line, so that only the record itself gives it away.
        const auto batch = changed(*builder.build(), 23, {0, 0, 0, 2});
        const BatchVerdict verdict = validate_batch(batch, {});
        EXPECT_EQ(verdict.fault, BatchFault::kInvalidRecord);
        EXPECT_EQ(verdict.record_faults,
                  (std::vector<RecordFault>{{2, RecordFaultKind::kOffsetNotNext}}));
    }
}

TEST(Validate, a_wrong_max_timestamp_of_the_header_is_told_apart) {
    const auto batch = changed(make_batch(), 35, {0, 0, 0, 0, 0, 0, 0, 99});
    const BatchVerdict verdict = validate_batch(batch, {});
    EXPECT_TRUE(verdict.ok());
    EXPECT_EQ(verdict.header.max_timestamp.ms, 99);
    EXPECT_EQ(verdict.max_timestamp.ms, 40);
}

// One record of 8 bytes: attributes 0, time +0, offset +0, key null, value "v", one header "h" =
// null.
std::vector<uint8_t> small_record() { return {20, 0, 0, 0, 1, 2, 'v', 2, 2, 'h', 1}; }

TEST(Validate, malformed_records_under_a_right_crc_are_refused) {
    const auto good = small_record();
    ASSERT_EQ(good.size(), 11u);
    for (const Compression codec : kAllCodecs) {
        ASSERT_EQ(fault_of(wrap(good, 1, codec)), BatchFault::kNone) << to_string(codec);
        const auto fault = [&](size_t at, uint8_t byte) {
            auto bytes = good;
            bytes[at] = byte;
            return fault_of(wrap(bytes, 1, codec));
        };
        EXPECT_EQ(fault(0, 18), BatchFault::kInvalidRecord) << "shorter than its fields";
        EXPECT_EQ(fault(0, 22), BatchFault::kInvalidRecord) << "longer than its fields";
        EXPECT_EQ(fault(0, 1), BatchFault::kInvalidRecord) << "a negative length";
        EXPECT_EQ(fault(0, 0), BatchFault::kInvalidRecord) << "an empty record";
        EXPECT_EQ(fault(4, 3), BatchFault::kInvalidRecord) << "a key of length -2";
        EXPECT_EQ(fault(5, 126), BatchFault::kInvalidRecord) << "a value past the end";
        EXPECT_EQ(fault(7, 1), BatchFault::kInvalidRecord) << "-1 headers";
        EXPECT_EQ(fault(7, 0), BatchFault::kInvalidRecord) << "a header that nobody counted";
        EXPECT_EQ(fault(7, 4), BatchFault::kInvalidRecord) << "a header that is not there";
        EXPECT_EQ(fault(8, 1), BatchFault::kInvalidRecord) << "a header without a key";
        EXPECT_EQ(fault(10, 3), BatchFault::kInvalidRecord) << "a header value of length -2";
        EXPECT_EQ(fault(10, 2), BatchFault::kInvalidRecord) << "a header value past the end";
        auto longer = good;
        longer.push_back(0);
        EXPECT_EQ(fault_of(wrap(longer, 1, codec)), BatchFault::kInvalidRecord);
        for (size_t size = 0; size < good.size(); ++size) {
            EXPECT_EQ(fault_of(wrap(Bytes(good).first(size), 1, codec)),
                      BatchFault::kInvalidRecord);
        }
    }
}

TEST(Validate, a_timestamp_that_overflows_is_refused) {
    // A delta of INT64_MAX above the base of 10.
    const uint8_t plain[] = {30,   0,    0xfe, 0xff, 0xff, 0xff, 0xff, 0xff,
                             0xff, 0xff, 0xff, 0x01, 0,    1,    1,    0};
    const auto batch = wrap(plain, 1);
    EXPECT_EQ(validate_batch(batch, {}).reason, "a record's timestamp is out of bounds");
}

TEST(Validate, the_scanner_says_the_same_however_its_input_is_cut) {
    Prng prng(21);
    for (int round = 0; round < 3000; ++round) {
        BatchBuilder builder;
        for (uint64_t i = prng.between(1, 5); i > 0; --i) {
            const std::string text(prng.below(200), 'x');
            const RecordHeader headers[] = {{as_bytes("a"), as_bytes(text)}, {as_bytes(text), {}}};
            const NullableBytes maybe = prng.chance(0.3) ? NullableBytes{} : as_bytes(text);
            builder.append({.timestamp = {static_cast<int64_t>(prng.below(1 << 20))},
                            .key = maybe,
                            .value = prng.chance(0.2) ? NullableBytes{} : as_bytes(text),
                            .headers = std::span(headers).first(prng.below(3))});
        }
        const auto batch = *builder.build();
        std::vector<uint8_t> plain(batch.begin() + kBatchHeaderSize, batch.end());
        if (prng.chance(0.7)) plain[prng.below(plain.size())] = static_cast<uint8_t>(prng.next());
        if (prng.chance(0.2)) plain[prng.below(plain.size())] = static_cast<uint8_t>(prng.next());
        const RecordScanner::Rules rules{.records_count = load_batch_header(batch).records_count,
                                         .base_timestamp = {5},
                                         .key_required = true,
                                         .timestamp_last = {1 << 19}};
        RecordScanner whole(rules);
        const bool whole_ok = whole.feed(plain) && whole.finish();
        for (const size_t chunk_max : {1, 3, 50}) {
            RecordScanner cut(rules);
            bool cut_ok = true;
            for (Bytes rest = plain; cut_ok && !rest.empty();) {
                const size_t size = std::min(rest.size(), prng.between(1, chunk_max));
                cut_ok = cut.feed(rest.first(size));
                rest = rest.subspan(size);
            }
            cut_ok = cut_ok && cut.finish();
            ASSERT_EQ(cut_ok, whole_ok) << round << ": " << whole.reason() << " / " << cut.reason();
            if (!whole_ok) continue;
            ASSERT_EQ(cut.faults(), whole.faults());
            ASSERT_EQ(cut.max_timestamp(), whole.max_timestamp());
            ASSERT_EQ(cut.max_timestamp_index(), whole.max_timestamp_index());
        }
    }
}

TEST(Validate, accepts_exactly_what_the_iterator_can_read) {
    Prng prng(22);
    int accepted = 0;
    for (int round = 0; round < 20'000; ++round) {
        auto plain = small_record();
        plain[prng.below(plain.size())] = static_cast<uint8_t>(prng.below(40));
        plain[prng.below(plain.size())] = static_cast<uint8_t>(prng.next());
        const auto batch = wrap(plain, 1);
        const bool valid = validate_batch(batch, {}).ok();
        const OpenBatch open = *OpenBatch::open(batch, 1000);
        RecordIterator records = open.records();
        while (records.next()) {
        }
        // The iterator allows gaps within [0, last offset delta]; with one record there are none.
        ASSERT_EQ(valid, records.ok()) << round;
        accepted += valid;
    }
    EXPECT_GT(accepted, 500);
}

// A batch may have 100 MB: neither its sum nor its records are looked at in one go.
TEST(Validate, a_large_uncompressed_batch_is_checked_piece_by_piece) {
    BatchBuilder builder;
    const std::string value(100'000, 'v');
    for (int i = 0; i < 30; ++i)
        builder.append({.timestamp = {i}, .key = {}, .value = as_bytes(value), .headers = {}});
    auto batch = *builder.build();
    const auto steps_of = [&](BatchFault expected) {
        BatchValidation validation(batch, {.batch_bytes_max = batch.size()});
        int steps = 1;
        while (validation.step()) ++steps;
        EXPECT_EQ(validation.verdict().fault, expected);
        return steps;
    };
    const auto pieces = static_cast<int>(batch.size() / kStepBytes);
    EXPECT_GE(steps_of(BatchFault::kNone), 2 * pieces);
    batch.back() ^= 1;
    EXPECT_GE(steps_of(BatchFault::kCorruptMessage), pieces);
}

TEST(Validate, a_bomb_is_refused_in_steps_of_bounded_work) {
    const std::vector<uint8_t> zeros(24_MiB, 0);
    for (const Compression codec : kAllCodecs) {
        if (codec == Compression::kNone) continue;
        // One record whose length says that it fills the whole of it, so the scanner has no reason
        // to stop.
        ByteWriter writer;
        writer.write_varint(static_cast<int32_t>(zeros.size()) + 20);
        writer.write_bytes(Bytes(zeros).first(3));
        writer.write_varint(-1);
        writer.write_varint(static_cast<int32_t>(zeros.size()));
        writer.write_bytes(zeros);
        const auto batch = wrap(writer.inline_bytes(), 1, codec);
        BatchValidation validation(batch, {.batch_bytes_max = 8_MiB, .records_bytes_max = 10_MiB});
        int steps = 1;
        while (validation.step()) ++steps;
        EXPECT_EQ(validation.verdict().fault, BatchFault::kMessageTooLarge) << to_string(codec);
        EXPECT_LE(validation.verdict().plain_records_size, 10_MiB);
        EXPECT_GE(steps, static_cast<int>(10_MiB / Decompressor::kChunkSize)) << to_string(codec);
    }
}

// Whatever a batch unpacks to, its user can let others run after a bounded part of it.
TEST(Validate, empty_frames_are_looked_at_piece_by_piece) {
    auto batch = make_batch(Compression::kZstd);
    BatchHeader header = load_batch_header(batch);
    const auto frame = *compress(Compression::kZstd, {});
    while (batch.size() < 1_MiB) batch.insert(batch.end(), frame.begin(), frame.end());
    header.batch_length = static_cast<int32_t>(batch.size() - kBatchPrefixSize);
    write_batch_header(batch, header);
    seal_batch(batch);
    BatchValidation validation(batch, {.batch_bytes_max = batch.size()});
    size_t steps = 1;
    while (validation.step()) ++steps;
    EXPECT_EQ(validation.verdict().fault, BatchFault::kNone);
    EXPECT_GE(steps, batch.size() / kStepBytes + batch.size() / Decompressor::kPackedPiece);
}

}  // namespace
}  // namespace weir::kafka

// The bytes of docs/formats/, and what is done about other bytes.
#include <gtest/gtest.h>

#include "storage/checkpoint_format.h"
#include "storage/journal_format.h"
#include "storage/segment_format.h"

namespace weir::storage {
namespace {

std::vector<uint8_t> from_hex(std::string_view text) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < text.size(); ++i) {
        if (text[i] == ' ') continue;
        bytes.push_back(
            static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
        ++i;
    }
    return bytes;
}

std::vector<uint8_t> copy(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

const EntryInfo kHello{.kind = EntryKind::kData,
                       .term = 2,
                       .first = {10, 0},
                       .next_offset = 12,
                       .max_timestamp_ms = 1'700'000'000'000};
const EntryInfo kWorld{.kind = EntryKind::kControl, .term = 3, .first = {12, 0}, .next_offset = 12};

struct ExampleBlock {
    std::vector<uint8_t> memory = std::vector<uint8_t>(4096);
    Bytes padded;
    Bytes bytes;  // without padding
    ExampleBlock() {
        BlockBuilder builder;
        builder.start(memory);
        builder.begin_group({7});
        std::vector<uint8_t> vote;
        append_hard_state(vote, {.term = 2, .voted_for = 1});
        builder.add_records(vote, 1);
        builder.add_entry(kHello, as_bytes("hello"), 3);
        builder.end_group();
        const size_t size = builder.size();
        padded = builder.finish({.journal_id = 0x1122334455667788,
                                 .file_sequence = 3,
                                 .block_sequence = 42,
                                 .shard = 1,
                                 .written_ms = 1'700'000'000'123});
        bytes = padded.first(size);
    }
};

TEST(JournalFormat, a_block_has_the_bytes_of_the_document) {
    EXPECT_EQ(copy(ExampleBlock().bytes),
              from_hex("57 42 4b 31 07 fc 09 76 01 00 00 00 8d 00 00 00 88 77 66 55 44 33 22 11 03 "
                       "00 00 00 00 00 00 00 "
                       "2a 00 00 00 00 00 00 00 01 00 00 00 01 00 00 00 7b 68 e5 cf 8b 01 00 00 00 "
                       "00 00 00 00 00 00 00 "
                       "07 00 00 00 00 00 00 00 3d 00 00 00 02 00 00 00 0a 00 00 00 02 00 00 00 01 "
                       "00 00 00 00 00 00 00 "
                       "01 00 03 00 05 00 00 00 02 00 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 0c "
                       "00 00 00 00 00 00 00 "
                       "00 68 e5 cf 8b 01 00 00 68 65 6c 6c 6f"));
}

TEST(JournalFormat, every_kind_of_record_comes_back) {
    std::vector<uint8_t> memory(8192);
    BlockBuilder builder;
    builder.start(memory);
    std::vector<uint8_t> records;
    append_mark(records, RecordType::kCreateLog);
    append_segment_opened(records, {.segment = 4, .base = {100, 2}, .created_ms = 5});
    append_segment_closed(records, {.segment = 3, .footer_position = 8192, .footer_length = 4096});
    append_truncate_suffix(records, {77, 1});
    append_truncate_prefix(records, 12, 7);
    append_hard_state(records, {.term = 9, .voted_for = -1});
    append_segment_replaced(records, {.segment = 3,
                                      .replacement = 5,
                                      .base = {8, 1},
                                      .end = {100, 2},
                                      .data_end = 8192,
                                      .footer_length = 4096,
                                      .payload_bytes = 77,
                                      .max_timestamp_ms = 6});
    builder.begin_group({1});
    builder.end_group();  // nothing in it: left out
    builder.begin_group({2});
    builder.add_records(records, 7);
    builder.end_group();
    builder.begin_group({3});
    builder.add_bypassed(kHello, 1000, as_bytes("sum"));
    const RunNote note{.segment = 4,
                       .position = 4096,
                       .length = 8192,
                       .crc = 0xabcd,
                       .entries = 1,
                       .first = {10, 0},
                       .end = {12, 0},
                       .max_timestamp_ms = 6,
                       .bypass = true};
    records.clear();
    append_run(records, note);
    builder.add_records(records, 1);
    builder.end_group();
    const Bytes block = builder.finish({.block_sequence = 5});
    BlockHeader header;
    ASSERT_EQ(check_block(block, &header), BlockCheck::kValid);
    EXPECT_EQ(header.group_count, 2u);

    BlockReader reader(block.first(header.length));
    std::vector<Record> read;
    Record record;
    while (true) {
        auto more = reader.next(&record);
        ASSERT_TRUE(more) << more.error().message;
        if (!*more) break;
        read.push_back(record);
    }
    ASSERT_EQ(read.size(), 9u);
    EXPECT_EQ(read[0].type, RecordType::kCreateLog);
    EXPECT_EQ(read[1].opened.base, (Position{100, 2}));
    EXPECT_EQ(read[1].opened.created_ms, 5);
    EXPECT_EQ(read[2].closed.footer_position, 8192u);
    EXPECT_EQ(read[3].position, (Position{77, 1}));
    EXPECT_EQ(read[4].position.offset, 12);
    EXPECT_EQ(read[5].hard_state, (HardState{9, -1}));
    EXPECT_EQ(read[5].log, LogId{2});
    EXPECT_EQ(read[6].replaced.segment, 3u);
    EXPECT_EQ(read[6].replaced.replacement, 5u);
    EXPECT_EQ(read[6].replaced.base, (Position{8, 1}));
    EXPECT_EQ(read[6].replaced.end, (Position{100, 2}));
    EXPECT_EQ(read[6].replaced.data_end, 8192u);
    EXPECT_EQ(read[6].replaced.footer_length, 4096u);
    EXPECT_EQ(read[6].replaced.payload_bytes, 77u);
    EXPECT_EQ(read[6].replaced.max_timestamp_ms, 6);
    EXPECT_EQ(read[7].log, LogId{3});
    EXPECT_EQ(read[7].payload_size, 1000u);
    EXPECT_EQ(as_text(read[7].payload), "sum");
    EXPECT_EQ(read[8].run.position, 4096u);
    EXPECT_EQ(read[8].run.crc, 0xabcdu);
    EXPECT_EQ(read[8].run.end, (Position{12, 0}));
    EXPECT_TRUE(read[8].run.bypass);
}

TEST(JournalFormat, any_flipped_bit_of_a_block_is_noticed) {
    ExampleBlock example;
    for (size_t bit = 0; bit < example.bytes.size() * 8; ++bit) {
        std::vector<uint8_t> block = copy(example.padded);
        block[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
        BlockHeader header;
        ASSERT_NE(check_block(block, &header), BlockCheck::kValid) << bit;
    }
}

TEST(JournalFormat, a_block_cut_short_is_incomplete) {
    ExampleBlock example;
    BlockHeader header;
    EXPECT_EQ(check_block(example.bytes.first(100), &header), BlockCheck::kIncomplete);
    EXPECT_EQ(check_block(example.bytes.first(63), &header), BlockCheck::kNoBlock);
    EXPECT_EQ(check_block({}, &header), BlockCheck::kNoBlock);
}

struct ExampleRun {
    std::vector<uint8_t> bytes = std::vector<uint8_t>(4096);
    RunHeader header{.log = {7}, .segment = 1, .position = 0, .written_ms = 1'700'000'000'456};
    ExampleRun() {
        build_run(bytes, {{kHello, as_bytes("hello"), 3}, {kWorld, as_bytes("world!"), 0}},
                  &header);
    }
};

TEST(SegmentFormat, a_run_has_the_bytes_of_the_document) {
    ExampleRun run;
    EXPECT_EQ(copy(Bytes(run.bytes).first(235)),
              from_hex("57 52 4e 31 9a 4b cf 39 01 00 00 00 01 00 00 00 07 00 00 00 00 00 00 00 00 "
                       "00 00 00 00 00 00 00 "
                       "00 10 00 00 02 00 00 00 0b 00 00 00 ed eb 08 dd 40 ae 0b 02 00 00 00 00 0a "
                       "00 00 00 00 00 00 00 "
                       "0c 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 00 68 e5 cf 8b 01 00 00 c8 "
                       "69 e5 cf 8b 01 00 00 "
                       "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
                       "00 00 00 00 00 00 00 "
                       "01 00 03 00 05 00 00 00 02 00 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 0c "
                       "00 00 00 00 00 00 00 "
                       "00 68 e5 cf 8b 01 00 00 00 00 00 00 00 00 00 00 01 01 00 00 06 00 00 00 03 "
                       "00 00 00 00 00 00 00 "
                       "0c 00 00 00 00 00 00 00 0c 00 00 00 00 00 00 00 ff ff ff ff ff ff ff ff 05 "
                       "00 00 00 00 00 00 00 "
                       "68 65 6c 6c 6f 77 6f 72 6c 64 21"));
}

// An entry may have 100 MB: neither its copy nor its checksum is made or checked in one step.
TEST(SegmentFormat, a_run_of_a_large_entry_is_laid_out_and_checked_piece_by_piece) {
    std::vector<uint8_t> large(5 * kRunStepBytes + 100);
    for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<uint8_t>(i * i >> 7);
    const std::vector<RunEntry> entries = {{kHello, large, 3}, {kWorld, as_bytes("world!"), 0}};
    std::vector<uint8_t> bytes(run_length(2, large.size() + 6));
    RunBuild build(bytes, entries, {.log = {7}, .segment = 1});
    size_t steps = 1;
    while (build.step()) ++steps;
    EXPECT_EQ(steps, 6u);
    RunCheck check(bytes);
    for (steps = 1; check.step();) ++steps;
    EXPECT_EQ(steps, 6u);
    ASSERT_TRUE(check.result());
    const RunView::Item item = check.result()->item(0);
    EXPECT_EQ(copy(Bytes(bytes).subspan(item.payload_at, item.payload_size)), large);
    const RunView::Item last = check.result()->item(1);
    EXPECT_EQ(as_text(Bytes(bytes).subspan(last.payload_at, last.payload_size)), "world!");

    for (const size_t at : {item.payload_at, 3 * kRunStepBytes, last.payload_at + 5}) {
        bytes[at] ^= 1;
        EXPECT_FALSE(RunView::parse(bytes, true)) << at;
        bytes[at] ^= 1;
    }
}

TEST(SegmentFormat, entries_of_a_run_are_found_by_offset) {
    ExampleRun run;
    auto view = RunView::parse(run.bytes, true);
    ASSERT_TRUE(view) << view.error().message;
    EXPECT_EQ(view->count(), 2u);
    EXPECT_EQ(view->find(9), 0u);
    EXPECT_EQ(view->find(11), 0u);
    EXPECT_EQ(view->find(12), 2u);  // a control entry holds no offset
    EXPECT_EQ(
        as_text(Bytes(run.bytes).subspan(view->item(1).payload_at, view->item(1).payload_size)),
        "world!");
    EXPECT_EQ(view->item(1).info.end(), (Position{12, 1}));
}

TEST(SegmentFormat, any_flipped_bit_of_a_run_is_noticed) {
    ExampleRun run;
    for (size_t bit = 0; bit < 235 * 8; ++bit) {
        std::vector<uint8_t> bytes = run.bytes;
        bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
        ASSERT_FALSE(RunView::parse(bytes, true)) << bit;
    }
}

TEST(SegmentFormat, a_footer_comes_back_from_its_trailer) {
    std::vector<RunPlace> runs;
    for (int i = 0; i < 200; ++i)
        runs.push_back({{i * 5, 0}, {i * 5 + 5, 0}, i, static_cast<uint64_t>(i) * 4096, 4096});
    const std::vector<uint8_t> footer = build_footer({7}, 3, 200 * 4096, runs);
    EXPECT_EQ(footer.size() % kPage, 0u);
    auto trailer = parse_trailer(footer);
    ASSERT_TRUE(trailer);
    EXPECT_EQ(trailer->footer_position, 200u * 4096);
    EXPECT_EQ(trailer->footer_length, footer.size());
    auto parsed = parse_footer(footer);
    ASSERT_TRUE(parsed);
    ASSERT_EQ(parsed->runs.size(), 200u);
    EXPECT_EQ(parsed->runs[150].first, (Position{750, 0}));
    std::vector<uint8_t> broken = footer;
    broken[5000] ^= 1;
    EXPECT_FALSE(parse_footer(broken));
}

LogState example_log() {
    LogState log;
    log.id = {7};
    log.start_offset = 10;
    log.end = log.flushed_end = {12, 1};
    log.hard_state = {3, 1};
    log.next_segment = 2;
    log.terms = {{2, {10, 0}}, {3, {12, 0}}};
    Segment segment;
    segment.id = 1;
    segment.base = {10, 0};
    segment.end = {12, 1};
    segment.data_end = 4096;
    segment.max_timestamp_ms = 1'700'000'000'000;
    segment.created_ms = 1'700'000'000'400;
    log.segments.push_back(std::move(segment));
    return log;
}

std::vector<uint8_t> example_checkpoint() {
    std::vector<uint8_t> checkpoint(kCheckpointHeaderBytes);
    const LogState log = example_log();
    const std::vector<uint8_t> state{0xaa, 0xbb};
    append_section(checkpoint, log, log.end, 42, {log.end, -1, state});
    finish_checkpoint(checkpoint, {.journal_id = 0x1122334455667788,
                                   .generation = 1,
                                   .shard = 1,
                                   .shards = 2,
                                   .start_file = 3,
                                   .start_block = 40,
                                   .logs = 1,
                                   .written_ms = 1'700'000'000'789});
    return checkpoint;
}

TEST(CheckpointFormat, a_checkpoint_has_the_bytes_of_the_document) {
    EXPECT_EQ(example_checkpoint(), from_hex("57 43 50 31 37 9b ce d7 01 00 00 00 01 00 00 00 22 "
                                             "01 00 00 00 00 00 00 88 77 66 55 44 33 22 11 "
                                             "03 00 00 00 00 00 00 00 28 00 00 00 00 00 00 00 01 "
                                             "00 00 00 01 00 02 00 15 6b e5 cf 8b 01 00 00 "
                                             "e2 00 00 00 00 00 00 00 07 00 00 00 00 00 00 00 2a "
                                             "00 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 "
                                             "0c 00 00 00 00 00 00 00 01 00 00 00 0c 00 00 00 00 "
                                             "00 00 00 01 00 00 00 0c 00 00 00 00 00 00 00 "
                                             "01 00 00 00 03 00 00 00 01 00 00 00 02 00 00 00 01 "
                                             "00 00 00 02 00 00 00 02 00 00 00 00 00 00 00 "
                                             "00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 0a "
                                             "00 00 00 00 00 00 00 00 00 00 00 0c 00 00 00 "
                                             "00 00 00 00 01 00 00 00 00 10 00 00 00 00 00 00 00 "
                                             "68 e5 cf 8b 01 00 00 90 69 e5 cf 8b 01 00 00 "
                                             "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
                                             "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
                                             "0a 00 00 00 00 00 00 00 00 00 00 00 02 00 00 00 0c "
                                             "00 00 00 00 00 00 00 00 00 00 00 03 00 00 00 aa bb"));
}

TEST(CheckpointFormat, it_comes_back_and_every_flipped_bit_is_noticed) {
    const std::vector<uint8_t> bytes = example_checkpoint();
    auto parsed = parse_checkpoint(bytes);
    ASSERT_TRUE(parsed) << parsed.error().message;
    const LogSnapshot& snapshot = parsed->logs.at({7});
    EXPECT_EQ(snapshot.applied_block, 42u);
    EXPECT_EQ(snapshot.log.terms, example_log().terms);
    EXPECT_EQ(snapshot.log.segments.at(0).data_end, 4096u);
    EXPECT_EQ(snapshot.state, (std::vector<uint8_t>{0xaa, 0xbb}));
    EXPECT_EQ(parsed->header.start_block, 40u);
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        std::vector<uint8_t> broken = bytes;
        broken[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
        ASSERT_FALSE(parse_checkpoint(broken)) << bit;
    }
    for (size_t size = 0; size < bytes.size(); ++size)
        ASSERT_FALSE(parse_checkpoint(Bytes(bytes).first(size))) << size;
}

}  // namespace
}  // namespace weir::storage

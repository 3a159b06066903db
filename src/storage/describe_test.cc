#include "storage/describe.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/prng.h"
#include "storage/journal_format.h"
#include "storage/layout.h"
#include "storage/segment_format.h"

namespace weir::storage {
namespace {

std::vector<uint8_t> journal_of_one_block() {
    std::vector<uint8_t> file(4 * kPage);
    BlockBuilder builder;
    builder.start(MutableBytes(file).subspan(kPage, 2 * kPage));
    builder.begin_group(LogId{7});
    builder.add_entry({.term = 3, .first = {10, 0}, .next_offset = 14, .max_timestamp_ms = 99},
                      as_bytes("payload"), 4);
    builder.end_group();
    builder.finish({.journal_id = 1, .file_sequence = 2, .block_sequence = 5, .shard = 0});
    return file;
}

TEST(Describe, a_journal_shows_its_blocks_and_their_records) {
    const std::string text = describe_journal(journal_of_one_block());
    EXPECT_NE(text.find("block 5 at=4096 file=2"), std::string::npos) << text;
    EXPECT_NE(text.find("term=3 offsets=[10, 14) max_timestamp=99 bytes=7"), std::string::npos)
        << text;
    EXPECT_NE(text.find("1 blocks, 0 broken"), std::string::npos) << text;
}

TEST(Describe, a_damaged_block_is_named_where_it_lies) {
    std::vector<uint8_t> file = journal_of_one_block();
    file[kPage + kBlockHeaderBytes + kGroupHeaderBytes + kEntryHeaderBytes] ^= 1;
    const std::string text = describe_journal(file);
    EXPECT_NE(text.find("BROKEN"), std::string::npos) << text;
    EXPECT_NE(text.find("0 blocks, 1 broken"), std::string::npos) << text;
}

TEST(Describe, a_segment_shows_its_runs) {
    std::vector<uint8_t> file(run_length(1, 7) + kPage);
    RunHeader header{.log = LogId{7}, .segment = 1};
    build_run(MutableBytes(file).first(run_length(1, 7)),
              {{{.term = 1, .first = {0, 0}, .next_offset = 2}, as_bytes("payload"), 0}}, &header);
    const std::string text = describe_segment(file);
    EXPECT_NE(text.find("run at=0 log=7 segment=1"), std::string::npos) << text;
    EXPECT_NE(text.find("offsets=[0, 2)"), std::string::npos) << text;
    EXPECT_NE(text.find("1 runs"), std::string::npos) << text;
}

TEST(Describe, any_bytes_at_all_are_survived) {
    Prng prng(5);
    std::vector<uint8_t> good = journal_of_one_block();
    for (int i = 0; i < 2000; ++i) {
        std::vector<uint8_t> file = good;
        for (uint64_t flips = prng.between(1, 20); flips > 0; --flips)
            file[prng.below(file.size())] = static_cast<uint8_t>(prng.next());
        file.resize(prng.below(file.size() + 1));
        EXPECT_FALSE(describe_journal(file).empty());
        EXPECT_FALSE(describe_segment(file).empty());
        EXPECT_FALSE(describe_checkpoint(file).empty());
    }
}

}  // namespace
}  // namespace weir::storage

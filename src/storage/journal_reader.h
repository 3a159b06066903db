// Reads one shard's journal from a given block on, tells its end, and tells a torn end from damage.
//
// Only one block is ever in flight, and the next is written when it is durable. So the first block
// that does not hold is the torn end if nothing valid follows it, and damage if a later block of
// the same journal does. Beyond that the files' marks say which files there are and how far the
// journal was flushed at least. Used by recovery, on one shard, before the journal is written
// again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/buffer.h"
#include "runtime/file.h"
#include "storage/journal_writer.h"

namespace weir::storage {

class JournalReader {
  public:
    struct Options {
        std::string directory;
        uint64_t journal_id = 0;
        uint32_t shard = 0;
        uint64_t start_file = 0;   // files before it hold nothing that counts
        uint64_t start_block = 0;  // the first block of that file
        bool marked = false;       // CheckpointHeader::marked
        bool verify_checksums = true;
        bool any_size = false;  // a file of another size than it was made with is read all the same
        bool ignore_gap = false;   // for StorageBugs: no file is missed
        bool trust_short = false;  // for StorageBugs: whatever size or mark a file has
    };
    struct Block {
        BlockHeader header;
        std::vector<uint8_t> bytes;  // header and groups
        std::string path;
        uint64_t offset = 0;
    };

    // Flushes what it reads first: a block that the device holds only in its cache must not count
    // and then vanish.
    runtime::Task<Result<void>> open(Options options);
    runtime::Task<void> close();
    // Nothing at the end of the journal. kCorrupt, naming file and offset, for damage.
    runtime::Task<Result<std::optional<Block>>> next();
    // After the end was reached: what a writer goes on with. Files with blocks are `old`, all
    // others spare.
    JournalWriter::Start finish() const;

    // Makes a block that turned out to be torn in its references invalid, durably.
    static runtime::Task<Result<void>> erase(const Block& block);
    // Where the block after the last one that counts was begun and is not whole, or was damaged:
    // its header names it, in all fields but one at least. A crash can leave the first, and then it
    // was never acknowledged. Empty: nowhere.
    const std::string& torn() const { return torn_; }
    // After open(): what contradicts a mark or the checkpoint. next() gives blocks all the same.
    struct Contradiction {
        std::string path;
        std::string what;
    };
    const std::vector<Contradiction>& contradictions() const { return contradictions_; }
    // The newest block of which a mark says that it was flushed; 0: there is no mark.
    uint64_t flushed_block() const { return flushed_block_; }
    // The sequence of the block that next() gives next.
    uint64_t expected() const { return expected_; }
    // Says that the last block that next() gave does not count.
    void unread() { --expected_; }

  private:
    struct FileOnDisk {
        std::string path;
        uint64_t sequence = 0;
        uint64_t bytes = 0;
        uint64_t first_block = 0;
        bool has_blocks = false;
        std::optional<FileMark> mark;
    };
    runtime::Task<Result<void>> go_to(size_t index);
    runtime::Task<Result<void>> read_mark(FileOnDisk* file);
    void check_marks();
    // Gives a view of up to `bytes` from `offset` of the current file; fewer at its end.
    runtime::Task<Result<Bytes>> view(uint64_t offset, uint64_t bytes);
    // The state of the place where the expected block may begin.
    struct Place {
        BlockCheck check = BlockCheck::kNoBlock;
        BlockHeader header;
        Bytes bytes;
    };
    runtime::Task<Result<Place>> look(uint64_t offset);
    bool ours(const BlockHeader& header) const;
    bool resembles_next(Bytes page) const;
    runtime::Task<Result<void>> search_beyond_the_end(size_t file, uint64_t offset);

    Options options_;
    std::vector<FileOnDisk> files_;  // from start_file on, ascending
    std::vector<SpareFile> too_old_;
    size_t current_ = 0;
    runtime::File file_;
    uint64_t at_ = 0;
    uint64_t expected_ = 0;
    runtime::IoBuffer buffer_;
    uint64_t buffer_offset_ = 0;
    std::string torn_;
    std::vector<Contradiction> contradictions_;
    uint64_t flushed_block_ = 0;
};

}  // namespace weir::storage

// The files of one shard's journal: where the next block goes, the next file made ready before the
// current one is full, old files recycled when a checkpoint says so. Used by the commit loop (one
// block in flight) and by the checkpoint, on the shard that owns the journal.
//
// Each file ends with its marks (journal_marks.h). A file has its mark, and the file before says so
// in its own, before its first block is written: whichever is gone afterwards was lost.
//
// A file is zero-filled once and renamed to its next sequence number when it is used again: a write
// into it changes neither its size nor its extents, so that fdatasync is a flush of the device and
// no more. Its old blocks carry an old sequence number. Format: docs/formats/journal.md.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/file.h"
#include "runtime/stop_token.h"
#include "runtime/wait.h"
#include "storage/journal_format.h"
#include "storage/journal_marks.h"

namespace weir::storage {

// A journal file without blocks that count.
struct SpareFile {
    std::string path;
    uint64_t bytes = 0;
};

// The error of prepare() where the journal has its largest size: a checkpoint has to free a file
// first. No descriptors for a new file is another error of the same code.
inline bool is_largest(const Error& error) {
    return error.code == ErrorCode::kResourceExhausted && error.os_errno == 0;
}

class JournalWriter {
  public:
    struct Options {
        std::string directory;
        uint64_t journal_id = 0;
        uint32_t shard = 0;
        uint64_t file_bytes = 0;
        uint64_t first_file_bytes = 0;  // of the file made while the node starts: less to pre-write
        uint64_t bytes_max = 0;
        Duration mark_pause{};  // between two marks while blocks come without a pause
    };
    // What recovery found: files that hold blocks still needed, in order; where numbering goes on;
    // files free to use.
    struct OldFile {
        uint64_t sequence = 0;
        uint64_t first_block = 0;
        uint64_t bytes = 0;
    };
    struct Start {
        std::vector<OldFile> old;
        std::vector<SpareFile> spare;
        uint64_t next_file = 1;
        uint64_t next_block = 1;
        // Each of `old` from this one on has its mark.
        uint64_t marked_from = UINT64_MAX;
    };

    // Makes the first file ready.
    runtime::Task<Result<void>> open(Options options, Start start);
    runtime::Task<void> close();
    // The store failed or closes: no file will become ready for whoever waits for one.
    void give_up();

    // --- the commit loop
    // Goes to the next file when `bytes` do not fit the current one; waits for it to be ready.
    runtime::Task<Result<void>> make_room(uint64_t bytes, runtime::StopToken stop);
    BlockHeader next_header() const;
    runtime::Task<Result<void>> write(Bytes block);
    runtime::Task<Result<void>> sync();
    // The block is durable: the next one goes after it.
    void advance(uint64_t bytes);
    // Blocks are durable that no mark tells of.
    bool wants_mark() const { return marked_block_ + 1 < next_block_; }
    // Says so, durably. write() does it too, now and then. Only between two blocks: a flush that
    // fails says so once, and that may be the flush of a block.
    runtime::Task<Result<void>> mark();

    uint64_t next_block() const { return next_block_; }
    // `bytes` can be written before a file that is not ready yet is needed.
    bool fits(uint64_t bytes) const {
        return at_ + bytes <= block_room(file_bytes_) ||
               (next_ && bytes <= block_room(next_->bytes));
    }
    // From the first file that is still needed to the head.
    uint64_t used_bytes() const;
    uint64_t total_bytes() const { return total_bytes_; }
    uint64_t bytes_max() const { return options_.bytes_max; }

    // --- the task that makes files ready
    bool wants_file() const { return !next_.has_value(); }
    // The commit loop waits for a file.
    bool starved() const { return starved_; }
    // The last prepare() found no file to use.
    bool space_wanted() const { return space_wanted_; }
    // Prepares the next file: a spare one, or a new one while bytes_max allows it (or the commit
    // loop starves). kResourceExhausted: a checkpoint has to free a file first.
    runtime::Task<Result<void>> prepare();
    runtime::WaitQueue& prepared() { return prepared_; }

    // --- the checkpoint
    // The sequence of the file that holds `block`, and the first block of that file.
    OldFile file_of(uint64_t block) const;
    // The first block of the file that lies at least `bytes` before the head; 0 if there is none so
    // far back.
    uint64_t block_back(uint64_t bytes) const;
    uint64_t oldest_file() const { return old_.empty() ? file_sequence_ : old_.front().sequence; }
    // All files from this one on have their mark.
    bool marked_from(uint64_t sequence) const { return sequence >= marked_from_; }
    // Files before `sequence` are no longer needed.
    void release_before(uint64_t sequence);
    // Deletes spare files beyond what will be used again.
    runtime::Task<void> trim();

  private:
    struct Ready {
        runtime::File file;
        uint64_t sequence = 0;
        uint64_t bytes = 0;
        uint32_t mark_slot = 0;  // of its next mark
    };
    runtime::Task<Result<Ready>> make_ready(uint64_t sequence, bool urgent);
    runtime::Task<Result<SpareFile>> prewrite(uint64_t bytes);
    std::optional<SpareFile> choose_spare(uint64_t sequence);
    runtime::Task<Result<Ready>> open_marked(const SpareFile* spare, uint64_t sequence);
    runtime::Task<Result<void>> promise_first(OldFile before);
    FileMark mark_of(uint64_t sequence, uint64_t bytes, bool has_successor) const;
    runtime::Task<Result<uint32_t>> add_mark(runtime::File* file, FileMark mark);
    // Without a flush. Between two marks of a file there is one.
    runtime::Task<Result<void>> put_mark(runtime::File* file, uint32_t slot, FileMark mark);
    runtime::Task<Result<void>> mark_current(bool has_successor);
    void switch_to_next();

    Options options_;
    runtime::File file_;
    uint64_t file_sequence_ = 0;
    uint64_t file_bytes_ = 0;
    uint64_t file_first_block_ = 0;
    uint32_t mark_slot_ = 0;  // of the current file's next mark
    uint64_t at_ = 0;
    uint64_t next_block_ = 1;
    uint64_t next_sequence_ = 1;
    uint64_t marked_from_ = UINT64_MAX;
    uint64_t marked_block_ = 0;
    Instant marked_at_;
    std::optional<Ready> next_;
    std::deque<OldFile> old_;
    std::vector<SpareFile> spare_;
    uint64_t total_bytes_ = 0;
    bool starved_ = false;
    bool given_up_ = false;
    bool preparing_ = false;
    bool space_wanted_ = false;
    runtime::WaitQueue prepared_;
    runtime::WaitQueue wanted_;

  public:
    // Notified when prepare() should run.
    runtime::WaitQueue& wanted() { return wanted_; }
};

}  // namespace weir::storage

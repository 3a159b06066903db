// Back-pressure of a store: appends are admitted while the memory for entries not yet in segments,
// and the journal files that are ready, hold them. Owned by the ShardStore, used on its shard.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/result.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/layout.h"

namespace weir::storage {

class ShardStore;

// What found the disk full when it was tried last.
enum class FullPart : uint8_t { kJournal, kSegments, kCheckpoint, kCount };

class Admission {
  public:
    explicit Admission(ShardStore& store) : store_(store) {}

    // Waits until `bytes` more fit. kDiskFull instead of waiting while the disk is full.
    runtime::Task<Result<void>> admit(uint64_t bytes, runtime::StopToken stop);
    // A record of the log's own (a vote, a truncation): kDiskFull when the disk is full and the
    // journal has no place for it. Does not wait.
    Result<void> admit_record() const;
    // What was admitted came, and waits for its commit.
    void appended(uint64_t bytes) {
        admitted_ -= admitted_ < charge(bytes, 1) ? admitted_ : charge(bytes, 1);
        pending_ += charge(bytes, 1);
    }
    // What was admitted will not be appended.
    void withdrawn(uint64_t bytes) {
        admitted_ -= admitted_ < charge(bytes, 1) ? admitted_ : charge(bytes, 1);
        changed();
    }
    // It is in a durable block. What was admitted and never appended (a refused batch) must not
    // count for ever: it ends with the next commit.
    void committed(uint64_t bytes, uint64_t entries) {
        pending_ -= charge(bytes, entries);
        admitted_ = 0;
        changed();
    }
    void dropped(uint64_t bytes, uint64_t entries) { pending_ -= charge(bytes, entries); }
    // Memory or journal space came free, the disk filled or emptied, the store failed or stops.
    void changed() { waiters_.notify_one(); }
    void all_changed() { waiters_.notify_all(); }

    void set_disk_full(FullPart part, bool full);
    bool disk_full() const { return std::ranges::find(full_, true) != full_.end(); }
    uint64_t pending() const { return pending_; }
    bool has_waiters() const { return !waiters_.empty(); }

  private:
    bool fits(uint64_t bytes) const;
    // What an append may take of the journal: at worst it is a block by itself, and a block ends in
    // a page that is partly empty.
    static uint64_t charge(uint64_t bytes, uint64_t entries) {
        return bytes + entries * (kPage + 128);
    }

    ShardStore& store_;
    uint64_t admitted_ = 0;
    uint64_t pending_ = 0;
    std::array<bool, static_cast<size_t>(FullPart::kCount)> full_{};
    runtime::WaitQueue waiters_;
};

}  // namespace weir::storage

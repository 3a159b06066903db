// Back-pressure of a store: appends are admitted while the memory for entries not yet in segments,
// and the journal files that are ready, hold them. Owned by the ShardStore, used on its shard.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/intrusive_list.h"
#include "base/result.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/layout.h"
#include "storage/trouble.h"

namespace weir::storage {

class ShardStore;

// What found the disk full, or had no descriptor, when it was tried last.
enum class FullPart : uint8_t { kJournal, kSegments, kCheckpoint, kCount };

class Admission {
  public:
    explicit Admission(ShardStore& store) : store_(store) {}

    // Waits until so many entries of `bytes` together fit, in the order of the calls. kDiskFull
    // instead of waiting while the disk is full; where descriptors are short it waits.
    // kCancelled by `stop`.
    runtime::Task<Result<void>> admit(uint64_t bytes, uint64_t entries, runtime::StopToken stop);
    // A record of the log's own (a vote, a truncation): kDiskFull when the disk is full and the
    // journal has no place for it. Does not wait.
    Result<void> admit_record() const;
    // An entry that was admitted, or could not wait for it, came, and waits for its commit.
    void appended(uint64_t bytes, bool was_admitted) {
        if (was_admitted) end_admitted(charge(bytes, 1));
        pending_ += charge(bytes, 1);
    }
    // What was admitted will not be appended.
    void withdrawn(uint64_t bytes, uint64_t entries) {
        end_admitted(charge(bytes, entries));
        changed();
    }
    // It is in a durable block.
    void committed(uint64_t bytes, uint64_t entries) {
        pending_ -= charge(bytes, entries);
        changed();
    }
    void dropped(uint64_t bytes, uint64_t entries) { pending_ -= charge(bytes, entries); }
    // Memory or journal space may have come free: those that wait longest are let in.
    void changed();
    // The disk filled or emptied, the store failed or stops: all that wait look again.
    void all_changed();

    void set_shortage(FullPart part, Shortage shortage);
    // Something that the store needs to go on is short: space, or descriptors.
    bool is_short() const {
        return std::ranges::any_of(short_, [](Shortage s) { return s != Shortage::kNone; });
    }
    bool disk_full() const { return std::ranges::find(short_, Shortage::kSpace) != short_.end(); }
    uint64_t pending() const { return pending_; }
    // Admitted, and neither appended nor withdrawn yet.
    uint64_t admitted() const { return admitted_; }
    bool has_waiters() const { return !waiters_.empty(); }

  private:
    // In the queue, so that whoever waits longest is let in first, also a large one.
    class Turn final : public runtime::ParkedWaiter, public ListHook {
      public:
        Turn(Admission& admission, uint64_t bytes, uint64_t entries, runtime::StopToken stop)
            : ParkedWaiter({.stop = stop}), admission(admission), bytes(bytes), entries(entries) {}
        ~Turn() = default;

        Admission& admission;
        const uint64_t bytes;
        const uint64_t entries;
        bool is_admitted = false;

      private:
        void enqueue() override { admission.waiters_.push_back(*this); }
        void dequeue() override {
            unlink();
            admission.changed();
        }
    };

    bool fits(uint64_t bytes, uint64_t entries) const;
    void end_admitted(uint64_t charged) {
        // Who appends without asking (tests do) ends what is others'.
        admitted_ -= std::min(admitted_, charged);
    }
    // What an append may take of the journal: at worst it is a block by itself, and a block ends in
    // a page that is partly empty.
    static uint64_t charge(uint64_t bytes, uint64_t entries) {
        return bytes + entries * (kPage + 128);
    }

    ShardStore& store_;
    uint64_t admitted_ = 0;
    uint64_t pending_ = 0;
    std::array<Shortage, static_cast<size_t>(FullPart::kCount)> short_{};
    IntrusiveList<Turn> waiters_;
};

}  // namespace weir::storage

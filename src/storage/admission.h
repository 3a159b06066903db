// Back-pressure of a store: appends are admitted while there is room for them in the memory for
// entries that are not in segments yet, and in the ready journal files. Owned by the ShardStore,
// used on its shard.
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

// The parts whose last attempt found the disk full or no descriptor.
enum class FullPart : uint8_t { kJournal, kSegments, kCheckpoint, kCount };

class Admission {
  public:
    explicit Admission(ShardStore& store) : store_(store) {}

    // Waits, in the order of the calls, until that many entries of `bytes` together fit. While the
    // disk is full it returns kDiskFull instead; if descriptors are short it waits. kCancelled by
    // `stop`.
    runtime::Task<Result<void>> admit(uint64_t bytes, uint64_t entries, runtime::StopToken stop);
    // A record of the log's own (a vote, a truncation): kDiskFull when the disk is full and the
    // journal has no place for it. Does not wait.
    Result<void> admit_record() const;
    // An entry was appended, admitted or unable to wait for that, and waits for its commit.
    void appended(uint64_t bytes, bool was_admitted) {
        if (was_admitted) end_admitted(charge(bytes, 1));
        pending_ += charge(bytes, 1);
    }
    // Admitted entries will not be appended.
    void withdrawn(uint64_t bytes, uint64_t entries) {
        end_admitted(charge(bytes, entries));
        changed();
    }
    // The entries are in a durable block.
    void committed(uint64_t bytes, uint64_t entries) {
        pending_ -= charge(bytes, entries);
        changed();
    }
    void dropped(uint64_t bytes, uint64_t entries) { pending_ -= charge(bytes, entries); }
    // There may be new room in memory or journal: admits the longest waiting ones.
    void changed();
    // The disk filled or emptied, or the store failed or stops: all waiters look again.
    void all_changed();

    void set_shortage(FullPart part, Shortage shortage);
    // Whether space or descriptors that the store needs are short.
    bool is_short() const {
        return std::ranges::any_of(short_, [](Shortage s) { return s != Shortage::kNone; });
    }
    bool disk_full() const { return std::ranges::find(short_, Shortage::kSpace) != short_.end(); }
    uint64_t pending() const { return pending_; }
    // Admitted, and neither appended nor withdrawn yet.
    uint64_t admitted() const { return admitted_; }
    bool has_waiters() const { return !waiters_.empty(); }

  private:
    // A waiter in the queue, so that the one that waits longest is admitted first, even if it is
    // large.
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
        // An append without admit() (in tests) uses up what was admitted for others.
        admitted_ -= std::min(admitted_, charged);
    }
    // The most that an append may use of the journal: a block of its own, whose last page is partly
    // empty.
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

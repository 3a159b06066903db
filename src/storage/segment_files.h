// The segment files that a shard has open: a bounded number, and the least recently used are closed
// first, so that an idle partition needs no descriptor. A pin keeps a file open while it is used.
// One shard.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/intrusive_list.h"
#include "base/result.h"
#include "runtime/file.h"
#include "runtime/wait.h"
#include "storage/entry.h"

namespace weir::storage {

struct SegmentKey {
    LogId log;
    uint32_t segment = 0;
    auto operator<=>(const SegmentKey&) const = default;
};

class SegmentFiles {
    struct Slot;

  public:
    explicit SegmentFiles(size_t open_max) : open_max_(open_max) {}
    ~SegmentFiles();

    class Pin {
      public:
        Pin() = default;
        explicit Pin(Slot* slot) : slot_(slot) { ++slot_->pins; }
        Pin(Pin&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
        Pin& operator=(Pin&& other) noexcept {
            std::swap(slot_, other.slot_);
            return *this;
        }
        ~Pin() { release(); }
        runtime::File& file() const { return slot_->file; }
        explicit operator bool() const { return slot_ != nullptr; }
        void release() {
            if (slot_ == nullptr) return;
            Slot* slot = std::exchange(slot_, nullptr);
            if (--slot->pins == 0) slot->unpinned.notify_all();
        }

      private:
        Slot* slot_ = nullptr;
    };

    // Opens the file, or finds it open. `flags` apply when it has to be opened.
    runtime::Task<Result<Pin>> pin(SegmentKey key, std::string path, uint32_t flags,
                                   uint64_t preallocate_bytes = 0);
    // If it is open already.
    Pin try_pin(SegmentKey key);
    // Waits until nobody has it pinned, and closes it.
    runtime::Task<void> forget(SegmentKey key);
    runtime::Task<void> close_all();
    size_t open_count() const { return slots_.size(); }
    // How many open files the searches for one to close have visited.
    uint64_t looks() const { return looks_; }

  private:
    struct Slot : ListHook {
        SegmentKey key;
        runtime::File file;
        uint32_t pins = 0;
        bool ready = false;
        runtime::WaitQueue opened;
        runtime::WaitQueue unpinned;
    };
    runtime::Task<void> make_room();
    // Closes the least recently used one that nobody has pinned; false if there is none.
    runtime::Task<bool> close_oldest();

    size_t open_max_;
    uint64_t looks_ = 0;
    std::map<SegmentKey, std::unique_ptr<Slot>> slots_;
    IntrusiveList<Slot> recent_;  // least recently used first
};

}  // namespace weir::storage

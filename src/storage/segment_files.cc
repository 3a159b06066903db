#include "storage/segment_files.h"

#include "base/check.h"
#include "storage/trouble.h"

namespace weir::storage {

using runtime::File;
using runtime::Task;
using runtime::try_;

SegmentFiles::~SegmentFiles() = default;

SegmentFiles::Pin SegmentFiles::try_pin(SegmentKey key) {
    const auto found = slots_.find(key);
    if (found == slots_.end() || !found->second->ready) return {};
    Slot& slot = *found->second;
    slot.unlink();
    recent_.push_back(slot);
    return Pin(&slot);
}

Task<Result<SegmentFiles::Pin>> SegmentFiles::pin(SegmentKey key, std::string path, uint32_t flags,
                                                  uint64_t preallocate_bytes) {
    while (true) {
        if (Pin pin = try_pin(key)) co_return pin;
        const auto found = slots_.find(key);
        if (found == slots_.end()) break;
        // Somebody opens it right now. The slot may be gone when this resumes: look again.
        (void)co_await found->second->opened.wait();
    }
    // The slot is entered first, so that a second opener waits for this one; room is made while it
    // is not yet in the list of the open ones.
    auto made = std::make_unique<Slot>();
    Slot* slot = made.get();
    slot->key = key;
    slot->pins = 1;  // keeps it from being closed meanwhile
    slots_.emplace(key, std::move(made));
    co_await make_room();
    auto file = co_await File::open(path, {.flags = flags, .preallocate_bytes = preallocate_bytes});
    // Where descriptors run out, those that are open without need are given back first.
    while (!file && shortage_of(file.error()) == Shortage::kDescriptors && co_await close_oldest())
        file = co_await File::open(path, {.flags = flags, .preallocate_bytes = preallocate_bytes});
    slot->opened.notify_all();
    if (!file) {
        slots_.erase(key);
        co_return fail(std::move(file).error());
    }
    slot->file = std::move(*file);
    slot->ready = true;
    recent_.push_back(*slot);
    Pin pin(slot);
    --slot->pins;
    co_return pin;
}

Task<void> SegmentFiles::make_room() {
    while (slots_.size() > open_max_) {
        // If all are in use, their number is bounded by the operations in flight.
        if (!co_await close_oldest()) co_return;
    }
}

Task<bool> SegmentFiles::close_oldest() {
    Slot* oldest = recent_.find_if([&](const Slot& slot) {
        ++looks_;
        return slot.pins == 0;
    });
    if (oldest == nullptr) co_return false;
    oldest->unlink();
    File file = std::move(oldest->file);
    slots_.erase(oldest->key);
    (void)co_await file.close();
    co_return true;
}

Task<void> SegmentFiles::forget(SegmentKey key) {
    while (true) {
        const auto found = slots_.find(key);
        if (found == slots_.end()) co_return;
        Slot& slot = *found->second;
        if (!slot.ready) {
            (void)co_await slot.opened.wait();
            continue;
        }
        if (slot.pins > 0) {
            (void)co_await slot.unpinned.wait();
            continue;
        }
        slot.unlink();
        File file = std::move(slot.file);
        slots_.erase(found);
        (void)co_await file.close();
        co_return;
    }
}

Task<void> SegmentFiles::close_all() {
    while (!slots_.empty()) co_await forget(slots_.begin()->first);
}

}  // namespace weir::storage

#include "storage/admission.h"

#include <algorithm>

#include "storage/shard_store.h"

namespace weir::storage {

using runtime::Task;
using runtime::try_;

bool Admission::fits(uint64_t bytes) const {
    const StoreOptions& options = store_.options();
    const uint64_t waiting = admitted_ + pending_;
    // An entry larger than the limits passes when it is alone.
    const uint64_t memory = std::min(bytes, options.unflushed_bytes_max / 2);
    if (store_.metrics().unflushed_bytes + admitted_ + memory > options.unflushed_bytes_max)
        return false;
    const uint64_t inline_bytes = std::min(bytes, store_.limits().inline_bytes_max / 2);
    // A part stays free for what the store writes itself: notes of runs, votes, truncations.
    const uint64_t slack = options.journal_file_bytes / 8;
    return store_.journal().fits(waiting + charge(inline_bytes, 1) + slack);
}

Task<Result<void>> Admission::admit(uint64_t bytes, runtime::StopToken stop) {
    bool turn = waiters_.empty();
    while (true) {
        co_await try_(store_.usable());
        if (turn && fits(bytes)) break;
        if (disk_full())
            co_return fail(ErrorCode::kDiskFull, "no space left for the journal or the segments");
        store_.wake_maintenance();
        co_await try_(co_await waiters_.wait({.stop = stop}));
        turn = true;
    }
    admitted_ += charge(bytes, 1);
    changed();
    co_return Result<void>{};
}

Result<void> Admission::admit_record() const {
    if (!disk_full() || store_.journal().fits(admitted_ + pending_ + 2 * kPage)) return {};
    return fail(ErrorCode::kDiskFull, "no space left for the journal");
}

void Admission::set_disk_full(FullPart part, bool full) {
    if (full_[static_cast<size_t>(part)] == full) return;
    full_[static_cast<size_t>(part)] = full;
    all_changed();
    if (full) store_.commits().progress().notify_all();
}

}  // namespace weir::storage

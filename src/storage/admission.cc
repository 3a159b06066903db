#include "storage/admission.h"

#include <algorithm>

#include "storage/shard_store.h"

namespace weir::storage {

using runtime::Task;
using runtime::try_;

bool Admission::fits(uint64_t bytes, uint64_t entries) const {
    const StoreOptions& options = store_.options();
    const uint64_t waiting = admitted_ + pending_;
    // An entry larger than the limits passes when it is alone.
    const uint64_t memory = std::min(bytes, options.unflushed_bytes_max / 2);
    if (store_.metrics().unflushed_bytes + admitted_ + memory > options.unflushed_bytes_max)
        return false;
    const uint64_t inline_bytes = std::min(bytes, store_.limits().inline_bytes_max / 2);
    // A part stays free for what the store writes itself: notes of runs, votes, truncations.
    const uint64_t slack = options.journal_file_bytes / 8;
    // So do entries that together are charged more than a small file of the journal holds.
    const uint64_t journal =
        std::min(charge(inline_bytes, entries), options.journal_file_bytes / 2);
    return store_.journal().fits(waiting + journal + slack);
}

Task<Result<void>> Admission::admit(uint64_t bytes, uint64_t entries, runtime::StopToken stop) {
    bool has_waited = false;
    while (true) {
        co_await try_(store_.usable());
        if ((has_waited || waiters_.empty()) && fits(bytes, entries)) break;
        if (disk_full())
            co_return fail(ErrorCode::kDiskFull, "no space left for the journal or the segments");
        store_.wake_maintenance();
        Turn turn(*this, bytes, entries, stop);
        co_await try_(co_await turn);
        if (turn.is_admitted) co_return Result<void>{};
        has_waited = true;
    }
    admitted_ += charge(bytes, entries);
    co_return Result<void>{};
}

void Admission::changed() {
    while (!waiters_.empty() && fits(waiters_.front().bytes, waiters_.front().entries)) {
        Turn& turn = waiters_.pop_front();
        admitted_ += charge(turn.bytes, turn.entries);
        turn.is_admitted = true;
        turn.wake();
    }
}

void Admission::all_changed() {
    IntrusiveList<Turn> woken;
    while (!waiters_.empty()) woken.push_back(waiters_.pop_front());
    while (!woken.empty()) woken.pop_front().wake();
}

Result<void> Admission::admit_record() const {
    if (!disk_full() || store_.journal().fits(admitted_ + pending_ + 2 * kPage)) return {};
    return fail(ErrorCode::kDiskFull, "no space left for the journal");
}

void Admission::set_shortage(FullPart part, Shortage shortage) {
    if (std::exchange(short_[static_cast<size_t>(part)], shortage) == shortage) return;
    all_changed();
    if (shortage != Shortage::kNone) store_.commits().progress().notify_all();
}

}  // namespace weir::storage

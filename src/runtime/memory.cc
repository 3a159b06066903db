#include "runtime/memory.h"

#include "runtime/remote.h"
#include "runtime/wait.h"

namespace weir::runtime {

void Reservation::release() {
    if (budget_ != nullptr) std::exchange(budget_, nullptr)->give_back(std::exchange(bytes_, 0));
}

std::optional<Reservation> MemoryBudget::try_reserve(uint64_t bytes) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
        if (bytes > total_ || used > total_ - bytes) return std::nullopt;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return Reservation(this, bytes);
}

Reservation MemoryBudget::charge(uint64_t bytes) {
    used_.fetch_add(bytes, std::memory_order_relaxed);
    return Reservation(this, bytes);
}

uint64_t MemoryBudget::detach(Reservation reservation, MemoryBudget** budget) {
    *budget = std::exchange(reservation.budget_, nullptr);
    return std::exchange(reservation.bytes_, 0);
}

Task<Result<Reservation>> MemoryBudget::reserve(uint64_t bytes, StopToken stop) {
    if (bytes > total_) co_return fail(ErrorCode::kResourceExhausted, "larger than the whole memory budget");
    // A pause is long enough for most shortages; then the caches of other shards give way too.
    constexpr int kLooksPerAsk = 8;
    for (int looks = 1;; ++looks) {
        if (auto reservation = reserve_now(bytes)) co_return std::move(*reservation);
        if (looks % kLooksPerAsk == 2 && !asking_.exchange(true, std::memory_order_relaxed)) {
            co_await ask_other_shards(bytes);
            asking_.store(false, std::memory_order_relaxed);
            continue;
        }
        co_await try_(sleep_for(1ms, stop));
    }
}

std::optional<Reservation> MemoryBudget::reserve_now(uint64_t bytes) {
    while (true) {
        if (auto reservation = try_reserve(bytes)) return reservation;
        const Reclaimer& reclaim = reclaimers_[Shard::current().id()];
        if (bytes > total_ || !reclaim || reclaim(bytes) == 0) return std::nullopt;
    }
}

// What other shards' caches hold they can give on their own shard alone.
Task<void> MemoryBudget::ask_other_shards(uint64_t bytes) {
    for (ShardId shard = 0; shard < Shard::current().count(); ++shard) {
        if (shard == Shard::current().id()) continue;
        co_await on(shard, [this, shard, bytes]() -> Task<void> {
            if (reclaimers_[shard]) (void)reclaimers_[shard](bytes);
            co_return;
        });
    }
}

void MemoryBudget::set_reclaimer(uint32_t shard, Reclaimer reclaimer) {
    CHECK(shard < kShardsMax);
    reclaimers_[shard] = std::move(reclaimer);
}

}  // namespace weir::runtime

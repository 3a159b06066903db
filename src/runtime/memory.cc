#include "runtime/memory.h"

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

Task<Result<Reservation>> MemoryBudget::reserve(uint64_t bytes, StopToken stop) {
    if (bytes > total_) co_return fail(ErrorCode::kResourceExhausted, "larger than the whole memory budget");
    while (true) {
        if (auto reservation = try_reserve(bytes)) co_return std::move(*reservation);
        const Reclaimer& reclaim = reclaimers_[Shard::current().id()];
        if (reclaim && reclaim(bytes) > 0) continue;
        co_await try_(sleep_for(1ms, stop));
    }
}

void MemoryBudget::set_reclaimer(uint32_t shard, Reclaimer reclaimer) {
    CHECK(shard < kShardsMax);
    reclaimers_[shard] = std::move(reclaimer);
}

}  // namespace weir::runtime

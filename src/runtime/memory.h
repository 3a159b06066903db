// A memory budget of a node: one of the shares that broker/budget.h makes of --memory. What can
// grow holds a Reservation of the budget that it belongs to. If a budget is used up, whoever needs
// it waits, and caches give way first. Budgets are what shards share; the counters are atomic. A
// Reservation may be dropped on any shard.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"

namespace weir::runtime {

class MemoryBudget;

class Reservation {
  public:
    Reservation() = default;
    Reservation(MemoryBudget* budget, uint64_t bytes) : budget_(budget), bytes_(bytes) {}
    Reservation(Reservation&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Reservation& operator=(Reservation&& other) noexcept {
        std::swap(budget_, other.budget_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Reservation() { release(); }
    uint64_t bytes() const { return bytes_; }
    void release();

  private:
    friend class MemoryBudget;
    MemoryBudget* budget_ = nullptr;
    uint64_t bytes_ = 0;
};

class MemoryBudget {
  public:
    explicit MemoryBudget(uint64_t total) : total_(total), used_(0) {}

    // Nothing when it does not fit. Any shard.
    std::optional<Reservation> try_reserve(uint64_t bytes);
    // As try_reserve, after this shard's reclaimer gave way.
    std::optional<Reservation> reserve_now(uint64_t bytes);
    // Charges the bytes whether they fit or not: for holders that must not wait and are bounded by
    // something else. While more is used than the total, nothing fits.
    Reservation charge(uint64_t bytes);
    // Waits until the bytes fit. Asks this shard's reclaimer first, then the other shards', and
    // looks again every millisecond, since bytes may be returned on another shard. Needs bytes <=
    // total, else kResourceExhausted at once. A holder that waits here for more memory may wait for
    // itself, or for another such holder: use reserve_now() there.
    Task<Result<Reservation>> reserve(uint64_t bytes, StopToken stop = {});

    // Takes a reservation apart, for a holder that returns it in parts; sets `budget` to its owner.
    static uint64_t detach(Reservation reservation, MemoryBudget** budget);
    // Returns what detach() gave; at most once. Any shard.
    void give_back(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

    uint64_t total() const { return total_; }
    uint64_t used() const { return used_.load(std::memory_order_relaxed); }

    // Frees about `bytes` of what this shard holds, and returns how much it freed at once. Each
    // shard's owner registers one before traffic starts; it is called on that shard, repeatedly
    // while somebody waits.
    using Reclaimer = std::function<uint64_t(uint64_t bytes)>;
    void set_reclaimer(uint32_t shard, Reclaimer reclaimer);

  private:
    friend class Reservation;
    Task<void> ask_other_shards(uint64_t bytes);

    uint64_t total_;
    std::atomic<uint64_t> used_;
    static constexpr uint32_t kShardsMax = 256;
    std::vector<Reclaimer> reclaimers_ = std::vector<Reclaimer>(kShardsMax);
    std::atomic<bool> asking_{false};  // one shard at a time asks the others
};

}  // namespace weir::runtime

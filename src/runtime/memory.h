// A memory budget of a node: one of the shares that broker/budget.h makes of --memory. What can grow holds a Reservation of the budget that it
// belongs to. If a budget is used up, whoever needs it waits, and caches give way first.
// Budgets are what shards share; the counters are atomic. A Reservation may be dropped on any shard.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "runtime/task.h"
#include "runtime/stop_token.h"

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
    // Counted whether it fits or not: for what must not wait and is bounded by something else. While more is used than there is, nothing
    // fits.
    Reservation charge(uint64_t bytes);
    // Waits until it fits; asks this shard's reclaimer first, then the other shards', and looks again every millisecond (the bytes may
    // come back on another shard). bytes <= total, else kResourceExhausted at once. Who holds memory already and waits here for more may
    // wait for itself, or for another such one: take reserve_now() there.
    Task<Result<Reservation>> reserve(uint64_t bytes, StopToken stop = {});

    // Takes a reservation apart, for a holder that gives it back in parts; `budget` is set to whose it was.
    static uint64_t detach(Reservation reservation, MemoryBudget** budget);
    // Any shard; what detach() gave, at most once.
    void give_back(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

    uint64_t total() const { return total_; }
    uint64_t used() const { return used_.load(std::memory_order_relaxed); }

    // Gives way: frees about `bytes` of what this shard holds and says how much it freed at once. Registered per shard by its owner before
    // traffic starts; called on that shard, again and again while somebody waits.
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

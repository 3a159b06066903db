#include "storage/idle_sweep.h"

#include <algorithm>

#include "runtime/heap.h"
#include "runtime/shard.h"
#include "storage/shard_store.h"

namespace weir::storage {

using runtime::Task;

namespace {

// What an entry in memory takes beside its payload: its place in the queue, its block's header and
// malloc's.
constexpr uint64_t kEntryOverhead = sizeof(MemoryEntry) + 96;

uint64_t cost_of(const LogState& state) {
    return state.memory_bytes + state.memory.size() * kEntryOverhead;
}

}  // namespace

Task<void> IdleSweep::run() {
    while (true) {
        auto slept = co_await runtime::sleep_for(
            std::chrono::milliseconds(store_.options().retention_check_ms), store_.stop_token());
        if (!slept || store_.failed()) co_return;
        co_await pass();
    }
}

Task<void> IdleSweep::pass() {
    uint64_t let_go = 0;
    for (const LogId id : store_.logs()) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
        if (store_.stopping() || store_.failed()) co_return;
        PartitionLog* log = store_.find_log(id);
        if (log == nullptr || log->removing() || log->take_used()) continue;
        let_go += co_await look_at(log);
    }
    if (let_go >= kIdleGiveBackMin) runtime::give_back_free_memory();
}

Task<uint64_t> IdleSweep::look_at(PartitionLog* log) {
    auto inside = log->gate().try_enter();
    if (!inside) co_return 0;
    const uint64_t before = log->state().memory_bytes;
    // On a full disk there is nowhere to go; memory that is short has its own order.
    if (cost_of(log->state()) > kIdleMemoryBytes && !store_.admission().is_short())
        co_await store_.handover().move_idle(log);
    // A read that is under way since before the last look may be about to use an index.
    if (log->gate().count() == 1) log->state().give_back(kIdleIndexRuns);
    co_return before - std::min(before, log->state().memory_bytes);
}

}  // namespace weir::storage

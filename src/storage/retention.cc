#include "storage/retention.h"

#include "runtime/shard.h"
#include "storage/shard_store.h"

namespace weir::storage {

using runtime::Task;

Task<void> Retention::run() {
    while (true) {
        auto slept = co_await runtime::sleep_for(
            std::chrono::milliseconds(store_.options().retention_check_ms), store_.stop_token());
        if (!slept || store_.failed()) co_return;
        co_await pass();
    }
}

Task<void> Retention::pass() {
    std::vector<LogId> ids;
    for (const auto& [id, log] : store_.all_logs()) ids.push_back(id);
    for (const LogId id : ids) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
        PartitionLog* log = store_.find_log(id);
        if (log == nullptr || log->removing() || store_.stopping() || store_.failed()) continue;
        // A log that nobody configured since the start may have other bounds than the default ones.
        if (log->configured()) co_await look_at(log);
    }
}

Task<void> Retention::look_at(PartitionLog* log) {
    auto inside = log->gate().try_enter();
    if (!inside) co_return;
    const int64_t now_ms = runtime::Shard::current().wall_now().ms;
    // Entries that wait in memory for longer than a segment may last go to their segment, so that
    // it can be rolled.
    if (log->has_unflushed_durable() &&
        now_ms - log->unflushed_since_ms() >= log->config().segment_ms)
        store_.handover().ask(*log);
    if (auto rolled = co_await store_.handover().roll_if_expired(log); !rolled) co_return;
    // While its suffix is being cut the start must not pass the new end.
    if (!log->config().delete_by_retention || log->held()) co_return;
    const int64_t start = new_start(*log, now_ms);
    if (start > log->start_offset()) (void)co_await log->truncate_prefix(start);
}

int64_t Retention::new_start(const PartitionLog& log, int64_t now_ms) const {
    const LogConfig& config = log.config();
    const LogState& state = log.state();
    uint64_t size = state.payload_bytes();
    // What is not on the disk yet may be lost, and then less would be left than the bound.
    for (size_t i = state.memory.size(); i > 0; --i) {
        const MemoryEntry& entry = state.memory[i - 1];
        if (entry.info.end() <= log.durable_end()) break;
        size -= entry.payload.size();
    }
    int64_t start = state.start_offset;
    for (const Segment& segment : state.segments) {
        if (!segment.full) break;  // the active one stays
        const int64_t newest =
            segment.max_timestamp_ms >= 0 ? segment.max_timestamp_ms : segment.created_ms;
        const bool old = config.retention_ms >= 0 && newest < now_ms - config.retention_ms;
        // As Kafka does: a segment goes only if what is left is still as large as the bound.
        const bool surplus =
            config.retention_bytes >= 0 &&
            size - segment.payload_bytes >= static_cast<uint64_t>(config.retention_bytes);
        if ((!old && !surplus) || segment.end.offset > log.held_from()) break;
        size -= segment.payload_bytes;
        start = segment.end.offset;
    }
    return start;
}

}  // namespace weir::storage

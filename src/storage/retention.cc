#include "storage/retention.h"

#include <algorithm>

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
    // it can be rolled; so do those that would fill one.
    if (log->has_unflushed_durable() &&
        (now_ms - log->unflushed_since_ms() >= log->config().segment_ms ||
         log->unflushed_durable_bytes() >= log->config().segment_bytes))
        store_.handover().ask(*log);
    if (auto rolled = co_await store_.handover().roll_if_expired(log); !rolled) co_return;
    // While its suffix is being cut the start must not pass the new end.
    if (!log->config().delete_by_retention || log->held()) co_return;
    int64_t start = new_start(*log, now_ms);
    if (start == log->end().offset && start > log->start_offset()) {
        // Everything goes, so the active segment must take no more: it is removed as a whole.
        if (log->has_unflushed_durable()) co_await store_.handover().move_idle(log);
        if (log->removing() || log->held()) co_return;
        start = new_start(*log, now_ms);
        if (start == log->end().offset && !log->has_unflushed_durable()) {
            if (auto rolled = co_await store_.handover().roll(log); !rolled) co_return;
            if (log->removing() || log->held()) co_return;
            start = new_start(*log, now_ms);
        }
    }
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
        if (!segment.full) break;
        const int64_t newest =
            segment.max_timestamp_ms >= 0 ? segment.max_timestamp_ms : segment.created_ms;
        const bool old = config.retention_ms >= 0 && newest < now_ms - config.retention_ms;
        // As Kafka does: a segment goes only if what is left is still as large as the bound.
        const bool surplus =
            config.retention_bytes >= 0 &&
            size - segment.payload_bytes >= static_cast<uint64_t>(config.retention_bytes);
        if ((!old && !surplus) || segment.end.offset > log.held_from()) return start;
        size -= segment.payload_bytes;
        start = segment.end.offset;
    }
    return is_tail_surplus(log, now_ms) ? state.end.offset : start;
}

// The active segment and what is in memory: Kafka's last segment.
bool Retention::is_tail_surplus(const PartitionLog& log, int64_t now_ms) const {
    const LogConfig& config = log.config();
    const LogState& state = log.state();
    if (log.durable_end() != state.end || state.end.offset > log.held_from()) return false;
    // Any other bound is reached without it: the last segment is what is left.
    if (config.retention_bytes == 0) return true;
    if (config.retention_ms < 0) return false;
    const int64_t limit = now_ms - config.retention_ms;
    const Segment* active =
        state.segments.empty() || state.segments.back().full ? nullptr : &state.segments.back();
    int64_t newest = active == nullptr ? -1 : active->max_timestamp_ms;
    for (size_t i = state.memory.size(); i > 0 && newest < limit; --i)
        newest = std::max(newest, state.memory[i - 1].info.max_timestamp_ms);
    // Without timestamps, by when the last entry came.
    if (newest < 0) {
        newest = log.unstamped_since_ms();
        if (active != nullptr) newest = std::max(newest, active->created_ms);
    }
    return newest < limit;
}

}  // namespace weir::storage

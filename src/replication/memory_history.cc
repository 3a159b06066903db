// What a replica of a relaxed topic acknowledges from memory, and how it remembers that it did:
// docs/decisions/0006-relaxed-durability.md.
#include <algorithm>

#include "base/check.h"
#include "replication/group_parts.h"
#include "runtime/shard.h"

namespace weir::replication {

using runtime::Shard;
using runtime::Task;
using storage::Position;

namespace {

// While the disk has taken nothing of a relaxed log for so long, what is in memory alone counts no
// more: so nothing is acknowledged that waits for twice as long already.
constexpr Duration kMemoryAgeMax = std::chrono::milliseconds(500);
constexpr Duration kSaveRetry = std::chrono::seconds(1);

}  // namespace

// How far this replica's log counts.
Position Group::relied_on() {
    const Position durable = log_.durable_end();
    if (!acks_from_memory()) return durable;
    const Instant now = Shard::current().now();
    if (durable >= backlog_end_) {
        backlog_end_ = log_.end();
        backlog_since_ = now;
    }
    if (now - backlog_since_ > kMemoryAgeMax) return durable;
    // Who votes with whom is never forgotten.
    for (const raft::ConfigurationAt& each : configurations_) {
        if (each.at >= durable) return std::max(durable, each.at);
    }
    return log_.end();
}

// After the step that appended: what is committed by it may be told to those who did.
Task<void> Group::rely_on_memory() {
    relying_ = false;
    on_durable();
    co_return;
}

void Group::set_relaxed(bool relaxed) {
    relaxed_ = relaxed;
    if (relaxed && log_.end() < covered_) forget_from(log_.end());
    if (!out_of_service()) tend_memory_history();
}

uint64_t Group::store_history() const {
    const storage::Store* store = replicator_.options().store;
    return store == nullptr ? 0 : store->history();
}

std::vector<uint8_t> Group::encode_kept_with(
    std::optional<raft::ConfigurationAt> configuration) const {
    return encode_kept({.configuration = std::move(configuration),
                        .memory_history = memory_history_,
                        .joined_by = joined_by_});
}

// What must be kept beside the log: this history, before anything is acknowledged from memory, and
// again when what an unclean stop lost has come back; none once all that was acknowledged so is
// flushed. While this replica recovers, the old one says so.
void Group::tend_memory_history() {
    const bool due =
        relaxed_ ? memory_history_durable_ != store_history() : memory_history_durable_ != 0;
    if (due && !rebuilding_ && !core_->recovering() && !std::exchange(saving_memory_history_, true))
        scope_.spawn(save_memory_history());
}

Task<void> Group::save_memory_history() {
    while (!out_of_service() && !core_->recovering()) {
        if (!relaxed_ && memory_history_durable_ != 0 && log_.durable_end() < log_.end()) {
            const auto durable = co_await log_.wait_durable(log_.end());
            // The end was cut off, or the store failed.
            if (!durable && !co_await runtime::sleep_for(kSaveRetry, scope_.stop_token())) break;
            continue;
        }
        const uint64_t wanted = relaxed_ ? store_history() : 0;
        if (wanted == memory_history_durable_) break;
        const uint64_t before = memory_history_durable_;
        if (wanted == 0) memory_history_durable_ = 0;
        memory_history_ = wanted;
        KeptConfig kept;
        if (!log_.group_config().empty()) {
            auto decoded = decode_kept(log_.group_config());
            CHECK(decoded.has_value());  // it was written here, or open() looked
            kept = std::move(*decoded);
        }
        if (co_await log_.save_group_config(encode_kept_with(std::move(kept.configuration)))) {
            memory_history_durable_ = wanted;
            continue;
        }
        // A full disk, for example.
        memory_history_ = memory_history_durable_ = before;
        if (!co_await runtime::sleep_for(kSaveRetry, scope_.stop_token())) break;
    }
    saving_memory_history_ = false;
    if (!closing_ && !failed_) on_durable();
}

}  // namespace weir::replication

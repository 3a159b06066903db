#include "kafka/server/reading.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/units.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

constexpr uint64_t kShardBytesMin = 1_MiB;
constexpr uint64_t kGrantMin = 64_KiB;

struct ReadOrder {
    storage::LogId log;
    FetchRange range;
};

struct ReadHere {
    std::vector<FetchOutcome> outcomes;
    bool is_watched = false;
};

// What was read of a partition counts towards fetch.min.bytes. Where the partition's own limit kept
// something back, it counts as that limit, as in Kafka, which cuts the last batch there; what the
// answer's limit or memory kept back would not come by waiting. (DelayedFetch.tryComplete: nor does
// more of an older segment, which nobody appends to.)
void judge(FetchOutcome& outcome, uint64_t partition_max, uint64_t left) {
    outcome.counted = outcome.size;
    const bool is_at_own_limit =
        outcome.has_more && !outcome.memory_was_short && partition_max <= left;
    if (is_at_own_limit) outcome.counted = std::max(outcome.size, partition_max);
    outcome.completes = outcome.error != KafkaError::kNone || outcome.diverging ||
                        outcome.redirect_to_nearest || (outcome.has_more && !is_at_own_limit) ||
                        (outcome.size > 0 && outcome.is_in_older_segment);
}

// On the owner's shard. With a watch: when the partitions read give less than `bytes_needed` in
// all, the address gets mail as soon as there is more.
Task<ReadHere> read_here(Server& server, std::vector<ReadOrder> orders, uint64_t bytes_max,
                         std::optional<MailAddress> watch, int64_t bytes_needed) {
    ReadHere result;
    result.outcomes.reserve(orders.size());
    uint64_t left = bytes_max;
    uint64_t total = 0;
    bool is_first = true;
    bool completes = false;
    std::vector<FetchWatches::Seen> seen;
    for (const ReadOrder& order : orders) {
        Partition* partition = server.partitions().find(order.log);
        const auto use = partition != nullptr ? partition->enter() : std::nullopt;
        if (!use) {
            result.outcomes.push_back({.error = KafkaError::kNotLeaderOrFollower});
            result.outcomes.back().completes = completes = true;
            continue;
        }
        FetchRange range = order.range;
        range.bytes_max = std::min(range.bytes_max, left);
        range.at_least_one = is_first;
        FetchOutcome outcome = co_await partition->fetch(range, server.background().stop_token());
        if (outcome.size > 0) is_first = false;
        judge(outcome, order.range.bytes_max, left);
        left -= std::min(left, outcome.size);
        total += outcome.counted;
        completes = completes || outcome.completes;
        seen.push_back({order.log, outcome.high_watermark, outcome.epoch});
        result.outcomes.push_back(std::move(outcome));
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    if (watch) {
        if (completes || static_cast<int64_t>(total) >= bytes_needed) {
            server.partitions().watches().unwatch(*watch);
        } else if (server.partitions().watches().watch(
                       *watch, bytes_needed - static_cast<int64_t>(total), seen)) {
            result.is_watched = true;
        } else {
            // Something came while this read: the caller asks again at once.
            server.mailbox().post(*watch, DataArrived{});
        }
    }
    co_return result;
}

Task<void> unwatch_at(Server& server, runtime::ShardId owner, MailAddress address) {
    co_await runtime::on(owner, [peer = &server.peer(owner), address]() -> Task<void> {
        peer->partitions().watches().unwatch(address);
        co_return;
    });
}

// The rounds of one reading.
class Rounds {
  public:
    Rounds(Server& server, std::vector<ReadPart*> parts, int64_t bytes_min)
        : server_(server), parts_(std::move(parts)), bytes_min_(bytes_min) {
        for (ReadPart* part : parts_) {
            if (part->is_found()) owners_[part->owner].push_back(part);
        }
    }

    // Reads all, up to so many bytes. With a slot: where that is not enough, there will be mail as
    // soon as more may be.
    Task<void> read(uint64_t bytes_max, Mailbox::Slot* slot) {
        bytes_needed_ = std::min(bytes_min_, static_cast<int64_t>(bytes_max));
        const uint64_t shards = owners_.size();
        // Owners read side by side and do not know of each other; what is too much in all is cut
        // below.
        const uint64_t each =
            shards <= 1 ? bytes_max
                        : std::min(bytes_max, std::max(bytes_max / shards, kShardBytesMin));
        // An owner that reads all there is, or whose every byte is enough, begins to watch in the
        // same message.
        const bool at_once = shards == 1 || bytes_needed_ <= 1;
        std::vector<Task<bool>> tasks;
        for (auto& [owner, parts] : owners_) {
            tasks.push_back(read_at(owner, parts, each, at_once ? slot : nullptr));
        }
        (void)co_await runtime::all(std::move(tasks));
        cut(bytes_max);
        if (slot != nullptr && !at_once && is_short()) co_await watch_all(*slot);
    }

    bool is_short() const { return !completes_ && static_cast<int64_t>(counted_) < bytes_needed_; }
    uint64_t total() const { return total_; }
    const std::vector<runtime::ShardId>& watched() const { return watched_; }
    bool is_empty() const { return owners_.empty(); }

  private:
    Task<bool> read_at(runtime::ShardId owner, std::vector<ReadPart*>& parts, uint64_t bytes_max,
                       Mailbox::Slot* slot) {
        std::vector<ReadOrder> orders;
        orders.reserve(parts.size());
        for (const ReadPart* part : parts) orders.push_back({part->log, part->range});
        std::optional<MailAddress> watch;
        if (slot != nullptr) watch = slot->address();
        ReadHere result =
            co_await runtime::on(owner, [peer = &server_.peer(owner), orders = std::move(orders),
                                         bytes_max, watch, needed = bytes_needed_]() mutable {
                return read_here(*peer, std::move(orders), bytes_max, watch, needed);
            });
        for (size_t i = 0; i < parts.size(); ++i) parts[i]->outcome = std::move(result.outcomes[i]);
        if (slot != nullptr) std::erase(watched_, owner);
        if (result.is_watched) watched_.push_back(owner);
        co_return true;
    }

    // What is missing is known now, and some owner must come to have its share of it.
    Task<void> watch_all(Mailbox::Slot& slot) {
        const auto shards = static_cast<int64_t>(owners_.size());
        const int64_t missing = bytes_needed_ - static_cast<int64_t>(counted_);
        const int64_t share = std::max<int64_t>(1, missing / shards);
        for (auto& [owner, parts] : owners_) {
            std::vector<FetchWatches::Seen> seen;
            for (const ReadPart* part : parts)
                seen.push_back({part->log, part->outcome.high_watermark, part->outcome.epoch});
            const bool is_watched = co_await runtime::on(
                owner,
                [peer = &server_.peer(owner), address = slot.address(), share,
                 seen = std::move(seen)]() -> Task<bool> {
                    co_return peer->partitions().watches().watch(address, share, seen);
                });
            std::erase(watched_, owner);
            if (is_watched) {
                watched_.push_back(owner);
            } else {
                // Something came meanwhile: ask again at once.
                server_.mailbox().post(slot.address(), DataArrived{});
                break;
            }
        }
    }

    // In the order of the request, the first with data whole, the others as far as they fit.
    void cut(uint64_t bytes_max) {
        total_ = 0;
        counted_ = 0;
        completes_ = false;
        for (ReadPart* each : parts_) {
            ReadPart& part = *each;
            FetchOutcome& outcome = part.outcome;
            completes_ = completes_ || !part.is_found() || outcome.completes;
            counted_ += outcome.counted;
            if (outcome.size == 0) continue;
            if (total_ > 0 && total_ + outcome.size > bytes_max) {
                outcome.parts.clear();
                outcome.size = 0;
                completes_ = true;
                continue;
            }
            total_ += outcome.size;
        }
    }

    Server& server_;
    const std::vector<ReadPart*> parts_;
    const int64_t bytes_min_;
    int64_t bytes_needed_ = 0;  // bytes_min_, as far as this round may read
    std::map<runtime::ShardId, std::vector<ReadPart*>> owners_;
    std::vector<runtime::ShardId> watched_;
    uint64_t total_ = 0;
    uint64_t counted_ = 0;
    bool completes_ = false;
};

// How much of `wanted` this reading may read now. Bytes on their way to slow clients are bounded a
// shard: when little is left, a fetch gets less, half of it at most so that the next one gets some
// too, and never less than a little, since it must not stand in line behind clients that do not
// read. A connection has two answers at most that were read and not sent, so what goes beyond the
// bound is bounded too. The units stay with the reader until it has used the bytes.
uint64_t grant(Server& server, runtime::Units& held, uint64_t wanted) {
    runtime::Semaphore& bytes = server.fetch_bytes();
    const auto available = static_cast<uint64_t>(std::max<int64_t>(0, bytes.available()));
    const uint64_t count = std::min(wanted, std::max(available / 2, kGrantMin));
    if (auto units = bytes.try_acquire(std::min(count, available))) held = std::move(*units);
    if (count > available / 2) server.hurry_slow_clients();
    return count;
}

}  // namespace

ReadPart read_part(Server& server, std::string_view topic, int32_t partition, int64_t offset,
                   uint64_t bytes_max) {
    const FoundPartition found = find_partition(server, server.image().find(topic), partition);
    ReadPart part{.log = found.log,
                  .owner = found.owner,
                  .range = {.offset = offset, .bytes_max = bytes_max, .leader_only = true}};
    part.outcome.error = found.error;
    return part;
}

Task<ReadTotal> read_parts(Server& server, std::vector<ReadPart*> parts, ReadWants wants) {
    Rounds rounds(server, std::move(parts), wants.bytes_min);
    ReadTotal total;
    const bool may_wait = wants.may_wait && wants.bytes_min > 0 && !rounds.is_empty();
    std::optional<Mailbox::Slot> slot;
    if (may_wait) slot.emplace(server.mailbox().open());
    co_await rounds.read(grant(server, total.units, wants.bytes_max), slot ? &*slot : nullptr);
    while (slot && rounds.is_short()) {
        ++server.metrics().fetch_waits;
        total.units.release();
        const bool has_news =
            (co_await slot->receive({.deadline = wants.deadline, .stop = wants.hurry})).has_value();
        slot->clear();
        co_await rounds.read(grant(server, total.units, wants.bytes_max),
                             has_news ? &*slot : nullptr);
        if (!has_news) break;
    }
    if (slot) {
        for (const runtime::ShardId owner : rounds.watched()) {
            if (owner == Shard::current().id()) {
                server.partitions().watches().unwatch(slot->address());
            } else {
                server.background().spawn(unwatch_at(server, owner, slot->address()));
            }
        }
    }
    // What is not used others may have at once.
    total.units.shrink(std::min(total.units.count(), rounds.total()));
    total.bytes = rounds.total();
    server.metrics().fetched_bytes += total.bytes;
    co_return total;
}

}  // namespace weir::kafka

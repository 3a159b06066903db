// Fetch: for each partition the batches from an offset on, as they are stored. One message to each
// shard that owns some of them; where that gives less than the client wants to wake up for, the
// fetch waits on its own shard until an owner posts news, its time is over, or the connection ends,
// and asks again.
//
// Limits are soft, as in Kafka: the first partition that has data gives at least one batch; after
// it nothing exceeds max_bytes.
#include "kafka/protocol/fetch.h"

#include <algorithm>
#include <map>

#include "base/units.h"
#include "kafka/server/api/brokers.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

constexpr uint64_t kShardBytesMin = 1_MiB;
constexpr uint64_t kGrantMin = 64_KiB;
constexpr Duration kWaitMax = 5min;
// Since then a client may be sent to a follower (KIP-392), and knows what to do there.
constexpr int16_t kFollowersVersion = 11;
// Since then an answer can say where the leader is (KIP-951).
constexpr int16_t kEndpointsVersion = 16;

// One partition of the fetch, found on the image, and what came of it.
struct Part {
    const FetchTarget* target;
    storage::LogId log;
    runtime::ShardId owner = 0;
    int32_t nearest = -1;  // a replica in the client's rack, where the leader is in another
    FetchOutcome outcome;
    bool is_found() const { return log.v != 0; }
};

struct ReadOrder {
    storage::LogId log;
    FetchRange range;
};

struct ReadResult {
    std::vector<FetchOutcome> outcomes;
    bool is_watched = false;
};

// On the owner's shard. With a watch: when the partitions read give less than `bytes_needed` in
// all, the address gets mail as soon as there is more.
Task<ReadResult> read_here(Server& server, std::vector<ReadOrder> orders, uint64_t bytes_max,
                           std::optional<MailAddress> watch, int64_t bytes_needed) {
    ReadResult result;
    result.outcomes.reserve(orders.size());
    uint64_t left = bytes_max;
    uint64_t total = 0;
    bool is_first = true;
    bool has_error = false;
    std::vector<FetchWatches::Seen> seen;
    for (const ReadOrder& order : orders) {
        Partition* partition = server.partitions().find(order.log);
        const auto use = partition != nullptr ? partition->enter() : std::nullopt;
        if (!use) {
            result.outcomes.push_back({.error = KafkaError::kUnknownTopicOrPartition});
            has_error = true;
            continue;
        }
        FetchRange range = order.range;
        range.bytes_max = std::min(range.bytes_max, left);
        range.at_least_one = is_first;
        FetchOutcome outcome = co_await partition->fetch(range, server.background().stop_token());
        if (outcome.size > 0) is_first = false;
        left -= std::min(left, outcome.size);
        total += outcome.size;
        has_error = has_error || outcome.error != KafkaError::kNone || outcome.diverging ||
                    outcome.is_elsewhere;
        seen.push_back({order.log, outcome.high_watermark, outcome.epoch});
        result.outcomes.push_back(std::move(outcome));
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    if (watch) {
        if (has_error || static_cast<int64_t>(total) >= bytes_needed) {
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

// The rounds of one fetch.
class Rounds {
  public:
    Rounds(Request& request, std::vector<Part>& parts, int64_t bytes_min)
        : server_(request.server),
          parts_(parts),
          bytes_min_(bytes_min),
          leader_only_(request.version() < kFollowersVersion) {
        for (Part& part : parts_) {
            if (part.is_found()) owners_[part.owner].push_back(&part);
        }
    }

    // Reads all, up to so many bytes. With a slot: where that is not enough, there will be mail as
    // soon as more may be.
    Task<void> read(uint64_t bytes_max, Mailbox::Slot* slot) {
        const uint64_t shards = owners_.size();
        // Owners read side by side and do not know of each other; what is too much in all is cut
        // below.
        const uint64_t each =
            shards <= 1 ? bytes_max
                        : std::min(bytes_max, std::max(bytes_max / shards, kShardBytesMin));
        // An owner that reads all there is, or whose every byte is enough, begins to watch in the
        // same message.
        const bool at_once = shards == 1 || bytes_min_ <= 1;
        std::vector<Task<bool>> tasks;
        for (auto& [owner, parts] : owners_) {
            tasks.push_back(read_at(owner, parts, each, at_once ? slot : nullptr));
        }
        (void)co_await runtime::all(std::move(tasks));
        cut(bytes_max);
        if (slot != nullptr && !at_once && is_short()) co_await watch_all(*slot);
    }

    bool is_short() const { return !has_error_ && static_cast<int64_t>(total_) < bytes_min_; }
    uint64_t total() const { return total_; }
    const std::vector<runtime::ShardId>& watched() const { return watched_; }
    bool is_empty() const { return owners_.empty(); }

  private:
    Task<bool> read_at(runtime::ShardId owner, std::vector<Part*>& parts, uint64_t bytes_max,
                       Mailbox::Slot* slot) {
        std::vector<ReadOrder> orders;
        orders.reserve(parts.size());
        for (const Part* part : parts) {
            const FetchTarget& target = *part->target;
            orders.push_back({part->log,
                              {.offset = target.offset,
                               .current_leader_epoch = target.current_leader_epoch,
                               .last_fetched_epoch = target.last_fetched_epoch,
                               .bytes_max = static_cast<uint64_t>(std::max(0, target.bytes_max)),
                               .at_least_one = false,
                               .leader_only = leader_only_,
                               .is_elsewhere = part->nearest >= 0}});
        }
        std::optional<MailAddress> watch;
        if (slot != nullptr) watch = slot->address();
        ReadResult result =
            co_await runtime::on(owner, [peer = &server_.peer(owner), orders = std::move(orders),
                                         bytes_max, watch, needed = bytes_min_]() mutable {
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
        const int64_t missing = bytes_min_ - static_cast<int64_t>(total_);
        const int64_t share = std::max<int64_t>(1, missing / shards);
        for (auto& [owner, parts] : owners_) {
            std::vector<FetchWatches::Seen> seen;
            for (const Part* part : parts)
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
        has_error_ = false;
        for (Part& part : parts_) {
            FetchOutcome& outcome = part.outcome;
            has_error_ = has_error_ || !part.is_found() || outcome.error != KafkaError::kNone ||
                         outcome.diverging || outcome.is_elsewhere;
            if (outcome.size == 0) continue;
            if (total_ > 0 && total_ + outcome.size > bytes_max) {
                outcome.parts.clear();
                outcome.size = 0;
                continue;
            }
            total_ += outcome.size;
        }
    }

    Server& server_;
    std::vector<Part>& parts_;
    const int64_t bytes_min_;
    const bool leader_only_;
    std::map<runtime::ShardId, std::vector<Part*>> owners_;
    std::vector<runtime::ShardId> watched_;
    uint64_t total_ = 0;
    bool has_error_ = false;
};

// KIP-392: of the replicas in sync one in the client's rack, if this node leads the partition and
// is in another rack itself; -1: none.
int32_t find_nearest(Server& server, storage::LogId log, const std::string& rack) {
    if (rack.empty() || server.node().rack == rack) return -1;
    const cluster::LeaderState* known = server.metadata().leaders().find(log);
    if (known == nullptr || known->leader != server.node().id) return -1;
    for (const int32_t node : known->in_sync) {
        const cluster::NodeImage* image = server.image().find_node(node);
        if (image != nullptr && image->info.rack == rack) return node;
    }
    return -1;
}

std::vector<Part> find_parts(Server& server, const std::vector<FetchTarget>& targets, bool by_id,
                             const std::string& rack) {
    std::vector<Part> parts;
    parts.reserve(targets.size());
    for (const FetchTarget& target : targets) {
        const cluster::TopicImage* topic = by_id ? server.image().find(target.key.topic_id)
                                                 : server.image().find(target.key.topic);
        const FoundPartition found = find_partition(server, topic, target.key.partition, by_id);
        Part& part = parts.emplace_back(
            Part{.target = &target, .log = found.log, .owner = found.owner, .outcome = {}});
        if (found.error == KafkaError::kNone) part.nearest = find_nearest(server, found.log, rack);
        part.outcome.error = found.error;
    }
    return parts;
}

// How much of `wanted` this fetch may read now. Bytes on their way to slow clients are bounded a
// shard: when little is left, a fetch gets less, half of it at most so that the next one gets some
// too, and never less than a little, since it must not stand in line behind clients that do not
// read. A connection has two answers at most that were read and not sent, so what goes beyond the
// bound is bounded too. The units stay with the request until its answer was sent.
uint64_t grant(Request& request, uint64_t wanted) {
    runtime::Semaphore& bytes = request.server.fetch_bytes();
    const auto available = static_cast<uint64_t>(std::max<int64_t>(0, bytes.available()));
    const uint64_t count = std::min(wanted, std::max(available / 2, kGrantMin));
    if (auto units = bytes.try_acquire(std::min(count, available)))
        request.units = std::move(*units);
    if (count > available / 2) request.server.hurry_slow_clients();
    return count;
}

FetchResponse::Partition describe(Request& request, Part& part, int8_t isolation_level) {
    FetchOutcome& outcome = part.outcome;
    FetchResponse::Partition partition;
    partition.partition_index = part.target->key.partition;
    partition.error_code = code(outcome.error);
    const bool ok = outcome.error == KafkaError::kNone;
    partition.high_watermark = ok ? outcome.high_watermark : -1;
    // Without transactions every record below the high watermark is stable.
    partition.last_stable_offset = ok ? outcome.high_watermark : -1;
    partition.log_start_offset = ok ? outcome.log_start_offset : -1;
    if (isolation_level == 0) partition.aborted_transactions.reset();
    if (names_leader(outcome.error))
        partition.current_leader = {outcome.hint.leader, outcome.hint.epoch};
    if (outcome.is_elsewhere) partition.preferred_read_replica = part.nearest;
    if (outcome.diverging)
        partition.diverging_epoch = {outcome.diverging->term, outcome.diverging->end_offset};
    for (runtime::SharedBytes& bytes : outcome.parts) {
        partition.records.parts.push_back(bytes.bytes());
        request.keep.push_back(std::move(bytes));
    }
    outcome.parts.clear();
    return partition;
}

Task<FetchResponse> answer(Request& request, FetchRequest body) {
    Server& server = request.server;
    Shard& shard = Shard::current();
    FetchResponse response;
    const bool by_id = request.version() >= 13;
    if (body.replica_id >= 0 || body.replica_state.replica_id >= 0) {
        response.error_code =
            code(KafkaError::kInvalidRequest);  // no other node replicates from this one
        co_return response;
    }
    FetchSessions::Plan plan =
        server.fetch_sessions().begin(body, request.version(), shard.now(), shard.prng().next());
    response.session_id = plan.session_id;
    if (plan.error != KafkaError::kNone) {
        response.error_code = code(plan.error);
        response.session_id = 0;
        co_return response;
    }
    const auto bytes_max =
        static_cast<uint64_t>(std::clamp(body.max_bytes, 0, server.settings().fetch_bytes_max));
    const Instant deadline =
        shard.now() +
        std::min<Duration>(std::chrono::milliseconds(std::max(0, body.max_wait_ms)), kWaitMax);
    std::vector<Part> parts = find_parts(server, plan.targets, by_id, body.rack_id);
    Rounds rounds(request, parts, body.min_bytes);
    const bool may_wait = body.max_wait_ms > 0 && body.min_bytes > 0 && !rounds.is_empty();
    std::optional<Mailbox::Slot> slot;
    if (may_wait) slot.emplace(server.mailbox().open());
    co_await rounds.read(grant(request, bytes_max), slot ? &*slot : nullptr);
    while (slot && rounds.is_short()) {
        ++server.metrics().fetch_waits;
        request.units.release();
        const bool has_news =
            (co_await slot->receive({.deadline = deadline, .stop = request.hurry})).has_value();
        slot->clear();
        co_await rounds.read(grant(request, bytes_max), has_news ? &*slot : nullptr);
        if (!has_news) break;
    }
    if (slot) {
        for (const runtime::ShardId owner : rounds.watched()) {
            if (owner == shard.id()) {
                server.partitions().watches().unwatch(slot->address());
            } else {
                server.background().spawn(unwatch_at(server, owner, slot->address()));
            }
        }
    }
    // What is not used others may have at once.
    request.units.shrink(std::min(request.units.count(), rounds.total()));
    server.metrics().fetched_bytes += rounds.total();

    for (Part& part : parts) {
        const FetchKey& key = part.target->key;
        const FetchSessions::Seen seen{.error = part.outcome.error,
                                       .high_watermark = part.outcome.high_watermark,
                                       .log_start_offset = part.outcome.log_start_offset,
                                       .has_data = part.outcome.size > 0 ||
                                                   part.outcome.diverging.has_value() ||
                                                   part.outcome.is_elsewhere};
        if (plan.session_id != 0) {
            const bool has_news = server.fetch_sessions().note(plan.session_id, key, seen);
            if (plan.incremental && !has_news) continue;
        }
        const bool same_topic = !response.responses.empty() &&
                                response.responses.back().topic == key.topic &&
                                response.responses.back().topic_id == key.topic_id;
        if (!same_topic) {
            FetchResponse::Topic& topic = response.responses.emplace_back();
            topic.topic = key.topic;
            topic.topic_id = key.topic_id;
        }
        response.responses.back().partitions.push_back(
            describe(request, part, body.isolation_level));
        if (request.version() >= kEndpointsVersion) {
            add_endpoint(server,
                         response.responses.back().partitions.back().current_leader.leader_id,
                         response.node_endpoints);
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_fetch(Request& request) {
    return run_handler<FetchRequest, FetchResponse, answer>(request);
}

}  // namespace weir::kafka

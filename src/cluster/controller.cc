#include "cluster/controller.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"
#include "runtime/driver.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/shard.h"
#include "storage/store.h"

namespace weir::cluster {
namespace {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;
using runtime::try_;

constexpr uint64_t kLogIdsPerBlock = 1024;
constexpr uint64_t kReadBytes = 1 << 20;
// A node that stops gives a change under way so long to be committed.
constexpr Duration kLastChangeMax = std::chrono::seconds(2);
// The log's start follows the checkpoints when it is so far behind: what is kept spares replicas
// that were away a snapshot.
constexpr int64_t kEntriesKept = 4096;
// What a checkpoint holds begins with this. What a version before groups wrote is an entry, which
// begins with 1, and covers all of the log.
constexpr uint8_t kStateVersion = 2;
constexpr size_t kStatePrefix = 9;

Uuid random_uuid() {
    std::array<uint8_t, 16> entropy;
    Shard::current().driver().fill_entropy(entropy);
    return Uuid::random(load_be<uint64_t>(entropy.data()), load_be<uint64_t>(entropy.data() + 8));
}

std::unexpected<Error> not_controller() {
    return fail(ErrorCode::kUnavailable, "this node is not the controller");
}

}  // namespace

Controller::Controller(Options options) : options_(std::move(options)) {}
Controller::~Controller() = default;

Task<Result<void>> Controller::open(raft::Configuration voters) {
    const bool joins = voters.members.empty();
    auto opened = co_await options_.replicator->open(
        *options_.log, *this, {.founders = std::move(voters), .joins = joins},
        [this](replication::Group& group) { group_ = &group; });
    co_await try_(std::move(opened));
    scope_.spawn(apply_committed());
    co_return Result<void>{};
}

Task<Result<void>> Controller::lead_alone(runtime::WaitOptions options) {
    // Alone it leads as soon as its disk has the term.
    while (!leads() && !broken_) co_await try_(co_await published_change_.wait(options));
    const runtime::Units units = co_await try_(lock(options));
    if (!image().cluster_id().is_zero()) co_return Result<void>{};
    std::vector<MetadataRecord> first;
    first.emplace_back(ClusterCreated{random_uuid()});
    co_return co_await commit(std::move(first));
}

Task<Result<void>> Controller::serve_from(int64_t offset, runtime::WaitOptions options) {
    while (applied_ < offset && !broken_) co_await try_(co_await published_change_.wait(options));
    adopt_wanted_ = true;
    changed_.notify_all();
    while (!adopted_ && !broken_) co_await try_(co_await published_change_.wait(options));
    if (broken_) co_return fail(*broken_);
    co_return Result<void>{};
}

Task<Result<std::map<int32_t, Endpoint>>> Controller::addresses_ahead() {
    std::map<int32_t, Endpoint> addresses;
    const storage::Position end = options_.log->end();
    for (storage::Position at{applied_, 0}; at < end;) {
        const auto entries = co_await try_(options_.log->read_entries(
            at, {.end = end, .bytes_max = kReadBytes}, scope_.stop_token()));
        if (entries.empty()) break;
        for (const storage::FoundEntry& entry : entries) {
            at = entry.info.end();
            if (entry.info.kind != storage::EntryKind::kData) continue;
            const auto records = co_await try_(decode_metadata(entry.payload.bytes()));
            for (const MetadataRecord& record : records) {
                if (const auto* node = std::get_if<NodeRegistered>(&record))
                    addresses[node->id] = node->rpc;
            }
        }
    }
    co_return addresses;
}

void Controller::break_off(const Error& error) {
    if (!broken_) broken_ = error;
    published_change_.notify_all();
    changed_.notify_all();
}

void Controller::follow() {
    following_ = true;
    changed_.notify_all();
}

void Controller::begin_close() {
    if (std::exchange(closing_, true)) return;
    published_change_.notify_all();
    scope_.spawn(end_changes());
}

Task<void> Controller::end_changes() {
    (void)co_await runtime::sleep_for(kLastChangeMax, scope_.stop_token());
    end_changes_.request_stop();
}

Task<void> Controller::close() {
    begin_close();
    co_await scope_.close();
    if (group_ == nullptr) co_return;
    co_await options_.replicator->close_group(storage::kMetadataLog);
    group_ = nullptr;
}

// ------------------------------------------------------------------ the replica

Result<void> Controller::recover(Bytes state, storage::Position state_end,
                                 std::vector<storage::RecoveredState::Replayed>) {
    MetadataImage image;
    int64_t applied = 0;
    if (!state.empty()) {
        Bytes records = state;
        applied = state_end.offset;
        if (state[0] == kStateVersion) {
            if (state.size() < kStatePrefix)
                return fail(ErrorCode::kCorrupt, "the metadata log's state does not parse");
            applied = load_be<int64_t>(state.data() + 1);
            records = state.subspan(kStatePrefix);
        }
        TRY_ASSIGN(const auto decoded, decode_metadata(records));
        for (const MetadataRecord& record : decoded) TRY(image.apply(record));
    }
    if (applied < options_.log->start_offset())
        return fail(ErrorCode::kCorrupt, "the metadata log begins after its state ends");
    own_ = std::move(image);
    applied_ = applied;
    durable_ = std::max(durable_, applied);
    decided_.reset();
    changed_.notify_all();
    return {};
}

storage::CapturedState Controller::capture() {
    const std::vector<uint8_t> records = encode_metadata(committed().to_records());
    std::vector<uint8_t> state(kStatePrefix);
    state[0] = kStateVersion;
    store_be<int64_t>(state.data() + 1, applied_);
    state.insert(state.end(), records.begin(), records.end());
    return {std::move(state), applied_};
}

void Controller::on_role() {
    if (group_->role() != raft::Role::kLeader || group_->term() != decided_term_) decided_.reset();
    changed_.notify_all();
    published_change_.notify_all();
    if (leader_ == group_->leader()) return;
    leader_ = group_->leader();
    if (leader_changed_) leader_changed_();
}

Task<void> Controller::apply_committed() {
    const runtime::StopToken stop = scope_.stop_token();
    while (!stop.stop_requested()) {
        if (const auto applied = co_await apply_some(); !applied) {
            if (stop.stop_requested()) break;
            // Going on without an entry would make this node's image another than the others'.
            broken_ = applied.error();
            published_change_.notify_all();
            // Whoever starts the node is told by serve_from().
            if (!adopted_) break;
            Shard::current().log().error("cluster", "the metadata log can't be read",
                                         "offset={} error=\"{}\"", applied_, broken_->to_string());
            if (options_.on_fatal) options_.on_fatal(*broken_);
            break;
        }
    }
}

Task<Result<void>> Controller::apply_some() {
    if (adopted_ ? own_ && following_ && applied_ >= published_ : adopt_wanted_) {
        co_await adopt();
        co_return Result<void>{};
    }
    if (applied_ >= group_->high_watermark() || (adopted_ && !following_)) {
        // Also for those who wait to lead: a leader is ready when its term's first entry is
        // committed, which moves no offset.
        note_published();
        (void)co_await changed_.wait({.stop = scope_.stop_token()});
        co_return Result<void>{};
    }
    const auto entries = co_await try_(options_.log->read_entries(
        {applied_, 0}, {.end = group_->commit(), .bytes_max = kReadBytes}, scope_.stop_token()));
    for (const storage::FoundEntry& entry : entries) {
        if (entry.info.kind != storage::EntryKind::kData) continue;
        // While the last one was published a snapshot may have come.
        if (entry.info.first.offset != applied_) break;
        MetadataChange change;
        co_await try_(apply(entry.payload.bytes(), entry.info.next_offset, change));
        if (adopted_ && !own_) co_await publish(change);
        note_published();
        if (told_ && !rebuilding()) told_(change);
        if (scope_.stop_requested()) break;
        if (rebuilding() && applied_ >= published_) break;
    }
    if (applied_ - durable_ >= kEntriesKept && !std::exchange(moving_start_, true))
        scope_.spawn(move_start(), runtime::WorkClass::kBackground);
    co_return Result<void>{};
}

// Takes the records into committed(), and says what the other shards need.
Result<void> Controller::apply(Bytes payload, int64_t end, MetadataChange& change) {
    TRY_ASSIGN(change.records, decode_metadata(payload));
    change.end = end;
    note_removed(change);
    if (own_) {
        for (const MetadataRecord& record : change.records) TRY(own_->apply(record));
    } else {
        TRY(options_.shards[0]->apply(change));
    }
    applied_ = end;
    return {};
}

void Controller::note_removed(const MetadataChange& change) {
    for (const MetadataRecord& record : change.records) {
        const auto* removed = std::get_if<NodeRemoved>(&record);
        const NodeImage* node = removed == nullptr ? nullptr : committed().find_node(removed->id);
        if (node == nullptr) continue;
        removed_.push_back(node->info.uuid);
        if (removed_.size() > kNodesMax) removed_.pop_front();
    }
}

void Controller::note_published() {
    if (own_ && adopted_) return;
    published_ = applied_;
    published_change_.notify_all();
}

// Gives all shards the image, at the start or from a snapshot.
Task<void> Controller::adopt() {
    MetadataChange change;
    if (adopted_) change = difference(options_.shards[0]->image(), *own_);
    change.end = applied_;
    adopted_ = true;
    MetadataImage image = std::move(*own_);
    own_.reset();
    options_.shards[0]->adopt(image, change.end);
    std::vector<Task<bool>> tasks;
    const auto one = [](runtime::ShardId to, MetadataShard* shard, const MetadataImage* image,
                        MetadataChange change) -> Task<bool> {
        co_await runtime::on(
            to, [to, shard, image, change = std::move(change)]() mutable -> Task<void> {
                if (to != 0) shard->adopt(*image, change.end);
                co_await shard->publish(std::move(change));
            });
        co_return true;
    };
    for (runtime::ShardId i = 0; i < options_.shards.size(); ++i)
        tasks.push_back(one(i, options_.shards[i], &image, change));
    (void)co_await runtime::all(std::move(tasks));
    note_published();
    if (told_) told_(change);
}

Task<void> Controller::publish(MetadataChange change) {
    std::vector<Task<bool>> tasks;
    const auto one = [](runtime::ShardId to, MetadataShard* shard,
                        MetadataChange change) -> Task<bool> {
        co_await runtime::on(to, [to, shard, change = std::move(change)]() mutable -> Task<void> {
            // The controller took it before; it follows from an equal image.
            if (to != 0) CHECK(shard->apply(change).has_value());
            co_await shard->publish(std::move(change));
        });
        co_return true;
    };
    for (runtime::ShardId i = 0; i < options_.shards.size(); ++i)
        tasks.push_back(one(i, options_.shards[i], change));
    (void)co_await runtime::all(std::move(tasks));
}

Task<void> Controller::move_start() {
    const int64_t applied = applied_;
    if (co_await options_.replicator->options().store->checkpoint()) {
        durable_ = std::max(durable_, applied);
        // Followers follow the leader's start as far as their own checkpoints allow.
        if (group_->leads() && durable_ - group_->log().start_offset() >= kEntriesKept)
            (void)co_await group_->truncate_prefix(durable_);
    }
    moving_start_ = false;
}

Task<Result<void>> Controller::wait_applied(int64_t offset, runtime::WaitOptions options) {
    while (published_ < offset) {
        if (broken_) co_return fail(*broken_);
        if (scope_.stop_requested()) co_return fail(ErrorCode::kCancelled);
        co_await try_(co_await published_change_.wait(options));
    }
    co_return Result<void>{};
}

Task<Result<int64_t>> Controller::committed_end(runtime::WaitOptions options) {
    if (!leads()) co_return not_controller();
    co_await try_(group_->read_barrier(options));
    co_return group_->high_watermark();
}

// ------------------------------------------------------------------- the leader

Task<Result<runtime::Units>> Controller::lock(runtime::WaitOptions options) {
    if (!leads()) co_return not_controller();
    runtime::Units units = co_await try_(co_await lock_.acquire(1, options));
    // What earlier leaders committed comes first.
    while (leads() && !broken_ && published_ < group_->high_watermark())
        co_await try_(co_await published_change_.wait(options));
    if (broken_) co_return fail(*broken_);
    if (!leads()) co_return not_controller();
    locked_term_ = group_->term();
    co_return units;
}

Task<Result<void>> Controller::commit(std::vector<MetadataRecord> records) {
    if (!leads()) co_return not_controller();
    const std::vector<uint8_t> payload = encode_metadata(records);
    co_await try_(group_->admit(payload.size(), end_changes_.token()));
    // 1. Decides, in term 3.  2. Is deposed; another leader commits.  3. Leads again, in term 5:
    // what it decided does not follow any more.
    if (!leads() || group_->term() != locked_term_) {
        // Whoever changes metadata ends before close(): the group is there.
        group_->withdraw(payload.size());
        co_return not_controller();
    }
    if (!decided_) decided_ = committed();
    decided_term_ = locked_term_;
    Result<void> follows;
    for (const MetadataRecord& record : records) {
        if (follows) follows = decided_->apply(record);
    }
    if (!follows) {
        group_->withdraw(payload.size());
        decided_.reset();
        co_return follows;
    }
    storage::Entry entry;
    entry.info.next_offset = 1;
    entry.info.max_timestamp_ms = Shard::current().wall_now().ms;
    entry.payload = SharedBytes::copy_of(payload);
    const auto appended = group_->append(std::move(entry));
    if (!appended) {
        decided_.reset();
        co_return fail(appended.error());
    }
    const auto committed = co_await group_->wait_committed(appended->end(), appended->term,
                                                           {.stop = end_changes_.token()});
    if (!committed) {
        decided_.reset();
        co_return committed;
    }
    co_return co_await wait_applied(appended->next_offset, {.stop = end_changes_.token()});
}

Task<Result<std::vector<storage::LogId>>> Controller::allocate_log_ids(size_t count) {
    // Of a block that another leader reserved, or this one in an earlier term, some are in use.
    if (std::exchange(ids_term_, locked_term_) != locked_term_)
        next_log_id_ = image().log_ids_end();
    if (next_log_id_ + count > image().log_ids_end()) {
        std::vector<MetadataRecord> reserve;
        reserve.emplace_back(LogIdsReserved{next_log_id_ + count + kLogIdsPerBlock});
        co_await try_(commit(std::move(reserve)));
    }
    std::vector<storage::LogId> ids;
    for (size_t i = 0; i < count; ++i) ids.push_back({next_log_id_++});
    co_return ids;
}

Task<Result<void>> Controller::create_logs(std::vector<NewLog> logs) {
    const auto one = [](runtime::ShardId to, MetadataShard* shard,
                        std::vector<NewLog> logs) -> Task<Result<void>> {
        co_return co_await runtime::on(
            to, [shard, logs = std::move(logs)]() mutable -> Task<Result<void>> {
                co_return co_await shard->hooks().create_logs(std::move(logs));
            });
    };
    std::vector<Task<Result<void>>> tasks;
    for (runtime::ShardId i = 0; i < options_.shards.size(); ++i) {
        std::vector<NewLog> mine;
        for (const NewLog& log : logs) {
            if (storage::owner_of(log.id, static_cast<uint32_t>(options_.shards.size())) == i)
                mine.push_back(log);
        }
        if (!mine.empty()) tasks.push_back(one(i, options_.shards[i], std::move(mine)));
    }
    std::vector<Result<void>> results = co_await runtime::all(std::move(tasks));
    Result<void> result;
    for (Result<void>& each : results) {
        if (!each) result = std::move(each);
    }
    if (result) co_return result;
    std::vector<storage::LogId> ids;
    for (const NewLog& log : logs) ids.push_back(log.id);
    for (runtime::ShardId i = 0; i < options_.shards.size(); ++i) {
        co_await runtime::on(i, [shard = options_.shards[i], ids]() -> Task<void> {
            co_await shard->hooks().remove_logs(ids);
        });
    }
    co_return result;
}

std::vector<PlacementNode> Controller::placement_nodes() const {
    std::vector<PlacementNode> nodes;
    const auto add = [&](int32_t id, std::string rack, bool accepts) {
        nodes.push_back({.id = id,
                         .rack = std::move(rack),
                         .accepts = accepts,
                         .replicas = image().replica_count(id),
                         .leaders = image().preferred_count(id)});
    };
    for (const auto& [id, node] : image().nodes()) {
        add(id, node.info.rack.value_or(""),
            node.state == NodeState::kActive && (!is_alive_ || is_alive_(id)));
    }
    if (nodes.empty()) add(options_.shards[0]->node_id(), "", true);
    return nodes;
}

Task<Result<int64_t>> Controller::allocate_producer_ids(int64_t count,
                                                        runtime::WaitOptions options) {
    const runtime::Units units = co_await try_(lock(std::move(options)));
    const int64_t first = image().producer_ids_end();
    std::vector<MetadataRecord> reserve;
    reserve.emplace_back(ProducerIdsReserved{first + count});
    co_await try_(commit(std::move(reserve)));
    co_return first;
}

}  // namespace weir::cluster

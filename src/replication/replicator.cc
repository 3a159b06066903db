#include "replication/replicator.h"

#include <algorithm>

#include "base/check.h"
#include "runtime/shard.h"

namespace weir::replication {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;
using runtime::try_;

namespace {

// A frame of small messages leaves when it is this large, or at the end of the turn.
constexpr size_t kFrameBytes = 64 << 10;
constexpr Duration kRoomInterval = std::chrono::milliseconds(2);
constexpr Duration kRepairCallMax = std::chrono::seconds(1);
// That one step tells of a connection that came or went: some 2 us each.
constexpr size_t kGroupsPerStep = 64;

}  // namespace

Replicator::Replicator(ReplicatorOptions options) : options_(std::move(options)) {
    // A lease runs by a clock that goes on while this node sleeps; core_now() does not.
    CHECK(!options_.raft.lease_reads);
}
Replicator::~Replicator() = default;

void Replicator::start(rpc::Endpoint* to) {
    endpoint_ = to;
    if (endpoint_ != nullptr) {
        rpc::Endpoint& endpoint = *endpoint_;
        endpoint.on_message(kGroupMessages, [this](rpc::Received received) {
            receive_messages(std::move(received));
        });
        endpoint.on_message(
            kGroupAppend, [this](rpc::Received received) { receive_append(std::move(received)); });
        endpoint.handle(kGroupSnapshot, [this](rpc::Request request) {
            return receive_snapshot(std::move(request));
        });
        endpoint.handle(kGroupRepair,
                        [this](rpc::Request request) { return answer_repair(std::move(request)); });
        endpoint.on_up(
            [this](NodeId node, runtime::ShardId shard) { note_peer(node, shard, true); });
        endpoint.on_down(
            [this](NodeId node, runtime::ShardId shard) { note_peer(node, shard, false); });
    }
    scope_.spawn(run_clock(), runtime::WorkClass::kReplication);
}

Task<Result<Group*>> Replicator::open(storage::Log& log, StateMachine& machine, Beginning beginning,
                                      std::function<void(Group&)> announce) {
    if (closing_) co_return fail(ErrorCode::kUnavailable, "the node is stopping");
    CHECK(!groups_.contains(log.id()));
    auto made = std::make_unique<Group>(*this, log, machine);
    Group* group = made.get();
    co_await try_(group->open(std::move(beginning)));
    announce(*group);
    CHECK(groups_.emplace(log.id(), std::move(made)).second);
    group->start();
    co_return group;
}

Task<void> Replicator::close_group(storage::LogId id) {
    const auto found = groups_.find(id);
    if (found == groups_.end()) co_return;
    const std::unique_ptr<Group> group = std::move(found->second);
    groups_.erase(found);
    if (group->scheduled_ != Instant::never()) due_.erase({group->scheduled_, id});
    group->scheduled_ = Instant::never();
    co_await group->close();
}

Group* Replicator::find(storage::LogId id) {
    const auto found = groups_.find(id);
    return found == groups_.end() ? nullptr : found->second.get();
}

void Replicator::for_each(const std::function<void(Group&)>& visit) {
    for (auto& [id, group] : groups_) visit(*group);
}

void Replicator::for_each_awake(const std::function<void(Group&)>& visit) {
    for (const auto& [due, id] : due_) {
        if (Group* group = find(id)) visit(*group);
    }
}

void Replicator::give_up(const Error& error) {
    for (auto& [id, group] : groups_) group->give_up("the store failed", error);
}

Task<void> Replicator::close() {
    closing_ = true;
    due_changed_.notify_all();
    while (!groups_.empty()) co_await close_group(groups_.begin()->first);
    co_await scope_.close();
}

// -------------------------------------------------------------------- time

Instant Replicator::core_now() const {
    Shard& shard = Shard::current();
    return options_.count_time_asleep ? shard.now() : shard.awake_now();
}

Instant Replicator::wake_at(Instant due) const {
    return options_.count_time_asleep ? due : Shard::current().when_awake(due);
}

void Replicator::schedule(Group& group) {
    const Instant due = group.closing_ ? Instant::never() : group.core_->next_deadline();
    if (due == group.scheduled_) return;
    if (group.scheduled_ != Instant::never()) due_.erase({group.scheduled_, group.id()});
    group.scheduled_ = due;
    if (due == Instant::never()) return;
    const auto place = due_.emplace(due, group.id()).first;
    if (place == due_.begin()) due_changed_.notify_all();
}

Task<void> Replicator::run_clock() {
    while (!closing_) {
        const Instant next = due_.empty() ? Instant::never() : due_.begin()->first;
        const Instant now = core_now();
        if (now < next) {
            (void)co_await due_changed_.wait(
                {.deadline = wake_at(next), .stop = scope_.stop_token()});
            continue;
        }
        Group* group = find(due_.begin()->second);
        CHECK(group != nullptr);
        due_.erase(due_.begin());
        group->scheduled_ = Instant::never();
        group->tick(now);
        // A core that is due again at once would keep the shard for itself.
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
}

// ------------------------------------------------------------------- sending

runtime::ShardId Replicator::shard_of(raft::NodeId node, storage::LogId log) {
    const auto known = peer_shards_.find(node.v);
    if (known != peer_shards_.end() && known->second > 0)
        return storage::owner_of(log, known->second);
    // Its first connection tells.
    const auto status = endpoint_->status(NodeId{node.v});
    const uint32_t shards = status ? status->shards : 0;
    if (shards == 0) return 0;
    peer_shards_[node.v] = shards;
    return storage::owner_of(log, shards);
}

void Replicator::send(raft::NodeId to, GroupMessage message) {
    if (endpoint_ == nullptr || closing_) return;
    const runtime::ShardId shard = shard_of(to, message.log);
    ByteWriter& frame = outgoing_[{to.v, shard}];
    append_message(frame, message);
    ++metrics_.messages_sent;
    if (!std::exchange(flushing_, true)) scope_.spawn(flush(), runtime::WorkClass::kReplication);
    if (frame.size() < kFrameBytes) return;
    ++metrics_.frames_sent;
    if (!endpoint_->send(NodeId{to.v}, shard,
                         {.kind = kGroupMessages,
                          .lane = rpc::Lane::kControl,
                          .body = frame.flatten(),
                          .parts = {}}))
        ++metrics_.frames_refused;
    frame.clear();
}

Task<void> Replicator::flush() {
    flushing_ = false;
    for (auto& [to, frame] : outgoing_) {
        if (frame.size() == 0) continue;
        ++metrics_.frames_sent;
        if (!endpoint_->send(NodeId{to.first}, to.second,
                             {.kind = kGroupMessages,
                              .lane = rpc::Lane::kControl,
                              .body = frame.flatten(),
                              .parts = {}}))
            ++metrics_.frames_refused;
        frame.clear();
    }
    co_return;
}

Task<Result<void>> Replicator::wait_for_room(raft::NodeId to, storage::LogId log, size_t bytes,
                                             runtime::StopToken stop) {
    if (endpoint_ == nullptr || closing_) co_return fail(ErrorCode::kUnavailable);
    const runtime::ShardId shard = shard_of(to, log);
    bool waited = false;
    while (true) {
        const auto fits = endpoint_->fits(NodeId{to.v}, shard, rpc::Lane::kData, bytes);
        if (!fits) co_return fail(ErrorCode::kUnavailable, "no connection");
        if (*fits) co_return Result<void>{};
        if (!std::exchange(waited, true)) ++metrics_.appends_waited;
        const std::pair connection{to.v, shard};
        const auto [queue, fresh] = waiting_.try_emplace(connection);
        if (fresh) scope_.spawn(watch_room(connection), runtime::WorkClass::kReplication);
        co_await try_(co_await queue->second.wait({.stop = stop}));
        if (closing_) co_return fail(ErrorCode::kUnavailable);
    }
}

// Wakes those who wait, now and then, until nobody does.
Task<void> Replicator::watch_room(std::pair<int32_t, runtime::ShardId> connection) {
    while (!closing_) {
        const bool stopped = !co_await runtime::sleep_for(kRoomInterval, scope_.stop_token());
        const auto found = waiting_.find(connection);
        if (found->second.empty() || stopped) break;
        found->second.notify_all();
        co_await runtime::yield();  // who finds no room waits again
    }
    waiting_.find(connection)->second.notify_all();
    waiting_.erase(connection);
}

bool Replicator::send_append(raft::NodeId to, storage::LogId log, rpc::Message message) {
    if (endpoint_ == nullptr || closing_) return false;
    ++metrics_.frames_sent;
    metrics_.append_bytes_sent += message.size();
    const bool sent = endpoint_->send(NodeId{to.v}, shard_of(to, log), std::move(message));
    if (!sent) ++metrics_.frames_refused;
    return sent;
}

Task<Result<void>> Replicator::call_snapshot(raft::NodeId to, rpc::Message message,
                                             storage::LogId log) {
    if (endpoint_ == nullptr || closing_) co_return fail(ErrorCode::kUnavailable);
    co_await try_(endpoint_->call(NodeId{to.v}, shard_of(to, log), std::move(message),
                                  {.deadline = Shard::current().now() + options_.snapshot_timeout,
                                   .stop = scope_.stop_token()}));
    co_return Result<void>{};
}

Task<Result<void>> Replicator::ask_repair(raft::NodeId of, RepairRequest request,
                                          runtime::WaitOptions options) {
    if (endpoint_ == nullptr || closing_) co_return fail(ErrorCode::kUnavailable);
    const Instant deadline = Shard::current().now() + kRepairCallMax;
    co_await try_(
        endpoint_->call(NodeId{of.v}, shard_of(of, request.log), encode_repair(request),
                        {.deadline = std::min(deadline, options.deadline), .stop = options.stop}));
    co_return Result<void>{};
}

// ------------------------------------------------------------------- receiving

void Replicator::receive_messages(rpc::Received received) {
    if (closing_) return;
    const auto messages = decode_messages(received.body.bytes());
    if (!messages) {
        ++metrics_.messages_malformed;
        return;
    }
    for (const GroupMessage& message : *messages) {
        ++metrics_.messages_received;
        if (Group* group = find(message.log))
            group->on_message({received.from.node.v}, message);
        else
            ++metrics_.messages_unknown;
    }
}

void Replicator::receive_append(rpc::Received received) {
    if (closing_) return;
    const auto log = peek_append(received.body.bytes());
    if (!log) {
        ++metrics_.messages_malformed;
        return;
    }
    ++metrics_.messages_received;
    if (Group* group = find(*log))
        group->on_append_message({received.from.node.v}, std::move(received.body));
    else
        ++metrics_.messages_unknown;
}

Task<Result<rpc::Message>> Replicator::receive_snapshot(rpc::Request request) {
    if (closing_) co_return fail(ErrorCode::kUnavailable);
    Snapshot snapshot = co_await try_(decode_snapshot(request.body.bytes()));
    Group* group = find(snapshot.log);
    if (group == nullptr) co_return fail(ErrorCode::kNotFound, "no such group here");
    co_await try_(group->on_snapshot_message({request.from.node.v}, std::move(snapshot)));
    co_return rpc::Message{};
}

Task<Result<rpc::Message>> Replicator::answer_repair(rpc::Request request) {
    const auto asked = co_await try_(decode_repair(request.body.bytes()));
    Group* group = closing_ ? nullptr : find(asked.log);
    if (group == nullptr) co_return fail(ErrorCode::kNotFound, "no such group here");
    co_await try_(group->answer_repair({request.from.node.v}, asked.question));
    co_return rpc::control_message({}, {});
}

// A connection from here to that shard of the node came or went: the cores of the groups that use
// it are told, a few at a time. The last news counts.
void Replicator::note_peer(NodeId node, runtime::ShardId shard, bool up) {
    if (closing_) return;
    if (up) {
        if (const auto status = endpoint_->status(node); status && status->shards > 0)
            peer_shards_[node.v] = status->shards;
        down_.erase({node.v, shard});
    } else {
        down_.insert({node.v, shard});
    }
    News& news = news_[{node.v, shard}];
    news.lost |= !up;
    news.next = {};
    if (!std::exchange(spreading_, true))
        scope_.spawn(spread_news(), runtime::WorkClass::kReplication);
}

Task<void> Replicator::spread_news() {
    while (!closing_ && !news_.empty()) {
        const size_t seen = spread_some(kGroupsPerStep);
        metrics_.news_step_max = std::max<uint64_t>(metrics_.news_step_max, seen);
        co_await runtime::yield();
    }
    spreading_ = false;
}

// Returns how many groups it looked at.
size_t Replicator::spread_some(size_t groups_max) {
    const auto first = news_.begin();
    const auto [node, shard] = first->first;
    News& news = first->second;
    const raft::NodeId peer{node};
    const bool down = down_.contains(first->first);
    size_t seen = 0;
    auto at = groups_.lower_bound(news.next);
    for (; at != groups_.end() && seen < groups_max; ++at, ++seen) {
        if (shard_of(peer, at->first) != shard) continue;
        if (news.lost) at->second->connection_lost(peer);
        if (down)
            at->second->peer_down(peer);
        else
            at->second->peer_up(peer);
    }
    if (at == groups_.end())
        news_.erase(first);
    else
        news.next = at->first;
    return seen;
}

}  // namespace weir::replication

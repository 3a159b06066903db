#include "broker/cluster_link.h"

#include <fmt/format.h>

#include <algorithm>

#include "broker/options.h"
#include "cluster/features.h"
#include "cluster/node_admin.h"
#include "runtime/remote.h"
#include "runtime/shard.h"
#include "storage/store.h"

namespace weir::broker {

using cluster::LeaderState;
using cluster::MetadataShard;
using runtime::Shard;
using runtime::ShardId;
using runtime::SharedBytes;
using runtime::StopToken;
using runtime::Task;
using runtime::try_;

namespace {

constexpr Duration kWatchInterval = 200ms;
// A node that is silent for so long counts as dead; each side says something every 500 ms.
constexpr Duration kSilenceMax = 2500ms;
constexpr Duration kTellTimeout = 3s;
constexpr Duration kRegisterTimeout = 5s;
constexpr Duration kRetryPause = 50ms;
constexpr Duration kReportTimeout = 10s;
constexpr Duration kEndTimeout = 2s;
constexpr Duration kProducerIdsTimeout = 20s;
constexpr Duration kSweepInterval = 60s;
constexpr size_t kReportsMax = 10'000;

Instant in(Duration time) { return Shard::current().now() + time; }

}  // namespace

ClusterLink::ClusterLink(Options options)
    : options_(std::move(options)), publisher_(options_.identity.node_id) {
    std::array<uint8_t, 8> entropy;
    Shard::current().driver().fill_entropy(entropy);
    incarnation_ = load_be<uint64_t>(entropy.data());
    for (const cluster::Founder& founder : options_.identity.founding) {
        if (founder.node_id == self()) continue;
        if (const auto parsed = parse_host_port(founder.rpc))
            hints_[founder.node_id] = {parsed->host, static_cast<uint16_t>(parsed->port)};
    }
    for (auto& [id, address] : options_.members) {
        if (id != self()) hints_[id] = address;
    }
}

ClusterLink::~ClusterLink() = default;

Task<void> ClusterLink::start() {
    cluster::Controller& controller = *options_.controller;
    controller.set_liveness([this](int32_t node) { return is_alive(node); });
    controller.set_leader_changed([this] {
        status_moved_ = true;
        wake_.notify_all();
    });
    controller.set_published([this](const cluster::MetadataChange& change) {
        for (const cluster::TopicImage& topic : change.topics_removed) {
            for (const auto& partition : topic.partitions) publisher_.forget(partition.log);
        }
        for (const cluster::MetadataRecord& record : change.records) {
            if (const auto* removed = std::get_if<cluster::NodeRemoved>(&record))
                hints_.erase(removed->id);
            if (std::holds_alternative<cluster::NodeRemoved>(record) ||
                std::holds_alternative<cluster::NodeRegistered>(record))
                wake_.notify_all();
        }
    });
    if (!is_alone()) {
        set_handlers();
        for (ShardId i = 0; i < options_.shards.size(); ++i) {
            co_await runtime::on(i, [parts = options_.shards[i]]() -> Task<void> {
                parts.endpoint->handle(
                    cluster::kTransferCall,
                    [parts](rpc::Request request) -> Task<Result<rpc::Message>> {
                        const auto wanted =
                            co_await try_(cluster::decode_transfer_request(request.body.bytes()));
                        replication::Group* group = parts.replicator->find(wanted.log);
                        if (group == nullptr)
                            co_return fail(ErrorCode::kUnavailable, "no replica of it is here");
                        co_await try_(group->transfer(NodeId{wanted.target}));
                        co_return rpc::Message{};
                    });
                co_return;
            });
        }
    }
    co_await sync_addresses();
    co_await sync_status();
    scope_.spawn(watch());
}

Task<void> ClusterLink::close() {
    co_await scope_.close();
    options_.controller->set_liveness({});
    options_.controller->set_leader_changed({});
    options_.controller->set_published({});
}

void ClusterLink::set_handlers() {
    rpc::Endpoint& to = endpoint();
    using Answer = Task<Result<rpc::Message>> (ClusterLink::*)(rpc::Request);
    const auto handle = [&](rpc::Kind kind, Answer answer) {
        to.handle(kind, [this, answer](rpc::Request request) -> Task<Result<rpc::Message>> {
            if (scope_.stop_requested())
                return [](Result<rpc::Message> stopping) -> Task<Result<rpc::Message>> {
                    co_return stopping;
                }(fail(ErrorCode::kUnavailable, "this node is stopping"));
            return (this->*answer)(std::move(request));
        });
    };
    handle(cluster::kRegisterCall, &ClusterLink::answer_registration);
    handle(cluster::kLeaderUpdateCall, &ClusterLink::answer_leader_update);
    handle(cluster::kReplicasCall, &ClusterLink::answer_report);
    handle(cluster::kProducerIdsCall, &ClusterLink::answer_producer_ids);
    handle(cluster::kEndCall, &ClusterLink::answer_end);
    handle(cluster::kAdminCall, &ClusterLink::answer_admin);
    handle(cluster::kProgressCall, &ClusterLink::answer_progress);
}

// ------------------------------------------------------------------ who is there

Task<void> ClusterLink::watch() {
    const StopToken stop = scope_.stop_token();
    while (!stop.stop_requested()) {
        // Where nobody else can be, nothing is to be seen between the sweeps.
        const Instant next = is_alone() ? swept_ + kSweepInterval : in(kWatchInterval);
        if (!std::exchange(status_moved_, false))
            (void)co_await wake_.wait({.deadline = next, .stop = stop});
        if (stop.stop_requested()) break;
        co_await sync_addresses();
        co_await sync_status();
        for (auto& [node, known] : known_) {
            if (!is_alive(node) || known.telling || !publisher_.next_for(node, 1)) continue;
            known.telling = true;
            scope_.spawn(tell(node));
        }
        if (stranger_dialled_ && registration_ && !std::exchange(finds_strangers_, true))
            scope_.spawn(find_strangers());
        if (Shard::current().now() >= swept_ + kSweepInterval) co_await sweep();
    }
}

void ClusterLink::add_hints(const std::map<int32_t, cluster::Endpoint>& addresses) {
    for (const auto& [node, address] : addresses) {
        if (node != self()) hints_[node] = address;
    }
    wake_.notify_all();
}

Task<void> ClusterLink::sync_addresses() {
    if (is_alone()) co_return;
    std::map<int32_t, cluster::Endpoint> wanted;
    const replication::Group* group = options_.controller->group();
    for (const auto& [node, address] : hints_) {
        // A founder that has not registered yet, all that is known so far, or what is newer than
        // that.
        if (group == nullptr || image().nodes().empty() || group->configuration().members.empty() ||
            node >= image().node_ids_end() || group->configuration().find(NodeId{node}) != nullptr)
            wanted[node] = address;
    }
    for (const auto& [node, registered] : image().nodes()) {
        if (node != self()) wanted[node] = registered.info.rpc;
    }
    std::vector<int32_t> gone;
    std::map<int32_t, cluster::Endpoint> moved;
    for (const auto& [node, known] : known_) {
        if (!wanted.contains(node)) gone.push_back(node);
    }
    for (const auto& [node, address] : wanted) {
        const auto found = known_.find(node);
        if (found == known_.end() || !(found->second.address == address)) moved[node] = address;
    }
    for (const int32_t node : gone) {
        known_.erase(node);
        publisher_.forget_peer(node);
    }
    for (const auto& [node, address] : moved) known_[node].address = address;
    if (gone.empty() && moved.empty()) co_return;
    for (ShardId i = 0; i < options_.shards.size(); ++i) {
        co_await runtime::on(i, [to = options_.shards[i].endpoint, &gone, &moved]() -> Task<void> {
            for (const int32_t node : gone) to->forget(NodeId{node});
            for (const auto& [node, address] : moved)
                to->set_address(NodeId{node}, address.host, address.port);
            co_return;
        });
    }
}

bool ClusterLink::heard_of(int32_t node) {
    endpoint().connect(NodeId{node}, 0);
    const auto status = endpoint().status(NodeId{node});
    if (!status || !status->last_heard) return false;
    // A connection that was made anew: perhaps by a new life of the node, which knows nothing.
    Known& known = known_[node];
    if (status->connections > 0 && known.connected_since != status->connected_since) {
        known.connected_since = status->connected_since;
        publisher_.forget_peer(node);
    }
    const bool is_gone = status->connections == 0 && !status->last_error.empty();
    return !is_gone && Shard::current().now() - *status->last_heard < kSilenceMax;
}

Task<void> ClusterLink::sync_status() {
    MetadataShard::Status now{.controller = options_.controller->leader().v, .alive = {self()}};
    if (!is_alone()) {
        std::vector<int32_t> nodes;
        for (const auto& [node, known] : known_) nodes.push_back(node);
        for (const int32_t node : nodes) {
            if (heard_of(node)) now.alive.insert(node);
        }
    }
    if (now == status_) co_return;
    for (const int32_t node : now.alive) {
        if (node != self() && !status_.alive.contains(node))
            Shard::current().log().info("cluster", "a node answers", "node={}", node);
    }
    for (const int32_t node : status_.alive) {
        if (!now.alive.contains(node))
            Shard::current().log().warn("cluster", "a node does not answer", "node={}", node);
    }
    status_ = std::move(now);
    const MetadataShard::Status copy = status_;
    for (ShardId i = 0; i < options_.shards.size(); ++i) {
        co_await runtime::on(i, [to = options_.shards[i].metadata, &copy]() -> Task<void> {
            to->set_status(copy);
            co_return;
        });
    }
}

ShardId ClusterLink::shard_of(int32_t node, storage::LogId log) const {
    uint32_t shards = 1;
    if (node == self()) {
        shards = static_cast<uint32_t>(options_.shards.size());
    } else if (const cluster::NodeImage* known = image().find_node(node)) {
        shards = known->info.shards;
    }
    return storage::owner_of(log, shards);
}

rpc::Refusal ClusterLink::admit(const rpc::Hello& hello, std::string* reason) {
    if (!hello.from.node.valid()) return rpc::Refusal::kNone;
    const int32_t node = hello.from.node.v;
    const replication::Group* group = options_.controller->group();
    const bool may_be_voter = group == nullptr || group->configuration().members.empty() ||
                              group->configuration().find(hello.from.node) != nullptr;
    // The image may be older than a node that joined, or than a founder that came late.
    if ((node >= image().node_ids_end() || may_be_voter) && !known_.contains(node))
        stranger_dialled_ = true;
    const auto checked = cluster::check_dialling(
        image(), options_.identity.founding, self(),
        {.node = node, .uuid = hello.from.uuid, .may_be_voter = may_be_voter});
    if (checked) return rpc::Refusal::kNone;
    *reason = checked.error().message;
    return rpc::Refusal::kUnknownNode;
}

// ------------------------------------------------------------------ registration

std::vector<std::string> ClusterLink::addresses_to_ask() const {
    std::vector<std::string> addresses = options_.seeds;
    const auto add = [&](const cluster::Endpoint& endpoint) {
        std::string address = cluster::address_of(endpoint);
        if (std::ranges::find(addresses, address) == addresses.end())
            addresses.push_back(std::move(address));
    };
    for (const auto& [node, address] : hints_) add(address);
    for (const auto& [node, known] : image().nodes()) {
        if (node != self()) add(known.info.rpc);
    }
    return addresses;
}

Task<Result<int64_t>> ClusterLink::register_node(cluster::NodeRegistered self, StopToken stop) {
    self.id = this->self();
    self.uuid = options_.identity.uuid;
    const std::string own = cluster::address_of(self.rpc);
    size_t next = Shard::current().prng().below(1000);
    while (!stop.stop_requested() && !scope_.stop_requested()) {
        if (const auto& broken = options_.controller->broken()) co_return fail(*broken);
        Result<cluster::RegisterReply> reply = fail(ErrorCode::kUnavailable);
        if (options_.controller->leads()) {
            reply = co_await register_here(self, false, in(kRegisterTimeout));
        } else {
            const std::vector<std::string> addresses = addresses_to_ask();
            const std::string address =
                addresses.empty() ? own : addresses[next++ % addresses.size()];
            if (address != own) {
                const auto answer = co_await endpoint().call_address(
                    address, 0,
                    rpc::control_message(cluster::kRegisterCall,
                                         cluster::encode(cluster::RegisterRequest{
                                             .passed_on = false, .is_member = true, .node = self})),
                    {.deadline = in(kRegisterTimeout), .stop = stop});
                reply = answer ? cluster::decode_register_reply(answer->bytes())
                               : Result<cluster::RegisterReply>(fail(answer.error()));
            }
        }
        if (reply) {
            for (const auto& [node, address] : reply->members) {
                if (node != self.id) hints_[node] = address;
            }
            wake_.notify_all();
            registration_ = std::move(self);
            co_return reply->committed_end;
        }
        // That is an answer, not a failure to get one.
        if (reply.error().code == ErrorCode::kInvalidArgument) co_return fail(reply.error());
        (void)co_await runtime::sleep_for(kRetryPause, stop);
    }
    co_return fail(ErrorCode::kCancelled);
}

// A member that joined while this node heard nothing may lead the controller's group: what it sends
// can't be answered before its address is known, and the address comes with what it sends. Who
// registers once more is told where the members are.
Task<void> ClusterLink::find_strangers() {
    stranger_dialled_ = false;  // one that is not found dials again
    (void)co_await register_node(*registration_, scope_.stop_token());
    finds_strangers_ = false;
}

Task<Result<cluster::RegisterReply>> ClusterLink::register_here(cluster::NodeRegistered node,
                                                                bool is_member, Instant deadline) {
    cluster::Controller& controller = *options_.controller;
    const runtime::WaitOptions options{.deadline = deadline, .stop = scope_.stop_token()};
    const cluster::NodeIdentity& identity = options_.identity;
    {
        const runtime::Units lock = co_await try_(controller.lock(options));
        const int32_t level = static_cast<int32_t>(cluster::WeirLevel::kCluster);
        if (controller.image().cluster_id().is_zero()) {
            co_await try_(controller.commit(
                cluster::founding_records(identity.cluster_id, identity.founding)));
        } else if (controller.image().feature_level(cluster::kWeirVersion) < level) {
            // A node of its own that others may join from now on.
            const auto newest = static_cast<int32_t>(cluster::WeirLevel::kNewest);
            co_await try_(
                cluster::check_finalize(controller.image(), cluster::kWeirVersion, newest));
            std::vector<cluster::MetadataRecord> records;
            records.emplace_back(
                cluster::FeatureFinalized{std::string(cluster::kWeirVersion), newest});
            co_await try_(controller.commit(std::move(records)));
        }
        // Who belongs to the controller's group was not removed: a founder that comes late.
        is_member &= controller.group()->configuration().find(NodeId{node.id}) == nullptr;
        is_member |= controller.was_removed(node.uuid);
        auto planned = co_await try_(cluster::plan_registration(
            controller.image(), identity.founding, std::move(node), is_member));
        node = planned.node;
        if (planned.is_news) {
            std::vector<cluster::MetadataRecord> records;
            records.emplace_back(std::move(planned.node));
            co_await try_(controller.commit(std::move(records)));
            Shard::current().log().info(
                "cluster", "a node is registered", "node={} rpc={} kafka={}", node.id,
                cluster::address_of(node.rpc), cluster::address_of(node.kafka));
        }
    }
    cluster::RegisterReply reply{.cluster_id = controller.image().cluster_id(), .node_id = node.id};
    reply.committed_end = co_await try_(controller.committed_end(options));
    std::map<int32_t, cluster::Endpoint> known = hints_;
    for (const cluster::Founder& founder : identity.founding) {
        if (founder.node_id != self()) continue;
        if (const auto own = parse_host_port(founder.rpc))
            known[self()] = {own->host, static_cast<uint16_t>(own->port)};
    }
    reply.members =
        cluster::member_addresses(controller.image(), controller.group()->configuration(), known);
    co_return reply;
}

Task<Result<rpc::Message>> ClusterLink::answer_registration(rpc::Request request) {
    auto wanted = co_await try_(cluster::decode_register_request(request.body.bytes()));
    const Instant deadline = std::min(request.deadline, in(kRegisterTimeout));
    if (options_.controller->leads()) {
        const auto reply =
            co_await try_(register_here(std::move(wanted.node), wanted.is_member, deadline));
        co_return rpc::control_message({}, cluster::encode(reply));
    }
    const NodeId leader = options_.controller->leader();
    if (wanted.passed_on || !leader.valid() || leader.v == self())
        co_return fail(ErrorCode::kUnavailable, "the controller is not here");
    wanted.passed_on = true;
    const SharedBytes answer = co_await try_(endpoint().call(
        leader, 0, rpc::control_message(cluster::kRegisterCall, cluster::encode(wanted)),
        {.deadline = deadline, .stop = scope_.stop_token()}));
    co_return rpc::Message{.kind = {}, .lane = rpc::Lane::kControl, .body = {}, .parts = {answer}};
}

// ------------------------------------------------------------------ leaders

void ClusterLink::told(const std::vector<LeaderState>& states) {
    bool news = false;
    for (const LeaderState& state : states) {
        if (state.hearsay) continue;
        if (state.leader == self())
            news |= publisher_.lead(state.log, state.epoch, state.in_sync);
        else
            news |= publisher_.resign(state.log, state.epoch);
    }
    if (!news) return;
    status_moved_ = true;
    wake_.notify_all();
}

Task<void> ClusterLink::tell(int32_t node) {
    while (!scope_.stop_requested()) {
        const auto update = publisher_.next_for(node);
        if (!update) break;
        const auto answer =
            co_await endpoint().call(NodeId{node}, 0,
                                     rpc::control_message(cluster::kLeaderUpdateCall,
                                                          cluster::encode_leader_update(*update)),
                                     {.deadline = in(kTellTimeout), .stop = scope_.stop_token()});
        if (!answer) break;
        const auto reply = cluster::decode_leader_update_reply(answer->bytes());
        if (!reply) break;
        publisher_.acknowledged(node, reply->incarnation, reply->after, reply->upto);
    }
    if (const auto known = known_.find(node); known != known_.end()) known->second.telling = false;
}

Task<Result<rpc::Message>> ClusterLink::answer_leader_update(rpc::Request request) {
    const auto update = co_await try_(cluster::decode_leader_update(request.body.bytes()));
    for (const LeaderState& state : update.states) publisher_.heard(state);
    for (ShardId i = 0; i < options_.shards.size(); ++i) {
        co_await runtime::on(i, [to = options_.shards[i].metadata, &update]() -> Task<void> {
            for (const LeaderState& state : update.states) (void)to->leaders().learn(state);
            co_return;
        });
    }
    co_return rpc::control_message(
        {}, cluster::encode(cluster::LeaderUpdateReply{
                .incarnation = incarnation_, .after = update.after, .upto = update.upto}));
}

// What is known of partitions that are gone goes. Others do the same, and one that has not heard of
// a partition for as long forgets what it acknowledged: so all is told again.
Task<void> ClusterLink::sweep() {
    swept_ = Shard::current().now();
    for (const auto& [node, known] : known_) publisher_.forget_peer(node);
    for (ShardId i = 0; i < options_.shards.size(); ++i) {
        co_await runtime::on(i, [to = options_.shards[i].metadata]() -> Task<void> {
            std::set<storage::LogId> known;
            for (const auto& [name, topic] : to->image().topics()) {
                for (const auto& partition : topic.partitions) known.insert(partition.log);
            }
            to->leaders().sweep([&](storage::LogId log) { return known.contains(log); });
            co_return;
        });
    }
}

// ------------------------------------------------------------------ the controller, from here

Task<Result<SharedBytes>> ClusterLink::call_controller(rpc::Kind kind, std::vector<uint8_t> body,
                                                       Instant deadline) {
    Error last{ErrorCode::kUnavailable, "no controller is known", 0};
    while (Shard::current().now() < deadline && !scope_.stop_requested()) {
        const NodeId leader = options_.controller->leader();
        if (leader.valid() && leader.v != self()) {
            auto answer =
                co_await endpoint().call(leader, 0, rpc::control_message(kind, body),
                                         {.deadline = deadline, .stop = scope_.stop_token()});
            if (answer || (answer.error().code != ErrorCode::kUnavailable &&
                           answer.error().code != ErrorCode::kTimedOut))
                co_return answer;
            last = answer.error();
        }
        if (options_.controller->leads()) break;
        (void)co_await runtime::sleep_for(kRetryPause, scope_.stop_token());
    }
    co_return fail(ErrorCode::kUnavailable, last.to_string());
}

Task<Result<int64_t>> ClusterLink::metadata_end() {
    const Instant deadline = in(kEndTimeout);
    if (is_alone()) co_return options_.controller->applied();
    if (options_.controller->leads()) {
        co_return co_await options_.controller->committed_end(
            {.deadline = deadline, .stop = scope_.stop_token()});
    }
    const auto answer = co_await try_(co_await call_controller(cluster::kEndCall, {}, deadline));
    co_return cluster::decode_i64(answer.bytes());
}

Task<Result<rpc::Message>> ClusterLink::answer_end(rpc::Request request) {
    const int64_t end = co_await try_(options_.controller->committed_end(
        {.deadline = std::min(request.deadline, in(kEndTimeout)), .stop = scope_.stop_token()}));
    co_return rpc::control_message({}, cluster::encode_i64(end));
}

Task<Result<int64_t>> ClusterLink::take_producer_ids(int64_t count) {
    const Instant deadline = in(kProducerIdsTimeout);
    while (Shard::current().now() < deadline && !scope_.stop_requested()) {
        if (options_.controller->leads() || is_alone()) {
            auto first = co_await options_.controller->take_producer_ids(count);
            if (first || is_alone() || first.error().code != ErrorCode::kUnavailable)
                co_return first;
        } else if (const auto answer = co_await call_controller(
                       cluster::kProducerIdsCall, cluster::encode_i64(count), deadline)) {
            co_return cluster::decode_i64(answer->bytes());
        }
        (void)co_await runtime::sleep_for(kRetryPause, scope_.stop_token());
    }
    co_return fail(ErrorCode::kUnavailable, "no controller gave producer ids");
}

Task<Result<rpc::Message>> ClusterLink::answer_producer_ids(rpc::Request request) {
    const int64_t count = co_await try_(cluster::decode_i64(request.body.bytes()));
    if (count <= 0 || count > 1'000'000)
        co_return fail(ErrorCode::kInvalidArgument, "a block of producer ids of that size");
    const int64_t first = co_await try_(options_.controller->take_producer_ids(count));
    co_return rpc::control_message({}, cluster::encode_i64(first));
}

Task<Result<rpc::Message>> ClusterLink::answer_admin(rpc::Request request) {
    auto call = co_await try_(cluster::decode_admin_call(request.body.bytes()));
    if (!options_.controller->leads())
        co_return fail(ErrorCode::kUnavailable, "this node is not the controller");
    const cluster::AdminReply reply = co_await admin_(std::move(call));
    co_return rpc::control_message({}, cluster::encode(reply));
}

void ClusterLink::report(const MetadataShard::ReplicasReport& report) {
    Shard::current().remote_scope().spawn(send_report(report));
}

Task<void> ClusterLink::send_report(MetadataShard::ReplicasReport report) {
    co_await runtime::on(0, [this, report]() -> Task<void> {
        // It is said again as long as it is not heeded: once at a time is enough.
        const auto key = std::pair(report.topic, report.partition);
        if (scope_.stop_requested() || reporting_.size() >= kReportsMax ||
            !reporting_.insert(key).second)
            co_return;
        if (options_.controller->leads() || is_alone()) {
            (void)co_await take_report(report);
        } else {
            (void)co_await call_controller(cluster::kReplicasCall, cluster::encode(report),
                                           in(kReportTimeout));
        }
        reporting_.erase(key);
    });
}

Task<Result<void>> ClusterLink::take_report(MetadataShard::ReplicasReport report) {
    cluster::Controller& controller = *options_.controller;
    const runtime::Units lock = co_await try_(
        controller.lock({.deadline = in(kReportTimeout), .stop = scope_.stop_token()}));
    auto records = cluster::plan_replicas_changed(controller.image(), report.topic,
                                                  report.partition, report.revision);
    if (records.empty()) co_return Result<void>{};
    co_return co_await controller.commit(std::move(records));
}

Task<Result<rpc::Message>> ClusterLink::answer_report(rpc::Request request) {
    const auto report = co_await try_(cluster::decode_replicas_report(request.body.bytes()));
    co_await try_(take_report(report));
    co_return rpc::Message{};
}

// ------------------------------------------------------------------ leaders of partitions, from
// here

Task<Result<void>> ClusterLink::transfer(storage::LogId log, int32_t leader, int32_t target,
                                         Instant deadline) {
    const ShardId shard = shard_of(leader, log);
    if (leader == self()) {
        co_return co_await runtime::on(
            shard,
            [replicator = options_.shards[shard].replicator, log, target]() -> Task<Result<void>> {
                replication::Group* group = replicator->find(log);
                if (group == nullptr)
                    co_return fail(ErrorCode::kUnavailable, "no replica of it is here");
                co_return co_await group->transfer(NodeId{target});
            });
    }
    if (is_alone()) co_return fail(ErrorCode::kUnavailable, "its leader is not known");
    co_await try_(endpoint().call(
        NodeId{leader}, shard,
        rpc::control_message(cluster::kTransferCall,
                             cluster::encode(cluster::TransferRequest{log, target})),
        {.deadline = deadline, .stop = scope_.stop_token()}));
    co_return Result<void>{};
}

Task<cluster::ProgressMap> ClusterLink::progress_here(std::vector<storage::LogId> logs) {
    cluster::ProgressMap all;
    for (ShardId i = 0; i < options_.shards.size(); ++i) {
        cluster::ProgressMap part = co_await runtime::on(
            i, [replicator = options_.shards[i].replicator, &logs]() -> Task<cluster::ProgressMap> {
                cluster::ProgressMap part;
                for (const storage::LogId log : logs) {
                    const replication::Group* group = replicator->find(log);
                    if (group == nullptr || !group->leads()) continue;
                    cluster::PartitionProgress& each = part[log];
                    each.high_watermark = group->high_watermark();
                    const int64_t end = group->log().end().offset;
                    for (const raft::PeerStatus& peer : group->core().peers())
                        each.lag[peer.node.v] = std::max<int64_t>(0, end - peer.match.offset);
                }
                co_return part;
            });
        all.merge(part);
    }
    co_return all;
}

Task<bool> ClusterLink::ask_progress(int32_t node, std::vector<storage::LogId> logs,
                                     Instant deadline, cluster::ProgressMap* all) {
    cluster::ProgressMap part;
    if (node == self()) {
        part = co_await progress_here(std::move(logs));
    } else if (!is_alone()) {
        cluster::ProgressMap wanted;
        for (const storage::LogId log : logs) wanted[log] = {};
        const auto answer = co_await endpoint().call(
            NodeId{node}, 0, rpc::control_message(cluster::kProgressCall, cluster::encode(wanted)),
            {.deadline = deadline, .stop = scope_.stop_token()});
        if (!answer) co_return false;
        if (auto decoded = cluster::decode_progress(answer->bytes())) part = std::move(*decoded);
    }
    all->merge(part);
    co_return true;
}

Task<cluster::ProgressMap> ClusterLink::progress(
    std::map<int32_t, std::vector<storage::LogId>> logs, Instant deadline) {
    cluster::ProgressMap all;
    std::vector<Task<bool>> questions;
    for (auto& [node, its] : logs)
        questions.push_back(ask_progress(node, std::move(its), deadline, &all));
    if (!questions.empty()) (void)co_await runtime::all(std::move(questions));
    co_return all;
}

Task<Result<rpc::Message>> ClusterLink::answer_progress(rpc::Request request) {
    const auto wanted = co_await try_(cluster::decode_progress(request.body.bytes()));
    std::vector<storage::LogId> logs;
    for (const auto& [log, nothing] : wanted) logs.push_back(log);
    const auto progress = co_await progress_here(std::move(logs));
    co_return rpc::control_message({}, cluster::encode(progress));
}

}  // namespace weir::broker

#include "broker/link/cluster_link.h"

#include "cluster/node_admin.h"
#include "runtime/remote.h"

namespace weir::broker {

using runtime::Shard;
using runtime::StopToken;
using runtime::Task;

namespace {

constexpr Duration kWatchInterval = 200ms;
constexpr Duration kSweepInterval = 60s;

}  // namespace

ClusterLink::ClusterLink(Options options)
    : parts_{.identity = std::move(options.identity),
             .shards = std::move(options.shards),
             .controller = options.controller,
             .scope = {},
             .gate = {}},
      addresses_(parts_, options.members),
      gossip_(parts_),
      liveness_(parts_, [this](int32_t node) { gossip_.forget_peer(node); }),
      registration_(parts_, addresses_, std::move(options.seeds), [this] { wake(); }),
      controller_calls_(parts_),
      transfers_(parts_),
      progress_(parts_),
      ailments_(parts_) {}

ClusterLink::~ClusterLink() = default;

Task<void> ClusterLink::start() {
    cluster::Controller& controller = *parts_.controller;
    controller.set_liveness([this](int32_t node) { return is_alive(node); });
    controller.set_leader_changed([this] {
        status_moved_ = true;
        wake();
    });
    controller.set_published([this](const cluster::MetadataChange& change) {
        for (const cluster::TopicImage& topic : change.topics_removed) {
            for (const auto& partition : topic.partitions) gossip_.forget(partition.log);
        }
        for (const cluster::MetadataRecord& record : change.records) {
            if (const auto* removed = std::get_if<cluster::NodeRemoved>(&record))
                addresses_.remove_hint(removed->id);
            if (std::holds_alternative<cluster::NodeRemoved>(record) ||
                std::holds_alternative<cluster::NodeRegistered>(record))
                wake();
        }
    });
    if (!is_alone()) {
        set_handlers();
        co_await transfers_.set_handlers();
    }
    co_await sync();
    parts_.scope.spawn(watch());
}

Task<void> ClusterLink::close() {
    co_await parts_.scope.close();
    co_await parts_.gate.close();
    parts_.controller->set_liveness({});
    parts_.controller->set_leader_changed({});
    parts_.controller->set_published({});
}

void ClusterLink::set_handlers() {
    const auto handle = [this]<class Room>(rpc::Kind kind, Room& room,
                                           Task<Result<rpc::Message>> (Room::*answer)(rpc::Request),
                                           rpc::From from = rpc::From::kMembers) {
        parts_.endpoint().handle(
            kind,
            [this, &room, answer](rpc::Request request) -> Task<Result<rpc::Message>> {
                return run_inside((room.*answer)(std::move(request)));
            },
            from);
    };
    handle(cluster::kRegisterCall, registration_, &Registration::answer, rpc::From::kAnyone);
    handle(cluster::kLeaderUpdateCall, gossip_, &LeaderGossip::answer);
    handle(cluster::kReplicasCall, controller_calls_, &ControllerCalls::answer_report);
    handle(cluster::kProducerIdsCall, controller_calls_, &ControllerCalls::answer_producer_ids);
    handle(cluster::kEndCall, controller_calls_, &ControllerCalls::answer_end);
    handle(cluster::kAdminCall, controller_calls_, &ControllerCalls::answer_admin);
    handle(cluster::kProgressCall, progress_, &ReplicaProgress::answer);
    handle(cluster::kAilmentsCall, ailments_, &ReplicaAilments::answer);
}

// What answers is part of the link until it has ended.
Task<Result<rpc::Message>> ClusterLink::run_inside(Task<Result<rpc::Message>> answer) {
    const auto inside = parts_.gate.try_enter();
    if (!inside || parts_.stopping())
        co_return fail(ErrorCode::kUnavailable, "this node is stopping");
    co_return co_await std::move(answer);
}

void ClusterLink::wake() { wake_.notify_all(); }

std::vector<int32_t> ClusterLink::known_nodes() const {
    std::vector<int32_t> nodes;
    for (const auto& [node, address] : addresses_.known()) nodes.push_back(node);
    return nodes;
}

Task<void> ClusterLink::sync() {
    for (const int32_t node : co_await addresses_.sync()) {
        liveness_.forget(node);
        gossip_.forget_peer(node);
    }
    co_await liveness_.sync(known_nodes());
}

Task<void> ClusterLink::watch() {
    const StopToken stop = parts_.stop_token();
    while (!stop.stop_requested()) {
        // Where nobody else can be, nothing is to be seen between the sweeps.
        const Instant next = is_alone() ? swept_ + kSweepInterval : LinkParts::in(kWatchInterval);
        if (!std::exchange(status_moved_, false))
            (void)co_await wake_.wait({.deadline = next, .stop = stop});
        if (stop.stop_requested()) break;
        co_await sync();
        for (const auto& [node, address] : addresses_.known()) {
            if (is_alive(node)) gossip_.send_to(node);
        }
        registration_.find_strangers();
        if (Shard::current().now() >= swept_ + kSweepInterval) {
            swept_ = Shard::current().now();
            co_await gossip_.sweep(known_nodes());
        }
    }
}

void ClusterLink::publish(const std::vector<cluster::LeaderState>& states) {
    if (!gossip_.publish(states)) return;
    status_moved_ = true;
    wake();
}

void ClusterLink::add_hints(const AddressMap& addresses) {
    addresses_.add_hints(addresses);
    wake();
}

rpc::Refusal ClusterLink::admit(const rpc::Hello& hello, std::string* reason) {
    if (!hello.from.node.valid()) return rpc::Refusal::kNone;
    const int32_t node = hello.from.node.v;
    const cluster::MetadataImage& image = parts_.image();
    const replication::Group* group = parts_.controller->group();
    const bool may_be_voter = group == nullptr || group->configuration().members.empty() ||
                              group->configuration().find(hello.from.node) != nullptr;
    // The image may be older than a node that joined, or than a founder that came late.
    if ((node >= image.node_ids_end() || may_be_voter) && !addresses_.known().contains(node))
        registration_.on_stranger();
    const auto checked = cluster::check_dialling(
        image, parts_.identity.founding, self(),
        {.node = node, .uuid = hello.from.uuid, .may_be_voter = may_be_voter});
    if (checked) return rpc::Refusal::kNone;
    *reason = checked.error().message;
    return rpc::Refusal::kUnknownNode;
}

}  // namespace weir::broker

// DescribeQuorum (KIP-595, KIP-836, KIP-853): who votes on the metadata and how far each node has
// it. Raft group 0 is Kafka's __cluster_metadata; its leader is the controller, which answers.
#include "kafka/protocol/describe_quorum.h"

#include <map>

#include "cluster/node_identity.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;
using Response = DescribeQuorumResponse;

constexpr std::string_view kMetadataTopic = "__cluster_metadata";
// Nodes hear each other on one port, that of --rpc.
constexpr std::string_view kListener = "RPC";

Response::ReplicaState describe(Server& server, int32_t node) {
    Response::ReplicaState state;
    state.replica_id = node;
    // A node is its data directory, so that is its directory's id.
    if (const cluster::NodeImage* known = server.image().find_node(node))
        state.replica_directory_id = known->info.uuid;
    return state;
}

// On shard 0. Nothing: this node does not lead the group.
Task<std::optional<Response>> describe_group(Server* server) {
    cluster::Controller& controller = server->controller();
    if (!controller.leads()) co_return std::nullopt;
    const replication::Group& group = *controller.group();
    const Instant now = Shard::current().awake_now();  // as PeerStatus::heard
    const int64_t wall_ms = Shard::current().wall_now().ms;
    std::map<int32_t, raft::PeerStatus> peers;
    for (const raft::PeerStatus& peer : group.core().peers()) peers[peer.node.v] = peer;

    Response response;
    Response::Partition& partition =
        response.topics.emplace_back(Response::Topic{.topic_name = std::string(kMetadataTopic)})
            .partitions.emplace_back();
    partition.leader_id = server->node().id;
    partition.leader_epoch = static_cast<int32_t>(group.term());
    partition.high_watermark = group.high_watermark();
    for (const raft::Member& member : group.configuration().members) {
        Response::ReplicaState state = describe(*server, member.node.v);
        if (member.node.v == server->node().id) {
            state.log_end_offset = group.log().end().offset;
            state.last_fetch_timestamp = state.last_caught_up_timestamp = wall_ms;
        } else if (const auto peer = peers.find(member.node.v); peer != peers.end()) {
            state.log_end_offset = peer->second.match.offset;
            // The leader heard of its entries then; while the group sleeps, those who are there
            // have all. When one had them all last is known only as long as it does.
            const bool sleeps = group.core().quiet() && !peer->second.down;
            const Instant heard = sleeps ? now : peer->second.heard;
            const int64_t heard_ms = wall_ms - (now - heard) / std::chrono::milliseconds(1);
            state.last_fetch_timestamp = heard_ms;
            if (peer->second.caught_up || sleeps) state.last_caught_up_timestamp = heard_ms;
        }
        const bool votes = member.voter || member.old_voter;
        (votes ? partition.current_voters : partition.observers).push_back(std::move(state));
        Response::Node& node = response.nodes.emplace_back();
        node.node_id = member.node.v;
        const cluster::NodeImage* known = server->image().find_node(member.node.v);
        if (known != nullptr)
            node.listeners.push_back(
                {std::string(kListener), known->info.rpc.host, known->info.rpc.port});
    }
    co_return response;
}

// What the client asked for, with the same error everywhere.
Response refuse(const DescribeQuorumRequest& body, KafkaError error) {
    Response response;
    response.error_message.reset();
    for (const auto& topic : body.topics) {
        auto& to = response.topics.emplace_back();
        to.topic_name = topic.topic_name;
        for (const auto& partition : topic.partitions) {
            auto& row = to.partitions.emplace_back();
            row.partition_index = partition.partition_index;
            row.error_code = code(error);
            row.error_message.reset();
            row.leader_id = row.leader_epoch = -1;
            row.high_watermark = -1;
        }
    }
    return response;
}

Task<Response> answer(Request& request, DescribeQuorumRequest body) {
    const bool is_metadata =
        body.topics.size() == 1 && body.topics[0].topic_name == kMetadataTopic &&
        body.topics[0].partitions.size() == 1 && body.topics[0].partitions[0].partition_index == 0;
    if (!is_metadata) co_return refuse(body, KafkaError::kUnknownTopicOrPartition);
    auto described = co_await runtime::on(
        0, [server0 = &request.server.peer(0)] { return describe_group(server0); });
    if (!described) co_return refuse(body, KafkaError::kNotLeaderOrFollower);
    described->error_message.reset();
    described->topics[0].partitions[0].error_message.reset();
    co_return std::move(*described);
}

}  // namespace

Task<Result<void>> handle_describe_quorum(Request& request) {
    return run_handler<DescribeQuorumRequest, Response, answer>(request);
}

}  // namespace weir::kafka

// Other nodes as clients see them: where they listen, and who leads what.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "cluster/node_admin.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/server/server.h"

namespace weir::kafka {

// The brokers of the cluster that answer, or all of them, by id; in a cluster of one node that one.
struct BrokerEndpoint {
    int32_t id = -1;
    std::string host;
    int32_t port = -1;
    std::optional<std::string> rack;
};
std::vector<BrokerEndpoint> all_brokers(const Server& server, bool also_dead = false);
// Nothing if there is none with that id, or it is not known where it listens.
std::optional<BrokerEndpoint> find_broker(const Server& server, int32_t id);

// A partition's leader and replicas as Metadata and DescribeTopicPartitions show them.
template <class Shown>
void fill_leader(Server& server, const cluster::PartitionAssignment& partition, Shown& to) {
    to.replica_nodes = cluster::shown(partition).replicas;
    for (const int32_t node : to.replica_nodes) {
        if (!server.is_alive(node)) to.offline_replicas.push_back(node);
    }
    const cluster::LeaderState* known = server.metadata().leaders().find(partition.log);
    if (known == nullptr || known->leader < 0 || !server.is_alive(known->leader)) {
        to.error_code = code(KafkaError::kLeaderNotAvailable);
        to.leader_id = -1;
        to.leader_epoch = known == nullptr ? -1 : known->epoch;
        return;
    }
    to.leader_id = known->leader;
    to.leader_epoch = known->is_expected() ? -1 : known->epoch;
    to.isr_nodes = known->in_sync;
}

// Whether an answer with this error says who leads (KIP-951), where its version has a place for the
// leader's endpoint.
inline bool names_leader(KafkaError error) {
    return error == KafkaError::kNotLeaderOrFollower || error == KafkaError::kFencedLeaderEpoch;
}

// The hint of an answer that names_leader(): what the replica knows, or what the metadata does
// where the replica knows none, or there is none on this node.
LeaderHint leader_hint(Server& server, storage::LogId log, LeaderHint known);

// Of a response's node endpoints: the leader's, once.
template <class Endpoint>
void add_endpoint(const Server& server, int32_t leader, std::vector<Endpoint>& to) {
    if (leader < 0 || std::ranges::find(to, leader, &Endpoint::node_id) != to.end()) return;
    if (auto broker = find_broker(server, leader))
        to.push_back({leader, std::move(broker->host), broker->port, std::move(broker->rack)});
}

}  // namespace weir::kafka

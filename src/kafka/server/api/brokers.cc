#include "kafka/server/api/brokers.h"

namespace weir::kafka {
namespace {

BrokerEndpoint self(const Server& server) {
    const NodeInfo& node = server.node();
    return {node.id, node.host, node.port, node.rack};
}

BrokerEndpoint describe(const cluster::NodeImage& node) {
    const cluster::Endpoint& endpoint = node.info.kafka.primary();
    return {node.info.id, endpoint.host, endpoint.port, node.info.rack};
}

}  // namespace

std::vector<BrokerEndpoint> all_brokers(const Server& server, bool also_dead) {
    std::vector<BrokerEndpoint> brokers;
    for (const auto& [id, node] : server.image().nodes()) {
        if (also_dead || server.is_alive(id))
            brokers.push_back(id == server.node().id ? self(server) : describe(node));
    }
    if (brokers.empty()) brokers.push_back(self(server));
    return brokers;
}

LeaderHint leader_hint(Server& server, storage::LogId log, LeaderHint known) {
    if (known.leader >= 0) return known;
    const cluster::LeaderState* leads = server.metadata().leaders().find(log);
    // The replica here has just said that it does not lead.
    if (leads == nullptr || leads->leader < 0 || leads->leader == server.node().id) return known;
    return {leads->leader, leads->epoch};
}

std::optional<BrokerEndpoint> find_broker(const Server& server, int32_t id) {
    if (id == server.node().id) return self(server);
    const cluster::NodeImage* node = server.image().find_node(id);
    if (node == nullptr || node->info.kafka.primary().host.empty()) return std::nullopt;
    return describe(*node);
}

}  // namespace weir::kafka

#include "broker/link/liveness.h"

#include "runtime/remote.h"

namespace weir::broker {

using cluster::MetadataShard;
using runtime::Shard;
using runtime::ShardId;
using runtime::Task;

namespace {

// A node that is silent for so long counts as dead; each side says something every 500 ms.
constexpr Duration kSilenceMax = 2500ms;

}  // namespace

bool Liveness::answers(int32_t node) {
    rpc::Endpoint& endpoint = link_.endpoint();
    endpoint.connect(NodeId{node}, 0);
    const auto status = endpoint.status(NodeId{node});
    if (!status || !status->last_heard) return false;
    Instant& since = connected_since_.try_emplace(node, Instant::never()).first->second;
    if (status->connections > 0 && since != status->connected_since) {
        since = status->connected_since;
        on_reconnected_(node);
    }
    const bool is_gone = status->connections == 0 && !status->last_error.empty();
    return !is_gone && Shard::current().awake_now() - *status->last_heard < kSilenceMax;
}

Task<void> Liveness::sync(const std::vector<int32_t>& nodes) {
    MetadataShard::Status now{.controller = link_.controller->leader().v, .alive = {link_.self()}};
    if (!link_.is_alone()) {
        for (const int32_t node : nodes) {
            if (answers(node)) now.alive.insert(node);
        }
    }
    if (now == status_) co_return;
    for (const int32_t node : now.alive) {
        if (node != link_.self() && !status_.alive.contains(node))
            Shard::current().log().info("cluster", "a node answers", "node={}", node);
    }
    for (const int32_t node : status_.alive) {
        if (!now.alive.contains(node))
            Shard::current().log().warn("cluster", "a node does not answer", "node={}", node);
    }
    status_ = std::move(now);
    const MetadataShard::Status copy = status_;
    for (ShardId i = 0; i < link_.shards.size(); ++i) {
        co_await runtime::on(i, [to = link_.shards[i].metadata, &copy]() -> Task<void> {
            to->set_status(copy);
            co_return;
        });
    }
}

}  // namespace weir::broker

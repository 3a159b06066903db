// LinkParts: what the objects of a ClusterLink share. Owned by the link; lives on shard 0. The
// scope owns all their tasks, and the gate counts the requests of other nodes in progress: the
// link's close() ends the former and waits for the latter.
#pragma once

#include <vector>

#include "cluster/controller.h"
#include "cluster/metadata_shard.h"
#include "cluster/node_identity.h"
#include "replication/replicator.h"
#include "rpc/endpoint.h"
#include "runtime/scope.h"
#include "runtime/shard.h"

namespace weir::broker {

// One shard's parts, used on that shard alone.
struct ShardParts {
    rpc::Endpoint* endpoint = nullptr;  // nullptr without --rpc
    cluster::MetadataShard* metadata = nullptr;
    replication::Replicator* replicator = nullptr;
};

struct LinkParts {
    cluster::NodeIdentity identity;
    std::vector<ShardParts> shards;
    cluster::Controller* controller = nullptr;
    runtime::Scope scope;
    runtime::Gate gate;

    int32_t self() const { return identity.node_id; }
    // Without --rpc there are no other nodes.
    bool is_alone() const { return shards[0].endpoint == nullptr; }
    const cluster::MetadataImage& image() const { return controller->image(); }
    rpc::Endpoint& endpoint() const { return *shards[0].endpoint; }
    bool stopping() const { return scope.stop_requested(); }
    runtime::StopToken stop_token() { return scope.stop_token(); }
    static Instant in(Duration time) { return runtime::Shard::current().now() + time; }
};

}  // namespace weir::broker

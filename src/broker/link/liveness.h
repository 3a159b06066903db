// Liveness: which members answer, by when the endpoint of shard 0 last heard from them. Every
// shard's metadata gets a copy, with the controller's node. Shard 0; nothing of it survives a
// crash.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "broker/link/link_parts.h"

namespace weir::broker {

class Liveness {
  public:
    // `on_reconnected` is called when the connection to a node was made anew: the node may have
    // been restarted, and then knows nothing.
    Liveness(LinkParts& link, std::function<void(int32_t)> on_reconnected)
        : link_(link), on_reconnected_(std::move(on_reconnected)) {}

    bool is_alive(int32_t node) const { return status_.alive.contains(node); }
    // Looks at the connections with these nodes, and tells all shards what changed.
    runtime::Task<void> sync(const std::vector<int32_t>& nodes);
    void forget(int32_t node) { connected_since_.erase(node); }

  private:
    bool answers(int32_t node);

    LinkParts& link_;
    std::function<void(int32_t)> on_reconnected_;
    std::map<int32_t, Instant> connected_since_;
    cluster::MetadataShard::Status status_;
};

}  // namespace weir::broker

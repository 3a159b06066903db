// NodeId: which node of the cluster, Kafka's broker id. Given once and kept in the node's data
// directory; addresses change, it does not.
#pragma once

#include <compare>
#include <cstdint>

namespace weir {

struct NodeId {
    int32_t v = -1;  // none
    auto operator<=>(const NodeId&) const = default;
    bool valid() const { return v >= 0; }
};

}  // namespace weir

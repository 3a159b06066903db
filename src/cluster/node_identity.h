// NodeIdentity: who a node is, as its data directory says: a uuid that is made with the directory
// and never changes, and the cluster that the node is a member of or has promised to found. Kept in
// the file `node` of the data directory, which is replaced durably as a whole
// (runtime::replace_small_file). Format: docs/formats/node-identity.md. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/uuid.h"

namespace weir::cluster {

// Bounds a seed list, and so the first voters of group 0.
inline constexpr size_t kSeedsMax = 16;
// Bounds an address as text.
inline constexpr size_t kAddressMax = 300;

// A founder of a cluster, at the address by which the seed list names it.
struct Founder {
    std::string rpc;
    Uuid uuid;
    int32_t node_id = 0;
    auto operator<=>(const Founder&) const = default;
};

// The same on every node that founds the cluster: sorted by address.
using Founding = std::vector<Founder>;

// A cluster's id is derived from its founders: two foundings are the same if their ids are.
Uuid cluster_id_of(const Founding& founding);

struct NodeIdentity {
    enum class Stage : uint8_t {
        kFree = 0,      // belongs to no cluster
        kPromised = 1,  // takes part in this founding and never in another one
        kMember = 2,    // of this cluster, for ever
    };
    Uuid uuid;
    Stage stage = Stage::kFree;
    // The cluster that the node promised to found or is a member of; nothing when free.
    Uuid cluster_id;
    int32_t node_id = -1;
    Founding founding;  // none: it joined later, or the cluster is its own
    // A member that created the cluster alone, so it is the first voter of the controller's group.
    bool own = false;
    bool operator==(const NodeIdentity&) const = default;
};

inline constexpr std::string_view kNodeIdentityFile = "node";
inline constexpr size_t kNodeIdentityBytesMax = 16 << 10;

std::string encode_node_identity(const NodeIdentity& identity);
// kCorrupt for damaged text, kUnsupported for a later version's.
Result<NodeIdentity> decode_node_identity(std::string_view text);

// "" if these founders, from a file or another node, are valid; else why not.
std::string check_founding(const Founding& founding);

}  // namespace weir::cluster

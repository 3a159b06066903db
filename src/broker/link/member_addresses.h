// MemberAddresses: where the other members are. The image has the addresses of registered members.
// Hints have those that the image lacks so far: founders, members that joined the controller's
// group later, and the addresses in the answer to a registration. sync() sets them at the endpoints
// of all shards. Shard 0; nothing of it survives a crash.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "broker/link/link_parts.h"

namespace weir::broker {

using AddressMap = std::map<int32_t, cluster::Endpoint>;  // by node id

struct MemberAddress {
    cluster::Endpoint address;
    Uuid uuid;  // of the member's data directory; zero: not known yet
    bool operator==(const MemberAddress&) const = default;
};

class MemberAddresses {
  public:
    // `members`: those that are known before the metadata is.
    MemberAddresses(LinkParts& link,
                    const std::vector<std::pair<int32_t, cluster::Endpoint>>& members);

    const AddressMap& hints() const { return hints_; }
    void add_hints(const AddressMap& addresses);
    void remove_hint(int32_t node) { hints_.erase(node); }

    // The members whose addresses the endpoints have: other nodes that dial are strangers to them.
    const std::map<int32_t, MemberAddress>& known() const { return known_; }
    // Brings the endpoints in line with the image and the hints. Returns the nodes that are no
    // longer members: the endpoints have forgotten them.
    runtime::Task<std::vector<int32_t>> sync();
    // The addresses where a member may answer, `seeds` first.
    std::vector<std::string> to_ask(std::vector<std::string> seeds) const;

  private:
    LinkParts& link_;
    AddressMap hints_;
    std::map<int32_t, MemberAddress> known_;
};

}  // namespace weir::broker

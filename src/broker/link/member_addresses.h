// MemberAddresses: where the other members are. The image says it of those that are registered;
// hints say it of those that the image does not have yet: founders, members of the controller's
// group that joined later, and what a registration was answered with. sync() gives the addresses to
// the endpoints of all shards. Shard 0; nothing of it survives a crash.
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

    // The members whose addresses the endpoints have: who else dials is a stranger to them.
    const std::map<int32_t, MemberAddress>& known() const { return known_; }
    // Brings the endpoints in line with the image and the hints. Returns the nodes that are members
    // no more: the endpoints have forgotten them.
    runtime::Task<std::vector<int32_t>> sync();
    // Where a member may answer, `seeds` first.
    std::vector<std::string> to_ask(std::vector<std::string> seeds) const;

  private:
    LinkParts& link_;
    AddressMap hints_;
    std::map<int32_t, MemberAddress> known_;
};

}  // namespace weir::broker

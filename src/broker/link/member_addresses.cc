#include "broker/link/member_addresses.h"

#include <algorithm>

#include "broker/options.h"
#include "cluster/node_admin.h"
#include "runtime/remote.h"

namespace weir::broker {

using runtime::ShardId;
using runtime::Task;

MemberAddresses::MemberAddresses(LinkParts& link,
                                 const std::vector<std::pair<int32_t, cluster::Endpoint>>& members)
    : link_(link) {
    for (const cluster::Founder& founder : link_.identity.founding) {
        if (founder.node_id == link_.self()) continue;
        if (const auto parsed = parse_host_port(founder.rpc))
            hints_[founder.node_id] = {parsed->host, static_cast<uint16_t>(parsed->port)};
    }
    for (const auto& [node, address] : members) {
        if (node != link_.self()) hints_[node] = address;
    }
}

void MemberAddresses::add_hints(const AddressMap& addresses) {
    for (const auto& [node, address] : addresses) {
        if (node != link_.self()) hints_[node] = address;
    }
}

Task<std::vector<int32_t>> MemberAddresses::sync() {
    std::vector<int32_t> gone;
    if (link_.is_alone()) co_return gone;
    std::map<int32_t, MemberAddress> wanted;
    const cluster::MetadataImage& image = link_.image();
    const replication::Group* group = link_.controller->group();
    for (const auto& [node, address] : hints_) {
        // A founder that has not registered yet, all that is known so far, or what is newer than
        // that.
        if (group == nullptr || image.nodes().empty() || group->configuration().members.empty() ||
            node >= image.node_ids_end() || group->configuration().find(NodeId{node}) != nullptr)
            wanted[node] = {address, {}};
    }
    for (const cluster::Founder& founder : link_.identity.founding) {
        const auto found = wanted.find(founder.node_id);
        if (found != wanted.end()) found->second.uuid = founder.uuid;
    }
    for (const auto& [node, registered] : image.nodes()) {
        if (node != link_.self()) wanted[node] = {registered.info.rpc, registered.info.uuid};
    }
    std::map<int32_t, MemberAddress> moved;
    for (const auto& [node, address] : known_) {
        if (!wanted.contains(node)) gone.push_back(node);
    }
    for (const auto& [node, address] : wanted) {
        const auto found = known_.find(node);
        if (found == known_.end() || !(found->second == address)) moved[node] = address;
    }
    known_ = std::move(wanted);
    if (gone.empty() && moved.empty()) co_return gone;
    for (ShardId i = 0; i < link_.shards.size(); ++i) {
        co_await runtime::on(i, [to = link_.shards[i].endpoint, &gone, &moved]() -> Task<void> {
            for (const int32_t node : gone) to->forget(NodeId{node});
            for (const auto& [node, at] : moved)
                to->set_address(NodeId{node}, at.address.host, at.address.port, at.uuid);
            co_return;
        });
    }
    co_return gone;
}

std::vector<std::string> MemberAddresses::to_ask(std::vector<std::string> seeds) const {
    std::vector<std::string> addresses = std::move(seeds);
    const auto add = [&](const cluster::Endpoint& endpoint) {
        std::string address = cluster::address_of(endpoint);
        if (std::ranges::find(addresses, address) == addresses.end())
            addresses.push_back(std::move(address));
    };
    for (const auto& [node, address] : hints_) add(address);
    for (const auto& [node, known] : link_.image().nodes()) {
        if (node != link_.self()) add(known.info.rpc);
    }
    return addresses;
}

}  // namespace weir::broker

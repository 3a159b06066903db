// Registration: this node registers at the controller, at each start and when a member dials that
// it does not know; and where the controller is, others are registered. Shard 0. A registration is
// a record of the metadata and survives a crash; nothing else of this does.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "broker/link/link_parts.h"
#include "broker/link/member_addresses.h"
#include "cluster/wire.h"

namespace weir::broker {

class Registration {
  public:
    // `on_addresses` is called when an answer said where members are.
    Registration(LinkParts& link, MemberAddresses& addresses, std::vector<std::string> seeds,
                 std::function<void()> on_addresses)
        : link_(link),
          addresses_(addresses),
          seeds_(std::move(seeds)),
          on_addresses_(std::move(on_addresses)) {}

    // Until the controller has this node as `self` says it, whose id and epoch are filled in. Gives
    // what was committed of the metadata by then. kInvalidArgument is a refusal, and final.
    runtime::Task<Result<int64_t>> register_node(cluster::NodeRegistered self,
                                                 runtime::StopToken stop);
    // Of kRegisterCall: registers here, or passes the request on to the controller, once.
    runtime::Task<Result<rpc::Message>> answer(rpc::Request request);

    // A member that joined while this node heard nothing may lead the controller's group: what it
    // sends can't be answered before its address is known, and the address comes with what it
    // sends. Whoever registers once more is told where the members are.
    void on_stranger() { stranger_dialled_ = true; }
    // Registers once more, if a stranger dialled and this node has registered before.
    void find_strangers();

  private:
    runtime::Task<Result<cluster::RegisterReply>> register_here(cluster::NodeRegistered node,
                                                                bool is_member, Instant deadline);
    runtime::Task<void> register_again();

    LinkParts& link_;
    MemberAddresses& addresses_;
    const std::vector<std::string> seeds_;
    std::function<void()> on_addresses_;
    std::optional<cluster::NodeRegistered> confirmed_;  // of this node
    bool stranger_dialled_ = false;
    bool registering_again_ = false;
};

}  // namespace weir::broker

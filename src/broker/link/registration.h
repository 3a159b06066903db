// Registration: this node registers at the controller at each start, and again when a member dials
// that it does not know. On the controller's node it registers other nodes. Shard 0. A registration
// is a record of the metadata and survives a crash; nothing else does.
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
    // `on_addresses` is called when an answer contains members' addresses.
    Registration(LinkParts& link, MemberAddresses& addresses, std::vector<std::string> seeds,
                 std::function<void()> on_addresses)
        : link_(link),
          addresses_(addresses),
          seeds_(std::move(seeds)),
          on_addresses_(std::move(on_addresses)) {}

    // Returns when the controller has registered this node as `self`, whose id and epoch are filled
    // in: the committed end of the metadata by then. kInvalidArgument is a refusal, and final.
    runtime::Task<Result<int64_t>> register_node(cluster::NodeRegistered self,
                                                 runtime::StopToken stop);
    // Answers kRegisterCall: registers here, or forwards the request to the controller, once.
    runtime::Task<Result<rpc::Message>> answer(rpc::Request request);

    // A node dialled that this node does not know. It may be a member that joined while this node
    // heard nothing and that leads the controller's group now: its messages can't be answered
    // before its address is known, and the address comes with its messages. The answer to another
    // registration contains the members' addresses.
    void on_stranger() { stranger_dialled_ = true; }
    // Registers once more if a stranger dialled and this node has registered before.
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

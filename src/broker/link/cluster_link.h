// ClusterLink: a serving node's relations to the other nodes, beside replication. It owns one
// object for each: addresses, liveness, gossip of leaders, registration, calls to the controller,
// transfers of leadership, progress of replicas. It sets their handlers and runs the loop that
// keeps the first three up to date. Lives on shard 0; nothing of it survives a crash. A node
// without `--rpc` also has one, which knows no other node.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "broker/link/controller_calls.h"
#include "broker/link/leader_gossip.h"
#include "broker/link/leader_transfer.h"
#include "broker/link/link_parts.h"
#include "broker/link/liveness.h"
#include "broker/link/member_addresses.h"
#include "broker/link/registration.h"
#include "broker/link/replica_ailments.h"
#include "broker/link/replica_progress.h"
#include "rpc/hello.h"

namespace weir::broker {

class ClusterLink {
  public:
    struct Options {
        cluster::NodeIdentity identity;
        std::vector<std::string> seeds;
        // The members that are known before the metadata is.
        std::vector<std::pair<int32_t, cluster::Endpoint>> members;
        std::vector<ShardParts> shards;
        cluster::Controller* controller = nullptr;
    };

    // What the options point to outlives the link, except for what close() ends.
    explicit ClusterLink(Options options);
    ~ClusterLink();

    // Sets the handlers of all endpoints, and starts to keep addresses and to watch the other
    // nodes. Call it before the controller opens.
    runtime::Task<void> start();
    // Ends outgoing and incoming calls soon, and refuses new ones.
    void begin_close() { parts_.scope.request_stop(); }
    // Returns when all calls and handlers have ended. Call it after the controller's begin_close(),
    // which ends what handlers wait for, and before its close(). The endpoints are closed later.
    runtime::Task<void> close();

    // Adds what this node's replicas announced, in order.
    void publish(const std::vector<cluster::LeaderState>& states);
    // Adds places where members may be that the image does not have yet.
    void add_hints(const AddressMap& addresses);
    // This node made, or found, a cluster of its own.
    void set_identity(cluster::NodeIdentity identity) { parts_.identity = std::move(identity); }
    // For the transport's listener. Remembers if the dialling node is newer than this node's image.
    rpc::Refusal admit(const rpc::Hello& hello, std::string* reason);

    int32_t self() const { return parts_.self(); }
    bool is_alone() const { return parts_.is_alone(); }
    bool is_alive(int32_t node) const { return liveness_.is_alive(node); }

    Registration& registration() { return registration_; }
    ControllerCalls& controller_calls() { return controller_calls_; }
    LeaderTransfer& transfers() { return transfers_; }
    ReplicaAilments& ailments() { return ailments_; }
    ReplicaProgress& progress() { return progress_; }

  private:
    void set_handlers();
    runtime::Task<Result<rpc::Message>> run_inside(runtime::Task<Result<rpc::Message>> answer);
    runtime::Task<void> watch();
    runtime::Task<void> sync();
    std::vector<int32_t> known_nodes() const;
    void wake();

    LinkParts parts_;
    MemberAddresses addresses_;
    LeaderGossip gossip_;
    Liveness liveness_;
    Registration registration_;
    ControllerCalls controller_calls_;
    LeaderTransfer transfers_;
    ReplicaProgress progress_;
    ReplicaAilments ailments_;
    runtime::WaitQueue wake_;  // of watch()
    bool status_moved_ = false;
    Instant swept_;
};

}  // namespace weir::broker

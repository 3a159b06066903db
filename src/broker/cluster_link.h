// ClusterLink: what a node has with the others while it serves, beside replication: it registers at
// the controller, keeps the transport's addresses, knows who answers, tells the others what it
// leads and hears the same from them, and carries requests to the controller. Lives on shard 0;
// nothing of it survives a crash. A node without --rpc has one too, that knows of nobody.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/controller.h"
#include "cluster/leader_table.h"
#include "cluster/metadata_shard.h"
#include "cluster/node_identity.h"
#include "cluster/wire.h"
#include "replication/replicator.h"
#include "rpc/endpoint.h"
#include "rpc/hello.h"
#include "runtime/scope.h"

namespace weir::broker {

class ClusterLink {
  public:
    // One shard's parts, used there.
    struct ShardParts {
        rpc::Endpoint* endpoint = nullptr;  // none: without --rpc
        cluster::MetadataShard* metadata = nullptr;
        replication::Replicator* replicator = nullptr;
    };
    struct Options {
        cluster::NodeIdentity identity;
        std::vector<std::string> seeds;
        // Of the members that are known before the metadata is.
        std::vector<std::pair<int32_t, cluster::Endpoint>> members;
        std::vector<ShardParts> shards;
        cluster::Controller* controller = nullptr;
    };

    // What the options point to outlives the link, but for what close() ends.
    explicit ClusterLink(Options options);
    ~ClusterLink();

    // Sets the handlers of all endpoints, and begins to keep addresses and to watch the others.
    // Before the controller opens.
    runtime::Task<void> start();
    // No more calls, out or in; those under way end. Before the controller's close(); the endpoints
    // are closed later.
    runtime::Task<void> close();

    // Until the controller has this node as `self` says it, whose epoch is filled in. Gives what
    // was committed of the metadata by then. A refusal is kInvalidArgument, and final.
    runtime::Task<Result<int64_t>> register_node(cluster::NodeRegistered self,
                                                 runtime::StopToken stop);

    // What this node's replicas said, in order. On shard 0.
    void told(const std::vector<cluster::LeaderState>& states);
    // On any shard: to the controller, if it is to be had.
    void report(const cluster::MetadataShard::ReplicasReport& report);

    // What kAdminCall runs.
    void set_admin(std::function<runtime::Task<cluster::AdminReply>(cluster::AdminCall)> admin) {
        admin_ = std::move(admin);
    }
    // Where members may be that the image does not have yet.
    void add_hints(const std::map<int32_t, cluster::Endpoint>& addresses);
    // A cluster of its own was made, or found.
    void set_identity(cluster::NodeIdentity identity) { options_.identity = std::move(identity); }
    bool is_alive(int32_t node) const { return status_.alive.contains(node); }
    int32_t self() const { return options_.identity.node_id; }
    // Without --rpc there are no others.
    bool is_alone() const { return options_.shards[0].endpoint == nullptr; }
    // Where the owner of that log is on a node.
    runtime::ShardId shard_of(int32_t node, storage::LogId log) const;

    // What was committed of the metadata log at some moment of the call, by the controller's word,
    // wherever it is. kUnavailable.
    runtime::Task<Result<int64_t>> metadata_end();
    // A producer id block from the controller, wherever it is.
    runtime::Task<Result<int64_t>> take_producer_ids(int64_t count);
    // Hands the leadership of a partition that `leader` has to `target`.
    runtime::Task<Result<void>> transfer(storage::LogId log, int32_t leader, int32_t target,
                                         Instant deadline);
    // How far the replicas of these logs are, by those who lead them.
    runtime::Task<cluster::ProgressMap> progress(
        std::map<int32_t, std::vector<storage::LogId>> logs, Instant deadline);
    // To the controller's node, again until it answers. Not to be called while this node leads.
    runtime::Task<Result<runtime::SharedBytes>> call_controller(rpc::Kind kind,
                                                                std::vector<uint8_t> body,
                                                                Instant deadline);

    // For the transport's listener. Notes who is newer than this node's image.
    rpc::Refusal admit(const rpc::Hello& hello, std::string* reason);

  private:
    struct Known {
        cluster::Endpoint address;
        Instant connected_since = Instant::never();
        bool telling = false;
    };

    const cluster::MetadataImage& image() const { return options_.controller->image(); }
    rpc::Endpoint& endpoint() const { return *options_.shards[0].endpoint; }
    void set_handlers();
    runtime::Task<void> watch();
    runtime::Task<void> sync_addresses();
    runtime::Task<void> sync_status();
    bool heard_of(int32_t node);
    runtime::Task<void> tell(int32_t node);
    runtime::Task<void> sweep();

    runtime::Task<Result<cluster::RegisterReply>> register_here(cluster::NodeRegistered node,
                                                                bool is_member, Instant deadline);
    runtime::Task<Result<rpc::Message>> answer_registration(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_leader_update(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_report(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_producer_ids(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_end(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_admin(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_progress(rpc::Request request);
    runtime::Task<Result<void>> take_report(cluster::MetadataShard::ReplicasReport report);
    runtime::Task<void> send_report(cluster::MetadataShard::ReplicasReport report);
    runtime::Task<cluster::ProgressMap> progress_here(std::vector<storage::LogId> logs);
    runtime::Task<bool> ask_progress(int32_t node, std::vector<storage::LogId> logs,
                                     Instant deadline, cluster::ProgressMap* all);
    std::vector<std::string> addresses_to_ask() const;
    runtime::Task<void> find_strangers();

    Options options_;
    std::function<runtime::Task<cluster::AdminReply>(cluster::AdminCall)> admin_;
    std::map<int32_t, cluster::Endpoint> hints_;  // of members that the image does not have yet
    std::map<int32_t, Known> known_;              // whose addresses the endpoints have
    bool stranger_dialled_ = false;               // whom this node could not answer
    bool finds_strangers_ = false;
    std::optional<cluster::NodeRegistered> registration_;  // of this node, as it was confirmed
    cluster::MetadataShard::Status status_;
    runtime::WaitQueue wake_;  // of watch()
    bool status_moved_ = false;
    uint64_t incarnation_ = 0;
    cluster::LeaderPublisher publisher_;
    std::set<std::pair<Uuid, uint32_t>> reporting_;
    Instant swept_;
    runtime::Scope scope_;
};

}  // namespace weir::broker

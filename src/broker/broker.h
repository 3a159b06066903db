// Broker: the composition root. Builds one node out of its parts on all shards, starts them in
// order and stops them in reverse. Lives on shard 0; runs under a real driver and in the simulator
// alike.
//
//   start: store; who the node is; transport, and with seeds the search for the cluster; on each
//          shard a metadata copy and a replicator; the controller's replica; registration; servers
//          with their partitions; admin server, listener
//   stop:  listener, group coordinators, connections (the controller refuses changes from here on),
//          admin server, the transport's listener, cluster link, the controller's loops,
//          controller, servers, replicators and the transport's endpoints, store
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/admin_api.h"
#include "broker/budget.h"
#include "broker/controller_loops.h"
#include "broker/descriptors.h"
#include "broker/link/cluster_link.h"
#include "broker/membership.h"
#include "broker/options.h"
#include "cluster/controller.h"
#include "cluster/metadata_shard.h"
#include "http/server.h"
#include "kafka/server/net/listener.h"
#include "kafka/server/server.h"
#include "replication/replicator.h"
#include "rpc/endpoint.h"
#include "rpc/listener.h"
#include "runtime/memory.h"
#include "runtime/stall_counts.h"
#include "runtime/wait.h"
#include "storage/store.h"

namespace weir::broker {

struct MemoryShare;
struct ShardMetrics;

struct BuildInfo {
    std::string version;
    std::string driver;
    // The stall counts of a shard, from any thread; not set if nobody watches for stalls.
    std::function<runtime::StallCounts(runtime::ShardId)> stalls = {};
};

class Broker {
  public:
    // `on_fatal` is called once, on shard 0, when the node must stop because its storage failed.
    Broker(BrokerOptions options, BuildInfo build, std::function<void(const Error&)> on_fatal);
    ~Broker();

    // Returns when clients are served. With seeds, that may take as long as the other nodes need.
    // After an error, call stop() and destroy the broker. kCancelled by `stop`.
    runtime::Task<Result<void>> start(runtime::StopToken stop = {});
    // Lets the requests in progress finish, for at most a second. Call it also after a start() that
    // failed.
    runtime::Task<void> stop();

    const std::string& kafka_address() const { return listener_.address(); }
    const std::string& admin_address() const { return admin_.address(); }
    int32_t node_id() const { return membership_.identity().node_id; }
    // For the simulator's oracles; after start(), on that shard.
    kafka::Server& server(runtime::ShardId shard) { return *parts_[shard].server; }
    // nullptr before it is open.
    cluster::Controller* controller() { return controller_.get(); }

  private:
    // One shard's parts: made, used and destroyed there.
    struct Parts {
        std::unique_ptr<cluster::MetadataShard> metadata;
        std::unique_ptr<replication::Replicator> replicator;
        std::unique_ptr<rpc::Endpoint> endpoint;  // with --rpc
        // What this shard's replicas announced of their leaders and the other shards do not know
        // yet.
        std::vector<cluster::LeaderState> leader_news;
        bool publishing_news = false;
        runtime::WaitQueue news_published;  // publishing_news became false
        std::unique_ptr<kafka::Server> server;
        bool server_started = false;
    };

    storage::StoreOptions store_options();
    runtime::Task<Result<void>> join_cluster(runtime::StopToken stop);
    runtime::Task<void> make_endpoints();
    runtime::Task<Result<void>> open_transport();
    runtime::Task<void> identify(rpc::Identity identity);
    runtime::Task<void> make_shards();
    void announce(runtime::ShardId shard, cluster::LeaderState state);
    runtime::Task<void> publish_news(runtime::ShardId shard);
    runtime::Task<Result<void>> open_controller(runtime::StopToken stop);
    raft::Configuration first_voters() const;
    Result<cluster::NodeRegistered> registration() const;
    runtime::Task<Result<void>> start_servers();
    runtime::Task<Result<void>> start_server(runtime::ShardId shard);
    runtime::Task<bool> drain_server(runtime::ShardId shard);
    runtime::Task<void> stop_clients();
    runtime::Task<Result<void>> advertise();
    runtime::Task<Result<void>> listen();
    std::vector<std::string> admin_names() const;
    void add_admin_pages();
    void fail_node(const Error& error);
    runtime::Task<void> report_fatal(Error error);
    runtime::Task<http::Response> metrics_page();
    std::vector<MemoryShare> memory_metrics(const std::vector<ShardMetrics>& shards) const;

    BrokerOptions options_;
    const BuildInfo build_;
    const DescriptorShares descriptors_;
    std::function<void(const Error&)> on_fatal_;
    const Budget budget_;
    runtime::MemoryBudget requests_memory_;
    runtime::MemoryBudget received_memory_;
    runtime::MemoryBudget sending_memory_;
    runtime::MemoryBudget unpacking_memory_;
    runtime::MemoryBudget answers_memory_;
    std::unique_ptr<storage::StoreSet> stores_;
    Membership membership_;
    std::vector<Parts> parts_;  // by shard
    std::unique_ptr<rpc::Listener> transport_;
    bool transport_open_ = false;
    std::unique_ptr<cluster::Controller> controller_;
    std::unique_ptr<ClusterLink> link_;
    bool link_closed_ = false;
    std::unique_ptr<ControllerLoops> loops_;
    std::unique_ptr<AdminApi> api_;
    std::optional<HostPort> advertised_;  // known when the port is
    kafka::Listener listener_;
    bool listener_open_ = false;
    http::Server admin_;
    bool admin_started_ = false;
    bool ready_ = false;
    std::optional<Error> storage_error_;
};

}  // namespace weir::broker

// Broker: the composition root. Builds one node out of its parts on all shards, starts them in
// order and stops them in reverse. Lives on shard 0; runs under a real driver and in the simulator
// alike.
//
//   start: store, metadata log, a metadata copy and a server on each shard, controller, partitions,
//   listener, admin server stop:  listener, group coordinators, connections, servers, controller,
//   store
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/options.h"
#include "cluster/controller.h"
#include "cluster/metadata_shard.h"
#include "http/server.h"
#include "kafka/server/listener.h"
#include "kafka/server/server.h"
#include "replication/replicator.h"
#include "runtime/memory.h"
#include "storage/store.h"

namespace weir::broker {

struct BuildInfo {
    std::string version;
    std::string driver;
};

class Broker {
  public:
    // `on_fatal` is called once, on shard 0, when the node must stop because its storage failed.
    Broker(BrokerOptions options, BuildInfo build, std::function<void(const Error&)> on_fatal);
    ~Broker();

    // Returns when clients are served. After an error, stop() and drop the broker.
    runtime::Task<Result<void>> start();
    // Gives requests under way a second to finish. Also after a start() that failed.
    runtime::Task<void> stop();

    const std::string& kafka_address() const { return listener_->address(); }
    const std::string& admin_address() const { return admin_.address(); }

  private:
    // One shard's parts: made, used and destroyed there.
    struct Parts {
        std::unique_ptr<cluster::MetadataShard> metadata;
        std::unique_ptr<replication::Replicator> replicator;
        // What this shard's replicas said of their leaders and the other shards do not know yet.
        std::vector<cluster::LeaderState> leader_news;
        bool telling_news = false;
        std::unique_ptr<kafka::Server> server;
        bool server_started = false;
    };

    storage::StoreOptions store_options();
    runtime::Task<void> make_shards();
    void announce(runtime::ShardId shard, cluster::LeaderState state);
    runtime::Task<void> tell_news(runtime::ShardId shard);
    runtime::Task<Result<void>> open_controller();
    runtime::Task<Result<void>> start_servers();
    runtime::Task<Result<void>> start_server(runtime::ShardId shard);
    runtime::Task<bool> drain_server(runtime::ShardId shard);
    runtime::Task<Result<void>> listen();
    void add_admin_pages();
    void fail_node(const Error& error);
    runtime::Task<void> tell_fatal(Error error);
    runtime::Task<http::Response> metrics_page();

    const BrokerOptions options_;
    const BuildInfo build_;
    std::function<void(const Error&)> on_fatal_;
    runtime::MemoryBudget memory_;
    std::unique_ptr<storage::StoreSet> stores_;
    std::vector<Parts> parts_;  // by shard
    std::unique_ptr<cluster::Controller> controller_;
    std::unique_ptr<kafka::Listener> listener_;
    http::Server admin_;
    bool admin_started_ = false;
    bool ready_ = false;
};

}  // namespace weir::broker

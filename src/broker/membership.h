// Membership: who this node is, and which cluster it belongs to. It keeps the data directory's file
// `node` (docs/formats/node-identity.md) and drives cluster::Bootstrap: it asks the seeds, answers
// other nodes' hellos, and writes a decision before it acts on it. Lives on shard 0. The file
// survives a crash.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bootstrap.h"
#include "cluster/node_identity.h"
#include "cluster/wire.h"
#include "rpc/endpoint.h"
#include "runtime/scope.h"

namespace weir::broker {

class Membership {
  public:
    struct Options {
        std::string data;
        std::optional<std::string> rpc;
        std::vector<std::string> seeds;  // sorted
        std::optional<int32_t> node_id;
    };

    explicit Membership(Options options) : options_(std::move(options)) {}

    // Reads the file, or makes one for a node that shall find a cluster. `log` is the metadata log,
    // if the directory has one. Errors are for a person: the node can't start.
    runtime::Task<Result<void>> load(const storage::Log* log);
    // A cluster of its own that has no file yet: see found_own().
    bool is_new_own() const { return is_new_own_; }
    // The controller made the cluster of that id, or found it in the log of an older version.
    runtime::Task<Result<void>> found_own(const Uuid& cluster_id);

    // Returns when this node is a member. It asks, and is asked, over the endpoint of shard 0, and
    // joins as `self`, whose uuid and id are filled in here. Calls `identified` whenever what the
    // transport must know changes. kCancelled by `stop`.
    runtime::Task<Result<void>> find_cluster(rpc::Endpoint& endpoint, cluster::NodeRegistered self,
                                             std::function<void(const rpc::Identity&)> identified,
                                             runtime::StopToken stop);
    // Answers a hello, at any time after load().
    runtime::Task<Result<rpc::Message>> answer_hello(rpc::Request request);

    const cluster::NodeIdentity& identity() const { return identity_; }
    rpc::Identity transport_identity() const;
    // Where the members were, by the answer of the node that admitted this one.
    const std::vector<std::pair<int32_t, cluster::Endpoint>>& members() const { return members_; }

  private:
    cluster::Hello hello() const;
    std::unexpected<Error> is_another(int32_t node) const;
    runtime::Task<Result<void>> save(cluster::NodeIdentity identity);
    runtime::Task<Result<void>> join_step(rpc::Endpoint& endpoint, cluster::NodeRegistered& self,
                                          runtime::StopToken stop);
    runtime::Task<bool> ask(rpc::Endpoint& endpoint, size_t seed, runtime::StopToken stop);
    runtime::Task<bool> join_through(rpc::Endpoint& endpoint, std::string address,
                                     cluster::NodeRegistered self, runtime::StopToken stop);
    void notify_waiting();

    Options options_;
    cluster::NodeIdentity identity_;
    bool is_new_own_ = false;
    std::optional<cluster::Bootstrap> bootstrap_;  // with seeds
    runtime::WaitQueue heard_;                     // somebody asked
    std::vector<std::pair<int32_t, cluster::Endpoint>> members_;
    std::map<size_t, std::string>
        refusals_;             // of seeds that do not talk to this node, as last said
    std::string join_error_;   // of the last attempt to be taken in
    std::string waiting_for_;  // as last told
    Instant told_;
};

}  // namespace weir::broker

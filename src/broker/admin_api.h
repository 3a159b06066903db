// AdminApi: /v1/ of the admin port (docs/reference/admin-api.md). Reads are answered from this
// node's image; what changes something runs where the controller is. Lives on shard 0.
#pragma once

#include <string>
#include <vector>

#include "broker/link/cluster_link.h"
#include "cluster/controller.h"
#include "cluster/health.h"
#include "cluster/wire.h"
#include "http/server.h"

namespace weir::broker {

class AdminApi {
  public:
    // `self` describes this node until it has registered. `controller` and `link` outlive the
    // server that this object answers for. `names` are this node's names in Host, beside its
    // addresses (http/same_origin.h).
    AdminApi(cluster::Controller& controller, ClusterLink& link, cluster::NodeHealth self,
             std::vector<std::string> names)
        : controller_(controller), link_(link), self_(std::move(self)), names_(std::move(names)) {}

    runtime::Task<http::Response> answer(http::Request request);
    // Runs a change; call it at the controller.
    runtime::Task<cluster::AdminReply> change(cluster::AdminCall call);

  private:
    runtime::Task<cluster::AdminReply> change_at_controller(cluster::AdminCall call);
    cluster::ClusterView view() const;
    runtime::Task<cluster::AdminReply> health();
    cluster::AdminReply members() const;
    runtime::Task<cluster::AdminReply> partitions(std::string query);
    cluster::AdminReply features() const;
    runtime::Task<cluster::AdminReply> decommission(int32_t node);
    runtime::Task<cluster::AdminReply> move(std::string topic, int32_t partition,
                                            std::vector<int32_t> replicas);
    runtime::Task<cluster::AdminReply> transfer(std::string topic, uint32_t partition, int32_t to);

    cluster::Controller& controller_;
    ClusterLink& link_;
    const cluster::NodeHealth self_;
    const std::vector<std::string> names_;
};

}  // namespace weir::broker

// ControllerCalls: what this node asks of the controller, on whatever node that is, and what this
// node answers where it is the controller: the end of the metadata, producer ids, reports of
// changed replicas, and changes through the admin port. Shard 0; nothing of it survives a crash.
#pragma once

#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "broker/link/link_parts.h"
#include "cluster/wire.h"

namespace weir::broker {

class ControllerCalls {
  public:
    explicit ControllerCalls(LinkParts& link) : link_(link) {}

    // Runs a kAdminCall.
    using Admin = std::function<runtime::Task<cluster::AdminReply>(cluster::AdminCall)>;
    void set_admin(Admin admin) { admin_ = std::move(admin); }

    // Calls the controller's node again and again until it answers. Not while this node leads.
    runtime::Task<Result<runtime::SharedBytes>> call(rpc::Kind kind, std::vector<uint8_t> body,
                                                     Instant deadline);
    // The committed end of the metadata log at some moment of the call, as the controller says.
    // kUnavailable.
    runtime::Task<Result<int64_t>> metadata_end();
    // The first of `count` producer ids that are reserved for the caller.
    runtime::Task<Result<int64_t>> allocate_producer_ids(int64_t count);
    // On any shard. The report may be lost; its partition's leader repeats it.
    void report(const cluster::MetadataShard::ReplicasReport& report);

    // Answers kEndCall, kProducerIdsCall, kReplicasCall and kAdminCall.
    runtime::Task<Result<rpc::Message>> answer_end(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_producer_ids(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_report(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_admin(rpc::Request request);

  private:
    runtime::Task<void> send_report(cluster::MetadataShard::ReplicasReport report);
    runtime::Task<Result<void>> apply_report(cluster::MetadataShard::ReplicasReport report);

    LinkParts& link_;
    Admin admin_;
    std::set<std::pair<Uuid, uint32_t>> reporting_;
};

}  // namespace weir::broker

#include "broker/link/leader_transfer.h"

#include "cluster/wire.h"
#include "runtime/remote.h"
#include "storage/store.h"

namespace weir::broker {

using runtime::ShardId;
using runtime::Task;
using runtime::try_;

namespace {

Task<Result<void>> transfer_here(replication::Replicator* replicator, storage::LogId log,
                                 int32_t target) {
    replication::Group* group = replicator->find(log);
    if (group == nullptr) co_return fail(ErrorCode::kUnavailable, "no replica of it is here");
    co_return co_await group->transfer(NodeId{target});
}

}  // namespace

Task<void> LeaderTransfer::set_handlers() {
    for (ShardId i = 0; i < link_.shards.size(); ++i) {
        co_await runtime::on(i, [parts = link_.shards[i]]() -> Task<void> {
            parts.endpoint->handle(
                cluster::kTransferCall,
                [parts](rpc::Request request) -> Task<Result<rpc::Message>> {
                    const auto wanted =
                        co_await try_(cluster::decode_transfer_request(request.body.bytes()));
                    co_await try_(transfer_here(parts.replicator, wanted.log, wanted.target));
                    co_return rpc::Message{};
                });
            co_return;
        });
    }
}

ShardId LeaderTransfer::shard_of(int32_t node, storage::LogId log) const {
    uint32_t shards = 1;
    if (node == link_.self()) {
        shards = static_cast<uint32_t>(link_.shards.size());
    } else if (const cluster::NodeImage* known = link_.image().find_node(node)) {
        shards = known->info.shards;
    }
    return storage::owner_of(log, shards);
}

Task<Result<void>> LeaderTransfer::transfer(storage::LogId log, int32_t leader, int32_t target,
                                            Instant deadline) {
    const ShardId shard = shard_of(leader, log);
    if (leader == link_.self()) {
        co_return co_await runtime::on(shard,
                                       [replicator = link_.shards[shard].replicator, log, target] {
                                           return transfer_here(replicator, log, target);
                                       });
    }
    if (link_.is_alone()) co_return fail(ErrorCode::kUnavailable, "its leader is not known");
    co_await try_(link_.endpoint().call(
        NodeId{leader}, shard,
        rpc::control_message(cluster::kTransferCall,
                             cluster::encode(cluster::TransferRequest{log, target})),
        {.deadline = deadline, .stop = link_.stop_token()}));
    co_return Result<void>{};
}

}  // namespace weir::broker

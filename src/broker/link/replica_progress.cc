#include "broker/link/replica_progress.h"

#include <algorithm>

#include "runtime/remote.h"

namespace weir::broker {

using runtime::ShardId;
using runtime::Task;
using runtime::try_;

Task<cluster::ProgressMap> ReplicaProgress::progress_here(std::vector<storage::LogId> logs) {
    cluster::ProgressMap all;
    for (ShardId i = 0; i < link_.shards.size(); ++i) {
        cluster::ProgressMap part = co_await runtime::on(
            i, [replicator = link_.shards[i].replicator, &logs]() -> Task<cluster::ProgressMap> {
                cluster::ProgressMap part;
                for (const storage::LogId log : logs) {
                    const replication::Group* group = replicator->find(log);
                    if (group == nullptr || !group->leads()) continue;
                    cluster::PartitionProgress& each = part[log];
                    each.high_watermark = group->high_watermark();
                    const int64_t end = group->log().end().offset;
                    for (const raft::PeerStatus& peer : group->core().peers())
                        each.lag[peer.node.v] = std::max<int64_t>(0, end - peer.match.offset);
                }
                co_return part;
            });
        all.merge(part);
    }
    co_return all;
}

Task<bool> ReplicaProgress::ask_one(int32_t node, std::vector<storage::LogId> logs,
                                    Instant deadline, cluster::ProgressMap* all) {
    cluster::ProgressMap part;
    if (node == link_.self()) {
        part = co_await progress_here(std::move(logs));
    } else if (!link_.is_alone()) {
        cluster::ProgressMap wanted;
        for (const storage::LogId log : logs) wanted[log] = {};
        const auto answer = co_await link_.endpoint().call(
            NodeId{node}, 0, rpc::control_message(cluster::kProgressCall, cluster::encode(wanted)),
            {.deadline = deadline, .stop = link_.stop_token()});
        if (!answer) co_return false;
        if (auto decoded = cluster::decode_progress(answer->bytes())) part = std::move(*decoded);
    }
    all->merge(part);
    co_return true;
}

Task<cluster::ProgressMap> ReplicaProgress::ask(std::map<int32_t, std::vector<storage::LogId>> logs,
                                                Instant deadline) {
    cluster::ProgressMap all;
    std::vector<Task<bool>> questions;
    for (auto& [node, its] : logs)
        questions.push_back(ask_one(node, std::move(its), deadline, &all));
    if (!questions.empty()) (void)co_await runtime::all(std::move(questions));
    co_return all;
}

Task<Result<rpc::Message>> ReplicaProgress::answer(rpc::Request request) {
    const auto wanted = co_await try_(cluster::decode_progress(request.body.bytes()));
    std::vector<storage::LogId> logs;
    for (const auto& [log, nothing] : wanted) logs.push_back(log);
    const auto progress = co_await progress_here(std::move(logs));
    co_return rpc::control_message({}, cluster::encode(progress));
}

}  // namespace weir::broker

#include "broker/link/replica_ailments.h"

#include "runtime/remote.h"

namespace weir::broker {

using runtime::ShardId;
using runtime::Task;

namespace {

// A node tells no more than these; an operator has enough to do with them.
constexpr size_t kAilmentsMax = 1'000;

}  // namespace

Task<cluster::AilmentMap> ReplicaAilments::ailments_here() {
    cluster::AilmentMap all;
    for (ShardId i = 0; i < link_.shards.size(); ++i) {
        cluster::AilmentMap part = co_await runtime::on(
            i, [replicator = link_.shards[i].replicator]() -> Task<cluster::AilmentMap> {
                cluster::AilmentMap part;
                if (replicator == nullptr) co_return part;
                replicator->for_each([&](replication::Group& group) {
                    if (part.size() >= kAilmentsMax) return;
                    if (std::string ailment = group.ailment(); !ailment.empty())
                        part[group.id()] = std::move(ailment);
                });
                co_return part;
            });
        all.merge(part);
    }
    co_return all;
}

Task<bool> ReplicaAilments::ask_one(int32_t node, Instant deadline, cluster::AilmentMap* into) {
    if (node == link_.self()) {
        *into = co_await ailments_here();
        co_return true;
    }
    if (link_.is_alone()) co_return false;
    const auto answer = co_await link_.endpoint().call(
        NodeId{node}, 0, rpc::control_message(cluster::kAilmentsCall, {}),
        {.deadline = deadline, .stop = link_.stop_token()});
    if (!answer) co_return false;
    auto decoded = cluster::decode_ailments(answer->bytes());
    if (decoded) *into = std::move(*decoded);
    co_return decoded.has_value();
}

Task<std::vector<cluster::ReplicaAilment>> ReplicaAilments::ask(std::vector<int32_t> nodes,
                                                                Instant deadline) {
    std::vector<cluster::AilmentMap> answers(nodes.size());
    std::vector<Task<bool>> questions;
    for (size_t i = 0; i < nodes.size(); ++i)
        questions.push_back(ask_one(nodes[i], deadline, &answers[i]));
    if (!questions.empty()) (void)co_await runtime::all(std::move(questions));
    std::vector<cluster::ReplicaAilment> all;
    for (size_t i = 0; i < nodes.size(); ++i) {
        for (auto& [log, reason] : answers[i])
            all.push_back({.node = nodes[i], .log = log, .reason = std::move(reason)});
    }
    co_return all;
}

Task<Result<rpc::Message>> ReplicaAilments::answer(rpc::Request) {
    const cluster::AilmentMap ailments = co_await ailments_here();
    co_return rpc::control_message({}, cluster::encode(ailments));
}

}  // namespace weir::broker

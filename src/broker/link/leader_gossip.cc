#include "broker/link/leader_gossip.h"

#include <array>

#include "cluster/wire.h"
#include "raft/types.h"
#include "runtime/remote.h"

namespace weir::broker {

using cluster::LeaderState;
using runtime::Shard;
using runtime::ShardId;
using runtime::Task;
using runtime::try_;

namespace {

constexpr Duration kUpdateTimeout = 3s;

}  // namespace

LeaderGossip::LeaderGossip(LinkParts& link) : link_(link), publisher_(link.self()) {
    std::array<uint8_t, 8> entropy;
    Shard::current().driver().fill_entropy(entropy);
    incarnation_ = load_be<uint64_t>(entropy.data());
}

bool LeaderGossip::publish(const std::vector<LeaderState>& states) {
    bool news = false;
    for (const LeaderState& state : states) {
        if (state.hearsay) continue;
        if (state.leader == link_.self())
            news |= publisher_.lead(state.log, state.epoch, state.in_sync);
        else
            news |= publisher_.resign(state.log, state.epoch);
    }
    return news;
}

void LeaderGossip::send_to(int32_t node) {
    if (sending_.contains(node) || !publisher_.next_for(node, 1)) return;
    sending_.insert(node);
    link_.scope.spawn(send_all_to(node));
}

Task<void> LeaderGossip::send_all_to(int32_t node) {
    while (!link_.stopping()) {
        const auto update = publisher_.next_for(node);
        if (!update) break;
        const auto answer = co_await link_.endpoint().call(
            NodeId{node}, 0,
            rpc::control_message(cluster::kLeaderUpdateCall,
                                 cluster::encode_leader_update(*update)),
            {.deadline = LinkParts::in(kUpdateTimeout), .stop = link_.stop_token()});
        if (!answer) break;
        const auto reply = cluster::decode_leader_update_reply(answer->bytes());
        if (!reply) break;
        publisher_.acknowledged(node, reply->incarnation, reply->after, reply->upto);
    }
    sending_.erase(node);
}

Task<Result<rpc::Message>> LeaderGossip::answer(rpc::Request request) {
    auto update = co_await try_(cluster::decode_leader_update(request.body.bytes()));
    if (update.node != request.from.node.v)
        co_return fail(ErrorCode::kMalformed, "a leader update in the name of another node");
    std::erase_if(update.states, [this](const LeaderState& state) { return !can_be(state); });
    for (const LeaderState& state : update.states) publisher_.note_statement(state);
    for (ShardId i = 0; i < link_.shards.size(); ++i) {
        co_await runtime::on(i, [to = link_.shards[i].metadata, &update]() -> Task<void> {
            for (const LeaderState& state : update.states) (void)to->learn_leader(state);
            co_return;
        });
    }
    co_return rpc::control_message(
        {}, cluster::encode(cluster::LeaderUpdateReply{
                .incarnation = incarnation_, .after = update.after, .upto = update.upto}));
}

// Epochs are terms, and are bounded like those: what a wild one said would stand for ever.
bool LeaderGossip::can_be(const LeaderState& state) const {
    const LeaderState* known = link_.shards[0].metadata->leaders().find(state.log);
    return raft::within_reach(known == nullptr ? 0 : known->epoch, state.epoch);
}

Task<void> LeaderGossip::sweep(const std::vector<int32_t>& nodes) {
    for (const int32_t node : nodes) publisher_.forget_peer(node);
    for (ShardId i = 0; i < link_.shards.size(); ++i) {
        co_await runtime::on(i, [to = link_.shards[i].metadata]() -> Task<void> {
            std::set<storage::LogId> known;
            for (const auto& [name, topic] : to->image().topics()) {
                for (const auto& partition : topic.partitions) known.insert(partition.log);
            }
            to->leaders().sweep([&](storage::LogId log) { return known.contains(log); });
            co_return;
        });
    }
}

}  // namespace weir::broker

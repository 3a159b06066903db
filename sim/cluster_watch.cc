#include "cluster_watch.h"

#include <fmt/format.h>

#include <algorithm>

namespace weir::sim {

namespace {

bool same_log(const raft::Core& a, const raft::Core& b) {
    return a.end() == b.end() && a.terms().last_term() == b.terms().last_term();
}

std::string to_string(const raft::Configuration& configuration) {
    std::string text;
    for (const raft::Member& member : configuration.members)
        text += fmt::format("{}{}{}{}{}", text.empty() ? "" : " ", member.node.v,
                            member.voter ? "v" : "", member.old_voter ? "o" : "",
                            member.learner ? "l" : "");
    return text;
}

// More than the elections of a run.
constexpr raft::Term kTermsMax = 20'000;

}  // namespace

void ClusterWatch::look(const std::vector<Server>& servers,
                        const std::vector<ClusterClients::Topic>& topics, Instant now, bool calm) {
    std::map<std::string, std::vector<Replica>> groups;
    for (const Server& server : servers) {
        if (cluster::Controller* controller = server.broker->controller();
            controller != nullptr && controller->group() != nullptr)
            groups["the controller"].push_back(
                {server.node, controller->group()->id(), &controller->group()->core()});
        for (uint32_t shard = 0; shard < server.shards; ++shard) {
            server.broker->server(shard).partitions().for_each([&](kafka::Partition& partition) {
                if (partition.group() == nullptr) return;
                groups[fmt::format("{}-{}", partition.topic(), partition.index())].push_back(
                    {server.node, partition.group()->id(), &partition.group()->core()});
            });
        }
    }
    // A node may not know yet that the topic was deleted and made again.
    for (auto& [name, replicas] : groups) {
        const storage::LogId newest =
            std::ranges::max(replicas, {}, [](const Replica& replica) { return replica.log; }).log;
        std::erase_if(replicas, [newest](const Replica& replica) { return replica.log != newest; });
    }
    leaders_now_.clear();
    if (!calm) {
        leaderless_.clear();
        behind_.clear();
    }
    for (const auto& [name, replicas] : groups) {
        check(name, replicas);
        if (calm) check_progress(name, replicas, now);
    }
    for (const ClusterClients::Topic& topic : topics) {
        if (!topic.relaxed || topic.id.is_zero()) continue;
        for (int32_t p = 0; p < topic.partitions; ++p)
            look_at_relaxed({topic.id, p}, groups[fmt::format("{}-{}", topic.name, p)], servers);
    }
    tell();
}

void ClusterWatch::check(const std::string& name, const std::vector<Replica>& replicas) {
    for (const Replica& replica : replicas) {
        if (replica.core->term() > kTermsMax)
            fail_(fmt::format("{}: node {} is in term {}, to which no elections can have led", name,
                              replica.node, replica.core->term()));
    }
    const Replica* leader = nullptr;
    for (const Replica& replica : replicas) {
        if (replica.core->role() != raft::Role::kLeader) continue;
        const raft::Term term = replica.core->term();
        const auto [known, is_new] = leaders_[replica.log].emplace(term, replica.node);
        if (known->second != replica.node)
            fail_(fmt::format("{}: nodes {} and {} lead in term {}", name, known->second,
                              replica.node, term));
        if (leader == nullptr || leader->core->term() < term) leader = &replica;
    }
    if (leader == nullptr) return;
    leaders_now_.push_back(leader->node);
    // Who knows a later term may know later members from before its start, too; and who came to the
    // group after its beginning knows none before it is told.
    for (const Replica& replica : replicas) {
        const raft::Core& core = *replica.core;
        if (core.term() != leader->core->term() || !same_log(core, *leader->core) ||
            core.configuration() == leader->core->configuration() ||
            core.configuration().members.empty())
            continue;
        fail_(
            fmt::format("{}: nodes {} and {} have the same log, to {}.{} of term {}, and other "
                        "members: {} and {}",
                        name, leader->node, replica.node, core.end().offset, core.end().ordinal,
                        core.terms().last_term(), to_string(leader->core->configuration()),
                        to_string(core.configuration())));
    }
}

void ClusterWatch::check_progress(const std::string& name, const std::vector<Replica>& replicas,
                                  Instant now) {
    const Replica* leader = nullptr;
    for (const Replica& replica : replicas) {
        if (replica.core->role() == raft::Role::kLeader &&
            (leader == nullptr || leader->core->term() < replica.core->term()))
            leader = &replica;
    }
    if (leader == nullptr) {
        const Instant since = leaderless_.emplace(name, now).first->second;
        if (now - since > kLeaderlessMax)
            fail_(fmt::format("{} has no leader, though all links are up", name));
        return;
    }
    leaderless_.erase(name);
    for (const Replica& replica : replicas) {
        const auto key = std::pair(name, replica.node);
        const storage::Position end = replica.core->end();
        const bool lacks = end < leader->core->end() &&
                           leader->core->configuration().find(NodeId{replica.node}) != nullptr;
        if (!lacks) {
            behind_.erase(key);
            continue;
        }
        Behind& behind = behind_.emplace(key, Behind{end, now}).first->second;
        if (behind.end != end) behind = {end, now};
        if (now - behind.since > kStarvedMax)
            fail_(
                fmt::format("{}: node {} gets nothing of what node {} has, though all links are "
                            "up: it ends at {}.{}",
                            name, replica.node, leader->node, end.offset, end.ordinal));
    }
}

void ClusterWatch::look_at_relaxed(const PartitionKey& key, const std::vector<Replica>& replicas,
                                   const std::vector<Server>& servers) {
    Relaxed& relaxed = relaxed_[key];
    if (replicas.empty()) return;
    for (const Server& server : servers) relaxed.known.erase(server.node);
    for (const Replica& replica : replicas) {
        relaxed.known[replica.node] = replica.core->configuration();
        if (!replica.core->recovering()) relaxed.forgetful.erase(replica.node);
    }
}

// A majority of the voters; of a joint configuration, of the old or of the new ones.
bool ClusterWatch::Relaxed::may_lose() const {
    return std::ranges::any_of(known, [&](const auto& each) {
        size_t voters = 0, forgetful_voters = 0, old_voters = 0, forgetful_old_voters = 0;
        for (const raft::Member& member : each.second.members) {
            const size_t forgets = forgetful.contains(member.node.v) ? 1 : 0;
            voters += member.voter ? 1 : 0;
            old_voters += member.old_voter ? 1 : 0;
            forgetful_voters += member.voter ? forgets : 0;
            forgetful_old_voters += member.old_voter ? forgets : 0;
        }
        return forgetful_voters * 2 > voters || forgetful_old_voters * 2 > old_voters;
    });
}

void ClusterWatch::forgets(int32_t node) {
    for (auto& [key, relaxed] : relaxed_) {
        const bool member = std::ranges::any_of(relaxed.known, [&](const auto& each) {
            return each.first == node || each.second.find(NodeId{node}) != nullptr;
        });
        if (member) relaxed.forgetful.insert(node);
    }
    tell();
}

void ClusterWatch::left(int32_t node) {
    for (auto& [key, relaxed] : relaxed_) {
        relaxed.forgetful.erase(node);
        relaxed.known.erase(node);
    }
    tell();
}

void ClusterWatch::tell() {
    for (const auto& [key, relaxed] : relaxed_) history_.may_lose(key, relaxed.may_lose());
}

}  // namespace weir::sim

#include "kafka/server/partitions/members.h"

#include <algorithm>
#include <utility>

#include "cluster/features.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;
using storage::LogId;

constexpr Duration kTendInterval = 1s;
constexpr size_t kTendRounds = 32;  // until each partition was visited
// Members of groups are changed under the image's revision from this level of weir.version on.
constexpr auto kRevisionsLevel = static_cast<int32_t>(cluster::WeirLevel::kRelaxed);

}  // namespace

raft::Configuration configuration_of(const std::vector<int32_t>& nodes) {
    raft::Configuration configuration;
    for (const int32_t node : nodes)
        configuration.members.push_back({.node = NodeId{node}, .voter = true});
    std::ranges::sort(configuration.members, {}, &raft::Member::node);
    return configuration;
}

// A partition whose group hibernates and is what the image wants has nothing to announce: what
// changes wakes the group (a peer that goes or comes) or comes with a record of the metadata. So a
// round visits those that are awake, those that were in the round before, and those that owe
// something; and a few of all the others, should that be wrong.
Task<void> GroupMembers::tend_all() {
    const runtime::StopToken stop = scope_.stop_token();
    LogId next{0};  // of the others
    while (co_await runtime::sleep_for(kTendInterval, stop)) {
        if (metadata_.image().nodes().size() < 2) continue;
        std::set<LogId> ids = std::exchange(to_tend_, {});
        replicator_.for_each_awake([&](replication::Group& group) { ids.insert(group.id()); });
        auto at = replicas_.all().lower_bound(next);
        for (size_t left = replicas_.all().size() / kTendRounds + 1;
             left > 0 && at != replicas_.all().end(); --left)
            ids.insert(at++->first);
        next = at == replicas_.all().end() ? LogId{0} : at->first;
        for (const LogId id : ids) {
            Partition* partition = replicas_.find(id);
            if (partition != nullptr) tend(*partition);
            if (Shard::current().need_preempt()) co_await runtime::yield();
        }
    }
}

// The leader of a partition owes the cluster to announce who is in sync, and to make the group what
// the image wants it to be. A follower owes this node to announce whom it follows.
void GroupMembers::tend(Partition& partition) {
    if (!partition.leads()) return announcements_.announce_hearsay(partition);
    announcements_.announce(partition);
    if (!settle_members(partition) || !partition.group()->core().quiet())
        to_tend_.insert(partition.log().id());
}

bool GroupMembers::settle_members(Partition& partition) {
    const cluster::TopicImage* topic = metadata_.image().find(partition.topic_id());
    const auto index = static_cast<size_t>(partition.index());
    if (topic == nullptr || index >= topic->partitions.size()) return true;
    const cluster::PartitionAssignment& wanted = topic->partitions[index];
    const raft::Core& core = partition.group()->core();
    if (!core.configuration_settled()) return false;
    raft::Configuration target =
        configuration_of(wanted.target.empty() ? wanted.replicas : wanted.target);
    if (metadata_.image().feature_level(cluster::kWeirVersion) >= kRevisionsLevel)
        target.revision = wanted.revision;
    const raft::Configuration& now = core.configuration();
    // What this node knows of the cluster is older.
    if (now.revision > target.revision) return false;
    // A report tells the replicas that were left to go, so a group that was where it shall be
    // before it was asked says so with the revision: whoever leads next does not take it back.
    if (wanted.is_moving() ? now == target : now.members == target.members) {
        // Said again until the image has it.
        if (wanted.is_moving())
            metadata_.report({topic->id, static_cast<uint32_t>(index), wanted.revision});
        return !wanted.is_moving();
    }
    const LogId id = partition.log().id();
    if (changing_.insert(id).second)
        scope_.spawn(change_members(id, std::move(target)), runtime::WorkClass::kReplication);
    return false;
}

Task<void> GroupMembers::change_members(LogId id, raft::Configuration target) {
    Partition* partition = replicas_.find(id);
    if (partition != nullptr && partition->leads()) {
        // One that fails is tried again by tend_all(), on whichever node leads then.
        const auto done = co_await partition->group()->change_configuration(std::move(target));
        Shard::current().log().info("kafka", "a partition's replicas change",
                                    "log={} outcome=\"{}\"", id.v,
                                    done ? "done" : done.error().to_string());
    }
    changing_.erase(id);
    partition = replicas_.find(id);
    if (partition != nullptr && partition->leads() &&
        partition->group()->core().configuration_settled())
        tend(*partition);
}

}  // namespace weir::kafka

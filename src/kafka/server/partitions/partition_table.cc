#include "kafka/server/partitions/partition_table.h"

#include <algorithm>
#include <set>

#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {

using runtime::Shard;
using runtime::Task;
using storage::LogId;

PartitionTable::PartitionTable(storage::Store& store, cluster::MetadataShard& metadata,
                               replication::Replicator& replicator, Mailbox& mailbox,
                               const ServerBugs& bugs, Unpacking& unpacking, size_t producers_max)
    : metadata_(metadata),
      replicator_(replicator),
      bugs_(bugs),
      unpacking_(unpacking),
      producer_share_{.used = 0, .limit = producers_max},
      replicas_(store, metadata, replicator, *this, scope_,
                [this](Partition& partition) { lead_listeners_.notify(partition); }),
      announcements_(metadata, replicator.options().self),
      members_(replicas_, announcements_, metadata, replicator, scope_),
      watches_(replicas_, mailbox) {}

PartitionTable::~PartitionTable() = default;

Task<Result<void>> PartitionTable::open() {
    co_await runtime::try_(co_await replicas_.open());
    members_.start();
    co_return Result<void>{};
}

Task<void> PartitionTable::close() {
    scope_.request_stop();
    co_await replicas_.begin_close();
    co_await scope_.close();
    co_await replicas_.close();
    CHECK(watches_.size() == 0 || Shard::current().dying());
}

Task<void> PartitionTable::follow(const cluster::MetadataChange& change) {
    const cluster::MetadataImage& image = metadata_.image();
    std::set<Uuid> configured;
    bool all_configured = false;
    std::vector<Place> named, reassigned;
    const auto add_one = [&](const Uuid& id, uint32_t index, std::vector<Place>& to) {
        const cluster::TopicImage* topic = image.find(id);
        if (topic == nullptr || index >= topic->partitions.size()) return;
        const LogId log = topic->partitions[index].log;
        if (replicas_.owns(log)) to.push_back({log, id, static_cast<int32_t>(index)});
    };
    for (const cluster::MetadataRecord& record : change.records) {
        if (const auto* created = std::get_if<cluster::TopicCreated>(&record)) {
            if (const cluster::TopicImage* topic = image.find(created->id))
                replicas_.add_places(*topic, 0, named);
        } else if (const auto* added = std::get_if<cluster::PartitionsAdded>(&record)) {
            if (const cluster::TopicImage* topic = image.find(added->topic))
                replicas_.add_places(*topic, topic->partitions.size() - added->partitions.size(),
                                     named);
        } else if (const auto* target = std::get_if<cluster::PartitionReassigned>(&record)) {
            add_one(target->topic, target->partition, reassigned);
        } else if (const auto* changed = std::get_if<cluster::PartitionReplicasChanged>(&record)) {
            add_one(changed->topic, changed->partition, named);
        } else if (const auto* config = std::get_if<cluster::TopicConfigChanged>(&record)) {
            configured.insert(config->topic);
        } else if (std::holds_alternative<cluster::ResourceConfigChanged>(record)) {
            all_configured = true;
        }
    }
    for (const auto& [name, topic] : image.topics()) {
        if (configured.empty() && !all_configured) break;
        if (!all_configured && !configured.contains(topic.id)) continue;
        const cluster::TopicSettings& settings = metadata_.settings(topic);
        for (const cluster::PartitionAssignment& partition : topic.partitions) {
            if (Partition* here = find(partition.log)) ReplicaSet::configure(*here, settings);
        }
    }
    // Nobody waits for data that is gone.
    std::vector<Place> removed;
    for (const cluster::TopicImage& topic : change.topics_removed) {
        replicas_.add_places(topic, 0, removed);
        for (const cluster::PartitionAssignment& partition : topic.partitions)
            metadata_.leaders().forget(partition.log);
    }
    if (!removed.empty()) replicas_.bring_in_line_soon(std::move(removed));
    for (Place& place : reassigned) {
        if (Partition* here = find(place.log)) members_.tend(*here);
        named.push_back(std::move(place));
    }
    // What goes asks the controller first, which needs what follows this change.
    std::vector<Place> gone;
    std::erase_if(named, [&](const Place& place) {
        if (replicas_.find_wanted(place) != nullptr) return false;
        if (find(place.log) != nullptr) gone.push_back(place);
        return true;
    });
    if (!gone.empty()) replicas_.bring_in_line_soon(std::move(gone));
    if (named.empty()) co_return;
    // Whoever asked for the topic is answered when its replicas are here.
    if (co_await replicas_.bring_all_in_line(named)) {
        co_await replicas_.wait_ready(std::move(named));
    } else {
        replicas_.retry(std::move(named));
    }
}

void PartitionTable::on_role(Partition& partition) {
    announcements_.announce(partition);
    members_.tend_later(partition.log().id());
    lead_listeners_.notify(partition);
}

PartitionTable::Tally PartitionTable::tally() const {
    Tally tally;
    tally.recoveries = replicator_.metrics().recoveries;
    tally.elections_by_all = replicator_.metrics().elections_by_all;
    for (const auto& [id, partition] : replicas_.all()) {
        if (partition->hint().leader < 0) ++tally.leaderless;
        const replication::Group* group = partition->group();
        if (group != nullptr && group->core().recovering()) ++tally.recovering;
        if (!partition->leads()) continue;
        ++tally.leaders;
        const cluster::TopicImage* topic = metadata_.image().find(partition->topic_id());
        const auto index = static_cast<size_t>(partition->index());
        if (topic != nullptr && index < topic->partitions.size() &&
            partition->in_sync().size() < topic->partitions[index].replicas.size())
            ++tally.under_replicated;
        const raft::Core& core = partition->group()->core();
        for (const raft::PeerStatus& peer : core.peers()) {
            const int64_t lag = core.end().offset - peer.match.offset;
            tally.lag_max =
                std::max(tally.lag_max, static_cast<uint64_t>(std::max<int64_t>(0, lag)));
        }
    }
    return tally;
}

Task<Result<void>> PartitionTable::transfer(LogId id, NodeId to) {
    Partition* partition = find(id);
    const auto use = partition != nullptr ? partition->enter() : std::nullopt;
    if (!use) co_return fail(ErrorCode::kNotFound, "this node has no replica of the partition");
    co_return co_await partition->group()->transfer(to);
}

void PartitionTable::for_each(const std::function<void(Partition&)>& visit) {
    for (auto& [id, partition] : replicas_.all()) visit(*partition);
}

Task<void> PartitionTable::expire_producers(WallTime now, int64_t age_ms) {
    std::vector<LogId> ids;
    for (const auto& [id, partition] : replicas_.all()) ids.push_back(id);
    for (const LogId id : ids) {
        if (Partition* partition = find(id)) partition->expire_producers(now, age_ms);
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
}

}  // namespace weir::kafka

// PartitionTable: the partitions that one shard owns, and the fetches that wait for data of theirs.
// Used on that shard alone. It follows the metadata: this node has a replica of each partition that
// names it among its replicas or their target. A replica is made when the record is here, or
// a log was made for it before (on a node alone, where a topic whose logs can't be made must not
// come to be), and goes away when the partition names the node no more.
//
// The founders of a partition's group are the replicas that it was created with. They begin with
// those for members, whenever they hear of the partition, also while it moves elsewhere: if the
// leader is lost before it told them, they must be able to elect another. That is safe as long as
// no founder was ever told to drop its replica (PartitionAssignment::are_founders): then each of
// them holds all that it ever voted for and acknowledged, or never had a replica, and one that
// hears late is to its group what one is that was cut off since the creation. Its first
// configuration is old, but a majority of it has what followed, which gives nobody a vote whose log
// lacks it (Raft §5.4.1, §6).
//
// Where the replicas have changed, a founder may be one that dropped its replica and forgot its
// votes. So nobody begins with the first configuration any more:
//   - Who is among the replicas by now is a founder that hears late and was named all the time, or
//     lagged so far that it never dropped its replica (await_current()). It gives its vote, which
//     its group may need, and campaigns when a leader has told it of the group. Those who made the
//     later configuration count are a majority that has it, so others can campaign.
//   - Who is in the target alone is to be added, perhaps again. The group counts it when it has
//     caught up, and then knows its members. Until then it gives no vote: a founder that was cut
//     off since before the change might take it for the replica that it was, and the two would be a
//     majority of a configuration that is long gone.
//
// So the image that a node starts with must have all that it had when it stopped: from an older one
// it would found groups anew that have long moved elsewhere, and remove replicas that it is yet to
// hear of.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/metadata_shard.h"
#include "kafka/server/partitions/lead_listeners.h"
#include "kafka/server/partitions/mailbox.h"
#include "kafka/server/partitions/partition.h"
#include "replication/replicator.h"
#include "runtime/scope.h"
#include "storage/store.h"

namespace weir::kafka {

class PartitionTable final : private PartitionEvents {
  public:
    PartitionTable(storage::Store& store, cluster::MetadataShard& metadata,
                   replication::Replicator& replicator, Mailbox& mailbox, const ServerBugs& bugs);
    ~PartitionTable() override;

    // Brings replicas in line with the image: what has no log gets one, a log that no topic names
    // is removed. Returns when the replicas that have no other are ready.
    runtime::Task<Result<void>> open();
    runtime::Task<void> close();

    // The hooks of cluster::MetadataShard.
    runtime::Task<Result<void>> create_logs(std::vector<cluster::NewLog> logs);
    runtime::Task<void> remove_logs(std::vector<storage::LogId> ids);
    runtime::Task<void> follow(const cluster::MetadataChange& change);
    // Called when a replica begins to lead and is ready, and when it leads no more.
    LeadListeners& lead_listeners() { return lead_listeners_; }

    // Hands the partition's leadership to that node. kNotFound, kUnavailable: not the leader;
    // kTimedOut.
    runtime::Task<Result<void>> transfer(storage::LogId id, NodeId to);

    // nullptr if it is not here. A use that waits holds Partition::enter().
    Partition* find(storage::LogId id);
    size_t size() const { return partitions_.size(); }
    void for_each(const std::function<void(Partition&)>& visit);
    // Of the replicas here, for the metrics.
    struct Tally {
        uint64_t leaders = 0;
        uint64_t under_replicated = 0;  // led here, and not all replicas are in sync
        uint64_t leaderless = 0;        // of which this node knows no leader
        uint64_t lag_max = 0;           // offsets that a follower of a partition led here lacks
        uint64_t recovering = 0;        // may lack what they acknowledged (raft::Core::recovering)
        uint64_t recoveries = 0;        // since the start
        uint64_t elections_by_all = 0;  // won here since the start
    };
    Tally tally() const;
    runtime::Task<void> expire_producers(WallTime now, int64_t age_ms);

    // The next news from any of these partitions, `bytes_needed` bytes in all, is posted to `to`,
    // once. An address has one watch at most; a second one replaces the first. False when there is
    // news already: the partition is gone, or its high watermark or epoch is no longer the one that
    // the caller saw.
    struct Seen {
        storage::LogId log;
        int64_t high_watermark;
        int32_t epoch;
    };
    bool watch(MailAddress to, int64_t bytes_needed, const std::vector<Seen>& partitions);
    void unwatch(MailAddress to) { watches_.erase(to); }
    size_t watch_count() const { return watches_.size(); }

  private:
    // A partition as records name it.
    struct Place {
        storage::LogId log;
        Uuid topic;
        int32_t index = 0;
    };

    void fire(FetchWatch& watch) override;
    void on_role(Partition& partition) override;
    const ServerBugs& bugs() const override { return bugs_; }
    void announce(Partition& partition);
    // Says who leads a replica's group where the leader has not said it.
    void pass_on_hearsay(Partition& partition);
    runtime::Task<void> tend_all();
    void tend(Partition& partition);
    // Begins a change of the group's members if the image wants others. Whether there is nothing
    // left to do or to tell.
    bool settle_members(Partition& partition);
    runtime::Task<void> change_members(storage::LogId id, raft::Configuration target);

    bool owns(storage::LogId id) const;
    // Of this node and this shard; nullptr if there is none (any more).
    const cluster::PartitionAssignment* find_wanted(const Place& place) const;
    void add_places(const cluster::TopicImage& topic, size_t first, std::vector<Place>& to) const;
    // Makes or removes the replica, whichever the image says; one at a time for each log.
    runtime::Task<Result<void>> bring_in_line(Place place);
    runtime::Task<Result<void>> bring_all_in_line(std::vector<Place> places);
    runtime::Task<Result<void>> change(const Place& place);
    runtime::Task<Result<void>> make(const Place& place, storage::Log& log);
    static void configure(Partition& partition, const cluster::TopicSettings& settings);
    runtime::Task<void> remove(storage::LogId id);
    // Until what the image says of the place is what the cluster has decided, or names it again.
    runtime::Task<void> await_current(const Place& place);
    runtime::Task<void> bring_in_line_later(std::vector<Place> places, Duration delay);
    runtime::Task<void> wait_ready(std::vector<Place> places);

    storage::Store& store_;
    cluster::MetadataShard& metadata_;
    replication::Replicator& replicator_;
    Mailbox& mailbox_;
    const ServerBugs& bugs_;
    std::map<storage::LogId, std::unique_ptr<Partition>> partitions_;
    std::set<storage::LogId> changing_;
    std::set<storage::LogId> changing_members_;
    std::set<storage::LogId> to_tend_;  // in the next round
    runtime::WaitQueue change_over_;
    std::map<MailAddress, FetchWatch> watches_;
    LeadListeners lead_listeners_;
    runtime::Scope scope_;  // of replicas that are being made or removed
};

}  // namespace weir::kafka

// FetchWatches: the fetches that wait for data of this shard's partitions. A watch is left by a
// fetch of some shard and ends with one piece of mail to it. Owned by the shard's PartitionTable,
// used on that shard alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "kafka/server/partitions/mailbox.h"
#include "kafka/server/partitions/partition.h"
#include "kafka/server/partitions/replica_set.h"
#include "storage/store.h"

namespace weir::kafka {

class FetchWatches {
  public:
    // Both outlive it.
    FetchWatches(ReplicaSet& replicas, Mailbox& mailbox) : replicas_(replicas), mailbox_(mailbox) {}

    // A partition as the fetch saw it.
    struct Seen {
        storage::LogId log;
        int64_t high_watermark;
        int32_t epoch;
    };
    // The next news from any of these partitions, `bytes_needed` bytes in all, is posted to `to`,
    // once. An address has one watch at most; a second one replaces the first. False when there is
    // news already: the partition is gone, or its high watermark or epoch is no longer the one that
    // the caller saw.
    bool watch(MailAddress to, int64_t bytes_needed, const std::vector<Seen>& partitions);
    void unwatch(MailAddress to) { watches_.erase(to); }
    // Posts the mail and ends the watch.
    void fire(FetchWatch& watch);
    // At most one for each fetch that waits.
    size_t size() const { return watches_.size(); }

  private:
    ReplicaSet& replicas_;
    Mailbox& mailbox_;
    std::map<MailAddress, FetchWatch> watches_;
};

}  // namespace weir::kafka

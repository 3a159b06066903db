// FetchWatches: the fetches that wait for data of this shard's partitions. A fetch on any shard
// leaves a watch here, which ends by mailing it once. Owned by the shard's PartitionTable, used on
// that shard alone.
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

    // A partition's state as the fetch saw it.
    struct Seen {
        storage::LogId log;
        int64_t high_watermark;
        int32_t epoch;
    };
    // Posts the next news from these partitions, `bytes_needed` bytes in all, to `to`, once. An
    // address has at most one watch; a second one replaces the first. Returns false if there is
    // news already: the partition is gone, or its high watermark or epoch is no longer what the
    // caller saw.
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

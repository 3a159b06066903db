#include "kafka/server/partitions/fetch_watches.h"

#include <set>

namespace weir::kafka {

void FetchWatches::fire(FetchWatch& watch) {
    const MailAddress to = watch.address;
    watches_.erase(to);
    mailbox_.post(to, DataArrived{});
}

bool FetchWatches::watch(MailAddress to, int64_t bytes_needed,
                         const std::vector<Seen>& partitions) {
    FetchWatch& watch = watches_[to];
    watch.address = to;
    watch.bytes_needed = bytes_needed;
    watch.hooks.clear();
    std::set<storage::LogId> watched;
    for (const Seen& seen : partitions) {
        Partition* partition = replicas_.find(seen.log);
        if (partition == nullptr || partition->high_watermark() != seen.high_watermark ||
            partition->leader_epoch() != seen.epoch) {
            watches_.erase(to);
            return false;
        }
        if (!watched.insert(seen.log).second) continue;
        WatchHook& hook = watch.hooks.emplace_back();
        hook.watch = &watch;
        partition->watch(hook);
    }
    return true;
}

}  // namespace weir::kafka

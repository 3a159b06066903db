#include "kafka/server/partitions/leader_announcements.h"

namespace weir::kafka {

using storage::LogId;

void LeaderAnnouncements::announce(Partition& partition) {
    const int32_t self = self_.v;
    const LogId id = partition.log().id();
    // What this shard has heard is what it said itself, if this node leads.
    const cluster::LeaderState* known = metadata_.leaders().find(id);
    cluster::LeaderState state{.log = id};
    if (partition.leads()) {
        state.leader = self;
        state.epoch = partition.leader_epoch();
        state.in_sync = partition.in_sync();
        if (known != nullptr && known->epoch == state.epoch && !known->hearsay) {
            if (known->leader == self && known->in_sync == state.in_sync) return;
            state.revision = known->revision + 1;
        }
    } else {
        // What was expected of a new partition was not said by its leader.
        if (known == nullptr || known->leader != self || known->is_expected() ||
            (partition.is_leader() && known->epoch == partition.leader_epoch()))
            return;
        state.epoch = known->epoch;
        state.revision = known->revision + 1;
    }
    metadata_.announce(std::move(state));
}

// A leader announces itself when it is ready, and that arrives at once. But it may take long to be
// ready, and its announcement may be lost: then clients would be sent to the leader before, which
// crashed and is back, until another one leads.
void LeaderAnnouncements::announce_hearsay(Partition& partition) {
    const LogId id = partition.log().id();
    const LeaderHint hint = partition.hint();
    const cluster::LeaderState* known = metadata_.leaders().find(id);
    if (hint.leader < 0 || (known != nullptr && known->epoch >= hint.epoch)) return;
    metadata_.announce({.log = id,
                        .leader = hint.leader,
                        .epoch = hint.epoch,
                        .in_sync = {hint.leader},
                        .hearsay = true});
}

}  // namespace weir::kafka

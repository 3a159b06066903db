#include "raft/effects.h"

namespace weir::raft {

void Effects::clear() {
    truncate_to.reset();
    install.reset();
    append_begin = append_end = 0;
    control.clear();
    save.reset();
    messages.clear();
    entries.clear();
    snapshots.clear();
    commit.reset();
    role.reset();
    configuration_changed = false;
    reads.clear();
    change_done.reset();
    transfer_done.reset();
    recovered = false;
    elected_by_all = false;
}

bool Effects::empty() const {
    return !truncate_to && !install && append_begin == append_end && control.empty() && !save &&
           messages.empty() && entries.empty() && snapshots.empty() && !commit && !role &&
           !configuration_changed && reads.empty() && !change_done && !transfer_done &&
           !recovered && !elected_by_all;
}

}  // namespace weir::raft

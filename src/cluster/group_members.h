// Who belongs to the controller's group: every node of the cluster hears the metadata log, and some
// of them vote. Pure; the leader carries it out, and asks again.
#pragma once

#include <functional>
#include <optional>

#include "cluster/image.h"
#include "raft/types.h"

namespace weir::cluster {

// Of voters beyond the founders. An odd number: one more than that bears no further failure.
inline constexpr size_t kVotersMax = 5;

// What the group's configuration should become, if it is another than `now`. The founders vote from
// the start; as long as one of them has not registered nobody else does, since nothing tells it
// from a node that left. Later the number of voters grows with the cluster to the largest odd one
// up to kVotersMax; who votes already stays. A node that is being decommissioned leaves when it
// holds no partition any more. Nodes beyond raft::kMembersMax do not hear the log.
std::optional<raft::Configuration> plan_group_members(const MetadataImage& image,
                                                      const raft::Configuration& now,
                                                      const std::function<bool(int32_t)>& is_alive);

}  // namespace weir::cluster

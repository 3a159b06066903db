// Who belongs to the controller's group: every node of the cluster replicates the metadata log, and
// some nodes vote. Pure; the leader carries out the plan and asks again.
#pragma once

#include <functional>
#include <optional>

#include "cluster/image.h"
#include "raft/types.h"

namespace weir::cluster {

// The number of voters beyond the founders. Odd, because one more voter than that tolerates no more
// failures.
inline constexpr size_t kVotersMax = 5;

// What the group's configuration should become, if it differs from `now`. The founders vote from
// the start. As long as one of them has not registered no other node votes, since nothing
// distinguishes it from a node that left. Later the number of voters grows with the cluster to the
// largest odd number up to kVotersMax; current voters stay. A node that is being decommissioned
// leaves when it holds no partition any more. Nodes beyond raft::kMembersMax do not replicate the
// log.
std::optional<raft::Configuration> plan_group_members(const MetadataImage& image,
                                                      const raft::Configuration& now,
                                                      const std::function<bool(int32_t)>& is_alive);

}  // namespace weir::cluster

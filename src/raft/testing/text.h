// Messages and positions as words, for traces and transcripts.
#pragma once

#include <string>

#include "raft/core.h"

namespace weir::raft {

std::string text(Position position);  // "12", or "12+1" behind a control entry at 12
std::string text(
    const Configuration& configuration);  // "1,2,3", "1,2>2,3" (joint), "1,2/4" (learner)
std::string text(const Message& message);
std::string_view text(Role role);
std::string_view text(PeerState state);
std::string_view text(Verdict verdict);
std::string_view text(RequestStatus status);

}  // namespace weir::raft

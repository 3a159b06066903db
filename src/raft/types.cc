#include "raft/types.h"

#include <algorithm>

namespace weir::raft {

bool within_reach(Term known, Term term) {
    if (term < 0 || term > kTermMax) return false;
    if (term <= known || term - known <= kTermLeapMax) return true;
    return known == 0 && term >= kTermOldMax && term - kTermOldMax <= kTermLeapMax;
}

const Member* Configuration::find(NodeId node) const {
    for (const Member& member : members) {
        if (member.node == node) return &member;
    }
    return nullptr;
}

bool Configuration::is_voter(NodeId node) const {
    const Member* member = find(node);
    return member != nullptr && (member->voter || member->old_voter);
}

bool Configuration::joint() const {
    return std::ranges::any_of(members, [](const Member& member) { return member.old_voter; });
}

bool Configuration::valid() const {
    if (members.empty() || members.size() > kMembersMax) return false;
    bool any_voter = false;
    for (size_t i = 0; i < members.size(); ++i) {
        const Member& member = members[i];
        if (member.node.v < 0) return false;
        if (i > 0 && members[i - 1].node >= member.node) return false;
        if (member.voter && member.learner) return false;
        if (!member.voter && !member.old_voter && !member.learner) return false;
        any_voter |= member.voter;
    }
    return any_voter;
}

Configuration Configuration::without_old() const {
    Configuration next;
    next.revision = revision;
    for (Member member : members) {
        member.old_voter = false;
        if (member.voter || member.learner) next.members.push_back(member);
    }
    return next;
}

Configuration voters(std::initializer_list<int32_t> nodes) {
    Configuration configuration;
    for (const int32_t node : nodes) {
        configuration.members.push_back({.node = {node}, .voter = true});
    }
    std::ranges::sort(configuration.members, {}, &Member::node);
    return configuration;
}

}  // namespace weir::raft

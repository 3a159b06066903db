// Who belongs to the group: joint consensus (Raft §6, dissertation §4), one change at a time.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core.h"
#include "raft/leading.h"

namespace weir::raft {
namespace {

bool same_voters(const Configuration& a, const Configuration& b) {
    const auto within = [](const Configuration& one, const Configuration& other) {
        return std::ranges::all_of(one.members, [&](const Member& member) {
            return !member.voter || other.is_voter(member.node);
        });
    };
    return within(a, b) && within(b, a);
}

void add(Configuration& configuration, const Member& member) {
    auto& members = configuration.members;
    members.insert(std::ranges::lower_bound(members, member.node, {}, &Member::node), member);
}

// `current`, and the voters of `target` that it lacks, as learners.
Configuration with_learners(Configuration current, const Configuration& target) {
    for (Member member : target.members) {
        if (!member.voter || current.find(member.node) != nullptr) continue;
        member.voter = false;
        member.learner = true;
        add(current, member);
        current.revision = target.revision;
    }
    return current;
}

Configuration joint_of(const Configuration& current, const Configuration& target) {
    Configuration joint;
    joint.revision = target.revision;
    for (Member member : target.members) {
        member.old_voter = current.is_voter(member.node);
        joint.members.push_back(member);
    }
    for (const Member& member : current.members) {
        if (!member.voter || target.find(member.node) != nullptr) continue;
        Member leaving = member;
        leaving.voter = false;
        leaving.old_voter = true;
        add(joint, leaving);
    }
    return joint;
}

}  // namespace

// Raft §6: a configuration counts from when it is in the log.
void Core::use_configuration(ConfigurationAt row) {
    CHECK(row.at > configurations_.back().at);
    CHECK(row.at < end_);
    configurations_.push_back(std::move(row));
    configuration_changed();
}

void Core::roll_back_configurations(Position end) {
    const size_t before = configurations_.size();
    while (configurations_.size() > 1 && configurations_.back().at >= end) {
        Configuration lost = std::move(configurations_.back().configuration);
        configurations_.pop_back();
        if (options_->bugs.keep_configuration_on_truncation) {
            configurations_.back().configuration = std::move(lost);
        }
    }
    if (configurations_.size() != before) configuration_changed();
}

// What is committed is never rolled back: only the last one of those is kept.
void Core::settle_configurations() {
    while (configurations_.size() > 1 && configurations_[1].at < commit_) {
        configurations_.erase(configurations_.begin());
        if (role_ == Role::kFollower && !may_campaign()) deadline_ = Instant::never();
    }
}

void Core::configuration_changed() {
    out_->configuration_changed = true;
    if (role_ == Role::kLeader) return match_peers(false);
    const bool may = may_campaign();
    if (!may) deadline_ = Instant::never();
    if (may && !quiet_ && deadline_ == Instant::never()) arm_election();
}

// Dissertation §4.2.2: a node that its own log's last configuration leaves out may be the only one
// that has it; until that is committed it still campaigns (and does not count itself).
bool Core::may_campaign() const {
    if (votes_withheld()) return false;
    return std::ranges::any_of(configurations_, [&](const ConfigurationAt& row) {
        return row.configuration.is_voter(self_);
    });
}

// Who becomes a member within a term may have been one before, have dropped its replica since, and
// begin anew; then what it said of the log that it had may still be on the way. So nothing counts
// before it has answered a heartbeat that left since (messages.h).
void Core::match_peers(bool elected) {
    std::vector<Peer> peers;
    peers.reserve(configuration().members.size());
    for (const Member& member : configuration().members) {
        if (member.node == self_) continue;
        const Peer* known = peer_of(member.node);
        if (known != nullptr) {
            peers.push_back(*known);
            continue;
        }
        Peer peer;
        peer.node = member.node;
        peer.next = end_;
        peer.heard = peer.progressed = now_;
        if (!elected) peer.context = -(leading_->context + 1);
        peers.push_back(peer);
    }
    leading_->peers = std::move(peers);
}

bool Core::caught_up(NodeId node) const {
    const Peer* peer = peer_of(node);
    return peer != nullptr && peer->state == PeerState::kReplicate &&
           peer->match >= leading_->recent_end;
}

RequestStatus Core::change_configuration(Configuration target, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ != Role::kLeader) return RequestStatus::kNotLeader;
    if (!target.valid() || target.joint() || target.revision < configuration().revision)
        return RequestStatus::kInvalid;
    if (with_learners(configuration(), target).members.size() > kMembersMax ||
        joint_of(configuration(), target).members.size() > kMembersMax) {
        return RequestStatus::kInvalid;
    }
    if (!leader_ready()) return RequestStatus::kNotReady;
    if (leading_->change || !configuration_settled()) return RequestStatus::kBusy;
    if (quiet_) wake_up();
    touch();
    leading_->change = Leading::Change{std::move(target), now_ + options_->catch_up_timeout};
    return RequestStatus::kStarted;  // advance_change() goes on at the end of this turn
}

// The next step of a change, once the one before is committed; at the end of every turn.
void Core::advance_change() {
    if (!leader_ready() || configurations_.back().at >= commit_) return;
    if (configuration().joint()) {
        append_control(ControlKind::kConfiguration, configuration().without_old());
        return;
    }
    std::optional<Leading::Change>& change = leading_->change;
    if (change && configuration() == change->target) {
        change.reset();
        out_->change_done = true;
    }
    if (!configuration().is_voter(self_)) return resign();
    if (!change) return;
    const Configuration& target = change->target;
    Configuration prepared = with_learners(configuration(), target);
    if (prepared != configuration()) {
        append_control(ControlKind::kConfiguration, std::move(prepared));
    } else if (same_voters(configuration(), target)) {
        append_control(ControlKind::kConfiguration, target);
    } else if (std::ranges::all_of(target.members, [&](const Member& member) {
                   return !member.voter || configuration().is_voter(member.node) ||
                          caught_up(member.node);
               })) {
        append_control(ControlKind::kConfiguration, joint_of(configuration(), target));
    } else if (now_ >= change->deadline) {
        change.reset();
        out_->change_done = false;
    }
}

// The configuration without this node is committed: its work is done (dissertation §4.2.2).
void Core::resign() {
    const Peer* best = nullptr;
    for (const Peer& peer : leading_->peers) {
        if (!configuration().is_voter(peer.node) || peer.down) continue;
        if (best == nullptr || peer.match > best->match) best = &peer;
    }
    if (best != nullptr) send(best->node, TimeoutNow{.term = hard_.term});
    follow(hard_.term, kNoNode);
}

std::vector<PeerStatus> Core::peers() const {
    std::vector<PeerStatus> status;
    if (role_ != Role::kLeader) return status;
    for (const Peer& peer : leading_->peers) {
        status.push_back({.node = peer.node,
                          .match = peer.match,
                          .state = peer.state,
                          .heard = peer.heard,
                          .caught_up = caught_up(peer.node),
                          .inflight_covers_lag = peer.state == PeerState::kReplicate &&
                                                 peer.next >= leading_->recent_end,
                          .down = peer.down});
    }
    return status;
}

}  // namespace weir::raft

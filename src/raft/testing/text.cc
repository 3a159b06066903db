#include "raft/testing/text.h"

#include <fmt/core.h>

#include "base/check.h"

namespace weir::raft {
namespace {

std::string body(const VoteRequest& m) {
    return fmt::format("{} term={} last={}@{}{}", m.pre_vote ? "pre-vote?" : "vote?", m.term,
                       m.last_term, text(m.end), m.transfer ? " transfer" : "");
}

std::string body(const VoteReply& m) {
    return fmt::format("{} term={} {}{}", m.pre_vote ? "pre-vote" : "vote", m.term,
                       m.granted ? "yes" : "no", m.recovering ? " recovering" : "");
}

std::string body(const AppendRequest& m) {
    return fmt::format("append term={} prev={}@{} commit={}", m.term, m.prev_term, text(m.prev),
                       text(m.commit));
}

std::string body(const AppendReply& m) {
    if (m.accepted) {
        return fmt::format("ack term={} match={}{}", m.term, text(m.match),
                           m.received == m.match ? "" : " received=" + text(m.received));
    }
    return fmt::format("no term={} prev={} end={} hint={}@{}", m.term, text(m.prev), text(m.end),
                       m.hint_term, text(m.hint_end));
}

std::string body(const Heartbeat& m) {
    return fmt::format("beat term={} commit={}{}", m.term, text(m.commit),
                       m.quiet ? " quiet? end=" + text(m.end) : "");
}

std::string body(const HeartbeatReply& m) {
    return fmt::format("beat-ack term={} match={}{}", m.term, text(m.match),
                       m.quiet ? " quiet" : "");
}

std::string body(const RecoveryRequest& m) {
    return fmt::format("recovery? term={} end={}", m.term, text(m.end));
}

std::string body(const RecoveryReply& m) {
    return fmt::format("recovery term={} to={}", m.term, text(m.end));
}

std::string body(const TimeoutNow& m) { return fmt::format("campaign-now term={}", m.term); }

}  // namespace

std::string text(Position position) {
    if (position.ordinal == 0) return fmt::format("{}", position.offset);
    return fmt::format("{}+{}", position.offset, position.ordinal);
}

std::string text(const Configuration& configuration) {
    const auto list = [&](auto counts) {
        std::string nodes;
        for (const Member& member : configuration.members) {
            if (!counts(member)) continue;
            if (!nodes.empty()) nodes += ',';
            nodes += fmt::format("{}", member.node.v);
        }
        return nodes;
    };
    std::string all;
    if (configuration.joint()) {
        all = list([](const Member& member) { return member.old_voter; }) + '>';
    }
    all += list([](const Member& member) { return member.voter; });
    const std::string learners = list([](const Member& member) { return member.learner; });
    return learners.empty() ? all : all + '/' + learners;
}

std::string text(const Message& message) {
    return std::visit([](const auto& m) { return body(m); }, message);
}

std::string_view text(Role role) {
    switch (role) {
        case Role::kFollower:
            return "follower";
        case Role::kPreCandidate:
            return "pre-candidate";
        case Role::kCandidate:
            return "candidate";
        case Role::kLeader:
            return "leader";
    }
    CHECK(false);
}

std::string_view text(PeerState state) {
    switch (state) {
        case PeerState::kProbe:
            return "probe";
        case PeerState::kReplicate:
            return "replicate";
        case PeerState::kSnapshot:
            return "snapshot";
    }
    CHECK(false);
}

std::string_view text(Verdict verdict) {
    switch (verdict) {
        case Verdict::kTaken:
            return "taken";
        case Verdict::kStale:
            return "stale";
        case Verdict::kInvalid:
            return "invalid";
        case Verdict::kStranger:
            return "a stranger's";
        case Verdict::kContradiction:
            return "a contradiction";
    }
    CHECK(false);
}

std::string_view text(RequestStatus status) {
    switch (status) {
        case RequestStatus::kStarted:
            return "started";
        case RequestStatus::kNotLeader:
            return "not-leader";
        case RequestStatus::kNotReady:
            return "not-ready";
        case RequestStatus::kBusy:
            return "busy";
        case RequestStatus::kInvalid:
            return "invalid";
    }
    CHECK(false);
}

}  // namespace weir::raft

// Who leads: Raft §5.2 and §5.4.1, with pre-vote (dissertation §9.6), loyalty to a leader that was
// heard (§4.2.3) and campaigns that a leader asked for (§3.10).
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core.h"
#include "raft/leading.h"

namespace weir::raft {

uint16_t Core::vote_bit(NodeId node) const {
    const std::vector<Member>& members = configuration().members;
    for (size_t i = 0; i < members.size(); ++i) {
        if (members[i].node == node) return static_cast<uint16_t>(1u << i);
    }
    return 0;
}

bool Core::majority(uint16_t votes) const {
    return quorum_value<int>([&](NodeId node) { return (votes & vote_bit(node)) != 0 ? 1 : 0; }) ==
           1;
}

// Old voters and new ones.
bool Core::all_voters(uint16_t votes) const {
    return std::ranges::all_of(configuration().members, [&](const Member& member) {
        return (!member.voter && !member.old_voter) || (votes & vote_bit(member.node)) != 0;
    });
}

// A majority of voters that have all that they acknowledged has all that is committed. Where too
// many may have lost something, what all of them together find the longest log is the group's.
bool Core::elected() const {
    return majority(static_cast<uint16_t>(votes_for_ & ~votes_recovering_)) ||
           all_voters(votes_for_);
}

// Whether what is left can't be enough any more.
bool Core::hopeless() const {
    return votes_against_ != 0 &&
           !majority(static_cast<uint16_t>(~(votes_against_ | votes_recovering_)));
}

void Core::vote_for_self() {
    votes_for_ |= vote_bit(self_);
    if (recovering_) votes_recovering_ |= vote_bit(self_);
}

void Core::pre_campaign() {
    // A log that is being cut or replaced is no ground to lead from; and a vote under way is
    // waited for.
    const bool busy = truncating_ || install_ != nullptr;
    const bool voting = role_ == Role::kCandidate && saved_ != hard_;
    if (!may_campaign() || fitness_ == Fitness::kUnable || hard_.term >= kTermMax || busy ||
        voting) {
        return arm_election();
    }
    follow(hard_.term, kNoNode);
    loyal_ = false;
    role_ = Role::kPreCandidate;
    votes_for_ = votes_against_ = votes_recovering_ = 0;
    vote_for_self();
    arm_election();
    if (elected()) return campaign(false);
    ask_for_votes(true);
}

void Core::campaign(bool transfer) {
    CHECK(hard_.term < kTermMax);
    follow(hard_.term + 1, kNoNode);
    role_ = Role::kCandidate;
    hard_.voted_for = self_.v;
    loyal_ = false;
    transfer_campaign_ = transfer;
    votes_for_ = votes_against_ = votes_recovering_ = 0;  // its own counts when it is saved
    arm_election();
    if (options_->bugs.reply_before_save) {
        vote_for_self();
        ask_for_votes(false);
    }
}

// Nobody leads, has voted or has an entry: there is nothing that a pre-vote could protect. Safe as
// any campaign: the others may have begun one of their own, and a vote of the first term is given
// once.
void Core::found() {
    campaign(false);
    founding_end_ = deadline_;
    founding_retry_ = options_->founding_retry;
    deadline_ = std::min(deadline_, now_ + founding_retry_);
}

// Founders that heard of the group after the request for their votes did not get it.
bool Core::ask_founders_again() {
    if (founding_retry_ == 0ns) return false;
    if (role_ != Role::kCandidate || hard_.term != 1 || now_ >= founding_end_) {
        founding_retry_ = 0ns;
        return false;
    }
    if (saved_ == hard_) ask_for_votes(false);
    founding_retry_ *= 2;
    deadline_ = std::min(founding_end_, now_ + founding_retry_);
    return true;
}

void Core::ask_for_votes(bool pre_vote) {
    const VoteRequest request{.term = pre_vote ? hard_.term + 1 : hard_.term,
                              .last_term = terms_.last_term(),
                              .end = end_,
                              .pre_vote = pre_vote,
                              .transfer = transfer_campaign_};
    for (const Member& member : configuration().members) {
        if (member.node == self_ || (!member.voter && !member.old_voter)) continue;
        send(member.node, request);
    }
}

bool Core::loyal() const {
    if (role_ == Role::kLeader) return true;  // it knows by itself when it has lost the majority
    return loyal_ && now_ < heard_ + options_->election_timeout_min;
}

Verdict Core::on(NodeId from, const VoteRequest& request) {
    if (request.last_term < 0 || request.last_term >= request.term) return Verdict::kInvalid;
    if (request.end < Position{}) return Verdict::kInvalid;
    // Somebody does not know that the group sleeps: the leader will tell.
    if (quiet_) wake_up();
    const auto refuse = [&] {
        // Who asks for a term must not take one that may be too old for an answer.
        if (!term_saved() || asking_terms_) return;
        send(from, VoteReply{.term = hard_.term, .pre_vote = request.pre_vote});
    };
    if (request.term < hard_.term) {
        refuse();
        return Verdict::kStale;
    }
    if (votes_withheld()) {
        refuse();
        return Verdict::kTaken;
    }
    if (loyal() && !request.transfer) {
        // Its term is not taken over either: it would unseat the leader that this node hears.
        if (request.pre_vote) refuse();
        return Verdict::kTaken;
    }
    const Term last_term = terms_.last_term();
    const bool complete = request.last_term > last_term ||
                          (request.last_term == last_term && request.end >= end_) ||
                          options_->bugs.vote_without_log_check;
    if (request.pre_vote) {
        if (complete && request.term > hard_.term) {
            send(from, VoteReply{.term = request.term,
                                 .granted = true,
                                 .pre_vote = true,
                                 .recovering = recovering_});
        } else {
            refuse();
        }
        return Verdict::kTaken;
    }
    if (request.term > hard_.term) follow(request.term, kNoNode);
    const bool free = hard_.voted_for == -1 || hard_.voted_for == from.v;
    if (!free || !complete || leader_ != kNoNode || role_ == Role::kLeader) {
        refuse();
        return Verdict::kTaken;
    }
    hard_.voted_for = from.v;
    arm_election();
    if (saved_ == hard_ || options_->bugs.reply_before_save || options_->bugs.forget_vote) {
        send(from, VoteReply{.term = hard_.term, .granted = true, .recovering = recovering_});
    } else {
        vote_to_ = from;
    }
    return Verdict::kTaken;
}

Verdict Core::on(NodeId from, const VoteReply& reply) {
    if (!knows(from)) return Verdict::kStale;  // it was known when it was asked
    if (asking_terms_) {
        note_term(from, reply);
        return Verdict::kTaken;
    }
    const bool mine = role_ == (reply.pre_vote ? Role::kPreCandidate : Role::kCandidate);
    const Term asked_for = reply.pre_vote ? hard_.term + 1 : hard_.term;
    const bool answer =
        mine && (reply.granted ? reply.term == asked_for : reply.term <= hard_.term);
    if (!answer) {
        // A granted pre-vote names a term that nobody is in yet.
        if (reply.granted || reply.term <= hard_.term) return Verdict::kStale;
        follow(reply.term, kNoNode);
        return Verdict::kTaken;
    }
    if (!configuration().is_voter(from)) return Verdict::kStale;  // it was one when it was asked
    (reply.granted ? votes_for_ : votes_against_) |= vote_bit(from);
    if (reply.granted && reply.recovering) votes_recovering_ |= vote_bit(from);
    count_votes();
    return Verdict::kTaken;
}

void Core::count_votes() {
    if (elected()) {
        if (role_ == Role::kPreCandidate) return campaign(false);
        return become_leader();
    }
    // The timer goes on: it tries again then.
    if (hopeless()) follow(hard_.term, kNoNode);
}

void Core::become_leader() {
    CHECK(role_ == Role::kCandidate);
    CHECK(terms_.last_term() < hard_.term);
    out_->elected_by_all = !majority(static_cast<uint16_t>(votes_for_ & ~votes_recovering_));
    if (std::exchange(recovering_, false)) out_->recovered = true;  // what is left is this log
    role_ = Role::kLeader;
    leader_ = self_;
    loyal_ = false;
    quiet_ = false;
    vote_to_ = kNoNode;
    leading_ = std::make_unique<Leading>();
    leading_->idle_since = now_;
    leading_->recent_end = end_;
    match_peers(true);
    term_start_ = end_;
    append_control(ControlKind::kTermStart, {});
    const int64_t interval = options_->heartbeat_interval.count();
    deadline_ = {(now_.ns / interval + 1) * interval};
}

Verdict Core::on(NodeId from, const TimeoutNow& request) {
    if (request.term < hard_.term) return Verdict::kStale;
    const bool able = may_campaign() && hard_.term < kTermMax && !truncating_ &&
                      install_ == nullptr && !recovering_ && fitness_ == Fitness::kWhole;
    if (request.term > hard_.term || role_ != Role::kFollower || leader_ != from || !able) {
        return Verdict::kStale;
    }
    campaign(true);
    return Verdict::kTaken;
}

}  // namespace weir::raft

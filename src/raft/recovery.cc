// A replica that may have lost entries which it had acknowledged: how it comes back. Why this is
// enough: docs/decisions/0006-relaxed-durability.md.
//
// What it lost and was committed because it had acknowledged it, every leader of a later term has;
// and of the term in which it acknowledged last, the one leader has all that it was ever sent. So
// it asks the leader that it follows, in a way that no answer from before its start can pass for
// one, and is whole again when it has all that this leader's log held then.
//
// That supposes that terms and votes are never lost. A replica whose disk lost what was flushed may
// have acknowledged, or voted, in a term that it knows no more: an old leader that was cut off
// since could pass for the present one, count its acknowledgements, and make it whole. So it first
// asks the others for their terms, by requests for pre-votes, and takes part in nothing meanwhile.
// A leader of a term T was elected by a majority Q; of n voters it needs the terms of n - |Q| + 1
// others that did not lose theirs, one of which then is in Q, and is in T or later. From then on
// its own term is as good as if it had never been lost. Where all others have been heard, what they
// know is all that is left.
#include <algorithm>
#include <bit>

#include "base/check.h"
#include "raft/core.h"
#include "raft/leading.h"

namespace weir::raft {

void Core::ask_terms() {
    ask_for_votes(true);
    deadline_ = now_ + options_->election_timeout_min;
}

bool Core::heard_terms() const {
    const auto enough = [&](auto counts) {
        int voters = 0;
        int heard = 0;
        for (const Member& member : configuration().members) {
            if (!counts(member)) continue;
            ++voters;
            if ((terms_heard_ & vote_bit(member.node)) != 0) ++heard;
        }
        const int majority = voters / 2 + 1;
        return voters == 0 || heard >= voters - majority + 1;
    };
    const bool all = all_voters(static_cast<uint16_t>(terms_heard_any_ | vote_bit(self_)));
    return all || (enough([](const Member& member) { return member.voter; }) &&
                   enough([](const Member& member) { return member.old_voter; }));
}

void Core::note_term(NodeId from, const VoteReply& reply) {
    // A granted pre-vote names the term that was asked for: its sender is in an older one.
    if (!reply.granted && reply.term > hard_.term) follow(reply.term, kNoNode);
    if (!reply.pre_vote || !configuration().is_voter(from)) return;
    terms_heard_any_ |= vote_bit(from);
    // Who is recovering may have lost its term, too.
    if (!reply.recovering) terms_heard_ |= vote_bit(from);
    if (!heard_terms()) return;
    asking_terms_ = false;
    arm_election();
}

// `again`: the answer may have been lost, or what the leader believes of this log is wrong anew.
void Core::ask_recovery(bool again) {
    if (!recovering_ || role_ != Role::kFollower || leader_ == kNoNode || !term_saved()) return;
    if (!again && recovery_asked_ == hard_.term) return;
    recovery_asked_ = hard_.term;
    send(leader_, RecoveryRequest{.term = hard_.term, .id = recovery_id_, .end = end_});
}

Verdict Core::on(NodeId from, const RecoveryRequest& request) {
    if (request.end < Position{}) return Verdict::kInvalid;
    if (!knows(from)) return Verdict::kStale;
    if (request.term > hard_.term) {
        follow(request.term, kNoNode);
        return Verdict::kTaken;
    }
    if (role_ != Role::kLeader || request.term < hard_.term) return Verdict::kStale;
    Peer* peer = peer_of(from);
    if (peer == nullptr) return Verdict::kStale;
    if (quiet_) wake_up();
    peer->heard = now_;
    peer->quiet = false;
    // What it acknowledged before does not tell where it stands now. What was counted because of it
    // stays committed: until the peer has all of it again, it elects nobody.
    if (request.end < peer->match) {
        peer->match = {};
        if (peer->state != PeerState::kSnapshot) peer->become(PeerState::kProbe, end_);
    }
    send(from, RecoveryReply{.term = hard_.term, .id = request.id, .end = end_});
    send_to(*peer);
    return Verdict::kTaken;
}

Verdict Core::on(NodeId from, const RecoveryReply& reply) {
    if (reply.end < Position{}) return Verdict::kInvalid;
    if (!recovering_ || reply.id != recovery_id_ || reply.term != hard_.term || leader_ != from)
        return Verdict::kStale;
    if (recovery_term_ == reply.term) return Verdict::kStale;  // the first one was enough
    recovery_term_ = reply.term;
    recovery_end_ = reply.end;
    return Verdict::kTaken;
}

// At the end of every turn.
void Core::check_recovered() {
    if (recovery_term_ != hard_.term || role_ != Role::kFollower || !verified_) return;
    if (truncating_ || install_ != nullptr || match() < recovery_end_) return;
    recovering_ = false;
    out_->recovered = true;
}

}  // namespace weir::raft

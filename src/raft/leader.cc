// A leader's work: sending entries, counting what is durable where, heartbeats, reads, handing
// over.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core.h"
#include "raft/leading.h"

namespace weir::raft {
namespace {

constexpr int kResendSlow = 10;

}  // namespace

Peer* Core::peer_of(NodeId node) const {
    for (Peer& peer : leading_->peers) {
        if (peer.node == node) return &peer;
    }
    return nullptr;
}

// ---- time

void Core::tick_leader() {
    Leading& leading = *leading_;
    const Instant heard = quorum_value<Instant>(
        [&](NodeId node) { return node == self_ ? now_ : peer_of(node)->heard; });
    if (heard + options_->election_timeout_max < now_) return follow(hard_.term, kNoNode);
    if (leading.transfer && now_ >= leading.transfer->deadline) {
        leading.transfer.reset();
        out_->transfer_done = false;
    }
    advance_change();  // sees who has caught up since the last heartbeat
    if (role_ != Role::kLeader) return;
    leading.recent_end = end_;
    hand_over();
    for (Peer& peer : leading.peers) watch(peer);
    if (!could_sleep()) {
        leading.quiet_context = INT64_MAX;
        return beat(false);
    }
    if (all_sleep()) return fall_asleep();
    if (leading.quiet_context == INT64_MAX) leading.quiet_context = leading.context + 1;
    beat(true);
}

Heartbeat Core::heartbeat(bool quiet) const {
    return {.term = hard_.term,
            .quiet = quiet,
            .context = leading_->context,
            .commit = commit_,
            .end = end_};
}

void Core::beat(bool quiet) {
    Leading& leading = *leading_;
    leading.context = std::max(now_.ns, leading.context + 1);
    for (const Peer& peer : leading.peers) send(peer.node, heartbeat(quiet));
    const int64_t interval = options_->heartbeat_interval.count();
    deadline_ = {(now_.ns / interval + 1) * interval};
}

// Whether what is in flight must have been lost. A connection that stands loses nothing, so the
// peer dropped it, and has been running since: while it says nothing, it may be about to receive
// it. What it has received waits for its disk; only if it began anew, which a heartbeat's reply
// mostly shows, has it lost that.
bool Core::is_overdue(const Peer& peer) const {
    if (peer.inflight.empty()) return false;
    const Duration limit =
        options_->resend_timeout * (peer.received >= peer.next ? kResendSlow : 1);
    return peer.heard - peer.progressed >= limit;
}

// Repairs what a lost message left behind.
void Core::watch(Peer& peer) {
    if (peer.down) return;
    switch (peer.state) {
        case PeerState::kProbe:
            if (peer.probed && !peer.sending) return send_probe(peer);
            return send_to(peer);
        case PeerState::kReplicate:
            if (is_overdue(peer)) peer.become(PeerState::kProbe, peer.match);
            return send_to(peer);
        case PeerState::kSnapshot:
            if (now_ - peer.progressed >= options_->snapshot_retry) send_to(peer);
            return;
    }
}

// Something happened: no sleep for a while.
void Core::touch() {
    leading_->idle_since = now_;
    leading_->quiet_context = INT64_MAX;
    for (Peer& peer : leading_->peers) peer.quiet = false;
}

bool Core::could_sleep() const {
    const Leading& leading = *leading_;
    if (leading.transfer || leading.change || !leading.reads.empty()) return false;
    if (commit_ != end_ || durable_ != end_ || configuration().joint()) return false;
    if (leading.peers.empty()) return true;
    if (options_->quiet_after == 0ns || now_ - leading.idle_since < options_->quiet_after) {
        return false;
    }
    return std::ranges::all_of(leading.peers, [&](const Peer& peer) {
        return peer.down || (peer.state == PeerState::kReplicate && peer.match == end_);
    });
}

bool Core::all_sleep() const {
    return std::ranges::all_of(leading_->peers,
                               [](const Peer& peer) { return peer.down || peer.quiet; });
}

// ---- entries

ProposeStatus Core::may_propose() const {
    if (role_ != Role::kLeader) return ProposeStatus::kNotLeader;
    return leading_->transfer ? ProposeStatus::kTransferring : ProposeStatus::kOk;
}

void Core::on_proposed(const EntryInfo& info, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    CHECK(may_propose() == ProposeStatus::kOk);
    CHECK(info.kind == EntryKind::kData);
    CHECK(info.term == hard_.term);
    CHECK(info.first == end_);
    CHECK(info.next_offset > end_.offset);
    if (quiet_) wake_up();
    end_ = info.end();
    touch();
    send_to_all();
}

void Core::append_control(ControlKind kind, Configuration configuration) {
    const EntryInfo info{
        .kind = EntryKind::kControl, .term = hard_.term, .first = end_, .next_offset = end_.offset};
    terms_.append(hard_.term, end_);
    end_ = info.end();
    touch();
    if (kind == ControlKind::kConfiguration) use_configuration({info.first, configuration});
    out_->control.push_back({info, kind, std::move(configuration)});
    send_to_all();
}

void Core::send_to_all() {
    for (Peer& peer : leading_->peers) {
        if (!peer.down) send_to(peer);
    }
}

void Core::send_to(Peer& peer) {
    if (peer.sending) return;
    if (peer.state == PeerState::kSnapshot) {
        if (peer.carrying) return;
        peer.carrying = true;
        peer.progressed = now_;
        out_->snapshots.push_back(peer.node);
        return;
    }
    uint64_t bytes_max = options_->send_bytes_max;
    if (peer.state == PeerState::kProbe) {
        if (peer.probed) return;
        if (peer.next == end_) return send_probe(peer);
    } else {
        if (peer.next == end_ || peer.inflight.bytes() >= options_->window_bytes) return;
        bytes_max = std::min(bytes_max, options_->window_bytes - peer.inflight.bytes());
    }
    if (peer.next < snapshot_start_min()) {
        peer.become(PeerState::kSnapshot, peer.next);
        return send_to(peer);
    }
    peer.probed = true;
    peer.sending = true;
    out_->entries.push_back({.to = peer.node,
                             .term = hard_.term,
                             .prev_term = terms_.term_before(peer.next),
                             .prev = peer.next,
                             .until = end_,
                             .bytes_max = bytes_max});
}

// An append without entries: asks whether the logs agree at `next`.
void Core::send_probe(Peer& peer) {
    const Position at = peer.state == PeerState::kProbe ? peer.next : peer.match;
    if (peer.state == PeerState::kSnapshot) return;
    if (at < snapshot_start_min()) {
        if (peer.state == PeerState::kReplicate) return;
        peer.become(PeerState::kSnapshot, peer.next);
        return send_to(peer);
    }
    peer.probed = true;
    send(peer.node, AppendRequest{.term = hard_.term,
                                  .prev_term = terms_.term_before(at),
                                  .prev = at,
                                  .commit = commit_,
                                  .entries = {}});
}

std::optional<AppendRequest> Core::on_sent(const SendEntries& work, Position end, uint64_t bytes,
                                           Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ != Role::kLeader || work.term != hard_.term) return std::nullopt;
    CHECK(end >= work.prev && end <= end_);
    Peer* peer = peer_of(work.to);
    if (peer == nullptr) return std::nullopt;
    peer->sending = false;
    if (peer->state == PeerState::kSnapshot) {
        send_to(*peer);
        return std::nullopt;
    }
    if (peer->next != work.prev) {  // it was sent back or forward meanwhile
        send_to(*peer);
        return std::nullopt;
    }
    if (end == work.prev) {
        peer->probed = false;
        return std::nullopt;
    }
    const AppendRequest request{.term = hard_.term,
                                .prev_term = work.prev_term,
                                .prev = work.prev,
                                .commit = commit_,
                                .entries = {}};
    if (peer->state == PeerState::kReplicate) {
        if (peer->inflight.empty()) peer->progressed = now_;
        peer->inflight.push(end, bytes);
        peer->next = end;
        send_to(*peer);
    }
    return request;
}

SnapshotHead Core::snapshot_head(Position start) const {
    CHECK(start >= snapshot_start_min());
    CHECK(start <= commit_);
    // settle_configurations(): the first is the last one that is committed.
    return {start, terms_.rows_below(start), configurations_.front().configuration};
}

void Core::on_snapshot_sent(NodeId to, bool delivered, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ != Role::kLeader) return;
    Peer* peer = peer_of(to);
    if (peer == nullptr || peer->state != PeerState::kSnapshot || !peer->carrying) return;
    peer->carrying = false;
    peer->progressed = now_;
    if (!delivered) return;
    peer->become(PeerState::kProbe, std::max(peer->match, snapshot_start_min()));
    send_to(*peer);
}

Verdict Core::on(NodeId from, const AppendReply& reply) {
    if (!knows(from)) return Verdict::kStale;
    if (reply.term > hard_.term) {
        follow(reply.term, kNoNode);
        return Verdict::kTaken;
    }
    if (role_ != Role::kLeader || reply.term < hard_.term) return Verdict::kStale;
    Peer* peer = peer_of(from);
    if (peer == nullptr) return Verdict::kStale;
    peer->heard = now_;
    if (!peer->is_known()) {  // it has saved the term, so it answers
        leading_->context = std::max(now_.ns, leading_->context + 1);
        send(from, heartbeat(false));
    }
    if (!reply.accepted) {
        if (reply.hint_term < 0 || reply.hint_term > hard_.term) return Verdict::kInvalid;
        const bool expected =
            peer->state == PeerState::kProbe
                ? reply.prev == peer->next
                : peer->state == PeerState::kReplicate && reply.prev <= peer->next;
        // A log shorter than what it acknowledged: an old message, or a disk that lost data. In
        // that case no hurry: the heartbeats' probes ask again.
        if (!expected || reply.end < peer->match) return Verdict::kStale;
        peer->become(PeerState::kProbe, std::max(peer->match, common_point(reply)));
        send_to(*peer);
        return Verdict::kTaken;
    }
    if (reply.received > end_ || reply.match > reply.received) return Verdict::kInvalid;
    if (!peer->is_known()) return Verdict::kStale;
    const bool snapshot = peer->state == PeerState::kSnapshot;
    if (peer->state == PeerState::kProbe || (snapshot && reply.received >= snapshot_start_min())) {
        peer->become(PeerState::kReplicate, std::max(peer->match, reply.received));
        peer->progressed = now_;
    }
    if (reply.received > peer->received) {
        peer->received = reply.received;
        peer->progressed = now_;
    }
    note_match(*peer, reply.match);
    if (peer->state == PeerState::kReplicate) {
        // 1. The peer takes what is sent to find where the logs part, and says so before it is
        // durable.  2. It believes the leader lost and asks for votes.  3. It hears the leader
        // again, and takes for the leader's no more than what it acknowledged: nothing is in
        // flight, and still it needs the rest.
        if (reply.received < peer->next && peer->inflight.empty())
            peer->become(PeerState::kProbe, std::max(peer->match, reply.received));
        else
            peer->next = std::max(peer->next, reply.received);
    }
    send_to(*peer);
    return Verdict::kTaken;
}

// The end of what both logs have, as far as this one's terms and the reply's hint tell: as a
// follower of Kafka finds it. Each round goes at least one of the leader's terms further back.
Position Core::common_point(const AppendReply& reply) const {
    const TermTable::TermEnd mine = terms_.end_of(reply.hint_term, end_);
    // None of this log's terms is as old: what they share lies at 0, or below this log's start.
    if (reply.hint_term == 0 || mine.term == 0) return {};
    if (mine.term < reply.hint_term) return mine.end;
    return std::min(mine.end, reply.hint_end);
}

void Core::note_match(Peer& peer, Position match) {
    if (match <= peer.match) return;
    peer.match = match;
    peer.next = std::max(peer.next, match);
    peer.progressed = now_;
    peer.inflight.release(match);
    commit_by_count();
    hand_over();
}

void Core::commit_by_count() {
    const RaftBugs& bugs = options_->bugs;
    Position position = quorum_value<Position>([&](NodeId node) {
        if (node == self_) return bugs.leader_counts_unwritten ? end_ : durable_;
        return peer_of(node)->match;
    });
    // Raft §5.4.2: only entries of the current term commit by counting.
    if (position <= term_start_ && !bugs.commit_old_term_by_count) return;
    if (bugs.high_watermark_off_by_one) position = std::min(Position{position.offset + 1, 0}, end_);
    if (position <= commit_) return;
    advance_commit(position);
    leading_->idle_since = now_;
}

// ---- reads

Verdict Core::on(NodeId from, const HeartbeatReply& reply) {
    if (!knows(from)) return Verdict::kStale;
    if (reply.term > hard_.term) {
        follow(reply.term, kNoNode);
        return Verdict::kTaken;
    }
    if (role_ != Role::kLeader || reply.term < hard_.term) return Verdict::kStale;
    Leading& leading = *leading_;
    Peer* peer = peer_of(from);
    if (peer == nullptr) return Verdict::kStale;
    if (reply.context > leading.context || reply.match > end_) return Verdict::kInvalid;
    peer->heard = now_;
    if (!peer->is_known()) {
        if (reply.context < -peer->context) return Verdict::kStale;
        if (peer->state == PeerState::kProbe && !peer->sending) send_probe(*peer);
    }
    peer->context = std::max(peer->context, reply.context);
    // Began anew since, or is behind: it does not know that its log is this one's.
    if (peer->state == PeerState::kReplicate && reply.match < peer->match) send_probe(*peer);
    note_match(*peer, reply.match);
    if (peer->state == PeerState::kReplicate) send_to(*peer);
    confirm_reads();
    if (reply.quiet && reply.context >= leading.quiet_context && !quiet_) {
        peer->quiet = true;
        if (all_sleep() && could_sleep()) fall_asleep();
    }
    return Verdict::kTaken;
}

bool Core::alone() const {
    return quorum_value<int>([&](NodeId node) { return node == self_ ? 1 : 0; }) == 1;
}

int64_t Core::confirmed_context() const {
    return quorum_value<int64_t>(
        [&](NodeId node) { return node == self_ ? leading_->context : peer_of(node)->context; });
}

// The voters that answered a heartbeat which left at `context` elect nobody for
// election_timeout_min from then on, by their clocks.
bool Core::lease_holds() const {
    const Leading& leading = *leading_;
    if (!options_->lease_reads || leading.context == 0) return false;
    if (leading.lease_void && !options_->bugs.lease_survives_transfer) return false;
    const double share = options_->bugs.lease_ignores_drift ? 1 : 1 - options_->clock_drift_max;
    const Duration lease(
        static_cast<int64_t>(static_cast<double>(options_->election_timeout_min.count()) * share));
    return now_ < Instant{confirmed_context()} + lease;
}

RequestStatus Core::read_index(uint64_t id, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ != Role::kLeader) return RequestStatus::kNotLeader;
    if (!leader_ready() && !options_->bugs.read_without_term_commit)
        return RequestStatus::kNotReady;
    Leading& leading = *leading_;
    if (leading.reads.size() >= options_->reads_max) return RequestStatus::kBusy;
    if (alone() || lease_holds()) {
        out.reads.push_back({id, true, commit_});
        return RequestStatus::kStarted;
    }
    if (quiet_) wake_up();
    leading.idle_since = now_;
    const bool under_way = !leading.reads.empty();
    leading.reads.push_back({id, leading.context + 1, commit_});
    // One round at a time: those that come meanwhile share the next.
    if (!under_way) beat(false);
    return RequestStatus::kStarted;
}

void Core::confirm_reads() {
    Leading& leading = *leading_;
    if (leading.reads.empty()) return;
    const int64_t confirmed = confirmed_context();
    size_t done = 0;
    while (done < leading.reads.size() && leading.reads[done].context <= confirmed) {
        out_->reads.push_back({leading.reads[done].id, true, leading.reads[done].position});
        ++done;
    }
    if (done == 0) return;
    leading.reads.erase(leading.reads.begin(),
                        leading.reads.begin() + static_cast<ptrdiff_t>(done));
    if (!leading.reads.empty() && leading.reads.front().context > leading.context) beat(false);
}

// ---- handing over

RequestStatus Core::transfer(NodeId target, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ != Role::kLeader) return RequestStatus::kNotLeader;
    const Member* member = configuration().find(target);
    if (member == nullptr || !member->voter || target == self_) return RequestStatus::kInvalid;
    if (leading_->transfer) return RequestStatus::kBusy;
    if (quiet_) wake_up();
    leading_->transfer = Leading::Transfer{target, now_ + options_->transfer_timeout};
    touch();
    send_to(*peer_of(target));
    hand_over();
    return RequestStatus::kStarted;
}

// Dissertation §3.10. Said again with each heartbeat until the target campaigns, or time is up.
void Core::hand_over() {
    if (!leading_->transfer) return;
    const Peer* target = peer_of(leading_->transfer->target);
    if (target == nullptr || target->match != end_) return;
    leading_->lease_void = true;
    send(target->node, TimeoutNow{.term = hard_.term});
}

}  // namespace weir::raft

// Core is one Raft group on one node, as a pure state machine: messages, ticks and the results of
// I/O go in, Effects come out (effects.h). No I/O, no clock, no payloads, no memory for each entry:
// it knows its log by start, end, durable end and a table of terms. Owned by the group's driver;
// used on the group's shard alone. After a crash a new Core starts from what the driver finds on
// disk (CoreStart).
//
// The driver's part, in short:
//   - start() once; tick() at next_deadline() (or any time after it); step() for what peers send.
//   - a proposal: may_propose(), append the entry to the log {term(), end()}, on_proposed().
//   - what of the log may be relied on moves: on_durable(). That is what is on stable storage; in a
//     relaxed group it may be what is in memory, but for configurations and what follows them,
//     which must be flushed. Who started again without having flushed is `recovering`.
//   - effects: as effects.h says. Save and truncate are durable when on_saved(), on_truncated() are
//     called; until then the core holds back what relies on them.
//   - commit().offset is the high watermark.
// `now` never goes back. It may leave out time in which this node did not run: whoever did not run
// did not listen, and holds the silence of that time against nobody. Calls with wrong arguments of
// the driver's own are CHECKed; what peers send is believed only as far as it can be true, and
// answered by a Verdict.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "raft/effects.h"
#include "raft/options.h"
#include "raft/peer.h"
#include "raft/term_table.h"

namespace weir::raft {

// What became of a message. Stale ones (an older term, a duplicate) are normal; invalid ones and
// those of strangers (no members of the group) come from a broken or hostile peer, and are worth a
// log line. Neither changes anything.
enum class Verdict : uint8_t { kTaken, kStale, kInvalid, kStranger };

// Whether somebody other than this log says that a message's sender may belong to the group: its
// configuration may have changed in entries that this log does not have yet.
enum class Vouched : uint8_t { kNo, kYes };

enum class ProposeStatus : uint8_t { kOk, kNotLeader, kTransferring };

enum class RequestStatus : uint8_t {
    kStarted,    // the outcome comes as an effect
    kNotLeader,  // ask the leader
    kNotReady,   // the leader has not committed in its term yet; try again
    kBusy,       // one of the kind is under way, or too many wait
    kInvalid,    // can't be served: not a voter, not a configuration
};

struct PeerStatus {
    NodeId node;
    Position match;  // durable there
    PeerState state = PeerState::kProbe;
    Instant heard;           // last, by the driver's clock
    bool caught_up = false;  // within a heartbeat of the leader's end
    bool is_near = false;    // all that it lacks is on its way
    bool down = false;       // as the driver told
};

class Core {
  public:
    // `options` outlives the core. CHECKs that `start` is consistent: validate what comes from a
    // disk before (docs of CoreStart).
    Core(const Options& options, CoreStart start);
    ~Core();
    Core(Core&&) noexcept;

    // Once, first. A group of one voter campaigns at once, and so does CoreStart::leads_first.
    void start(Instant now, Effects& out);
    void tick(Instant now, Effects& out);
    // When tick() is due; Instant::never() while the group is quiet.
    Instant next_deadline() const;

    // From the peer `from`, as the transport knows it. AppendRequest's entries stay the caller's.
    // Who is neither known() nor vouched for is a stranger. Answers and reports count from known()
    // nodes alone: whoever was asked is known.
    Verdict step(NodeId from, const Message& message, Instant now, Effects& out,
                 Vouched vouched = Vouched::kYes);
    Verdict step(NodeId from, InstallSnapshot snapshot, Instant now, Effects& out,
                 Vouched vouched = Vouched::kYes);
    // Whether some configuration that may be in force has the node. Nobody is known to a replica
    // that waits to be told of its group.
    bool knows(NodeId node) const;

    // Proposals. After kOk and without another call in between: append {kData, term(), end()} to
    // the log, then tell.
    ProposeStatus may_propose() const;
    void on_proposed(const EntryInfo& info, Instant now, Effects& out);

    // The log may be relied on up to `end`. Ignored while a truncation or an install is under way.
    void on_durable(Position end, Instant now, Effects& out);
    void on_saved(HardState state, Instant now, Effects& out);
    // Tell on_durable() afterwards: what became durable meanwhile was ignored.
    void on_truncated(Instant now, Effects& out);
    void on_installed(Instant now, Effects& out);
    // The log begins at `start` now. start <= commit().
    void on_prefix_truncated(Position start, Instant now, Effects& out);

    // The driver read entries [work.prev, end), `bytes` in all, for a SendEntries. Gives the
    // request to send, entries to be added by the driver; nothing if it has become pointless, or if
    // nothing was read (end == work.prev; it is tried again later). Call it exactly once for each.
    std::optional<AppendRequest> on_sent(const SendEntries& work, Position end, uint64_t bytes,
                                         Instant now, Effects& out);
    // What a peer needs before entries from `start` on: snapshot_start_min() <= start <= commit(),
    // and an entry begins or ends there.
    SnapshotHead snapshot_head(Position start) const;
    Position snapshot_start_min() const { return terms_.known_from(start_); }
    // It is there (`delivered`), or it failed and is tried again after a while.
    void on_snapshot_sent(NodeId to, bool delivered, Instant now, Effects& out);

    // Every majority now holds what was committed when this was called, and this node still led
    // then: by lease, or by a round of heartbeats. `id` is the caller's; comes back in
    // Effects::reads.
    RequestStatus read_index(uint64_t id, Instant now, Effects& out);
    // Hands leadership to a voter, once it has all entries; proposals are refused meanwhile.
    RequestStatus transfer(NodeId target, Instant now, Effects& out);
    // Makes `target` (no member an old voter) the configuration: adds its new voters as learners,
    // waits until they have caught up, goes through the joint configuration. If leadership is lost
    // meanwhile the new leader ends a joint configuration by itself; a change that had not come so
    // far is forgotten: ask again.
    RequestStatus change_configuration(Configuration target, Instant now, Effects& out);

    // The driver's node-level heartbeats: a node stopped answering or was started again; it came
    // back; the connection to it broke, and what was in flight is lost.
    void on_peer_down(NodeId node, Instant now, Effects& out);
    void on_peer_up(NodeId node, Instant now, Effects& out);
    void on_connection_lost(NodeId node, Instant now, Effects& out);
    // Ends hibernation.
    void wake(Instant now, Effects& out);
    // kWhole at first. A leader goes on leading whatever it is told: the driver hands over.
    void set_fitness(Fitness fitness, Instant now, Effects& out);

    NodeId self() const { return self_; }
    Role role() const { return role_; }
    Term term() const { return hard_.term; }
    NodeId leader() const { return leader_; }  // kNoNode: not known
    Position log_start() const { return start_; }
    Position end() const { return end_; }
    Position durable_end() const { return durable_; }
    Position commit() const { return commit_; }
    bool quiet() const { return quiet_; }
    // It may have lost entries that it acknowledged, and that were committed because it did. Until
    // it has all that a leader's log held at some moment after this start, its votes do not count
    // towards a majority. They count where all voters say yes: what is left is the best there is
    // then. Takes part in all else: terms and votes are never lost.
    bool recovering() const { return recovering_; }
    // It lost its term, and takes part in nothing but elections by all before it has asked others
    // for theirs (recovery.cc).
    bool asking_terms() const { return asking_terms_; }
    // It is to be added, and no leader has told it of the group yet: see CoreStart::joins.
    bool gives_no_vote() const { return joins_ && configuration().members.empty(); }
    // A leader that has committed an entry of its term: what it has committed is all there is.
    bool leader_ready() const { return role_ == Role::kLeader && commit_ > term_start_; }
    const Configuration& configuration() const { return configurations_.back().configuration; }
    // It is committed, and leads to no other: it stays, whoever leads next.
    bool configuration_settled() const {
        return configurations_.back().at < commit_ && !configuration().joint();
    }
    const TermTable& terms() const { return terms_; }
    std::vector<PeerStatus> peers() const;  // the leader's; allocates
    size_t memory_bytes() const;
    // CHECKs what must hold between calls; O(members + terms).
    void check_invariants() const;

  private:
    struct Leading;  // what only a leader has: leading.h
    struct Install {
        Term term;
        SnapshotHead head;
    };
    class Turn;  // one call from outside: what changed in it becomes effects at its end

    // core.cc: time, and what comes in
    void follow(Term term, NodeId leader);
    void hear(NodeId leader, Term term);
    bool may_speak(NodeId from, Vouched vouched) const;
    bool believable(Term term) const;
    void spend_leap(Term before);
    Verdict recognize(NodeId from, Term term);
    void arm_election();
    void arm_election_soon();
    Duration handicap() const;
    uint64_t draw(uint64_t bound);
    bool term_saved() const;
    void send(NodeId to, const Message& message);
    void advance_commit(Position position);
    void truncate(Position end);
    void fall_asleep();
    void wake_up();

    // election.cc
    void campaign(bool transfer);
    void found();
    bool ask_founders_again();
    void pre_campaign();
    void ask_for_votes(bool pre_vote);
    void count_votes();
    void become_leader();
    bool loyal() const;
    uint16_t vote_bit(NodeId node) const;
    bool majority(uint16_t votes) const;
    bool all_voters(uint16_t votes) const;
    bool elected() const;
    bool hopeless() const;
    void vote_for_self();
    Verdict on(NodeId from, const VoteRequest& request);
    Verdict on(NodeId from, const VoteReply& reply);
    Verdict on(NodeId from, const TimeoutNow& request);

    // recovery.cc
    void ask_terms();
    bool heard_terms() const;
    void note_term(NodeId from, const VoteReply& reply);
    void ask_recovery(bool again);
    void check_recovered();
    Verdict on(NodeId from, const RecoveryRequest& request);
    Verdict on(NodeId from, const RecoveryReply& reply);

    // follower.cc
    Verdict on(NodeId from, const AppendRequest& request);
    Verdict on(NodeId from, const Heartbeat& beat);
    Verdict install(NodeId from, InstallSnapshot snapshot);
    bool fits(const AppendRequest& request) const;
    Verdict take_entries(const AppendRequest& request);
    void append_from(const AppendRequest& request, size_t first);
    Position match() const;
    void acknowledge();
    void reject(const AppendRequest& request);

    // leader.cc
    Verdict on(NodeId from, const AppendReply& reply);
    Verdict on(NodeId from, const HeartbeatReply& reply);
    void tick_leader();
    Heartbeat heartbeat(bool quiet) const;
    void beat(bool quiet);
    bool could_sleep() const;
    bool all_sleep() const;
    void touch();
    bool is_overdue(const Peer& peer) const;
    void watch(Peer& peer);
    void send_to(Peer& peer);
    void send_to_all();
    void send_probe(Peer& peer);
    void take_match(Peer& peer, Position match);
    Position common_point(const AppendReply& reply) const;
    void append_control(ControlKind kind, Configuration configuration);
    void commit_by_count();
    template <class T, class F>
    T quorum_value(F value_of) const;
    Peer* peer_of(NodeId node) const;
    void confirm_reads();
    int64_t confirmed_context() const;
    bool alone() const;
    bool lease_holds() const;
    void hand_over();

    // membership.cc
    void use_configuration(ConfigurationAt configuration);
    void roll_back_configurations(Position end);
    void settle_configurations();
    void configuration_changed();
    bool may_campaign() const;
    void match_peers(bool elected);
    void advance_change();
    void resign();
    bool caught_up(NodeId node) const;

    const Options* options_;
    NodeId self_;
    NodeId leader_;
    Role role_ = Role::kFollower;
    bool started_ = false;
    bool quiet_ = false;
    bool truncating_ = false;
    bool loyal_ = false;     // to the leader heard at heard_
    bool verified_ = false;  // the log is the leader's up to received_
    bool transfer_campaign_ = false;
    uint16_t votes_for_ = 0;  // bits by the members' places
    uint16_t votes_against_ = 0;
    uint16_t votes_recovering_ = 0;  // of those for it
    const bool joins_;
    bool leads_first_ = false;  // until start()
    bool recovering_ = false;
    Fitness fitness_ = Fitness::kWhole;
    bool asking_terms_ = false;
    uint16_t terms_heard_ = 0;      // of those that did not lose theirs, by the members' places
    uint16_t terms_heard_any_ = 0;  // of all
    HardState hard_;
    HardState saved_;  // what of it is durable
    NodeId vote_to_;   // a granted vote that waits for its save

    Position start_;
    Position end_;
    Position durable_;
    Position commit_;
    // Verified: see there. Else: the `prev` of the last append that did not fit.
    Position received_;
    Position acknowledged_;  // the last match told to the leader
    Position term_start_;    // leader: where its term begins
    TermTable terms_;
    std::vector<ConfigurationAt> configurations_;  // never empty; the last is in force

    Instant deadline_ = Instant::never();  // of the election timer or the next heartbeat
    // Of the first election of a new group: when founders are asked again; 0: not (any more).
    Duration founding_retry_{};
    Instant founding_end_{};
    Instant heard_{};
    Instant leaps_from_{};  // since when terms may be raised by others' words: see kTermPace
    uint64_t draws_;
    uint64_t recovery_id_ = 0;          // of this start
    Term recovery_asked_ = 0;           // the last term whose leader was asked
    Term recovery_term_ = 0;            // the leader of this term said ...
    Position recovery_end_;             // ... how far to come
    std::unique_ptr<Install> install_;  // one under way
    std::unique_ptr<Leading> leading_;

    // Of the call under way.
    Instant now_{};
    Effects* out_ = nullptr;
};

}  // namespace weir::raft

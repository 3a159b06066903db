// Core is one Raft group on one node, as a pure state machine: messages, ticks and the results of
// I/O go in, Effects come out (effects.h). It has no I/O, no clock, no payloads, and no memory per
// entry: it knows its log by start, end, durable end and a table of terms. Owned by the group's
// driver; used on the group's shard alone. After a crash a new Core starts from what the driver
// finds on disk (CoreStart).
//
// The driver's part, in short:
//   - start() once; tick() at next_deadline() (or any time after it); step() for each message of a
//   peer.
//   - To propose: may_propose(), append the entry to the log {term(), end()}, on_proposed().
//   - on_durable() when more of the log may be relied on: what is on stable storage. In a relaxed
//     group that may be what is in memory, except for configurations and what follows them, which
//     must be flushed. A replica that started again without having flushed is `recovering`.
//   - Effects, as effects.h says. Save and truncate are durable when on_saved(), on_truncated() are
//     called; until then the core holds back what relies on them.
//   - commit().offset is the high watermark.
// `now` never goes back. It may leave out time in which this node did not run: a node that did not
// run did not listen, so that time is not its peers' silence. The driver's own wrong arguments are
// CHECKed. Messages of peers are believed only as far as they can be true; the answer is a Verdict.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "raft/effects.h"
#include "raft/options.h"
#include "raft/peer.h"
#include "raft/term_table.h"

namespace weir::raft {

// What became of a message. Stale messages (an older term, a duplicate) are normal. Invalid ones
// and those of strangers (nodes that are not members of the group) come from a broken or hostile
// peer and deserve a log line. So does a leader's order that contradicts what this replica knows to
// be committed: in a relaxed group it may be right, because what was committed is lost
// (docs/decisions/0006-relaxed-durability.md). None of them changes anything.
enum class Verdict : uint8_t { kTaken, kStale, kInvalid, kStranger, kContradiction };

// Whether something other than this log says that the sender may belong to the group: the group's
// configuration may have changed in entries that this log does not have yet.
enum class Vouched : uint8_t { kNo, kYes };

enum class ProposeStatus : uint8_t { kOk, kNotLeader, kTransferring };

enum class RequestStatus : uint8_t {
    kStarted,    // the outcome comes as an effect
    kNotLeader,  // ask the leader
    kNotReady,   // the leader has not committed in its term yet; try again
    kBusy,       // one of the kind is in progress, or too many wait
    kInvalid,    // can't be served: not a voter, not a configuration
};

struct PeerStatus {
    NodeId node;
    Position match;  // durable there
    PeerState state = PeerState::kProbe;
    Instant heard;           // last, by the driver's clock
    bool caught_up = false;  // within a heartbeat of the leader's end
    bool inflight_covers_lag = false;  // all that it lacks is on its way
    bool down = false;       // as the driver told
};

class Core {
  public:
    // `options` outlives the core. CHECKs that `start` is consistent: validate what comes from a
    // disk first (see CoreStart).
    Core(const Options& options, CoreStart start);
    ~Core();
    Core(Core&&) noexcept;

    // Call it once, first. A group of one voter campaigns at once, and so does a replica with
    // CoreStart::leads_first.
    void start(Instant now, Effects& out);
    void tick(Instant now, Effects& out);
    // When tick() is due; Instant::never() while the group is quiet.
    Instant next_deadline() const;

    // Handles a message from the peer `from`, as the transport identifies it. The entries of an
    // AppendRequest stay the caller's. A sender that is neither known (knows()) nor vouched for is
    // a stranger. Replies and reports count only from known nodes: only they are asked.
    Verdict step(NodeId from, const Message& message, Instant now, Effects& out,
                 Vouched vouched = Vouched::kYes);
    Verdict step(NodeId from, InstallSnapshot snapshot, Instant now, Effects& out,
                 Vouched vouched = Vouched::kYes);
    // Whether some configuration that may be in force includes the node. A replica that waits to
    // learn its group knows nobody.
    bool knows(NodeId node) const;

    // Proposals. After kOk, and with no other call in between, append {kData, term(), end()} to the
    // log; then call on_proposed().
    ProposeStatus may_propose() const;
    void on_proposed(const EntryInfo& info, Instant now, Effects& out);

    // The log may be relied on up to `end`. Ignored while a truncation or an install is in
    // progress.
    void on_durable(Position end, Instant now, Effects& out);
    void on_saved(HardState state, Instant now, Effects& out);
    // Call on_durable() afterwards: what became durable meanwhile was ignored.
    void on_truncated(Instant now, Effects& out);
    void on_installed(Instant now, Effects& out);
    // The log begins at `start` now. start <= commit().
    void on_prefix_truncated(Position start, Instant now, Effects& out);

    // The driver read entries [work.prev, end), `bytes` in all, for a SendEntries. Returns the
    // request to send, to which the driver adds the entries. Returns nothing if the request has
    // become pointless, or if nothing was read (end == work.prev; the core tries again later). Call
    // it exactly once for each.
    std::optional<AppendRequest> on_sent(const SendEntries& work, Position end, uint64_t bytes,
                                         Instant now, Effects& out);
    // What a peer needs before the entries from `start` on. Needs snapshot_start_min() <= start <=
    // commit(), and that an entry begins or ends there.
    SnapshotHead snapshot_head(Position start) const;
    Position snapshot_start_min() const { return terms_.known_from(start_); }
    // The peer has the snapshot (`delivered`), or it failed and the core tries again after a while.
    void on_snapshot_sent(NodeId to, bool delivered, Instant now, Effects& out);

    // Confirms that this node still leads, by lease or by a round of heartbeats. Then everything
    // that was committed anywhere when this was called is below the position in Effects::reads,
    // which has the caller's `id`.
    RequestStatus read_index(uint64_t id, Instant now, Effects& out);
    // Hands leadership to a voter, once it has all entries; proposals are refused meanwhile.
    RequestStatus transfer(NodeId target, Instant now, Effects& out);
    // Makes `target` (without old voters) the configuration: adds its new voters as learners, waits
    // until they have caught up, and goes through the joint configuration. If leadership is lost
    // meanwhile, the new leader completes a joint configuration by itself; a change that had not
    // come so far is forgotten, and must be requested again.
    RequestStatus change_configuration(Configuration target, Instant now, Effects& out);

    // News from the driver's heartbeats between nodes. Down: the node stopped answering or was
    // started again. Up: it came back. Lost: the connection to it broke, and what was in flight is
    // lost.
    void on_peer_down(NodeId node, Instant now, Effects& out);
    void on_peer_up(NodeId node, Instant now, Effects& out);
    void on_connection_lost(NodeId node, Instant now, Effects& out);
    // Ends hibernation.
    void wake(Instant now, Effects& out);
    // kWhole at first. A leader leads on whatever the fitness is: the driver transfers the
    // leadership.
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
    // This replica may have lost entries that it acknowledged, and that were committed because it
    // did. Until it has everything that a leader's log held at some moment after this start, its
    // votes do not count towards a majority. They count only if all voters say yes: then what the
    // voters have is the best there is. It takes part in everything else: terms and votes are never
    // lost.
    bool recovering() const { return recovering_; }
    // This replica lost its term. Until it has asked others for theirs, it takes part only in
    // elections by all voters (recovery.cc).
    bool asking_terms() const { return asking_terms_; }
    // This replica is to be added, and no leader has told it yet the group's members, or those of
    // the decision that adds it: see CoreStart::joins and joined_by.
    bool votes_withheld() const {
        return (joins_ && configuration().members.empty()) || configuration().revision < joined_by_;
    }
    // Whether this is a leader that has committed an entry of its term: then it knows everything
    // that is committed.
    bool leader_ready() const { return role_ == Role::kLeader && commit_ > term_start_; }
    const Configuration& configuration() const { return configurations_.back().configuration; }
    // The configuration is committed and not joint: it stays, whoever leads next.
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
    void note_leader(NodeId leader, Term term);
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
    Verdict accept_entries(const AppendRequest& request);
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
    void note_match(Peer& peer, Position match);
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
    const uint32_t joined_by_;
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
    // If verified_: how far the log is the leader's. Else: the `prev` of the last append that did
    // not fit.
    Position received_;
    Position acknowledged_;  // the last match told to the leader
    Position term_start_;    // leader: where its term begins
    TermTable terms_;
    std::vector<ConfigurationAt> configurations_;  // never empty; the last is in force

    Instant deadline_ = Instant::never();  // of the election timer or the next heartbeat
    // For the first election of a new group: when the founders are asked again; 0: not (any more).
    Duration founding_retry_{};
    Instant founding_end_{};
    Instant heard_{};
    Instant leaps_from_{};  // since when messages may raise the term: see kTermPace
    uint64_t draws_;
    uint64_t recovery_id_ = 0;          // of this start
    Term recovery_asked_ = 0;           // the last term whose leader was asked
    Term recovery_term_ = 0;            // the leader of this term said ...
    Position recovery_end_;             // ... how far to come
    std::unique_ptr<Install> install_;  // one under way
    std::unique_ptr<Leading> leading_;

    // The time of the call in progress.
    Instant now_{};
    Effects* out_ = nullptr;
};

}  // namespace weir::raft

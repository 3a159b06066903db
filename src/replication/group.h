// Group: one replica of a replicated log. It drives a raft::Core over a storage::Log and the
// shard's connections to the other replicas. A partition or the controller uses its log only
// through its group. Owned by the shard's Replicator; used on the shard that owns the log. What
// survives a crash: the log, with the group's configurations in it, the vote, and the state
// machine's bytes in the store's checkpoints.
//
//   leader:   admit(), append() ...  -> wait_committed() or StateMachine::on_commit()
//   follower: StateMachine::on_append() for each entry that its leader sent
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "raft/core.h"
#include "replication/wire.h"
#include "runtime/milestones.h"
#include "runtime/scope.h"
#include "runtime/wait.h"
#include "storage/log.h"
#include "storage/store.h"

namespace weir::replication {

class Replicator;

// State that the log's owner keeps beside the log: a fold of the data entries. Called on the
// group's shard; no function may wait, or call the group's append().
class StateMachine {
  public:
    virtual ~StateMachine() = default;
    // The first bytes of a payload that on_append() and recover() need; at most kSummaryBytesMax.
    virtual uint32_t summary_bytes() const = 0;
    // Called once at the start, and when a snapshot arrives. The state is `state` (empty: none),
    // without what it says about data entries at or after `state_end`; then come `entries`, those
    // after it in order.
    virtual Result<void> recover(Bytes state, storage::Position state_end,
                                 std::vector<storage::RecoveredState::Replayed> entries) = 0;
    // The bytes of the state that covers all entries of the log; see storage::CapturedState. The
    // machine can't revert below the state's floor; after a start that may lie beyond commit().
    virtual storage::CapturedState capture() = 0;
    // A follower's log has appended this data entry of its leader.
    virtual void on_append(const storage::EntryInfo& info, Bytes summary) = 0;
    // Entries at and after `end` are gone; none of them was committed. In a relaxed group `end` may
    // be below what a snapshot's state covers: those entries are lost, or come again.
    virtual void on_truncate(storage::Position end) = 0;
    // commit() moved on.
    virtual void on_commit() = 0;
    // Role, term or leader changed.
    virtual void on_role() = 0;
    // How far the machine lets the log's start move. A machine that reads entries of its own log
    // needs those that no checkpoint's state covers yet.
    virtual int64_t start_max() const { return INT64_MAX; }
    // Whether the node may belong to the group by what the owner knows besides the log, which may
    // lack the entries that say so. All nodes but those and the members are ignored.
    virtual bool vouches_for(raft::NodeId) const { return true; }
};

// How a replica begins if no leader has told it the group's members.
struct Beginning {
    raft::Configuration founders;  // if it is one of them; none: it waits to be told
    bool joins = false;            // see raft::CoreStart
    uint32_t joined_by = 0;        // likewise, if the replica is made now
    bool leads_first = false;      // likewise; of a founder
};

class Group {
  public:
    // `machine` and `log` outlive the group's close().
    Group(Replicator& replicator, storage::Log& log, StateMachine& machine);
    ~Group();
    Group(const Group&) = delete;
    Group& operator=(const Group&) = delete;

    storage::Log& log() { return log_; }
    const storage::Log& log() const { return log_; }
    storage::LogId id() const { return log_.id(); }
    raft::Role role() const { return core_->role(); }
    // Whether this replica leads and knows all that was committed before its term: it may serve.
    bool leads() const { return core_->leader_ready(); }
    raft::Term term() const { return core_->term(); }
    // The term of the entries that this replica appends as leader: Kafka's leader epoch.
    raft::NodeId leader() const { return core_->leader(); }
    storage::Position commit() const { return core_->commit(); }
    int64_t high_watermark() const { return core_->commit().offset; }
    const raft::Configuration& configuration() const { return core_->configuration(); }
    const raft::Core& core() const { return *core_; }

    // Whether what replicas have in memory counts like what they have on stable storage
    // (docs/decisions/0006-relaxed-durability.md). Off at first; takes effect when the necessary
    // records are on stable storage themselves.
    void set_relaxed(bool relaxed);
    // Whether an appended entry counts at once.
    bool acks_from_memory() const { return relaxed_ && memory_history_durable_ != 0; }

    // What is wrong with this replica, for the operator; empty: nothing. Either its log is damaged,
    // with the reason why it is not repaired yet, or the other replicas are sending what the log
    // lost.
    std::string ailment() const;
    // Whether the journal was damaged, this is the only replica, and no operator accepted the loss:
    // then it does not lead.
    bool loss_stops_it() const;

    // While held, the replica receives and sends nothing, as if its node were cut off. This is for
    // a replica that may have to go: nobody may count on its word before that is known.
    void hold(bool held) { held_ = held; }

    // Waits until the log has room for an entry of this size; see storage::Log::admit(). Also
    // kUnavailable: this replica does not lead; kCorrupt: its log is offline.
    runtime::Task<Result<void>> admit(uint64_t bytes, runtime::StopToken stop);
    void withdraw(uint64_t bytes) { log_.withdraw(bytes); }  // what was admitted is not appended
    // Appends a data entry at the log's end, if this replica leads, and sets info.term and
    // info.first. The entry is not committed yet. kUnavailable if it does not lead; or the log's
    // own error: then what was admitted for the entry is withdrawn.
    Result<storage::EntryInfo> append(storage::Entry entry);
    // Waits until the entries up to `end`, appended in `term`, are committed. kUnavailable if they
    // were lost, or may have been because this replica leads no more. After kTimedOut and
    // kCancelled they may still be committed.
    runtime::Task<Result<void>> wait_committed(storage::Position end, raft::Term term,
                                               runtime::WaitOptions options = {});
    // What became of the entries up to `end` that were appended here in `term`, as far as this
    // replica knows, whether it leads or not.
    enum class Fate : uint8_t { kUnknown, kCommitted, kLost };
    Fate fate(storage::Position end, raft::Term term) const;
    // Waits until this replica is known to lead still; then commit() covers everything that was
    // committed before the call. kUnavailable, kTimedOut.
    runtime::Task<Result<void>> read_barrier(runtime::WaitOptions options);
    // Moves the log's start up, at most to the high watermark. Followers do the same.
    runtime::Task<Result<void>> truncate_prefix(int64_t start_offset);

    // Transfers leadership to `target`, or makes `target` the group's configuration; returns when
    // that is done. kUnavailable: this replica does not lead, or leads no more; kResourceExhausted:
    // another request is in progress; kInvalidArgument: not a voter, or not a configuration;
    // kTimedOut: not done by the deadline of `options` or by the core's own limits; kCancelled. If
    // the wait ends early, the request goes on and may still succeed.
    runtime::Task<Result<void>> transfer(raft::NodeId target, runtime::WaitOptions options = {});
    runtime::Task<Result<void>> change_configuration(raft::Configuration target,
                                                     runtime::WaitOptions options = {});

  private:
    friend class Replicator;
    // What a replica whose log was discarded keeps in place of its store's history.
    static constexpr uint64_t kHistoryLost = UINT64_MAX;
    struct Outcome;
    struct InboxItem {
        raft::NodeId from;
        runtime::SharedBytes body;
    };

    // --- by the Replicator
    runtime::Task<Result<void>> open(Beginning beginning);
    void start();
    // Refuses new calls; the waiting ones end with kUnavailable.
    runtime::Task<void> close();
    void tick(Instant now);
    void on_message(raft::NodeId from, const GroupMessage& message);
    void on_append_message(raft::NodeId from, runtime::SharedBytes body);
    runtime::Task<Result<void>> on_snapshot_message(raft::NodeId from, Snapshot snapshot);
    void peer_up(raft::NodeId node);
    void peer_down(raft::NodeId node);
    void connection_lost(raft::NodeId node);  // what was on its way to the node is lost

    // No message goes in or out: the group is closing, has failed, or its core is being replaced.
    bool out_of_service() const { return closing_ || failed_ || rebuilding_; }

    // --- repair.cc
    void on_damage();
    raft::Fitness fitness() const;
    runtime::Task<void> repair();
    runtime::Task<Result<void>> repair_step();
    runtime::Task<Result<void>> hand_over();
    runtime::Task<Result<void>> discard(std::string reason);
    runtime::Task<Result<void>> begin_anew(std::string reason);
    // None if the replica was to be added and knows none yet.
    std::optional<raft::Configuration> committed_members() const;
    // The leader's order contradicts what this replica knows to be committed. False: that can't be.
    bool contradicted(raft::NodeId leader);
    runtime::Task<void> discard_contradicted();
    bool is_busy() const;
    void restart_core();
    runtime::Task<bool> wait_idle();
    // An entry that the core counts could not be appended to the log.
    void append_failed(std::string_view what, const Error& error);
    runtime::Task<void> reopen();
    runtime::Task<void> confirm_whole();
    runtime::Task<void> read_through();
    Result<void> may_lead() const;
    Result<void> may_discard(raft::NodeId asking);
    Result<void> answer_repair(raft::NodeId from, RepairQuestion question);

    // Runs one call of the core and carries out its effects. `entries` are those of the append that
    // is stepped.
    raft::Vouched vouched(raft::NodeId from) const;
    // Counts the messages that the core refused, and logs them now and then.
    void count(raft::Verdict verdict, raft::NodeId from);
    template <class Call>
    auto call_core(Call call, std::vector<storage::Entry>* entries = nullptr);
    void carry_out(raft::Effects& effects, std::vector<storage::Entry>* entries);
    void append_control(const raft::ControlEntry& control);
    Result<void> append_to_log(storage::Entry entry);
    void follow_start();
    // The leader's log starts later, so this one may too.
    void follow_leaders_start();
    void on_durable();
    storage::Position relied_on();
    runtime::Task<void> rely_on_memory();
    void tend_memory_history();
    void note_configuration(storage::Position at, raft::Configuration configuration);
    void drop_configurations_from(storage::Position end);
    void on_commit_moved();
    storage::CapturedState capture();

    runtime::Task<void> run_inbox();
    runtime::Task<void> process(InboxItem item);
    runtime::Task<void> note_down_peers();
    template <class Attempt>
    runtime::Task<Result<void>> when_there_is_room(Attempt attempt);
    runtime::Task<void> truncate(storage::Position end);
    void forget_from(storage::Position end);
    runtime::Task<void> save_hard_state();
    runtime::Task<void> save_configuration();
    runtime::Task<void> save_memory_history();
    uint64_t store_history() const;
    std::vector<uint8_t> encode_kept_with(std::optional<raft::ConfigurationAt> configuration) const;
    runtime::Task<void> send_entries(raft::SendEntries work);
    runtime::Task<void> send_snapshot(raft::NodeId to);
    runtime::Task<void> truncate_start(int64_t start_offset);
    template <class Request>
    runtime::Task<Result<void>> request(IntrusiveList<Outcome>& outcomes,
                                        runtime::WaitOptions options, std::string_view failed,
                                        Request request);
    static void settle(IntrusiveList<Outcome>& outcomes, bool done);
    void fail_waiters(const Error& error);
    // The log or the store failed: the group is out of service until the node starts again.
    void give_up(std::string_view what, const Error& error);

    Replicator& replicator_;
    storage::Log& log_;
    storage::RetentionHold uncommitted_;  // what is not committed is kept, however old
    StateMachine& machine_;
    std::optional<raft::Core> core_;
    bool closing_ = false;
    bool failed_ = false;
    bool held_ = false;
    bool rebuilding_ = false;  // the log is discarded, and the core begins anew
    bool repairing_ = false;   // repair() runs
    std::string repair_blocked_;
    size_t truncations_ = 0;  // under way
    // The replica that may discard its log, and until when no other one may.
    raft::NodeId discarding_;
    Instant discarding_until_{};
    // All of this log could be read until then; and a look at all of it is under way.
    Instant whole_until_{};
    bool reading_through_ = false;
    std::deque<InboxItem> inbox_;  // appends that wait for room in the log
    uint64_t inbox_bytes_ = 0;
    bool inbox_running_ = false;
    bool saving_ = false;
    std::optional<storage::HardState> to_save_;
    bool saving_configuration_ = false;
    bool relaxed_ = false;  // as its owner wants it
    // KeptConfig's value: the one in the next save, and the one that is known to be on stable
    // storage (the newer one may be there already).
    uint64_t memory_history_ = 0;
    uint64_t memory_history_durable_ = 0;
    bool saving_memory_history_ = false;
    bool relying_ = false;
    // What was appended below this is not all flushed yet, since backlog_since_.
    storage::Position backlog_end_;
    Instant backlog_since_{};
    bool start_moving_ = false;
    bool installing_ = false;
    int64_t start_wanted_ = 0;  // of the leader's log, as far as this replica may follow
    // The configurations that were appended and may still count: the last committed one and those
    // after it. A joining replica has no committed one at first, so all of them may be lost with
    // the log's suffix.
    std::vector<raft::ConfigurationAt> configurations_;
    uint32_t joined_by_ = 0;    // raft::CoreStart; kept beside the log
    bool first_stays_ = false;  // it is committed, or what the replica began with
    storage::Position saved_configuration_at_{-1, 0};
    // A snapshot's state covers the entries below this, also those that this log did not have yet.
    storage::Position covered_;
    const Snapshot* pending_ = nullptr;          // a snapshot that is being installed
    std::optional<raft::SnapshotHead> install_;  // what the last call of the core asked for

    runtime::Milestones<storage::Position> committed_;
    raft::Term waiting_term_ = 0;  // of those who wait in committed_
    uint64_t next_read_ = 1;
    struct Read;
    struct Visit;
    IntrusiveList<Read> reads_;
    // Each caller has its own: the next request may begin before the last one's caller resumes.
    IntrusiveList<Outcome> transfers_, changes_;
    Instant scheduled_ = Instant::never();  // the Replicator's: when tick() is due

    size_t visits_ = 0;  // requests of other nodes that are inside
    runtime::WaitQueue visits_over_;
    runtime::Gate gate_;
    runtime::Scope scope_;
};

}  // namespace weir::replication

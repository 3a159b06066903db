// Controller: this node's replica of the metadata log, which is Raft group 0. On the node that
// leads the group, it is the one place that changes metadata. It lives on shard 0; other shards
// reach it by on(0, ...). Every replica folds the committed entries in order and publishes each to
// its node's shards.
//
// A change is decided under lock() on image(), which has everything committed and this leader's own
// decisions. commit() appends the change and waits until it is committed and every shard of this
// node has it. What survives a crash: every change for which commit() returned ok. A change that
// was interrupted, or whose leader was deposed, is there as a whole or not at all.
//
// Checkpoints and snapshots hold the image of the entries below an offset, never of an entry that
// could still be lost. The entries from there on are read again from the log, so the log's start
// does not move beyond what a checkpoint holds.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/result.h"
#include "cluster/image.h"
#include "cluster/metadata_shard.h"
#include "cluster/placement.h"
#include "replication/replicator.h"
#include "runtime/scope.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/log.h"

namespace weir::cluster {

class Controller final : private replication::StateMachine {
  public:
    struct Options {
        std::vector<MetadataShard*> shards;             // by shard id
        storage::Log* log = nullptr;                    // storage::kMetadataLog
        replication::Replicator* replicator = nullptr;  // of shard 0
        // Called once, when the metadata can't be read on: the node must stop.
        std::function<void(const Error&)> on_fatal;
    };

    // What the options point to outlives the controller.
    explicit Controller(Options options);
    ~Controller() override;

    // Takes part in the group from now on. `voters` are the founders if this node is one of them,
    // or this node if it is a cluster of its own; none: it joined later. Call it once.
    runtime::Task<Result<void>> open(raft::Configuration voters);
    // For a cluster of one node: waits until it leads, and creates the cluster if the log is new.
    runtime::Task<Result<void>> lead_alone(runtime::WaitOptions options);
    // Waits until everything committed below `offset` (committed_end()) was applied; then gives
    // every shard its image.
    runtime::Task<Result<void>> serve_from(int64_t offset, runtime::WaitOptions options);
    // Why the metadata log is no longer applied; serve_from() fails with it.
    const std::optional<Error>& broken() const { return broken_; }
    // The shards' images stood still so far. Their owners have built on them, so they follow the
    // log from here on.
    void follow();
    // Addresses of nodes by entries that this node does not know to be committed yet. Without them
    // a voter that joined later could not answer a node that needs its vote to commit these
    // entries.
    runtime::Task<Result<std::map<int32_t, Endpoint>>> addresses_ahead();
    // The node's storage failed: all waits here end with this error.
    void break_off(const Error& error);
    // Refuses changes from now on, as a node that does not lead: leads() is false. Changes in
    // progress get a moment to be committed, one item of a request each; then they end with
    // kCancelled.
    void begin_close();
    // Leaves the group; no shard gets a change afterwards. Call it when all changes have ended, and
    // before the replicator's close().
    runtime::Task<void> close();

    // Sets a callback for shard 0: the group has a different leader, as far as this node knows.
    void set_leader_changed(std::function<void()> callback) {
        leader_changed_ = std::move(callback);
    }
    // Sets a callback for shard 0, called in order after each change that all shards have.
    void set_published(std::function<void(const MetadataChange&)> callback) {
        told_ = std::move(callback);
    }
    // This replica leads and knows everything committed before it did: it may change metadata.
    bool leads() const { return !closing_ && group_ != nullptr && group_->leads(); }
    // The group's leader as known here; invalid if none is known.
    NodeId leader() const { return group_ == nullptr ? NodeId{} : group_->leader(); }
    raft::Term term() const { return group_ == nullptr ? 0 : group_->term(); }
    // Nullptr before open().
    replication::Group* group() { return group_; }
    // The end of the entries that were applied here on all shards.
    int64_t applied() const { return published_; }
    // Waits until applied() >= offset.
    runtime::Task<Result<void>> wait_applied(int64_t offset, runtime::WaitOptions options);
    // Where the committed entries end; this includes all that anybody was told before the call.
    // kUnavailable: this node does not lead.
    runtime::Task<Result<int64_t>> committed_end(runtime::WaitOptions options);

    // Sets which nodes of the image answer; without it, all do.
    void set_liveness(std::function<bool(int32_t)> is_alive) { is_alive_ = std::move(is_alive); }
    // The nodes that may hold partitions, with what they hold. In a cluster of one node that never
    // registered: that node.
    std::vector<PlacementNode> placement_nodes() const;

    // What was committed and applied here; under lock(), with the leader's own decisions.
    const MetadataImage& image() const {
        if (decided_) return *decided_;
        return rebuilding() ? options_.shards[0]->image() : committed();
    }
    MetadataShard& local() { return *options_.shards[0]; }
    // Whether the node of that uuid was removed, as far as this process followed the log. A request
    // to admit it that was in progress then must not admit it again under another id.
    bool was_removed(const Uuid& uuid) const {
        return std::ranges::find(removed_, uuid) != removed_.end();
    }

    // Allows one decision at a time. No holder may wait for a client. kUnavailable: this node does
    // not lead, or won't in time.
    runtime::Task<Result<runtime::Units>> lock(runtime::WaitOptions options);

    // Commits these records, under lock(). kUnavailable: this node leads no more, and it is unknown
    // whether the change was made.
    runtime::Task<Result<void>> commit(std::vector<MetadataRecord> records);
    runtime::Task<Result<std::vector<storage::LogId>>> allocate_log_ids(size_t count);
    // Creates the logs on the shards that own them. After an error none is left.
    runtime::Task<Result<void>> create_logs(std::vector<NewLog> logs);

    // Acquires the lock itself. Returns the first of `count` producer ids that are reserved for the
    // caller.
    runtime::Task<Result<int64_t>> allocate_producer_ids(int64_t count,
                                                         runtime::WaitOptions options);

  private:
    // replication::StateMachine
    uint32_t summary_bytes() const override { return 0; }
    Result<void> recover(Bytes state, storage::Position state_end,
                         std::vector<storage::RecoveredState::Replayed> entries) override;
    storage::CapturedState capture() override;
    void on_append(const storage::EntryInfo&, Bytes) override {}
    void on_truncate(storage::Position) override {}
    void on_commit() override { changed_.notify_all(); }
    void on_role() override;
    int64_t start_max() const override { return durable_; }

    const MetadataImage& committed() const { return own_ ? *own_ : options_.shards[0]->image(); }
    // The log began anew, from a snapshot or, because it was damaged, from nothing. Until
    // committed() has come as far as the image that all shards have, they keep that one: an older
    // image lacks some nodes and partitions, and their replicas here would be removed.
    bool rebuilding() const { return adopted_ && own_.has_value(); }
    runtime::Task<void> apply_committed();
    runtime::Task<Result<void>> apply_some();
    Result<void> apply(Bytes payload, int64_t end, MetadataChange& change);
    void note_removed(const MetadataChange& change);
    runtime::Task<void> adopt();
    runtime::Task<void> publish(MetadataChange change);
    void note_published();
    runtime::Task<void> move_start();
    runtime::Task<void> end_changes();

    Options options_;
    replication::Group* group_ = nullptr;
    // The image before the shards have theirs; later, one from a snapshot that is not published
    // yet.
    std::optional<MetadataImage> own_{std::in_place};
    bool adopted_ = false;
    bool adopt_wanted_ = false;
    bool following_ = false;
    int64_t applied_ = 0;    // of committed()
    int64_t published_ = 0;  // of all shards' images
    int64_t durable_ = 0;    // of what some checkpoint holds
    bool moving_start_ = false;
    std::optional<Error> broken_;
    runtime::WaitQueue changed_;           // for the task that applies
    runtime::WaitQueue published_change_;  // for those who wait for it
    NodeId leader_;                        // as last told
    std::function<void()> leader_changed_;
    std::function<void(const MetadataChange&)> told_;

    // The leader's own state.
    std::optional<MetadataImage> decided_;  // committed(), and what is appended
    raft::Term decided_term_ = 0;
    raft::Term locked_term_ = 0;
    raft::Term ids_term_ = 0;
    uint64_t next_log_id_ = 0;

    std::deque<Uuid> removed_;  // the last ones

    std::function<bool(int32_t)> is_alive_;
    bool closing_ = false;
    runtime::StopSource end_changes_;  // of what waits for a change to be committed
    runtime::Semaphore lock_{1};
    runtime::Scope scope_;
};

}  // namespace weir::cluster

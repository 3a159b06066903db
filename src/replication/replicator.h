// Replicator: all groups of one shard and what they share: the clock that ticks them, the messages
// to other nodes, which leave together, and the news of nodes that are down. The broker owns one
// for each shard and uses it on that shard alone. Nothing of it survives a crash but what its
// groups keep.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "replication/group.h"
#include "rpc/endpoint.h"
#include "runtime/wait.h"

namespace weir::replication {

struct ReplicatorOptions {
    raft::NodeId self;
    raft::Options raft;
    storage::Store* store = nullptr;       // of this shard; outlives the replicator
    uint64_t inbox_bytes_max = 16u << 20;  // of one group: appends that wait for room in its log
    Duration snapshot_timeout = std::chrono::seconds(30);
    // A switched-on bug: time in which this node stood still counts as the others' silence.
    bool count_time_asleep = false;
};

struct ReplicatorMetrics {
    uint64_t messages_sent = 0;  // of groups; many in a frame
    uint64_t frames_sent = 0;
    uint64_t appends_waited = 0;  // for room in a queue that was full
    uint64_t append_bytes_sent = 0;
    uint64_t frames_refused = 0;  // by the endpoint: no connection, a queue that was full
    uint64_t messages_received = 0;
    uint64_t messages_unknown = 0;  // of groups that are not here
    uint64_t messages_malformed = 0;
    uint64_t messages_of_strangers = 0;  // of nodes that do not belong to the group
    uint64_t appends_dropped = 0;        // an inbox that was full, a log that took no more
    uint64_t elections_won = 0;
    uint64_t snapshots_sent = 0;
    uint64_t snapshots_installed = 0;
    uint64_t recoveries = 0;  // of replicas that may have lost what they had acknowledged
    // Elections of relaxed groups that needed all voters, because a majority of them may have lost
    // what it had acknowledged from memory.
    uint64_t elections_by_all = 0;
    uint64_t logs_discarded = 0;  // that were damaged, to be fetched again
    // The most groups that one step visited because a connection came or went.
    uint64_t news_step_max = 0;
};

class Replicator {
  public:
    explicit Replicator(ReplicatorOptions options);
    ~Replicator();

    // Sets the endpoint's handlers and starts the clock. Call it once, before the endpoint's first
    // message. nullptr: the node is a cluster of its own, whose groups have no other member. The
    // endpoint outlives the replicator and is closed after it.
    void start(rpc::Endpoint* endpoint);
    // Recovers the group of this log and takes part in it from then on. kCorrupt. The log stays
    // while the group is open. `made` gets the group before the state machine gets any call but
    // recover().
    runtime::Task<Result<Group*>> open(storage::Log& log, StateMachine& machine,
                                       Beginning beginning, std::function<void(Group&)> made);
    // Ends this replica's part in the group; the log stays.
    runtime::Task<void> close_group(storage::LogId id);
    Group* find(storage::LogId id);
    void for_each(const std::function<void(Group&)>& visit);
    // Visits the groups that a timer waits for: all that do not hibernate.
    void for_each_awake(const std::function<void(Group&)>& visit);
    size_t size() const { return groups_.size(); }
    // The shard's store failed and nothing more becomes durable. So all waits end with this error,
    // and no group goes on until the node starts again.
    void give_up(const Error& error);
    // Closes all groups, then what they share. Before the endpoint's close().
    runtime::Task<void> close();

    const ReplicatorOptions& options() const { return options_; }
    const ReplicatorMetrics& metrics() const { return metrics_; }

  private:
    friend class Group;

    // --- for groups
    // The time that cores get, which leaves out the time in which this node was asleep; and when
    // one of their timers is due.
    Instant core_now() const;
    Instant wake_at(Instant due) const;
    void schedule(Group& group);
    void send(raft::NodeId to, GroupMessage message);
    bool send_append(raft::NodeId to, storage::LogId log, rpc::Message message);
    // Waits until the connection accepts an append of this size. kUnavailable: there is no
    // connection.
    runtime::Task<Result<void>> wait_for_room(raft::NodeId to, storage::LogId log, size_t bytes,
                                              runtime::StopToken stop);
    runtime::Task<void> watch_room(std::pair<int32_t, runtime::ShardId> connection);
    runtime::Task<Result<void>> call_snapshot(raft::NodeId to, rpc::Message message,
                                              storage::LogId log);
    runtime::Task<Result<void>> ask_repair(raft::NodeId of, RepairRequest request,
                                           runtime::WaitOptions options);
    runtime::ShardId shard_of(raft::NodeId node, storage::LogId log);
    bool closing() const { return closing_; }
    // Whether the node once answered and does not any more.
    bool is_down(raft::NodeId node, storage::LogId log) {
        return endpoint_ != nullptr && down_.contains({node.v, shard_of(node, log)});
    }

    void receive_messages(rpc::Received received);
    void receive_append(rpc::Received received);
    runtime::Task<Result<rpc::Message>> receive_snapshot(rpc::Request request);
    runtime::Task<Result<rpc::Message>> answer_repair(rpc::Request request);
    void note_peer(NodeId node, runtime::ShardId shard, bool up);
    runtime::Task<void> spread_news();
    size_t spread_some(size_t groups_max);
    runtime::Task<void> run_clock();
    runtime::Task<void> flush();

    ReplicatorOptions options_;
    ReplicatorMetrics metrics_;
    // The effects of the core's call in progress. One object for all groups, since no call begins
    // within another.
    raft::Effects effects_;
    bool calling_ = false;
    rpc::Endpoint* endpoint_ = nullptr;
    std::map<storage::LogId, std::unique_ptr<Group>> groups_;
    std::set<std::pair<Instant, storage::LogId>> due_;
    runtime::WaitQueue due_changed_;
    std::map<int32_t, uint32_t> peer_shards_;  // how many shards a node has
    std::set<std::pair<int32_t, runtime::ShardId>> down_;
    std::map<std::pair<int32_t, runtime::ShardId>, ByteWriter> outgoing_;
    // Connections that came or went, and which groups have been told so far, in the order of their
    // logs.
    struct News {
        bool lost = false;      // also if there is a new connection by now
        storage::LogId next{};  // the groups below know
    };
    std::map<std::pair<int32_t, runtime::ShardId>, News> news_;
    bool spreading_ = false;
    Instant refusal_logged_{INT64_MIN / 2};  // refusal of messages that no correct node can send
    bool flushing_ = false;
    // Appends that wait for a full queue; one task watches for its room.
    std::map<std::pair<int32_t, runtime::ShardId>, runtime::WaitQueue> waiting_;
    bool closing_ = false;
    runtime::Scope scope_;
};

}  // namespace weir::replication

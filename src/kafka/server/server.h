// Server: one shard's part of the Kafka server: the connections that were dealt to it, the
// partitions that it owns, and what handlers need of both. Everything here is used on its shard
// alone; another shard's Server is reached by `co_await on(shard, ...)` with peer(shard) inside.
//
// Start: all servers are made, each is connected to its peers, then started on its shard; then
// connections come. Stop in reverse: stop() ends connections, then waiting work, then closes
// partitions; the store is closed after it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "cluster/controller.h"
#include "cluster/metadata_shard.h"
#include "kafka/server/api/records/fetch_session.h"
#include "kafka/server/metrics.h"
#include "kafka/server/net/turns.h"
#include "kafka/server/partitions/mailbox.h"
#include "kafka/server/partitions/partition_table.h"
#include "kafka/server/partitions/server_bugs.h"
#include "replication/replicator.h"
#include "runtime/memory.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::kafka {

class Connection;
struct Sending;
struct Idle;
class GroupShard;

// Facts about the node; the same on all shards.
struct NodeInfo {
    int32_t id = 0;
    std::string host;  // what clients are told
    int32_t port = 0;
    std::optional<std::string> rack;
    std::string data_directory;
    std::string version;
};

class Server {
  public:
    struct Options {
        NodeInfo node;
        runtime::MemoryBudget* memory = nullptr;  // of requests
        // The other shares of the node's memory (broker/budget.h). If not set, `memory` is used.
        runtime::MemoryBudget* unpacking_memory = nullptr;
        runtime::MemoryBudget* answers_memory = nullptr;
        uint64_t fetch_bytes_max = 0;     // of this shard; 0: a quarter of its part of `memory`
        size_t producers_max = SIZE_MAX;  // that this shard's partitions remember
        storage::Store* store = nullptr;
        cluster::MetadataShard* metadata = nullptr;
        replication::Replicator* replicator = nullptr;
        cluster::Controller* controller = nullptr;  // of shard 0, reached from there alone
        rpc::Endpoint* endpoint = nullptr;          // of this shard; none: there are no other nodes
        // On shard 0: the first of that many unused producer ids. If not set, the controller is
        // asked.
        std::function<runtime::Task<Result<int64_t>>(int64_t count)> allocate_producer_ids = {};
        // On shard 0: transfers a partition's leadership to another replica; kUnavailable,
        // kTimedOut. If not set, there are no other nodes.
        std::function<runtime::Task<Result<void>>(storage::LogId log, int32_t leader,
                                                  int32_t target, Instant deadline)>
            transfer_leader = {};
        // How many connections of clients the process has descriptors for, on all shards together.
        uint64_t descriptors_for_connections = UINT64_MAX;
        ServerBugs bugs = {};
    };

    explicit Server(Options options);
    ~Server();

    // Before start(); `servers` by shard, this one among them, outlive it.
    void connect(const std::vector<Server*>& servers);
    // On its shard, when the metadata was adopted.
    runtime::Task<Result<void>> start();
    // Refuses new requests of clients and forwarded ones of other nodes; returns when the requests
    // of clients are done, or after `grace`.
    runtime::Task<void> drain_connections(Duration grace);
    // Ends what waits for clients, and returns when all requests have ended. Call it after the
    // controller's begin_close(), which ends what they wait for there.
    runtime::Task<void> close_connections();
    // After all shards' connections are gone.
    runtime::Task<void> stop();

    // Serves an accepted connection; `closed` is called when it is gone. Returns at once.
    // `listener`: the name of the one that accepted it.
    runtime::Task<void> serve(std::unique_ptr<runtime::ByteStream> stream,
                              std::function<void()> closed,
                              std::string listener = std::string(cluster::kPlainListener));
    size_t connection_count() const { return connections_; }
    // The bound of all shards' connections: max.connections, or the descriptors.
    uint64_t connections_max() const {
        return std::min(static_cast<uint64_t>(settings().connections_max),
                        options_.descriptors_for_connections);
    }
    bool lacks_descriptors(uint64_t connections) const {
        return connections >= options_.descriptors_for_connections;
    }
    // Ends the connection that has been open longest without sending a request; else the one that
    // has been idle longest, if that is kEvictedIdle or more. Returns false if there is none.
    bool evict_connection();
    // Connections that wait for a request and owe no answer. Those that never sent one are listed
    // apart.
    IntrusiveList<Idle>& idle(bool never_asked) { return never_asked ? silent_ : idle_; }

    const NodeInfo& node() const { return options_.node; }
    void set_advertised(std::string host, int32_t port);
    runtime::MemoryBudget& memory() { return *options_.memory; }
    // Call begin() of it before a batch is unpacked or packed.
    Unpacking& unpacking() { return unpacking_; }
    // Waits until an answer of about `bytes` may be made, i.e. until unread answers leave room for
    // it. kTimedOut after a while, kCancelled by `stop`.
    runtime::Task<Result<runtime::Reservation>> reserve_answer(uint64_t bytes,
                                                               runtime::StopToken stop);
    // Charges an answer that was made.
    runtime::Reservation charge_answer(uint64_t bytes) { return answers_memory().charge(bytes); }
    storage::Store& store() { return *options_.store; }
    replication::Replicator& replicator() { return *options_.replicator; }
    cluster::MetadataShard& metadata() { return *options_.metadata; }
    const cluster::MetadataImage& image() const { return options_.metadata->image(); }
    const ServerBugs& bugs() const { return options_.bugs; }
    const cluster::BrokerSettings& settings() const { return options_.metadata->broker(); }
    // This shard's endpoint; nullptr: there are no other nodes.
    rpc::Endpoint* endpoint() { return options_.endpoint; }
    // The controller's node, as far as known here; -1: unknown.
    int32_t controller_id() const;
    // Whether the node, which is registered or this one, answers.
    bool is_alive(int32_t node) const;
    // Inside of on(0, ...) alone.
    cluster::Controller& controller();
    Server& peer(runtime::ShardId shard) { return *peers_[shard]; }
    runtime::ShardId owner_of(storage::LogId log) const;

    PartitionTable& partitions() { return partitions_; }
    // The turns of all shards' connections that produce to this shard's partitions.
    AppendTurns& append_turns() { return append_turns_; }
    // For a new connection; no other of this node has it.
    uint64_t next_connection_id();
    Mailbox& mailbox() { return mailbox_; }
    FetchSessions& fetch_sessions() { return fetch_sessions_; }
    GroupShard& groups() { return *groups_; }
    ServerMetrics& metrics() { return metrics_; }
    // Bounds the bytes in unsent answers to fetches; each fetch may exceed it by a little.
    runtime::Semaphore& fetch_bytes() { return fetch_bytes_; }
    // These bytes are scarce: clients that do not read their answers get less time.
    void hurry_slow_clients();
    // The connections that are sending register themselves here.
    IntrusiveList<Sending>& sending() { return sending_; }
    // Stops when the node stops and its clients had their time: this shard's waits for other nodes
    // end then.
    runtime::StopToken waits() { return waits_.token(); }
    // Held by the requests that other nodes forwarded. Closed when the node stops.
    runtime::Gate& passed_on() { return passed_on_; }
    bool draining() const { return draining_.stop_requested(); }
    // Work that outlives a request; ends by stop().
    runtime::Scope& background() { return background_; }

    // On shard 0.
    runtime::Task<Result<void>> transfer_leader(storage::LogId log, int32_t leader, int32_t target,
                                                Instant deadline);
    // A producer id that was never used before.
    runtime::Task<Result<int64_t>> next_producer_id();

  private:
    runtime::MemoryBudget& answers_memory() {
        return *(options_.answers_memory != nullptr ? options_.answers_memory : options_.memory);
    }
    runtime::Task<void> serve_one(std::unique_ptr<runtime::ByteStream> stream,
                                  std::function<void()> closed, std::string listener);
    runtime::Task<void> expire_producers();
    runtime::Task<void> follow(cluster::MetadataChange change);

    Options options_;
    std::vector<Server*> peers_;
    std::vector<Mailbox*> mailboxes_;
    runtime::Scope background_;
    Mailbox mailbox_;
    Unpacking unpacking_;
    PartitionTable partitions_;
    AppendTurns append_turns_;
    uint64_t connections_made_ = 0;
    FetchSessions fetch_sessions_;
    std::unique_ptr<GroupShard> groups_;
    ServerMetrics metrics_;
    runtime::Semaphore fetch_bytes_;
    IntrusiveList<Sending> sending_;
    IntrusiveList<Idle> silent_;
    IntrusiveList<Idle> idle_;
    std::optional<Instant> hurried_;
    int64_t next_producer_id_ = 0;
    int64_t producer_ids_end_ = 0;
    runtime::Semaphore producer_id_lock_{1};

    runtime::StopSource draining_;
    runtime::StopSource waits_;
    runtime::Gate passed_on_;
    size_t connections_ = 0;
    // The last: what runs in it uses the others to its end.
    runtime::Scope connection_scope_;
};

}  // namespace weir::kafka

// Endpoint: a shard's end of the connections to the other nodes of the cluster. Each shard of a
// node has one and uses it alone; nothing of it survives the process.
//
// There is one outbound connection from a local shard to a shard of another node. It is dialled
// when it is first needed, and again whenever it is lost. It carries everything that this shard
// sends there: one-way messages, requests and, backwards, their responses. What the other shard
// sends here comes over its own connection (see Listener).
//
// A message is delivered at most once. It may be lost with its connection, or because the receiver
// has no memory for it; nothing is sent again. So kUnavailable and kTimedOut of a call do not say
// whether the request took effect.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "rpc/hello.h"
#include "rpc/message.h"
#include "rpc/rpc_bugs.h"
#include "runtime/memory.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::rpc {

class Inbound;
class Link;

struct EndpointOptions {
    // Received bodies are reserved here until they are freed, or discharged by their holder. If
    // there is no memory, data-lane messages above kSmallBytes are dropped (memory_wait_max). This
    // budget is separate because clients' requests wait for what other nodes send. Outlives the
    // endpoint.
    runtime::MemoryBudget* memory = nullptr;
    // If set, bounds what send() queues on the data lanes of all connections together; each
    // connection may exceed it by one message. Outlives the endpoint.
    runtime::MemoryBudget* send_memory = nullptr;
    // How the nodes of the cluster prove who they are; outlives the endpoint. Without it nodes are
    // believed, so the port must be out of reach of others.
    const Credentials* credentials = nullptr;

    // Size of one message in either direction; at most kMessageBytesMax.
    size_t message_bytes_max = kMessageBytesMax;
    // What one connection queues on a lane. A larger message is accepted when the queue is empty.
    size_t data_queue_bytes_max = size_t{32} << 20;
    size_t control_queue_bytes_max = size_t{4} << 20;
    uint32_t calls_in_flight_max = 4096;   // of one connection
    uint32_t requests_running_max = 1024;  // of all that came to this shard
    uint32_t calls_by_address_max = 64;    // at the same time

    Duration connect_timeout = 3s;
    Duration hello_timeout = 3s;
    // Each side sends something at least this often. A peer that is silent for silence_max, by
    // Shard::awake_now(), is dead.
    Duration keep_alive = 500ms;
    Duration silence_max = 3s;
    // How long a connection's reader waits for memory for a data-lane message before it drops the
    // message. Heartbeats may be behind that message, so this is well below the time after which a
    // follower misses them.
    Duration memory_wait_max = 20ms;
    // The pause between attempts to connect; it doubles from attempt to attempt, with jitter.
    Duration redial_min = 20ms;
    Duration redial_max = 1s;
    // A connection that was not used for this long is closed until it is needed again.
    Duration idle_after = 300s;
    RpcBugs bugs;
};

struct EndpointMetrics {
    uint64_t messages_sent = 0;  // of all types
    uint64_t bytes_sent = 0;
    uint64_t writes = 0;  // vectored sends that carried them
    uint64_t messages_received = 0;
    uint64_t bytes_received = 0;
    uint64_t messages_refused = 0;       // by send(): no connection, or its queue was full
    uint64_t messages_dropped = 0;       // that came, and there was no memory for them
    uint64_t messages_of_strangers = 0;  // of nodes that are no members, and requests: refused
    uint64_t messages_unknown = 0;       // one-way, of a kind that nobody handles
    uint64_t requests_refused = 0;       // too many ran, or of a kind that nobody handles
    uint64_t responses_late = 0;         // nobody waited any more
    uint64_t connections_made = 0;       // outbound
    uint64_t connections_lost = 0;       // outbound
    uint64_t dials_failed = 0;
    uint64_t frames_malformed = 0;  // each ended a connection
};

struct PeerStatus {
    std::string address;  // "host:port"
    // The connections from this shard: how many there are, and when the oldest began.
    uint32_t connections = 0;
    Instant connected_since = Instant::never();
    // When this shard last heard from the node, by Shard::awake_now(), over any connection in
    // either direction. Nothing: not since its address was set.
    std::optional<Instant> last_heard;
    uint32_t shards = 0;     // of the peer, as it last said; 0: not known yet
    std::string last_error;  // of the last attempt to connect, if that failed
};

struct CallOptions {
    // The call ends by then with kTimedOut. By default it ends with the connection.
    Instant deadline = Instant::never();
    runtime::StopToken stop = {};  // kCancelled
    // If set, receives true when the request was sent and no answer came, so that nobody knows
    // whether it took effect; false otherwise.
    bool* unanswered = nullptr;
};

// A connection as the listener hands it over.
struct Accepted {
    Hello hello;
    bool proven = false;  // the dialling node proved that it belongs to the cluster
};

// Whose messages a handler gets: those of members alone, or those of any node that passes the
// hello. A member is a node of this cluster whose address was set here (set_address), with the uuid
// that was given there.
enum class From : uint8_t { kMembers, kAnyone };

class Endpoint {
  public:
    Endpoint(const Identity& identity, const EndpointOptions& options);
    ~Endpoint();
    Endpoint(const Endpoint&) = delete;
    Endpoint& operator=(const Endpoint&) = delete;

    // --- before the first message can come
    // One handler per kind; CHECKed.
    void on_message(Kind kind, MessageHandler handler);
    void handle(Kind kind, RequestHandler handler, From from = From::kMembers);
    // Called when the connection from here to that shard of the node is made, and when it is lost;
    // waiting calls have failed by then. Runs in the connection's own task: must return soon.
    using PeerCallback = std::function<void(NodeId node, runtime::ShardId remote_shard)>;
    void on_up(PeerCallback callback);
    void on_down(PeerCallback callback);

    // Sets who this node is, for connections made from now on.
    void set_identity(const Identity& identity) { identity_ = identity; }
    const Identity& identity() const { return identity_; }
    const EndpointOptions& options() const { return options_; }

    // Sets where to find a node, which is a member from now on. A different uuid means a different
    // node; zero: the uuid is not known. An existing connection stays; the next one uses the new
    // address.
    void set_address(NodeId node, std::string host, uint16_t port, Uuid uuid = {});
    // Ends all connections with the node, both ways; calls end with kUnavailable.
    void forget(NodeId node);
    // Nothing if the node's address was not set.
    std::optional<PeerStatus> status(NodeId node);
    std::vector<NodeId> peers() const;  // sorted

    // Sends one way; never waits. Returns false, and sends nothing, if there is no connection yet
    // (one is being made), or if its queue or send_memory is full. A remote shard that the peer
    // does not have is taken modulo its count. Messages sent within one turn of the loop leave
    // together.
    bool send(NodeId node, runtime::ShardId remote_shard, Message message);
    // Whether send() would accept a message of that size now. Nothing: there is no connection yet
    // (one is being made).
    std::optional<bool> fits(NodeId node, runtime::ShardId remote_shard, Lane lane, size_t size);
    // Makes the connection if there is none; sends nothing.
    void connect(NodeId node, runtime::ShardId remote_shard);

    // The response's body, or the handler's error as it was there, or
    //   kUnavailable        the node's address is not known, it can't be reached, the connection is
    //                       lost, or this endpoint is closed
    //   kTimedOut, kCancelled
    //   kResourceExhausted  too many calls, the queue is full, too much runs there already, or
    //                       there is no memory for the request there or for the response here
    //   kUnsupported        nobody handles that kind there
    //   kInvalidArgument    larger than message_bytes_max
    // Waits for an attempt to connect that is under way, not for the one after it.
    runtime::Task<Result<runtime::SharedBytes>> call(NodeId node, runtime::ShardId remote_shard,
                                                     Message message, CallOptions options = {});
    // Calls whoever answers at "host:port", over a connection of its own. Errors as above, and
    // to_error() if the hello is refused.
    runtime::Task<Result<runtime::SharedBytes>> call_address(std::string address,
                                                             runtime::ShardId remote_shard,
                                                             Message message,
                                                             CallOptions options = {});

    const EndpointMetrics& metrics() const { return metrics_; }

    // Ends all connections and waits for all handlers; calls end with kUnavailable. Call it once,
    // after the listener's close() and before destruction.
    runtime::Task<void> close();
    bool closed() const { return closed_; }

    // For the Listener: takes over a connection whose hello was answered, and serves it until it
    // ends; then calls `ended` on this shard.
    runtime::Task<void> serve(std::unique_ptr<runtime::TcpStream> stream, Accepted accepted,
                              std::function<runtime::Task<void>()> ended);

  private:
    friend class Inbound;
    friend class Link;

    struct Peer {
        std::string address;
        Uuid uuid;  // zero: not known
        // Which node last answered at the address, where `uuid` is not known. Zero: a node whose
        // version does not say.
        std::optional<Uuid> answered;
        uint32_t shards = 0;
        std::optional<Instant> last_heard;
        std::string last_error;
        std::map<runtime::ShardId, Link*> links;  // each lives in its own task
    };

    Peer* find_peer(NodeId node);
    Link* find_link(NodeId node, runtime::ShardId remote_shard);
    Link* find_or_dial(NodeId node, runtime::ShardId remote_shard);
    runtime::Task<Result<runtime::SharedBytes>> call_once(std::string address,
                                                          runtime::ShardId remote_shard,
                                                          Message message, runtime::StopToken stop);
    runtime::Task<void> run_link(std::unique_ptr<Link> link);
    runtime::Task<void> run_inbound(std::unique_ptr<runtime::TcpStream> stream, Accepted accepted,
                                    std::function<runtime::Task<void>()> ended);
    // Whether the dialling node is a member, by what is known now. If this node only has a hint
    // about it, its data directory is not known; then it is a member once it has answered at its
    // own address or has proven that it holds the secret. A name alone proves nothing.
    bool is_member(const Accepted& accepted) const;
    // Dials `node` if that would show whether the node that dialled under its name is a member.
    void ask_who_it_is(NodeId node);

    Identity identity_;
    EndpointOptions options_;
    EndpointMetrics metrics_;
    std::map<Kind, MessageHandler> message_handlers_;
    struct Handler {
        RequestHandler handle;
        From from;
    };
    std::map<Kind, Handler> request_handlers_;
    std::vector<PeerCallback> up_;
    std::vector<PeerCallback> down_;
    std::map<NodeId, Peer> peers_;
    IntrusiveList<Inbound> inbound_;
    uint32_t requests_running_ = 0;
    uint32_t calls_by_address_ = 0;
    bool closed_ = false;
    runtime::Gate calls_;   // of calls under way
    runtime::Scope scope_;  // links, inbound connections
};

}  // namespace weir::rpc

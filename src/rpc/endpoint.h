// Endpoint: a shard's end of the connections to the other nodes of the cluster. There is one on
// each shard of a node, used on that shard alone; nothing of it survives the process.
//
// Between a local shard and a shard of another node there is one outbound connection, dialled when
// it is first needed and again whenever it is lost. It carries all that this shard sends there:
// one-way messages, requests and, backwards, their responses. What the other shard sends here comes
// over its own connection (see Listener).
//
// A message is delivered at most once. One that was sent may be lost with its connection, or
// because the receiver has no memory for it; nothing is sent again. So kUnavailable and kTimedOut
// of a call do not say whether the request took effect.
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
    // Bodies that came are reserved of it until they are freed, or discharged by who keeps them.
    // Messages of the data lane above kSmallBytes are dropped when there is none (memory_wait_max).
    // A budget of its own, since clients' requests wait for what other nodes send. Outlives the
    // endpoint.
    runtime::MemoryBudget* memory = nullptr;
    // Bounds what send() queues on the data lanes of all connections together, but for one message
    // each; no bound if there is none. Outlives the endpoint.
    runtime::MemoryBudget* send_memory = nullptr;
    // What the nodes of the cluster prove each other with; outlives the endpoint. None: they are
    // taken for what they say they are, so the port must be out of reach of others.
    const Credentials* credentials = nullptr;

    // Of one message, both ways; at most kMessageBytesMax.
    size_t message_bytes_max = kMessageBytesMax;
    // What one connection queues on a lane. A message larger than that is taken when the queue is
    // empty.
    size_t data_queue_bytes_max = size_t{32} << 20;
    size_t control_queue_bytes_max = size_t{4} << 20;
    uint32_t calls_in_flight_max = 4096;   // of one connection
    uint32_t requests_running_max = 1024;  // of all that came to this shard
    uint32_t calls_by_address_max = 64;    // at the same time

    Duration connect_timeout = 3s;
    Duration hello_timeout = 3s;
    // Each side says something at least so often; a peer that is silent for silence_max, by
    // Shard::awake_now(), is dead.
    Duration keep_alive = 500ms;
    Duration silence_max = 3s;
    // How long the reader of a connection waits for the memory of a message of the data lane before
    // it drops it: well below the time after which a follower misses its leader's heartbeats, which
    // may be behind it.
    Duration memory_wait_max = 20ms;
    // Between attempts to connect: doubled from the one to the other, with jitter.
    Duration redial_min = 20ms;
    Duration redial_max = 1s;
    // A connection that nobody used for so long is closed until somebody needs it.
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
    // Of the connections from this shard: how many there are, and the oldest one's beginning.
    uint32_t connections = 0;
    Instant connected_since = Instant::never();
    // When this shard last heard of it, by Shard::awake_now(), over any connection in either
    // direction. Nothing: not since the address was set.
    std::optional<Instant> last_heard;
    uint32_t shards = 0;     // of the peer, as it last said; 0: not known yet
    std::string last_error;  // of the last attempt to connect, if that failed
};

struct CallOptions {
    // The call ends by then with kTimedOut. By default it ends with the connection.
    Instant deadline = Instant::never();
    runtime::StopToken stop = {};  // kCancelled
    // Set when the call ends: true if the request was passed on and no answer came, so that nobody
    // knows whether it took effect.
    bool* unanswered = nullptr;
};

// A connection as the listener hands it over.
struct Accepted {
    Hello hello;
    bool proven = false;  // the dialling node proved that it belongs to the cluster
};

// Whose messages of a kind are handled: those of members alone, or those of any node that passes
// the hello. A member is a node of this one's cluster whose address was set here (set_address),
// with the uuid that was given there.
enum class From : uint8_t { kMembers, kAnyone };

class Endpoint {
  public:
    Endpoint(const Identity& identity, const EndpointOptions& options);
    ~Endpoint();
    Endpoint(const Endpoint&) = delete;
    Endpoint& operator=(const Endpoint&) = delete;

    // --- before the first message can come
    // One handler a kind; CHECKed.
    void on_message(Kind kind, MessageHandler handler);
    void handle(Kind kind, RequestHandler handler, From from = From::kMembers);
    // When a connection from here to that shard of the node is there, and when it is lost: calls
    // that waited have failed by then. From the connection's own task: must return soon.
    using PeerCallback = std::function<void(NodeId node, runtime::ShardId remote_shard)>;
    void on_up(PeerCallback callback);
    void on_down(PeerCallback callback);

    // Who this node is, for the connections that are made from now on.
    void set_identity(const Identity& identity) { identity_ = identity; }
    const Identity& identity() const { return identity_; }
    const EndpointOptions& options() const { return options_; }

    // Where to find a node, which is a member from now on. Another uuid than the one given here is
    // another node; zero: it is not known. A connection that there is stays; the next one goes to
    // the new address.
    void set_address(NodeId node, std::string host, uint16_t port, Uuid uuid = {});
    // Ends all connections with the node, both ways; calls end with kUnavailable.
    void forget(NodeId node);
    // Nothing for a node whose address was not set.
    std::optional<PeerStatus> status(NodeId node);
    std::vector<NodeId> peers() const;  // sorted

    // One way; never waits. False, and nothing is sent: no connection just now (one is being made),
    // or its queue or send_memory is full. A remote shard that the peer does not have is taken
    // modulo its count. Messages that are sent within one turn of the loop leave together.
    bool send(NodeId node, runtime::ShardId remote_shard, Message message);
    // Whether send() would take a message of that size now. Nothing: there is no connection just
    // now (one is being made).
    std::optional<bool> fits(NodeId node, runtime::ShardId remote_shard, Lane lane, size_t size);
    // Makes the connection if there is none, without sending anything.
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
    // To whoever answers at "host:port", over a connection of its own. Errors as above; a refusal
    // of the hello: to_error() of it.
    runtime::Task<Result<runtime::SharedBytes>> call_address(std::string address,
                                                             runtime::ShardId remote_shard,
                                                             Message message,
                                                             CallOptions options = {});

    const EndpointMetrics& metrics() const { return metrics_; }

    // Ends all connections and waits for all handlers. Once, before destruction; after the
    // listener's close(). Calls end with kUnavailable.
    runtime::Task<void> close();
    bool closed() const { return closed_; }

    // For the Listener: takes over a connection whose hello was answered, and serves it until it
    // ends; `ended` runs then, on this shard.
    runtime::Task<void> serve(std::unique_ptr<runtime::TcpStream> stream, Accepted accepted,
                              std::function<runtime::Task<void>()> ended);

  private:
    friend class Inbound;
    friend class Link;

    struct Peer {
        std::string address;
        Uuid uuid;  // zero: not known
        // What answered at the address last, where `uuid` is not known. Zero: a node of a version
        // that does not say.
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
    // Whether who dialled so is a member, by what is known now. A node whose data directory is not
    // known yet (it is a hint of who registered this one) is a member once it has answered at its
    // own address, or has proven that it holds the secret: a name alone is everybody's.
    bool is_member(const Accepted& accepted) const;
    // Dials `node` if that would tell whether who dialled in its name is a member.
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

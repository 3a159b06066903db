// Network: TCP between simulated nodes, and within one. Each connection has two Sockets; bytes
// cross in order, in segments of drawn sizes and delays, into bounded windows. Connections are
// refused, hang, are reset at any byte, or stand still in one direction. Internal to runtime/sim;
// World and SimDriver call it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "runtime/sim/process.h"
#include "runtime/sim/world.h"

namespace weir::sim {

class Socket {
  public:
    NodeId node = 0;
    bool listening = false;
    std::string address;  // its own
    std::string peer_address;
    bool closed = false;    // the descriptor is gone
    bool vanished = false;  // ... with the power: nothing answers for it

    // A listener.
    uint16_t port = 0;
    uint64_t life = 0;  // of its node
    size_t backlog = 0;
    std::deque<std::shared_ptr<Socket>> queue;  // connected, not accepted yet
    std::deque<std::shared_ptr<Pending>> accepts;

    // One end of a connection.
    std::shared_ptr<Socket> peer;  // until both are closed
    std::string inbound;           // arrived, from `consumed` on not yet received
    size_t consumed = 0;
    size_t in_transit = 0;  // on the way to this socket
    size_t window = 0;
    size_t chunk = 0;
    bool end_of_stream = false;
    bool shut = false;  // by this side, both directions
    int error = 0;      // ECONNRESET or ETIMEDOUT
    uint64_t sent = 0;
    uint64_t reset_at =
        UINT64_MAX;        // the connection is reset when so many bytes were sent by this side
    Instant last_arrival;  // of what this side sent: order is kept
    std::shared_ptr<Pending> recv;
    std::shared_ptr<Pending> send;

    size_t unread() const { return inbound.size() - consumed; }
};

class Network {
  public:
    explicit Network(World& world) : world_(world), prng_(world.plan().seed, "network") {}

    ~Network();

    void submit(const std::shared_ptr<Pending>& pending);
    void cancel(const std::shared_ptr<Pending>& pending);
    // The descriptor is closed, by the program or by its end.
    void close(Socket& socket, bool power_lost);

    void cut(NodeId from, NodeId to) { cut_.insert({from, to}); }
    void heal(NodeId from, NodeId to);
    void heal_all();

    const Prng& prng() const { return prng_; }

  private:
    using SocketRef = std::shared_ptr<Socket>;
    struct Segment {
        SocketRef target;
        std::string bytes;
        enum class End : uint8_t { kNone, kFinish, kReset } end = End::kNone;
    };

    void act(const std::shared_ptr<Pending>& pending, Duration after);
    void later(Duration after, NodeId node, std::function<void()> call);
    void listen(Pending& pending);
    void connect(const std::shared_ptr<Pending>& pending);
    void reach(const std::shared_ptr<Pending>& pending, NodeId target, uint16_t port, bool loopback,
               Instant give_up);
    void try_accept(const SocketRef& listener);
    void try_recv(const SocketRef& socket);
    void try_send(const SocketRef& socket);
    void shutdown(Pending& pending);
    void wake_recv(const SocketRef& socket);
    void wake_send(const SocketRef& socket);

    Duration delay(NodeId from, NodeId to);
    void send_segment(Socket& from, Segment segment);
    void arrive(NodeId from, Segment segment);
    void fail(const SocketRef& socket, int error);
    SocketRef find_listener(NodeId node, uint16_t port);
    void make_pair(const SocketRef& client, const SocketRef& server);

    World& world_;
    Prng prng_;
    std::multimap<std::pair<NodeId, uint16_t>, std::weak_ptr<Socket>> listeners_;
    std::vector<std::weak_ptr<Socket>>
        connected_;  // every end of a connection that may still be there
    size_t connected_max_ = 64;
    std::set<std::pair<NodeId, NodeId>> cut_;
    std::map<std::pair<NodeId, NodeId>, std::deque<Segment>> held_;  // on cut links
    std::map<std::pair<NodeId, NodeId>, Instant> stalled_until_;
    std::map<NodeId, uint16_t> ephemeral_;
};

}  // namespace weir::sim

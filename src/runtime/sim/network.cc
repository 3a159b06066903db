#include "runtime/sim/network.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

namespace weir::sim {
namespace {

struct HostPort {
    std::string host;
    uint16_t port;
};

std::optional<HostPort> parse(const std::string& address) {
    const size_t colon = address.rfind(':');
    if (colon == std::string::npos) return std::nullopt;
    uint16_t port = 0;
    const char* end = address.data() + address.size();
    const auto [stop, error] = std::from_chars(address.data() + colon + 1, end, port);
    if (error != std::errc{} || stop != end) return std::nullopt;
    return HostPort{address.substr(0, colon), port};
}

bool means_self(std::string_view host) {
    return host == "127.0.0.1" || host == "localhost" || host == "[::1]" || host == "::1" ||
           host == "0.0.0.0" || host.empty();
}

constexpr uint16_t kEphemeralFirst = 32768;

}  // namespace

void Network::later(Duration after, NodeId node, std::function<void()> call) {
    world_.at(world_.now_ + after, EventKind::kNetwork, node, std::move(call));
}

Network::~Network() {
    for (const std::weak_ptr<Socket>& weak : connected_) {
        if (const SocketRef socket = weak.lock()) socket->peer.reset();
    }
}

// Goes on with the operation, unless it is over by then.
void Network::act(const std::shared_ptr<Pending>& pending, Duration after) {
    later(after, pending->driver->node().id(), [this, pending] {
        if (pending->driver == nullptr) return;
        switch (pending->kind) {
            case OpKind::kListen:
                listen(*pending);
                break;
            case OpKind::kConnect:
                connect(pending);
                break;
            case OpKind::kShutdown:
                shutdown(*pending);
                break;
            case OpKind::kAccept:
                try_accept(pending->file->socket);
                break;
            case OpKind::kRecv:
                try_recv(pending->file->socket);
                break;
            case OpKind::kSend:
                try_send(pending->file->socket);
                break;
            default:
                CHECK(false);
        }
    });
}

void Network::submit(const std::shared_ptr<Pending>& pending) {
    Socket* socket = pending->file ? pending->file->socket.get() : nullptr;
    switch (pending->kind) {
        case OpKind::kAccept:
            socket->accepts.push_back(pending);
            break;
        case OpKind::kRecv:
            CHECK(socket->recv == nullptr);
            socket->recv = pending;
            break;
        case OpKind::kSend:
            CHECK(socket->send == nullptr);
            socket->send = pending;
            break;
        default:
            break;
    }
    act(pending, Duration(500 + static_cast<int64_t>(prng_.below(5000))));
}

void Network::cancel(const std::shared_ptr<Pending>& pending) {
    later(Duration(static_cast<int64_t>(prng_.below(5000))), pending->driver->node().id(),
          [this, pending] {
              if (pending->driver == nullptr) return;
              if (Socket* socket = pending->file ? pending->file->socket.get() : nullptr) {
                  if (socket->recv == pending) socket->recv = nullptr;
                  if (socket->send == pending) socket->send = nullptr;
                  std::erase(socket->accepts, pending);
              }
              world_.finish(*pending, -ECANCELED);
          });
}

// ---------------------------------------------------------------- connections

Network::SocketRef Network::find_listener(NodeId node, uint16_t port) {
    std::vector<SocketRef> open;
    const auto [begin, end] = listeners_.equal_range({node, port});
    for (auto at = begin; at != end; ++at) {
        if (SocketRef socket = at->second.lock(); socket && !socket->closed)
            open.push_back(std::move(socket));
    }
    if (open.empty()) return nullptr;
    return open[open.size() == 1 ? 0 : prng_.below(open.size())];
}

void Network::listen(Pending& pending) {
    Node& node = pending.driver->node();
    std::optional<HostPort> to = parse(pending.path);
    if (!to || (!means_self(to->host) && to->host != node.name())) {
        world_.finish(pending, to ? -EADDRNOTAVAIL : -EINVAL);
        return;
    }
    if (to->port == 0) {
        do {
            to->port = static_cast<uint16_t>(20000 + prng_.below(10000));
        } while (find_listener(node.id(), to->port) != nullptr);
    } else if (find_listener(node.id(), to->port) != nullptr) {
        world_.finish(pending, -EADDRINUSE);
        return;
    }
    auto socket = std::make_shared<Socket>();
    socket->node = node.id();
    socket->listening = true;
    socket->port = to->port;
    socket->backlog = std::max<uint64_t>(pending.size, 1);
    socket->address =
        fmt::format("{}:{}", to->host == "localhost" ? "127.0.0.1" : to->host, to->port);
    listeners_.emplace(std::pair{node.id(), to->port}, socket);
    if (pending.op->text_out != nullptr) *pending.op->text_out = socket->address;
    auto file = std::make_shared<OpenFile>();
    file->socket = std::move(socket);
    world_.finish(pending, add_file(node, std::move(file)).v);
}

void Network::connect(const std::shared_ptr<Pending>& pending) {
    Node& node = pending->driver->node();
    const NetFaults& faults = world_.plan_.net;
    const std::optional<HostPort> to = parse(pending->path);
    if (!to) {
        world_.finish(*pending, -EINVAL);
        return;
    }
    Node* target = means_self(to->host) ? &node : nullptr;
    for (auto& other : world_.nodes_) {
        if (other->name() == to->host) target = other.get();
    }
    if (target == nullptr) {
        world_.finish(*pending, -EHOSTUNREACH);
        return;
    }
    const Instant give_up = world_.now_ + faults.connect_timeout;
    if (faults.connect_timeout_chance > 0 && prng_.chance(faults.connect_timeout_chance)) {
        later(faults.connect_timeout, node.id(), [this, pending] {
            if (pending->driver != nullptr) world_.finish(*pending, -ETIMEDOUT);
        });
        return;
    }
    if (faults.connect_refused_chance > 0 && prng_.chance(faults.connect_refused_chance)) {
        later(delay(node.id(), target->id()) * 2, node.id(), [this, pending] {
            if (pending->driver != nullptr) world_.finish(*pending, -ECONNREFUSED);
        });
        return;
    }
    const bool loopback = means_self(to->host);
    later(delay(node.id(), target->id()), target->id(),
          [this, pending, id = target->id(), port = to->port, loopback, give_up] {
              reach(pending, id, port, loopback, give_up);
          });
}

// The first segment of a connection arrives at its target.
void Network::reach(const std::shared_ptr<Pending>& pending, NodeId target, uint16_t port,
                    bool loopback, Instant give_up) {
    if (pending->driver == nullptr) return;
    Node& node = pending->driver->node();
    const NodeId from = node.id();
    if (world_.now_ >= give_up) {
        world_.finish(*pending, -ETIMEDOUT);
        return;
    }
    const auto again = [&] {
        const Duration wait = std::min<Duration>(1s, give_up - world_.now_);
        later(std::max<Duration>(wait, 1us), target,
              [this, pending, target, port, loopback, give_up] {
                  reach(pending, target, port, loopback, give_up);
              });
    };
    if (cut_.contains({from, target}) || cut_.contains({target, from}) ||
        !world_.nodes_[target]->powered())
        return again();
    const SocketRef listener = find_listener(target, port);
    if (listener && listener->queue.size() >= listener->backlog) return again();
    if (listener == nullptr) {
        later(delay(target, from), from, [this, pending] {
            if (pending->driver != nullptr) world_.finish(*pending, -ECONNREFUSED);
        });
        return;
    }
    auto client = std::make_shared<Socket>();
    auto server = std::make_shared<Socket>();
    client->node = from;
    server->node = target;
    uint16_t& ephemeral = ephemeral_.try_emplace(from, kEphemeralFirst).first->second;
    client->address = fmt::format("{}:{}", loopback ? "127.0.0.1" : node.name(), ephemeral);
    ephemeral = ephemeral == UINT16_MAX ? kEphemeralFirst : static_cast<uint16_t>(ephemeral + 1);
    server->address = client->peer_address = pending->path;
    server->peer_address = client->address;
    make_pair(client, server);
    listener->queue.push_back(server);
    try_accept(listener);
    later(delay(target, from), from, [this, pending, client, server] {
        if (pending->driver == nullptr) {
            close(*client, false);
            return;
        }
        auto file = std::make_shared<OpenFile>();
        file->socket = client;
        world_.finish(*pending, add_file(pending->driver->node(), std::move(file)).v);
    });
}

void Network::make_pair(const SocketRef& client, const SocketRef& server) {
    const NetFaults& faults = world_.plan_.net;
    client->peer = server;
    server->peer = client;
    if (connected_.size() >= connected_max_) {
        std::erase_if(connected_,
                      [](const std::weak_ptr<Socket>& socket) { return socket.expired(); });
        connected_max_ = 2 * connected_.size() + 64;
    }
    connected_.push_back(client);
    connected_.push_back(server);
    for (Socket* socket : {client.get(), server.get()}) {
        socket->window = prng_.between(faults.buffer_bytes_min, faults.buffer_bytes_max);
        socket->chunk = prng_.between(faults.chunk_bytes_min, faults.chunk_bytes_max);
    }
    if (faults.reset_chance > 0 && prng_.chance(faults.reset_chance)) {
        (prng_.chance(0.5) ? client : server)->reset_at = prng_.below(faults.reset_bytes_max + 1);
    }
}

void Network::try_accept(const SocketRef& listener) {
    while (!listener->accepts.empty() && (listener->shut || !listener->queue.empty())) {
        const std::shared_ptr<Pending> pending = listener->accepts.front();
        listener->accepts.pop_front();
        if (listener->shut) {
            world_.finish(*pending, -EINVAL);
            continue;
        }
        SocketRef socket = std::move(listener->queue.front());
        listener->queue.pop_front();
        if (pending->op->text_out != nullptr) *pending->op->text_out = socket->peer_address;
        auto file = std::make_shared<OpenFile>();
        file->socket = std::move(socket);
        world_.finish(*pending, add_file(pending->driver->node(), std::move(file)).v);
    }
}

// ---------------------------------------------------------------- bytes

Duration Network::delay(NodeId from, NodeId to) {
    const NetFaults& faults = world_.plan_.net;
    double ns = static_cast<double>(faults.delay_min.count()) +
                prng_.exponential(static_cast<double>(faults.delay_mean.count()));
    if (from == to) ns /= 10;
    if (faults.slow_chance > 0 && prng_.chance(faults.slow_chance)) {
        ns += static_cast<double>(faults.slow_max.count()) * prng_.unit();
    }
    return Duration(1 + static_cast<int64_t>(ns));
}

void Network::send_segment(Socket& from, Segment segment) {
    const NetFaults& faults = world_.plan_.net;
    const NodeId sender = from.node;
    const NodeId receiver = segment.target->node;
    Instant arrival = world_.now_ + delay(sender, receiver);
    Instant& stalled = stalled_until_[{sender, receiver}];
    if (faults.stall_chance > 0 && prng_.chance(faults.stall_chance)) {
        stalled = world_.now_ + Duration(static_cast<int64_t>(
                                    prng_.unit() * static_cast<double>(faults.stall_max.count())));
    }
    arrival = std::max(arrival, stalled);
    // A reset may overtake the bytes before it.
    const bool overtakes = segment.end == Segment::End::kReset && prng_.chance(0.5);
    if (!overtakes) from.last_arrival = arrival = std::max(arrival, from.last_arrival + 1ns);
    auto shared = std::make_shared<Segment>(std::move(segment));
    later(arrival - world_.now_, receiver,
          [this, sender, shared] { arrive(sender, std::move(*shared)); });
}

void Network::arrive(NodeId from, Segment segment) {
    const SocketRef target = segment.target;
    const SocketRef sender = target->peer;
    const auto give_up_on = [&](const SocketRef& socket) {
        if (socket == nullptr) return;
        later(world_.plan_.net.unacknowledged_max, from, [this, socket, target] {
            const bool delivered = !target->vanished && target->in_transit == 0;
            if (!delivered && socket->error == 0) fail(socket, ETIMEDOUT);
        });
    };
    if (cut_.contains({from, target->node})) {
        std::deque<Segment>& held = held_[{from, target->node}];
        if (held.empty() || held.back().target != target) give_up_on(sender);
        held.push_back(std::move(segment));
        return;
    }
    target->in_transit -= segment.bytes.size();
    if (target->vanished) {
        // Nobody answers; a machine that is up again resets what it does not know.
        if (segment.end == Segment::End::kReset || sender == nullptr) return;
        if (world_.nodes_[target->node]->powered()) {
            later(delay(target->node, from), from, [this, sender] { fail(sender, ECONNRESET); });
        } else {
            target->in_transit += segment.bytes.size();  // it fills the sender's window for ever
            give_up_on(sender);
        }
        return;
    }
    if (target->error != 0) return;
    if (segment.end == Segment::End::kReset) {
        fail(target, ECONNRESET);
        return;
    }
    if (target->closed || target->shut) {
        if (!segment.bytes.empty() && sender != nullptr) {
            later(delay(target->node, from), from, [this, sender] { fail(sender, ECONNRESET); });
        }
        return;
    }
    target->inbound.append(segment.bytes);
    if (segment.end == Segment::End::kFinish) target->end_of_stream = true;
    wake_recv(target);
}

void Network::fail(const SocketRef& socket, int error) {
    if (socket->error != 0) return;
    socket->error = error;
    if (prng_.chance(0.5)) {
        socket->inbound.clear();
        socket->consumed = 0;
    }
    wake_recv(socket);
    wake_send(socket);
}

void Network::wake_recv(const SocketRef& socket) {
    if (socket->recv != nullptr)
        act(socket->recv, Duration(1 + static_cast<int64_t>(prng_.below(2000))));
}
void Network::wake_send(const SocketRef& socket) {
    if (socket->send != nullptr)
        act(socket->send, Duration(1 + static_cast<int64_t>(prng_.below(2000))));
}

void Network::try_recv(const SocketRef& socket) {
    if (socket->recv == nullptr) return;
    const std::shared_ptr<Pending> pending = socket->recv;
    int32_t result = 0;
    if (socket->listening) {
        result = -ENOTCONN;
    } else if (socket->unread() > 0) {
        const size_t most = std::min<size_t>({pending->size, socket->unread(), socket->chunk});
        const size_t size = prng_.chance(0.2) && most > 0 ? 1 + prng_.below(most) : most;
        std::copy_n(socket->inbound.data() + socket->consumed, size,
                    reinterpret_cast<char*>(pending->op->data));
        socket->consumed += size;
        if (socket->consumed == socket->inbound.size()) {
            socket->inbound.clear();
            socket->consumed = 0;
        } else if (socket->consumed > 65536) {
            socket->inbound.erase(0, std::exchange(socket->consumed, 0));
        }
        result = static_cast<int32_t>(size);
        // Room in the window: the news travels back.
        if (SocketRef peer = socket->peer; peer && peer->send != nullptr) {
            act(peer->send, delay(socket->node, peer->node));
        }
    } else if (socket->error != 0) {
        result = -socket->error;
    } else if (!socket->end_of_stream && !socket->shut) {
        return;
    }
    socket->recv = nullptr;
    world_.finish(*pending, result);
}

void Network::try_send(const SocketRef& socket) {
    if (socket->send == nullptr) return;
    const std::shared_ptr<Pending> pending = socket->send;
    const auto end = [&](int32_t result) {
        socket->send = nullptr;
        world_.finish(*pending, result);
    };
    if (socket->listening) return end(-ENOTCONN);
    if (socket->error != 0) return end(prng_.chance(0.5) ? -socket->error : -EPIPE);
    if (socket->shut) return end(-EPIPE);

    size_t total = 0;
    for (uint32_t i = 0; i < pending->op->iov_count; ++i) total += pending->op->iov[i].iov_len;
    const SocketRef peer = socket->peer;
    size_t size = std::min(total, socket->chunk);
    if (peer != nullptr) {
        const size_t taken = peer->unread() + peer->in_transit;
        if (taken >= peer->window) return;  // woken when the peer receives
        size = std::min(size, peer->window - taken);
    }
    if (prng_.chance(0.1) && size > 1) size = 1 + prng_.below(size);
    const bool resets = socket->reset_at <= socket->sent + size;
    if (resets) size = socket->reset_at - socket->sent;

    std::string bytes;
    bytes.reserve(size);
    for (uint32_t i = 0; i < pending->op->iov_count && bytes.size() < size; ++i) {
        const iovec& part = pending->op->iov[i];
        bytes.append(static_cast<const char*>(part.iov_base),
                     std::min(part.iov_len, size - bytes.size()));
    }
    socket->sent += size;
    if (peer != nullptr) {
        peer->in_transit += bytes.size();
        send_segment(*socket, {.target = peer, .bytes = std::move(bytes)});
        if (resets) {
            send_segment(*socket, {.target = peer, .bytes = {}, .end = Segment::End::kReset});
            fail(socket, ECONNRESET);
        }
    }
    if (resets && size == 0) return end(-ECONNRESET);
    end(static_cast<int32_t>(size));
}

void Network::shutdown(Pending& pending) {
    const SocketRef socket = pending.file->socket;
    if (!socket->listening && socket->error != 0) {
        world_.finish(pending, -ENOTCONN);
        return;
    }
    if (!socket->shut) {
        socket->shut = true;
        if (socket->listening) {
            try_accept(socket);
        } else {
            if (SocketRef peer = socket->peer)
                send_segment(*socket, {.target = peer, .bytes = {}, .end = Segment::End::kFinish});
            wake_recv(socket);
            wake_send(socket);
        }
    }
    world_.finish(pending, 0);
}

void Network::close(Socket& socket, bool power_lost) {
    CHECK(!socket.closed);
    socket.closed = true;
    socket.vanished = power_lost;
    socket.recv = nullptr;
    socket.send = nullptr;
    socket.accepts.clear();
    if (socket.listening) {
        const auto [begin, end] = listeners_.equal_range({socket.node, socket.port});
        for (auto at = begin; at != end; ++at) {
            if (at->second.lock().get() != &socket) continue;
            listeners_.erase(at);
            break;
        }
        for (const SocketRef& waiting : socket.queue) close(*waiting, power_lost);
        socket.queue.clear();
        return;
    }
    const SocketRef peer = socket.peer;
    if (peer == nullptr) return;
    if (peer->closed) {
        peer->peer.reset();
        socket.peer.reset();
        return;
    }
    if (power_lost || socket.error != 0) return;
    // Data that nobody will read makes the end of the connection a reset.
    if (socket.unread() > 0 || socket.in_transit > 0) {
        send_segment(socket, {.target = peer, .bytes = {}, .end = Segment::End::kReset});
    } else if (!socket.shut) {
        send_segment(socket, {.target = peer, .bytes = {}, .end = Segment::End::kFinish});
    }
}

void Network::heal(NodeId from, NodeId to) {
    cut_.erase({from, to});
    std::deque<Segment> held = std::move(held_[{from, to}]);
    held_.erase({from, to});
    while (!held.empty()) {
        Segment segment = std::move(held.front());
        held.pop_front();
        arrive(from, std::move(segment));
    }
}

// Also what was connected before gets room: through a window of a few bytes the messages of two
// nodes would never end.
void Network::heal_all() {
    stalled_until_.clear();
    const NetFaults& now = world_.plan_.net;
    for (const std::weak_ptr<Socket>& each : connected_) {
        const SocketRef socket = each.lock();
        if (socket == nullptr) continue;
        socket->window = std::max<size_t>(socket->window, now.buffer_bytes_min);
        socket->chunk = std::max<size_t>(socket->chunk, now.chunk_bytes_min);
    }
    while (!cut_.empty()) {
        const auto [from, to] = *cut_.begin();
        heal(from, to);
    }
}

}  // namespace weir::sim

#include "rpc/endpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "rpc/calls.h"
#include "rpc/dial.h"
#include "rpc/inbound.h"
#include "rpc/link.h"
#include "runtime/deadline_stop.h"
#include "runtime/shard.h"

namespace weir::rpc {

using runtime::Shard;
using runtime::ShardId;
using runtime::SharedBytes;
using runtime::Task;
using runtime::WorkClass;

namespace {

std::unexpected<Error> stopping() { return fail(ErrorCode::kUnavailable, "this node is stopping"); }

// The dialling end of a connection for one call.
struct OneCall final : Connection::Owner {
    OneCall(runtime::ByteStream& stream, const EndpointOptions& options, EndpointMetrics& metrics,
            runtime::StopToken stop)
        : metrics(metrics), connection(stream, *this, options, metrics, stop) {}
    Result<void> receive(Incoming incoming) override {
        return calls.receive(std::move(incoming), metrics);
    }
    static Task<void> run(OneCall* self) {
        co_await self->connection.run();
        self->calls.fail_all(lost(self->connection.error()));
    }

    EndpointMetrics& metrics;
    Calls calls;
    Connection connection;
};

}  // namespace

Endpoint::Endpoint(const Identity& identity, const EndpointOptions& options)
    : identity_(identity), options_(options) {
    CHECK(options.memory != nullptr);
    CHECK(options.message_bytes_max <= kMessageBytesMax);
    CHECK(options.keep_alive < options.silence_max);
}

Endpoint::~Endpoint() { CHECK(closed_ || Shard::current().dying()); }

void Endpoint::on_message(Kind kind, MessageHandler handler) {
    CHECK(message_handlers_.emplace(kind, std::move(handler)).second);
}

void Endpoint::handle(Kind kind, RequestHandler handler, From from) {
    CHECK(request_handlers_.emplace(kind, Handler{std::move(handler), from}).second);
}

void Endpoint::on_up(PeerCallback callback) { up_.push_back(std::move(callback)); }

void Endpoint::on_down(PeerCallback callback) { down_.push_back(std::move(callback)); }

// ---------------------------------------------------------------- peers

Endpoint::Peer* Endpoint::find_peer(NodeId node) {
    const auto found = peers_.find(node);
    return found == peers_.end() ? nullptr : &found->second;
}

void Endpoint::set_address(NodeId node, std::string host, uint16_t port, Uuid uuid) {
    CHECK(node.valid());
    const bool bare_ipv6 = host.contains(':') && !host.starts_with('[');
    std::string address =
        bare_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
    Peer& peer = peers_[node];
    peer.uuid = uuid;
    if (peer.address == address) return;
    peer.address = std::move(address);
    peer.answered.reset();
    for (const auto& [shard, link] : peer.links) link->dial_now();
}

void Endpoint::forget(NodeId node) {
    inbound_.for_each([node](Inbound& inbound) {
        if (inbound.hello().from.node == node) inbound.end();
    });
    const auto found = peers_.find(node);
    if (found == peers_.end()) return;
    for (const auto& [shard, link] : found->second.links) link->end();
    peers_.erase(found);
}

std::vector<NodeId> Endpoint::peers() const {
    std::vector<NodeId> nodes;
    for (const auto& [node, peer] : peers_) nodes.push_back(node);
    return nodes;
}

std::optional<PeerStatus> Endpoint::status(NodeId node) {
    const Peer* peer = find_peer(node);
    if (peer == nullptr) return std::nullopt;
    PeerStatus status{.address = peer->address,
                      .last_heard = peer->last_heard,
                      .shards = peer->shards,
                      .last_error = peer->last_error};
    const auto heard = [&](Instant at) {
        status.last_heard = std::max(status.last_heard, std::optional(at));
    };
    for (const auto& [shard, link] : peer->links) {
        const Connection* connection = link->connection();
        if (connection == nullptr) continue;
        ++status.connections;
        status.connected_since = std::min(status.connected_since, connection->since());
        heard(connection->heard());
    }
    inbound_.for_each([&](const Inbound& inbound) {
        if (inbound.hello().from.node == node && inbound.is_member()) heard(inbound.heard());
    });
    return status;
}

Link* Endpoint::find_link(NodeId node, ShardId remote_shard) {
    Peer* peer = find_peer(node);
    if (peer == nullptr) return nullptr;
    const auto found = peer->links.find(remote_shard);
    return found == peer->links.end() ? nullptr : found->second;
}

Link* Endpoint::find_or_dial(NodeId node, ShardId remote_shard) {
    if (closed_) return nullptr;
    Link* link = find_link(node, remote_shard);
    if (link == nullptr) {
        Peer* peer = find_peer(node);
        if (peer == nullptr) return nullptr;
        auto fresh = std::make_unique<Link>(*this, node, remote_shard);
        link = fresh.get();
        peer->links.emplace(remote_shard, link);
        scope_.spawn(run_link(std::move(fresh)), WorkClass::kReplication);
    }
    link->note_used();
    return link;
}

Task<void> Endpoint::run_link(std::unique_ptr<Link> link) {
    co_await link->run();
    // After forget() there may be another in its place.
    if (find_link(link->node(), link->remote_shard()) == link.get())
        find_peer(link->node())->links.erase(link->remote_shard());
}

// ---------------------------------------------------------------- sending

void Endpoint::connect(NodeId node, ShardId remote_shard) {
    (void)find_or_dial(node, remote_shard);
}

bool Endpoint::send(NodeId node, ShardId remote_shard, Message message) {
    Link* link = find_or_dial(node, remote_shard);
    Connection* connection = link == nullptr ? nullptr : link->connection();
    const size_t size = message.size();
    if (connection == nullptr || size > options_.message_bytes_max ||
        !connection->fits(message.lane, size)) {
        ++metrics_.messages_refused;
        return false;
    }
    Outgoing outgoing{.type = FrameType::kMessage, .message = std::move(message)};
    if (options_.send_memory != nullptr && outgoing.message.lane == Lane::kData) {
        auto reservation = options_.send_memory->try_reserve(size);
        // One message each connection may have in any case, or it would never send any.
        if (!reservation && connection->queued_bytes(Lane::kData) > 0) {
            ++metrics_.messages_refused;
            return false;
        }
        outgoing.reservation =
            reservation ? std::move(*reservation) : options_.send_memory->charge(size);
    }
    connection->push(std::move(outgoing));
    return true;
}

std::optional<bool> Endpoint::fits(NodeId node, ShardId remote_shard, Lane lane, size_t size) {
    Link* link = find_or_dial(node, remote_shard);
    Connection* connection = link == nullptr ? nullptr : link->connection();
    if (connection == nullptr) return std::nullopt;
    return connection->fits(lane, size);
}

Task<Result<SharedBytes>> Endpoint::call(NodeId node, ShardId remote_shard, Message message,
                                         CallOptions options) {
    const auto held = calls_.try_enter();
    if (!held) co_return stopping();
    if (message.size() > options_.message_bytes_max)
        co_return fail(ErrorCode::kInvalidArgument, "the request is larger than a message may be");
    Link* link = find_or_dial(node, remote_shard);
    if (link == nullptr)
        co_return fail(ErrorCode::kUnavailable, fmt::format("node {} is not known", node.v));
    if (link->dialling()) {
        co_await runtime::try_(
            co_await link->dialled().wait({.deadline = options.deadline, .stop = options.stop}));
        link = find_link(node, remote_shard);
    }
    Connection* connection = link == nullptr ? nullptr : link->connection();
    if (connection == nullptr) {
        const Peer* peer = find_peer(node);
        co_return fail(ErrorCode::kUnavailable,
                       fmt::format("node {} is not connected: {}", node.v,
                                   peer == nullptr ? "forgotten" : peer->last_error));
    }
    co_return co_await link->calls().exchange(*connection, std::move(message), options,
                                              options_.calls_in_flight_max);
}

Task<Result<SharedBytes>> Endpoint::call_address(std::string address, ShardId remote_shard,
                                                 Message message, CallOptions options) {
    const auto held = calls_.try_enter();
    if (!held) co_return stopping();
    if (message.size() > options_.message_bytes_max)
        co_return fail(ErrorCode::kInvalidArgument, "the request is larger than a message may be");
    if (calls_by_address_ >= options_.calls_by_address_max)
        co_return fail(ErrorCode::kResourceExhausted, "too many calls by address");
    ++calls_by_address_;
    runtime::DeadlineStop stop(options.deadline, options.stop, scope_.stop_token());
    auto answer =
        co_await call_once(std::move(address), remote_shard, std::move(message), stop.token());
    --calls_by_address_;
    if (!answer && stop.token().stop_requested()) {
        if (closed_) co_return stopping();
        co_return fail(options.stop.stop_requested() ? ErrorCode::kCancelled
                                                     : ErrorCode::kTimedOut);
    }
    co_return answer;
}

Task<Result<SharedBytes>> Endpoint::call_once(std::string address, ShardId remote_shard,
                                              Message message, runtime::StopToken stop) {
    const Shard& shard = Shard::current();
    Dialled dialled = co_await runtime::try_(dial(std::move(address),
                                                  {.from = identity_,
                                                   .shards = shard.count(),
                                                   .from_shard = shard.id(),
                                                   .to_shard = remote_shard,
                                                   .transient = true},
                                                  {}, options_, stop));
    OneCall one(*dialled.stream, options_, metrics_, stop);
    runtime::Scope scope;
    scope.spawn(OneCall::run(&one));
    auto answer =
        co_await one.calls.exchange(one.connection, std::move(message), {.stop = stop}, 1);
    one.connection.end();
    co_await scope.close();
    co_await dialled.stream->close();
    co_return answer;
}

// ---------------------------------------------------------------- accepted connections

bool Endpoint::is_member(const Accepted& accepted) const {
    const Identity& from = accepted.hello.from;
    if (!from.node.valid() || from.cluster.is_zero() || from.cluster != identity_.cluster)
        return false;
    if (options_.credentials != nullptr && options_.credentials->required() && !accepted.proven)
        return false;
    const auto peer = peers_.find(from.node);
    if (peer == peers_.end()) return false;
    if (!peer->second.uuid.is_zero()) return peer->second.uuid == from.uuid;
    if (accepted.proven) return true;
    const std::optional<Uuid>& answered = peer->second.answered;
    return answered && (answered->is_zero() || *answered == from.uuid);
}

void Endpoint::ask_who_it_is(NodeId node) {
    const Peer* peer = find_peer(node);
    if (peer != nullptr && peer->uuid.is_zero() && !peer->answered) connect(node, 0);
}

Task<void> Endpoint::serve(std::unique_ptr<runtime::TcpStream> stream, Accepted accepted,
                           std::function<Task<void>()> ended) {
    if (closed_) {
        co_await stream->close();
        co_await ended();
        co_return;
    }
    scope_.spawn(run_inbound(std::move(stream), std::move(accepted), std::move(ended)),
                 WorkClass::kReplication);
}

Task<void> Endpoint::run_inbound(std::unique_ptr<runtime::TcpStream> stream, Accepted accepted,
                                 std::function<Task<void>()> ended) {
    if (!closed_) {
        const Hello& hello = accepted.hello;
        if (hello.from.node.valid() && !hello.transient) {
            // The same shard has dialled again: the older connection is dead, whether that was
            // noticed here or not, and nothing that still comes over it may follow what is new. Who
            // only says that it is that node ends nothing.
            inbound_.for_each([&](Inbound& older) {
                const Hello& was = older.hello();
                if (was.from.node == hello.from.node && was.from.uuid == hello.from.uuid &&
                    was.from.cluster == hello.from.cluster && accepted.proven >= older.proven() &&
                    !was.transient && was.from_shard == hello.from_shard &&
                    was.to_shard == hello.to_shard)
                    older.end();
            });
        }
        Inbound inbound(*this, *stream, accepted);
        if (inbound.is_member()) find_peer(hello.from.node)->shards = hello.shards;
        inbound_.push_back(inbound);
        co_await inbound.run();
        if (inbound.is_member()) {
            Peer* peer = find_peer(hello.from.node);
            peer->last_heard = std::max(peer->last_heard, std::optional(inbound.heard()));
        }
    }
    co_await stream->close();
    co_await ended();
}

Task<void> Endpoint::close() {
    CHECK(!closed_);
    closed_ = true;
    for (const auto& [node, peer] : peers_) {
        for (const auto& [shard, link] : peer.links) link->end();
    }
    scope_.request_stop();
    co_await calls_.close();
    co_await scope_.close();
}

}  // namespace weir::rpc

#include "rpc/link.h"

#include <algorithm>

#include "runtime/shard.h"

namespace weir::rpc {

using runtime::Shard;
using runtime::Task;

Link::Link(Endpoint& endpoint, NodeId node, runtime::ShardId remote_shard)
    : endpoint_(endpoint),
      node_(node),
      remote_shard_(remote_shard),
      pause_(endpoint.options_.redial_min),
      used_(Shard::current().now()) {}

void Link::end() { stop_.request_stop(); }

void Link::dial_now() {
    pause_ = endpoint_.options_.redial_min;
    dial_now_.notify_all();
}

void Link::note_used() { used_ = Shard::current().now(); }

Connection* Link::connection() {
    return connection_ && !connection_->ended() ? &*connection_ : nullptr;
}

bool Link::wanted() {
    return !calls_.empty() || Shard::current().now() < used_ + endpoint_.options_.idle_after;
}

Hello Link::hello() const {
    const Shard& shard = Shard::current();
    return {.from = endpoint_.identity_,
            .shards = shard.count(),
            .from_shard = shard.id(),
            .to_shard = remote_shard_,
            .to = node_};
}

Task<void> Link::run() {
    while (!stop_.stop_requested()) {
        dialling_ = true;
        const Endpoint::Peer* peer = endpoint_.find_peer(node_);
        CHECK(peer != nullptr);  // else end() was called
        auto dialled =
            co_await dial(peer->address, hello(), peer->uuid, endpoint_.options_, stop_.token());
        if (dialled) {
            const Instant since = Shard::current().now();
            co_await serve(std::move(*dialled));
            // Who accepts and breaks off at once is not dialled in a tight loop.
            if (Shard::current().now() - since > endpoint_.options_.redial_max)
                pause_ = endpoint_.options_.redial_min;
        } else {
            note_failure(dialled.error());
            dialling_ = false;
            dialled_.notify_all();
        }
        if (stop_.stop_requested() || !wanted()) break;
        const auto pause_ns = static_cast<uint64_t>(pause_.count());
        const Duration pause(
            static_cast<int64_t>(pause_ns / 2 + Shard::current().prng().below(pause_ns + 1)));
        pause_ = std::min(2 * pause_, endpoint_.options_.redial_max);
        (void)co_await dial_now_.wait(
            {.deadline = Shard::current().now() + pause, .stop = stop_.token()});
    }
    dialling_ = false;
    dialled_.notify_all();
}

Task<void> Link::serve(Dialled dialled) {
    connection_.emplace(*dialled.stream, *this, endpoint_.options_, endpoint_.metrics_,
                        stop_.token());
    dialling_ = false;
    dialled_.notify_all();
    ++endpoint_.metrics_.connections_made;
    if (Endpoint::Peer* peer = endpoint_.find_peer(node_)) {
        peer->shards = dialled.reply.shards;
        peer->answered = dialled.reply.from.uuid;
        peer->last_error.clear();
    }
    const std::string& address = dialled.stream->peer();
    Shard::current().log().info("rpc", "connected", "peer={} address={} remote_shard={}", node_.v,
                                address, remote_shard_);
    for (const Endpoint::PeerCallback& up : endpoint_.up_) up(node_, remote_shard_);

    co_await connection_->run();

    const Error error = connection_->error();
    if (Endpoint::Peer* peer = endpoint_.find_peer(node_))
        peer->last_heard = std::max(peer->last_heard, std::optional(connection_->heard()));
    calls_.fail_all(lost(error));
    connection_.reset();
    ++endpoint_.metrics_.connections_lost;
    Shard::current().log().info("rpc", "a connection has ended",
                                "peer={} address={} remote_shard={} error=\"{}\"", node_.v, address,
                                remote_shard_, error.to_string());
    for (const Endpoint::PeerCallback& down : endpoint_.down_) down(node_, remote_shard_);
    co_await dialled.stream->close();
}

void Link::note_failure(const Error& error) {
    ++endpoint_.metrics_.dials_failed;
    Endpoint::Peer* peer = endpoint_.find_peer(node_);
    if (stop_.stop_requested() || peer == nullptr) return;
    const std::string text = error.to_string();
    // Once for each reason: it is dialled again every second.
    const LogLevel level = text == peer->last_error ? LogLevel::kDebug : LogLevel::kWarn;
    Shard::current().log().event(level, "rpc", "a node can't be reached",
                                 "peer={} address={} error=\"{}\"", node_.v, peer->address, text);
    peer->last_error = text;
}

Result<void> Link::receive(Incoming incoming) {
    return calls_.receive(std::move(incoming), endpoint_.metrics_);
}

}  // namespace weir::rpc

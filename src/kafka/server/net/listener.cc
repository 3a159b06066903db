#include "kafka/server/net/listener.h"

#include "runtime/remote.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;
using runtime::TcpStream;

// After an error of accept(2), such as too many open files: not at once again.
constexpr Duration kAcceptPause = 100ms;
// For a connection that was evicted to be gone.
constexpr Duration kRoomWait = 200ms;

std::string host_of(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

Task<Result<void>> Listener::open(std::string address) {
    listener_ = co_await runtime::try_(runtime::TcpListener::listen(std::move(address)));
    co_return Result<void>{};
}

void Listener::start(std::vector<Server*> servers) {
    servers_ = std::move(servers);
    scope_.spawn(accept_all());
}

Task<void> Listener::close() {
    co_await scope_.close();
    co_await listener_.close();
}

bool Listener::admit(const std::string& host) {
    const cluster::BrokerSettings& settings = servers_[0]->settings();
    if (open_ >= servers_[0]->connections_max()) return false;
    auto bound = static_cast<size_t>(settings.connections_per_ip_max);
    for (const auto& [address, count] : settings.connections_per_ip_overrides) {
        if (address == host) bound = static_cast<size_t>(count);
    }
    const auto found = open_by_host_.find(host);
    return (found == open_by_host_.end() ? 0 : found->second) < bound;
}

Task<void> Listener::make_room() {
    for (size_t i = 0; i < servers_.size(); ++i) {
        const auto shard = static_cast<runtime::ShardId>((next_ + i) % servers_.size());
        const bool evicted = co_await runtime::on(
            shard,
            [server = servers_[shard]]() -> Task<bool> { co_return server->evict_connection(); });
        if (!evicted) continue;
        const Instant deadline = Shard::current().now() + kRoomWait;
        while (servers_[0]->lacks_descriptors(open_) && Shard::current().now() < deadline)
            (void)co_await runtime::sleep_for(1ms, scope_.stop_token());
        co_return;
    }
}

Task<void> Listener::accept_all() {
    const runtime::StopToken stop = scope_.stop_token();
    while (!stop.stop_requested()) {
        auto accepted = co_await listener_.accept(stop);
        if (!accepted) {
            if (stop.stop_requested()) break;
            Shard::current().log().warn("kafka", "a connection can't be accepted", "error={}",
                                        accepted.error().to_string());
            (void)co_await runtime::sleep_for(kAcceptPause, stop);
            continue;
        }
        const std::string host = host_of((*accepted)->peer());
        if (servers_[0]->lacks_descriptors(open_)) co_await make_room();
        if (!admit(host)) {
            Shard::current().log().warn("kafka", "too many connections", "peer={} connections={}",
                                        (*accepted)->peer(), open_);
            co_await (*accepted)->close();
            continue;
        }
        ++open_;
        ++open_by_host_[host];
        co_await deal(std::move(*accepted));
    }
}

Task<void> Listener::deal(std::unique_ptr<TcpStream> stream) {
    const auto to = static_cast<runtime::ShardId>(next_++ % servers_.size());
    const std::string host = host_of(stream->peer());
    co_await runtime::on(
        to,
        [this, server = servers_[to], detached = stream->detach(), host,
         name = name_]() mutable -> Task<void> {
            auto attached = TcpStream::attach(std::move(detached));
            // Called on the connection's shard; the count is on this one.
            std::function<void()> closed = [this, server, host] {
                server->background().spawn([](Listener* listener, std::string host) -> Task<void> {
                    co_await runtime::on(0, [listener, host]() -> Task<void> {
                        co_await listener->note_closed(host);
                    });
                }(this, host));
            };
            co_await server->serve(std::move(attached), std::move(closed), std::move(name));
        });
}

Task<void> Listener::note_closed(std::string host) {
    --open_;
    if (--open_by_host_[host] == 0) open_by_host_.erase(host);
    co_return;
}

}  // namespace weir::kafka

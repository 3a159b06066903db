#include "kafka/server/server.h"

#include <algorithm>

#include "base/units.h"
#include "kafka/server/coordinators/group_shard.h"
#include "kafka/server/net/connection.h"
#include "kafka/server/net/forward.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

constexpr int64_t kProducerIdsPerBlock = 1000;
// A client that takes less than Connection's piece of an answer in this time makes room for others
// when there is too little for all.
constexpr Duration kHurry = 10s;
constexpr Duration kHurryInterval = 1s;
// A client between two requests is not idle.
constexpr Duration kEvictedIdle = 10s;

// How long a request waits for clients that do not read: longer than those have when it is asked
// for (kHurry), so that it is they who go.
constexpr Duration kAnswerWaitMax = 15s;
constexpr Duration kAnswerPause = 5ms;

uint64_t fetch_bytes_of(const Server::Options& options) {
    if (options.fetch_bytes_max > 0) return options.fetch_bytes_max;
    return std::max<uint64_t>(options.memory->total() / 4 / Shard::current().count(), 1_MiB);
}

}  // namespace

Server::Server(Options options)
    : options_(std::move(options)),
      mailbox_(Shard::current().id(), mailboxes_, background_),
      unpacking_(options_.unpacking_memory != nullptr ? *options_.unpacking_memory
                                                      : *options_.memory),
      partitions_(*options_.store, *options_.metadata, *options_.replicator, mailbox_,
                  options_.bugs, unpacking_, options_.producers_max),
      fetch_sessions_(static_cast<size_t>(options_.metadata->broker().fetch_sessions_max) /
                          Shard::current().count() +
                      1),
      groups_(std::make_unique<GroupShard>(*this)),
      fetch_bytes_(fetch_bytes_of(options_)) {}

Server::~Server() = default;

void Server::connect(const std::vector<Server*>& servers) {
    peers_ = servers;
    for (Server* server : servers) mailboxes_.push_back(&server->mailbox_);
}

Task<Result<void>> Server::start() {
    cluster::MetadataShard::Hooks hooks;
    hooks.create_logs = [this](std::vector<cluster::NewLog> logs) {
        return partitions_.create_logs(std::move(logs));
    };
    hooks.remove_logs = [this](std::vector<storage::LogId> ids) {
        return partitions_.remove_logs(std::move(ids));
    };
    hooks.changed = [this](cluster::MetadataChange change) { return follow(std::move(change)); };
    metadata().set_hooks(std::move(hooks));
    if (endpoint() != nullptr && Shard::current().id() == 0) {
        endpoint()->handle(kForwardCall, [this](rpc::Request request) {
            return answer_forwarded(*this, std::move(request));
        });
    }
    co_await runtime::try_(partitions_.open());
    groups_->start();
    background_.spawn(expire_producers(), runtime::WorkClass::kBackground);
    co_return Result<void>{};
}

Task<void> Server::follow(cluster::MetadataChange change) {
    co_await partitions_.follow(change);
    groups_->follow(change);
}

Task<void> Server::drain_connections(Duration grace) {
    draining_.request_stop();
    const Instant deadline = Shard::current().now() + grace;
    while (connections_ > 0 && Shard::current().now() < deadline)
        (void)co_await runtime::sleep_for(5ms);
}

Task<void> Server::close_connections() {
    waits_.request_stop();
    co_await passed_on_.close();
    co_await connection_scope_.close();
}

Task<void> Server::stop() {
    co_await groups_->stop();
    co_await background_.close();
    co_await partitions_.close();
    metadata().set_hooks({});
}

void Server::set_advertised(std::string host, int32_t port) {
    options_.node.host = std::move(host);
    options_.node.port = port;
}

cluster::Controller& Server::controller() {
    CHECK(Shard::current().id() == 0);
    return *options_.controller;
}

int32_t Server::controller_id() const {
    return options_.endpoint == nullptr ? node().id : options_.metadata->status().controller;
}

bool Server::is_alive(int32_t node) const {
    return node == this->node().id || options_.metadata->status().alive.contains(node);
}

void Server::hurry_slow_clients() {
    // Not for each of many fetches: nothing new comes of it so soon.
    const Instant now = Shard::current().now();
    if (hurried_ && now < *hurried_ + kHurryInterval) return;
    hurried_ = now;
    sending_.for_each([](Sending& sending) { sending.connection.expect_progress(kHurry); });
}

Task<Result<runtime::Reservation>> Server::reserve_answer(uint64_t bytes, runtime::StopToken stop) {
    const Instant deadline = Shard::current().now() + kAnswerWaitMax;
    const uint64_t charge = std::min(bytes, answers_memory().total() / 2);
    while (true) {
        if (auto reservation = answers_memory().try_reserve(charge))
            co_return std::move(*reservation);
        hurry_slow_clients();
        if (Shard::current().now() >= deadline)
            co_return fail(ErrorCode::kTimedOut, "too many answers wait for their clients");
        co_await runtime::try_(runtime::sleep_for(kAnswerPause, stop));
    }
}

bool Server::evict_connection() {
    if (!silent_.empty()) {
        silent_.front().connection.evict();
        return true;
    }
    if (idle_.empty() || Shard::current().now() < idle_.front().since + kEvictedIdle) return false;
    idle_.front().connection.evict();
    return true;
}

uint64_t Server::next_connection_id() {
    return ++connections_made_ * peers_.size() + runtime::Shard::current().id();
}

runtime::ShardId Server::owner_of(storage::LogId log) const {
    return storage::owner_of(log, static_cast<uint32_t>(peers_.size()));
}

Task<void> Server::serve(std::unique_ptr<runtime::ByteStream> stream, std::function<void()> closed,
                         std::string listener) {
    if (draining_.stop_requested()) {
        co_await stream->close();
        closed();
        co_return;
    }
    ++connections_;
    ++metrics_.connections_opened;
    connection_scope_.spawn(serve_one(std::move(stream), std::move(closed), std::move(listener)),
                            runtime::WorkClass::kNetwork);
}

Task<void> Server::serve_one(std::unique_ptr<runtime::ByteStream> stream,
                             std::function<void()> closed, std::string listener) {
    {
        Connection connection(*this, *stream, std::move(listener), connection_scope_.stop_token(),
                              draining_.token());
        co_await connection.run();
    }
    co_await stream->close();
    --connections_;
    ++metrics_.connections_closed;
    closed();
}

Task<void> Server::expire_producers() {
    const runtime::StopToken stop = background_.stop_token();
    while (co_await runtime::sleep_for(
        std::chrono::milliseconds(settings().producer_expiration_check_ms), stop)) {
        co_await partitions_.expire_producers(Shard::current().wall_now(),
                                              settings().producer_expiration_ms);
    }
}

Task<Result<void>> Server::transfer_leader(storage::LogId log, int32_t leader, int32_t target,
                                           Instant deadline) {
    CHECK(Shard::current().id() == 0);
    if (!options_.transfer_leader) co_return fail(ErrorCode::kUnavailable, "this node is alone");
    co_return co_await options_.transfer_leader(log, leader, target, deadline);
}

Task<Result<int64_t>> Server::next_producer_id() {
    const runtime::Units lock = co_await runtime::try_(
        co_await producer_id_lock_.acquire(1, {.stop = background_.stop_token()}));
    if (next_producer_id_ == producer_ids_end_) {
        next_producer_id_ =
            co_await runtime::try_(runtime::on(0, [server = &peer(0)]() -> Task<Result<int64_t>> {
                const auto& take = server->options_.allocate_producer_ids;
                if (take) co_return co_await take(kProducerIdsPerBlock);
                co_return co_await server->controller().allocate_producer_ids(
                    kProducerIdsPerBlock, {.stop = server->waits()});
            }));
        producer_ids_end_ = next_producer_id_ + kProducerIdsPerBlock;
    }
    co_return next_producer_id_++;
}

}  // namespace weir::kafka

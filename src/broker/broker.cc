#include "broker/broker.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "broker/metrics_page.h"
#include "http/prometheus.h"
#include "kafka/server/group_shard.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/shard.h"

namespace weir::broker {

using runtime::Shard;
using runtime::Task;
using runtime::try_;

namespace {

constexpr Duration kDrainGrace = std::chrono::seconds(1);
// Of the memory budget: data that is not in segments yet, all shards together. The rest is for
// requests and the cache.
constexpr uint64_t kUnflushedShare = 4;

storage::LogConfig metadata_log_config() {
    storage::LogConfig config;
    config.segment_bytes = 16_MiB;
    config.retention_ms = -1;
    config.delete_by_retention = false;
    return config;
}

}  // namespace

Broker::Broker(BrokerOptions options, BuildInfo build, std::function<void(const Error&)> on_fatal)
    : options_(std::move(options)),
      build_(std::move(build)),
      on_fatal_(std::move(on_fatal)),
      memory_(options_.memory),
      parts_(Shard::current().count()) {}

Broker::~Broker() = default;

storage::StoreOptions Broker::store_options() {
    const uint64_t shards = Shard::current().count();
    storage::StoreOptions options;
    options.directory = options_.data;
    options.memory = &memory_;
    options.journal_file_bytes = options_.journal_file_bytes;
    options.journal_bytes_max = options_.journal_bytes;
    options.unflushed_bytes_max =
        std::clamp(options_.memory / kUnflushedShare / shards, 4_MiB, 256_MiB);
    options.cache_bytes_max =
        std::min(options_.cache_bytes, options_.memory / kUnflushedShare / shards);
    options.retention_check_ms = options_.retention_check_ms;
    options.on_fatal = [this](const Error& error) { fail_node(error); };
    return options;
}

void Broker::fail_node(const Error& error) {
    Shard& shard = Shard::current();
    shard.log().error("broker", "storage failed: the node stops", "error=\"{}\"",
                      error.to_string());
    shard.remote_scope().spawn(tell_fatal(error));
}

Task<void> Broker::tell_fatal(Error error) {
    co_await runtime::on(0, [this, &error]() -> Task<void> {
        if (on_fatal_) std::exchange(on_fatal_, nullptr)(error);
        co_return;
    });
}

Task<Result<void>> Broker::start() {
    stores_ = co_await try_(storage::StoreSet::open(store_options()));
    co_await make_shards();
    co_await try_(open_controller());
    co_await try_(start_servers());
    co_await try_(listen());
    ready_ = true;
    co_return Result<void>{};
}

Task<void> Broker::make_shards() {
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            Parts& parts = parts_[i];
            parts.metadata = std::make_unique<cluster::MetadataShard>(options_.node_id.value_or(0),
                                                                      options_.given);
            parts.metadata->set_announce(
                [this, i](cluster::LeaderState state) { announce(i, std::move(state)); });
            replication::ReplicatorOptions options;
            options.self = NodeId{options_.node_id.value_or(0)};
            options.store = &stores_->local();
            parts.replicator = std::make_unique<replication::Replicator>(std::move(options));
            parts.replicator->start(nullptr);
            co_return;
        });
    }
}

void Broker::announce(runtime::ShardId shard, cluster::LeaderState state) {
    Parts& parts = parts_[shard];
    if (!parts.metadata->leaders().learn(state)) return;
    parts.leader_news.push_back(std::move(state));
    if (std::exchange(parts.telling_news, true)) return;
    Shard::current().remote_scope().spawn(tell_news(shard));
}

// What one turn of the shard brought goes to the others as one message.
Task<void> Broker::tell_news(runtime::ShardId shard) {
    Parts& parts = parts_[shard];
    while (!parts.leader_news.empty()) {
        const auto news = std::exchange(parts.leader_news, {});
        for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
            if (i == shard) continue;
            co_await runtime::on(i, [this, i, &news]() -> Task<void> {
                if (!parts_[i].metadata) co_return;
                for (const cluster::LeaderState& state : news)
                    parts_[i].metadata->leaders().learn(state);
            });
        }
    }
    parts.telling_news = false;
}

Task<Result<void>> Broker::open_controller() {
    storage::Store& store = stores_->local();
    storage::Log* log = store.find(storage::kMetadataLog);
    if (log == nullptr)
        log = co_await try_(store.create_log(storage::kMetadataLog, metadata_log_config()));
    std::vector<cluster::MetadataShard*> shards;
    for (const Parts& parts : parts_) shards.push_back(parts.metadata.get());
    controller_ = std::make_unique<cluster::Controller>(
        cluster::Controller::Options{.shards = std::move(shards),
                                     .log = log,
                                     .replicator = parts_[0].replicator.get(),
                                     .on_fatal = [this](const Error& error) { fail_node(error); }});
    co_await try_(controller_->open(raft::voters({options_.node_id.value_or(0)})));
    co_return co_await controller_->serve_alone();
}

Task<Result<void>> Broker::start_servers() {
    std::vector<kafka::Server*> servers;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            parts_[i].server = std::make_unique<kafka::Server>(kafka::Server::Options{
                .node = {.id = options_.node_id.value_or(0),
                         .host = {},
                         .port = 0,
                         .rack = options_.rack,
                         .data_directory = options_.data,
                         .version = build_.version},
                .memory = &memory_,
                .store = &stores_->local(),
                .metadata = parts_[i].metadata.get(),
                .replicator = parts_[i].replicator.get(),
                .controller = i == 0 ? controller_.get() : nullptr,
            });
            co_return;
        });
        servers.push_back(parts_[i].server.get());
    }
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i, &servers]() -> Task<void> {
            parts_[i].server->connect(servers);
            co_return;
        });
    }
    // Side by side: each reads the state of its own partitions.
    std::vector<Task<Result<void>>> starts;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        parts_[i].server_started = true;
        starts.push_back(start_server(i));
    }
    for (Result<void>& started : co_await runtime::all(std::move(starts))) {
        co_await try_(std::move(started));
    }
    controller_->follow();
    listener_ = std::make_unique<kafka::Listener>(std::move(servers));
    co_return Result<void>{};
}

Task<Result<void>> Broker::start_server(runtime::ShardId shard) {
    co_return co_await runtime::on(shard, [this, shard] { return parts_[shard].server->start(); });
}

Task<bool> Broker::drain_server(runtime::ShardId shard) {
    co_await runtime::on(
        shard, [this, shard] { return parts_[shard].server->stop_connections(kDrainGrace); });
    co_return true;
}

Task<Result<void>> Broker::listen() {
    add_admin_pages();
    co_await try_(admin_.start(options_.admin));
    admin_started_ = true;
    co_await try_(listener_->open(options_.kafka));
    const HostPort advertised =
        co_await try_(parse_host_port(options_.advertised.value_or(listener_->address())));
    const HostPort bound = co_await try_(parse_host_port(listener_->address()));
    // "HOST:0" advertises the port that was picked.
    const int32_t port = advertised.port == 0 ? bound.port : advertised.port;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i, &advertised, port]() -> Task<void> {
            parts_[i].server->set_advertised(advertised.host, port);
            co_return;
        });
    }
    listener_->start();
    co_return Result<void>{};
}

void Broker::add_admin_pages() {
    admin_.handle("GET", "/ready", [this](const http::Request&) -> Task<http::Response> {
        co_return ready_ ? http::Response{.body = "ready\n"}
                         : http::Response{.status = 503, .body = "starting or stopping\n"};
    });
    admin_.handle("GET", "/version", [this](const http::Request&) -> Task<http::Response> {
        co_return http::Response{.body = build_.version + "\n"};
    });
    admin_.handle("GET", "/metrics", [this](const http::Request&) { return metrics_page(); });
}

Task<http::Response> Broker::metrics_page() {
    std::vector<ShardMetrics> shards;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        shards.push_back(co_await runtime::on(i, [this, i]() -> Task<ShardMetrics> {
            co_return gather_metrics(*parts_[i].server, stores_->local());
        }));
    }
    co_return http::Response{.content_type = std::string(http::PrometheusPage::kContentType),
                             .body = render_metrics(shards, memory_, build_)};
}

Task<void> Broker::stop() {
    ready_ = false;
    if (listener_) co_await listener_->close();
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (!parts_[i].server_started) continue;
        co_await runtime::on(i, [this, i] { return parts_[i].server->groups().close(); });
    }
    std::vector<Task<bool>> drains;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (parts_[i].server_started) drains.push_back(drain_server(i));
    }
    (void)co_await runtime::all(std::move(drains));
    if (admin_started_) co_await admin_.stop();
    if (controller_) co_await controller_->close();
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (!parts_[i].server_started) continue;
        co_await runtime::on(i, [this, i] { return parts_[i].server->stop(); });
    }
    listener_.reset();
    controller_.reset();
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            parts_[i].server.reset();
            if (parts_[i].replicator) co_await parts_[i].replicator->close();
            parts_[i].replicator.reset();
            co_return;
        });
    }
    // After all replicas, whose last words may still be on their way to each.
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            while (parts_[i].telling_news)
                co_await runtime::sleep_for(std::chrono::milliseconds(1));
            parts_[i].metadata.reset();
            co_return;
        });
    }
    if (stores_) co_await stores_->close();
    stores_.reset();
}

}  // namespace weir::broker

#include "broker/broker.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "broker/metrics_page.h"
#include "cluster/features.h"
#include "http/prometheus.h"
#include "kafka/server/coordinators/group_shard.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::broker {

using runtime::Shard;
using runtime::Task;
using runtime::try_;

namespace {

constexpr Duration kDrainGrace = std::chrono::seconds(1);

storage::LogConfig metadata_log_config() {
    storage::LogConfig config;
    config.segment_bytes = 16_MiB;
    config.retention_ms = -1;
    config.delete_by_retention = false;
    return config;
}

// Fails if this node has the only replica of the metadata log and that replica can't go on. No
// other node could repair it: a node that waited for that would neither serve nor end.
Result<void> check_sole_replica(const storage::Log& log, const replication::Group& group) {
    if (const auto& damage = log.damage();
        damage && damage->offline && group.configuration().members.size() <= 1)
        return fail(ErrorCode::kIo, "the metadata log is offline: " + damage->reason);
    if (group.loss_stops_it())
        return fail(ErrorCode::kCorrupt,
                    "the journal of the metadata log was damaged, and no other node has it: "
                    "`weir debug repair --apply` lets this node go on without what is lost");
    return {};
}

}  // namespace

Broker::Broker(BrokerOptions options, BuildInfo build, std::function<void(const Error&)> on_fatal)
    : options_(std::move(options)),
      build_(std::move(build)),
      descriptors_(share_descriptors(options_.descriptors, Shard::current().count())),
      on_fatal_(std::move(on_fatal)),
      budget_(divide(options_.memory, Shard::current().count())),
      requests_memory_(budget_.requests),
      received_memory_(budget_.received),
      sending_memory_(budget_.sending),
      unpacking_memory_(budget_.unpacking),
      answers_memory_(budget_.answers),
      membership_({.data = options_.data,
                   .rpc = options_.rpc,
                   .seeds = options_.seeds,
                   .node_id = options_.node_id}),
      parts_(Shard::current().count()),
      admin_({.connections_max = descriptors_.admin,
              .reserved = descriptors_.admin / 8 + 1,
              .answers_memory = &answers_memory_}) {}

Broker::~Broker() {
    // Of a node that is killed in the simulator: requests under way hold the controller's lock, so
    // they go before it.
    for (Parts& parts : parts_) parts.server.reset();
}

storage::StoreOptions Broker::store_options() {
    storage::StoreOptions options;
    options.directory = options_.data;
    options.memory = &requests_memory_;
    options.received_memory = &received_memory_;
    options.journal_file_bytes = options_.journal_file_bytes;
    options.journal_bytes_max = options_.journal_bytes;
    options.unflushed_bytes_max = budget_.unflushed_per_shard;
    options.cache_bytes_max = std::min(options_.cache_bytes, budget_.cache_per_shard_max);
    options.retention_check_ms = options_.retention_check_ms;
    options.open_segments_max = descriptors_.open_segments;
    options.go_on = options_.rpc.has_value();
    options.on_fatal = [this](const Error& error) { fail_node(error); };
    if (options_.adjust_store) options_.adjust_store(options);
    return options;
}

void Broker::fail_node(const Error& error) {
    Shard& shard = Shard::current();
    shard.log().error("broker", "storage failed: the node stops", "error=\"{}\"",
                      error.to_string());
    if (parts_[shard.id()].replicator) parts_[shard.id()].replicator->give_up(error);
    shard.remote_scope().spawn(report_fatal(error));
}

Task<void> Broker::report_fatal(Error error) {
    co_await runtime::on(0, [this, &error]() -> Task<void> {
        storage_error_ = error;
        if (controller_) controller_->break_off(error);
        if (on_fatal_) std::exchange(on_fatal_, nullptr)(error);
        co_return;
    });
}

Task<Result<void>> Broker::start(runtime::StopToken stop) {
    if (options_.descriptors != 0) {
        Shard::current().log().info(
            "broker", "descriptors are shared out",
            "limit={} client_connections={} open_segments_a_shard={} admin_connections={}",
            options_.descriptors, descriptors_.connections, descriptors_.open_segments,
            descriptors_.admin);
    }
    stores_ = co_await try_(storage::StoreSet::open(store_options()));
    co_await try_(join_cluster(stop));
    co_await try_(advertise());
    co_await make_shards();
    co_await try_(open_controller(stop));
    co_await try_(start_servers());
    co_await try_(listen());
    ready_ = true;
    co_return Result<void>{};
}

// ------------------------------------------------------------------- who this node is

// Ends when the node has an id.
Task<Result<void>> Broker::join_cluster(runtime::StopToken stop) {
    co_await try_(membership_.load(stores_->local().find(storage::kMetadataLog)));
    if (options_.rpc) {
        co_await make_endpoints();
        parts_[0].endpoint->handle(
            cluster::kHelloCall,
            [this](rpc::Request request) { return membership_.answer_hello(std::move(request)); },
            rpc::From::kAnyone);
    }
    if (!membership_.is_new_own()) {
        co_await identify(membership_.transport_identity());
        if (options_.rpc) co_await try_(open_transport());
        if (!options_.seeds.empty()) {
            const auto self = co_await try_(registration());
            co_await try_(membership_.find_cluster(
                *parts_[0].endpoint, self,
                [this](const rpc::Identity& identity) {
                    parts_[0].endpoint->set_identity(identity);
                },
                stop));
            co_await identify(membership_.transport_identity());
        }
    }
    // As Kafka's tools look for them.
    options_.given["node.id"] = std::to_string(node_id());
    options_.given["broker.id"] = std::to_string(node_id());
    options_.given["process.roles"] = "broker,controller";
    options_.given["log.dirs"] = options_.data;
    options_.given["log.dir"] = options_.data;
    co_return Result<void>{};
}

Task<void> Broker::make_endpoints() {
    const Logger& log = Shard::current().log();
    if (options_.credentials == nullptr && options_.insecure) {
        log.warn("cluster",
                 "nodes do not prove that they belong to the cluster (--insecure): whoever reaches "
                 "the rpc port can take part in it",
                 "rpc={}", *options_.rpc);
    } else if (options_.credentials != nullptr && !options_.credentials->required()) {
        log.warn("cluster",
                 "nodes that do not prove that they belong to the cluster are believed "
                 "(--cluster-secret-optional): start without it once all nodes have the secret",
                 "rpc={}", *options_.rpc);
    }
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            rpc::EndpointOptions options;
            options.memory = &received_memory_;
            options.send_memory = &sending_memory_;
            options.credentials = options_.credentials.get();
            options.bugs = options_.rpc_bugs;
            parts_[i].endpoint =
                std::make_unique<rpc::Endpoint>(membership_.transport_identity(), options);
            co_return;
        });
    }
}

Task<Result<void>> Broker::open_transport() {
    std::vector<rpc::Endpoint*> endpoints;
    for (const Parts& parts : parts_) endpoints.push_back(parts.endpoint.get());
    rpc::ListenerOptions options;
    options.admit = [this](const rpc::Hello& hello, std::string* reason) {
        return link_ ? link_->admit(hello, reason) : rpc::Refusal::kNone;
    };
    transport_ = std::make_unique<rpc::Listener>(std::move(endpoints), std::move(options));
    co_await try_(transport_->open(*options_.rpc));
    transport_open_ = true;
    transport_->start();
    co_return Result<void>{};
}

Task<void> Broker::identify(rpc::Identity identity) {
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (!parts_[i].endpoint) continue;
        co_await runtime::on(i, [this, i, &identity]() -> Task<void> {
            parts_[i].endpoint->set_identity(identity);
            co_return;
        });
    }
}

Result<cluster::NodeRegistered> Broker::registration() const {
    cluster::NodeRegistered self{.uuid = membership_.identity().uuid,
                                 .epoch = 1,
                                 .rack = options_.rack,
                                 .shards = static_cast<uint32_t>(parts_.size()),
                                 .features = cluster::supported_features()};
    TRY_ASSIGN(const HostPort rpc, parse_host_port(*options_.rpc));
    self.rpc = {rpc.host, static_cast<uint16_t>(rpc.port)};
    HostPort kafka;
    if (advertised_) {
        kafka = *advertised_;
    } else {
        // A node that joins has no port to tell yet if it is to pick one.
        TRY_ASSIGN(kafka, parse_host_port(options_.advertised.value_or(options_.kafka)));
    }
    self.kafka = {kafka.host, static_cast<uint16_t>(kafka.port)};
    return self;
}

// ------------------------------------------------------------------- its parts

Task<void> Broker::make_shards() {
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            Parts& parts = parts_[i];
            parts.metadata = std::make_unique<cluster::MetadataShard>(node_id(), options_.given);
            parts.metadata->set_announce(
                [this, i](cluster::LeaderState state) { announce(i, std::move(state)); });
            parts.metadata->set_report(
                [this](const cluster::MetadataShard::ReplicasReport& report) {
                    if (link_) link_->controller_calls().report(report);
                });
            parts.metadata->set_find_end([this]() -> Task<Result<int64_t>> {
                co_return co_await runtime::on(0, [this]() -> Task<Result<int64_t>> {
                    if (!link_) co_return fail(ErrorCode::kUnavailable, "this node is stopping");
                    co_return co_await link_->controller_calls().metadata_end();
                });
            });
            replication::ReplicatorOptions options;
            options.self = NodeId{node_id()};
            options.store = &stores_->local();
            if (options_.adjust_raft) options_.adjust_raft(options.raft);
            parts.replicator = std::make_unique<replication::Replicator>(std::move(options));
            parts.replicator->start(parts.endpoint.get());
            co_return;
        });
    }
}

void Broker::announce(runtime::ShardId shard, cluster::LeaderState state) {
    Parts& parts = parts_[shard];
    if (!parts.metadata->learn_leader(state)) return;
    parts.leader_news.push_back(std::move(state));
    if (std::exchange(parts.publishing_news, true)) return;
    Shard::current().remote_scope().spawn(publish_news(shard));
}

// What one turn of the shard brought goes to the others as one message; the link tells other nodes.
Task<void> Broker::publish_news(runtime::ShardId shard) {
    Parts& parts = parts_[shard];
    while (!parts.leader_news.empty()) {
        const auto news = std::exchange(parts.leader_news, {});
        for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
            co_await runtime::on(i, [this, i, shard, &news]() -> Task<void> {
                if (i == 0 && link_ && !link_closed_) link_->publish(news);
                if (i == shard || !parts_[i].metadata) co_return;
                for (const cluster::LeaderState& state : news)
                    parts_[i].metadata->learn_leader(state);
            });
        }
    }
    parts.publishing_news = false;
    parts.news_published.notify_all();
}

raft::Configuration Broker::first_voters() const {
    const cluster::NodeIdentity& identity = membership_.identity();
    raft::Configuration voters;
    if (identity.own) voters.members.push_back({.node = NodeId{identity.node_id}, .voter = true});
    for (const cluster::Founder& founder : identity.founding)
        voters.members.push_back({.node = NodeId{founder.node_id}, .voter = true});
    std::ranges::sort(voters.members, {}, &raft::Member::node);
    return voters;
}

// Ends when every shard has the metadata, as of a moment after this node started.
Task<Result<void>> Broker::open_controller(runtime::StopToken stop) {
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
    std::vector<ShardParts> parts;
    for (const Parts& each : parts_)
        parts.push_back({each.endpoint.get(), each.metadata.get(), each.replicator.get()});
    link_ = std::make_unique<ClusterLink>(ClusterLink::Options{.identity = membership_.identity(),
                                                               .seeds = options_.seeds,
                                                               .members = membership_.members(),
                                                               .shards = std::move(parts),
                                                               .controller = controller_.get()});
    loops_ = std::make_unique<ControllerLoops>(*controller_, *link_);
    api_ = std::make_unique<AdminApi>(
        *controller_, *link_,
        cluster::NodeHealth{.id = node_id(),
                            .address = fmt::format("{}:{}", advertised_->host, advertised_->port),
                            .rack = options_.rack,
                            .alive = true},
        admin_names());
    link_->controller_calls().set_admin(
        [this](cluster::AdminCall call) { return api_->change(std::move(call)); });
    co_await link_->start();
    if (storage_error_) co_return fail(*storage_error_);
    co_await try_(controller_->open(first_voters()));
    co_await try_(check_sole_replica(*log, *controller_->group()));
    link_->add_hints(co_await try_(controller_->addresses_ahead()));
    if (!options_.rpc && controller_->group()->configuration().members.size() > 1) {
        co_return fail(ErrorCode::kInvalidArgument,
                       "other nodes have joined this one's cluster: --rpc is needed to reach them");
    }
    if (membership_.is_new_own() || !options_.rpc) {
        co_await try_(controller_->lead_alone({.stop = stop}));
        if (membership_.is_new_own()) {
            co_await try_(membership_.found_own(controller_->image().cluster_id()));
            link_->set_identity(membership_.identity());
            co_await identify(membership_.transport_identity());
            if (options_.rpc) co_await try_(open_transport());
        }
    }
    // Also before this node serves: it may be the controller that others wait for.
    loops_->start();
    int64_t committed_end = controller_->applied();
    if (options_.rpc) {
        committed_end =
            co_await try_(link_->registration().register_node(co_await try_(registration()), stop));
    }
    co_return co_await controller_->serve_from(committed_end, {.stop = stop});
}

Task<Result<void>> Broker::start_servers() {
    std::vector<kafka::Server*> servers;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            parts_[i].server = std::make_unique<kafka::Server>(kafka::Server::Options{
                .node = {.id = node_id(),
                         .host = {},
                         .port = 0,
                         .rack = options_.rack,
                         .data_directory = options_.data,
                         .version = build_.version},
                .memory = &requests_memory_,
                .unpacking_memory = &unpacking_memory_,
                .answers_memory = &answers_memory_,
                .fetch_bytes_max = budget_.fetch_answers_per_shard,
                .producers_max =
                    budget_.producers_per_shard / kafka::ProducerStates::kProducerBytes,
                .store = &stores_->local(),
                .metadata = parts_[i].metadata.get(),
                .replicator = parts_[i].replicator.get(),
                .controller = i == 0 ? controller_.get() : nullptr,
                .endpoint = parts_[i].endpoint.get(),
                .allocate_producer_ids =
                    [this](int64_t count) {
                        return link_->controller_calls().allocate_producer_ids(count);
                    },
                .transfer_leader =
                    [this](storage::LogId log, int32_t leader, int32_t target, Instant deadline) {
                        return link_->transfers().transfer(log, leader, target, deadline);
                    },
                .descriptors_for_connections = descriptors_.connections,
                .bugs = options_.server_bugs,
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
    co_return Result<void>{};
}

Task<Result<void>> Broker::start_server(runtime::ShardId shard) {
    co_return co_await runtime::on(shard, [this, shard] { return parts_[shard].server->start(); });
}

Task<bool> Broker::drain_server(runtime::ShardId shard) {
    co_await runtime::on(
        shard, [this, shard] { return parts_[shard].server->drain_connections(kDrainGrace); });
    co_return true;
}

// Clients have a moment for what they began. After it nothing waits for the controller any more:
// requests of many items end between two of them.
Task<void> Broker::stop_clients() {
    std::vector<Task<bool>> drains;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (parts_[i].server_started) drains.push_back(drain_server(i));
    }
    (void)co_await runtime::all(std::move(drains));
    if (controller_) controller_->begin_close();
    if (link_) link_->begin_close();
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (!parts_[i].server_started) continue;
        co_await runtime::on(i, [this, i] { return parts_[i].server->close_connections(); });
    }
}

// What clients are told to connect to. "HOST:0" is bound now, to know the port; else not before
// this node can answer, since a client would wait in vain.
Task<Result<void>> Broker::advertise() {
    HostPort advertised =
        co_await try_(parse_host_port(options_.advertised.value_or(options_.kafka)));
    const HostPort kafka = co_await try_(parse_host_port(options_.kafka));
    if (kafka.port == 0) {
        co_await try_(listener_.open(options_.kafka));
        listener_open_ = true;
    }
    if (advertised.port == 0) {
        advertised.port = kafka.port != 0
                              ? kafka.port
                              : (co_await try_(parse_host_port(listener_.address()))).port;
    }
    advertised_ = std::move(advertised);
    co_return Result<void>{};
}

Task<Result<void>> Broker::listen() {
    add_admin_pages();
    co_await try_(admin_.start(options_.admin));
    admin_started_ = true;
    if (!listener_open_) co_await try_(listener_.open(options_.kafka));
    listener_open_ = true;
    std::vector<kafka::Server*> servers;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            parts_[i].server->set_advertised(advertised_->host, advertised_->port);
            parts_[i].metadata->set_given("listeners", "PLAINTEXT://" + listener_.address());
            parts_[i].metadata->set_given("advertised.listeners",
                                          "PLAINTEXT://" + to_text(*advertised_));
            co_return;
        });
        servers.push_back(parts_[i].server.get());
    }
    listener_.start(std::move(servers));
    co_return Result<void>{};
}

// What requests to the admin port may call this node, beside its addresses.
std::vector<std::string> Broker::admin_names() const {
    std::vector<std::string> names = options_.admin_names;
    if (advertised_) names.push_back(advertised_->host);
    for (const std::string& address : {options_.admin, options_.kafka, options_.rpc.value_or("")}) {
        if (const auto parsed = parse_host_port(address)) names.push_back(parsed->host);
    }
    return names;
}

void Broker::add_admin_pages() {
    admin_.handle("GET", "/ready", [this](const http::Request&) -> Task<http::Response> {
        co_return ready_ ? http::Response{.body = "ready\n"}
                         : http::Response{.status = 503, .body = "starting or stopping\n"};
    });
    admin_.handle("GET", "/version", [this](const http::Request&) -> Task<http::Response> {
        co_return http::Response{.body = build_.version + "\n"};
    });
    admin_.handle_under("/v1/",
                        [this](const http::Request& request) { return api_->answer(request); });
    admin_.handle("GET", "/metrics", [this](const http::Request&) { return metrics_page(); });
}

std::vector<MemoryShare> Broker::memory_metrics(const std::vector<ShardMetrics>& shards) const {
    uint64_t unflushed = 0;
    uint64_t fetch_answers = 0;
    uint64_t producers = 0;
    for (const ShardMetrics& shard : shards) {
        unflushed += shard.store.unflushed_bytes;
        fetch_answers += shard.fetch_answer_bytes;
        producers += shard.producers * kafka::ProducerStates::kProducerBytes;
    }
    return {{"requests", requests_memory_.used(), budget_.requests},
            {"unflushed", unflushed, budget_.unflushed},
            {"received", received_memory_.used(), budget_.received},
            {"sending", sending_memory_.used(), budget_.sending},
            {"unpacking", unpacking_memory_.used(), budget_.unpacking},
            {"fetch_answers", fetch_answers, budget_.fetch_answers},
            {"answers", answers_memory_.used(), budget_.answers},
            {"producers", producers, budget_.producers}};
}

Task<http::Response> Broker::metrics_page() {
    std::vector<ShardMetrics> shards;
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        shards.push_back(co_await runtime::on(i, [this, i]() -> Task<ShardMetrics> {
            ShardMetrics shard = gather_metrics(*parts_[i].server, stores_->local());
            if (parts_[i].endpoint) shard.rpc = parts_[i].endpoint->metrics();
            co_return shard;
        }));
        if (build_.stalls) shards.back().stalls = build_.stalls(i);
    }
    const auto listener = transport_ ? transport_->metrics() : rpc::ListenerMetrics{};
    co_return http::Response{
        .content_type = std::string(http::PrometheusPage::kContentType),
        .body = render_metrics(shards, memory_metrics(shards), listener, build_)};
}

Task<void> Broker::stop() {
    ready_ = false;
    if (listener_open_) co_await listener_.close();
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (!parts_[i].server_started) continue;
        co_await runtime::on(i, [this, i] { return parts_[i].server->groups().close(); });
    }
    co_await stop_clients();
    if (admin_started_) co_await admin_.stop();
    if (transport_open_) co_await transport_->close();
    link_closed_ = true;
    // Whoever uses the controller goes before it.
    if (link_) co_await link_->close();
    if (loops_) co_await loops_->close();
    if (controller_) co_await controller_->close();
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        if (!parts_[i].server_started) continue;
        co_await runtime::on(i, [this, i] { return parts_[i].server->stop(); });
    }
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            if (parts_[i].replicator) co_await parts_[i].replicator->close();
            if (parts_[i].endpoint) co_await parts_[i].endpoint->close();
        });
    }
    // After all replicas, whose last words may still be on their way to each, and after all that
    // other nodes asked has ended.
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            Parts& parts = parts_[i];
            while (parts.publishing_news) (void)co_await parts.news_published.wait();
        });
    }
    api_.reset();
    loops_.reset();
    link_.reset();
    controller_.reset();
    for (runtime::ShardId i = 0; i < parts_.size(); ++i) {
        co_await runtime::on(i, [this, i]() -> Task<void> {
            parts_[i].server.reset();
            parts_[i].replicator.reset();
            parts_[i].endpoint.reset();
            parts_[i].metadata.reset();
            co_return;
        });
    }
    transport_.reset();
    if (stores_) co_await stores_->close();
    stores_.reset();
}

}  // namespace weir::broker

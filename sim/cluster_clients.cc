#include "cluster_clients.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "kafka/protocol/alter_partition_reassignments.h"
#include "kafka/protocol/consumer_protocol_assignment.h"
#include "kafka/protocol/consumer_protocol_subscription.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/delete_topics.h"
#include "kafka/protocol/describe_configs.h"
#include "kafka/protocol/fetch.h"
#include "kafka/protocol/heartbeat.h"
#include "kafka/protocol/incremental_alter_configs.h"
#include "kafka/protocol/init_producer_id.h"
#include "kafka/protocol/join_group.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/protocol/leave_group.h"
#include "kafka/protocol/offset_commit.h"
#include "kafka/protocol/offset_fetch.h"
#include "kafka/protocol/produce.h"
#include "kafka/protocol/sync_group.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"
#include "runtime/wait.h"

namespace weir::sim {

using kafka::Client;
using kafka::ClientConnection;
using kafka::KafkaError;
using runtime::try_;

namespace {

constexpr const char* kGroup = "group";
constexpr size_t kInFlightMax = 5;  // of an idempotent producer; what brokers remember
constexpr int16_t kOffsetsByName = 9;
constexpr int16_t kOffsetFetchOneGroup = 7;
constexpr int8_t kTopicResource = 2;
constexpr size_t kRecordsBytesMax = 1 << 20;
constexpr const char* kConfigName = "max.compaction.lag.ms";

std::string text(KafkaError error) { return std::string(kafka::to_string(error)); }

Error refused(int16_t code, std::string_view what) { return kafka::error_of(code, what); }

}  // namespace

// ---------------------------------------------------------------- sessions

// One client's view of the cluster. Any failure of a call may close it: the next use connects anew.
class ClusterClients::Session {
  public:
    Session(ClusterClients& owner, std::string who)
        : owner_(owner), who_(std::move(who)), prng_(owner.options_.seed, "session " + who_) {}

    const std::string& who() const { return who_; }

    Task<Result<Client*>> client() {
        if (client_) co_return client_.get();
        Client::Options options;
        options.bootstrap = owner_.options_.bootstrap;
        for (size_t i = options.bootstrap.size(); i > 1; --i)
            std::swap(options.bootstrap[i - 1], options.bootstrap[prng_.below(i)]);
        options.connection.client_id = who_;
        options.connection.timeout = owner_.options_.request_timeout;
        auto client = std::make_unique<Client>(std::move(options));
        Result<void> opened = co_await client->open();
        if (!opened) {
            co_await client->close();
            co_return weir::fail(std::move(opened).error());
        }
        client_ = std::move(client);
        co_return client_.get();
    }

    struct Route {
        ClientConnection* connection;
        int32_t node;
        int32_t epoch;
    };
    Task<Result<Route>> leader_of(const Topic* topic, int32_t partition) {
        Client* client = co_await try_(this->client());
        const PartitionKey key{topic->id, partition};
        auto known = routes_.find(key);
        if (known == routes_.end() || known->second.stale) {
            const Client::Topic found = co_await try_(client->topic(topic->name));
            ++owner_.counts_.requests;
            for (const auto& p : found.partitions) {
                const PartitionKey about{topic->id, p.index};
                if (found.id == topic->id)
                    owner_.history_.told_leader(about, p.leader_epoch, p.leader);
                Known& old = routes_[about];
                // A node that knows less than this client does not send it back.
                if (p.leader_epoch >= old.epoch) old = {p.leader, p.leader_epoch, false};
            }
            known = routes_.find(key);
            if (known == routes_.end())
                co_return weir::fail(ErrorCode::kNotFound, "no such partition");
        }
        if (known->second.leader < 0) {
            known->second.stale = true;
            co_return weir::fail(ErrorCode::kUnavailable, "no leader");
        }
        const Known route = known->second;
        ClientConnection* connection = co_await try_(client->to_node(route.leader));
        co_return Route{connection, route.leader, route.epoch};
    }
    // What is known of the partitions' leaders may be old.
    void doubt() {
        for (auto& [key, known] : routes_) known.stale = true;
    }
    Task<void> drop() {
        doubt();
        if (!client_) co_return;
        const std::unique_ptr<Client> client = std::move(client_);
        co_await client->close();
    }
    // After something failed: a while, and everything may be different.
    Task<void> recover(std::string what) {
        ++owner_.counts_.failures;
        owner_.say(who_, std::move(what));
        co_await drop();
        (void)co_await runtime::sleep_for(
            std::chrono::milliseconds(10 + static_cast<int64_t>(prng_.below(200))));
    }
    Prng& prng() { return prng_; }

  private:
    struct Known {
        int32_t leader = -1;
        int32_t epoch = -1;
        bool stale = true;
    };
    ClusterClients& owner_;
    const std::string who_;
    Prng prng_;
    std::unique_ptr<Client> client_;
    std::map<PartitionKey, Known> routes_;
};

ClusterClients::ClusterClients(ClientOptions options, ClusterHistory& history,
                               std::function<void(const std::string&)> fail)
    : options_(std::move(options)), history_(history), fail_(std::move(fail)) {
    for (uint32_t i = 0; i < options_.topics; ++i)
        topics_.push_back({fmt::format("topic-{}", i), {}, 0});
}

ClusterClients::~ClusterClients() = default;

Prng ClusterClients::prng(std::string_view who, uint64_t number) const {
    return Prng(options_.seed, fmt::format("{} {}", who, number));
}

std::string ClusterClients::doing() const {
    std::string all;
    for (const auto& [who, what] : doing_)
        all += fmt::format("{}{}: {}", all.empty() ? "" : "; ", who, what);
    return all;
}

Task<void> ClusterClients::pause(Prng* prng) {
    const auto longest = static_cast<uint64_t>(options_.pause_max.count());
    (void)co_await runtime::sleep_for(
        Duration(static_cast<int64_t>(longest == 0 ? 0 : prng->below(longest))));
}

Task<void> ClusterClients::run(ClusterClients* self) {
    co_await create_topics(self);
    self->serving_ = true;
    Scope producers;
    Scope readers;
    Scope members;
    const ClientOptions& options = self->options_;
    for (uint32_t i = 0; i < options.idempotent_producers; ++i)
        producers.spawn(idempotent(self, i));
    for (uint32_t i = 0; i < options.plain_producers; ++i)
        producers.spawn(once(self, i, WriterKind::kPlain));
    for (uint32_t i = 0; i < options.weak_producers; ++i)
        producers.spawn(once(self, i, WriterKind::kWeak));
    if (options.admin) producers.spawn(admin(self));
    for (uint32_t i = 0; i < options.readers; ++i) readers.spawn(reader(self, i));
    for (uint32_t i = 0; i < options.members; ++i) members.spawn(member(self, i));
    co_await producers.join();
    self->producers_done_ = true;
    co_await read_all(self);
    self->all_read_ = true;
    co_await readers.join();
    co_await members.join();
    co_await check_topics(self);
    self->doing_.clear();
    self->finished_ = true;
}

// ---------------------------------------------------------------- topics

Task<void> ClusterClients::create_topics(ClusterClients* self) {
    Session session(*self, "creator");
    for (Topic& topic : self->topics_) {
        topic.partitions = static_cast<int32_t>(self->options_.partitions);
        while (true) {
            self->say(session.who(), "creating " + topic.name);
            Result<void> created = co_await create_topic(self, &session, &topic);
            if (created) break;
            co_await session.recover(
                fmt::format("creating {}: {}", topic.name, created.error().to_string()));
        }
        self->configs_[topic.name];
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// Until the topic is known to be there, with its id.
Task<Result<void>> ClusterClients::create_topic(ClusterClients* self, Session* session,
                                                Topic* topic) {
    Client* client = co_await try_(session->client());
    kafka::CreateTopicsRequest request;
    auto& asked = request.topics.emplace_back();
    asked.name = topic->name;
    asked.num_partitions = topic->partitions;
    asked.replication_factor = static_cast<int16_t>(std::min(3u, self->options_.nodes));
    request.timeout_ms = 2000;
    ++self->counts_.requests;
    auto answer =
        co_await try_(client->any().call<kafka::CreateTopicsResponse>(std::move(request)));
    if (answer.message.topics.size() != 1)
        co_return weir::fail(ErrorCode::kMalformed, "CreateTopics answered for another topic");
    const auto& created = answer.message.topics[0];
    const KafkaError error = kafka::kafka_error(created.error_code);
    // Names are used once, so one that is there was made by an attempt that got no answer.
    if (error != KafkaError::kNone && error != KafkaError::kTopicAlreadyExists)
        co_return weir::fail(kafka::error_of(created.error_code, "create", created.error_message));
    if (!created.topic_id.is_zero()) {
        topic->id = created.topic_id;
    } else {
        const Client::Topic found = co_await try_(client->topic(topic->name));
        topic->id = found.id;
    }
    ++self->counts_.topics_made;
    co_return Result<void>{};
}

// False: it was not there any more.
Task<Result<bool>> ClusterClients::delete_topic(ClusterClients* self, Session* session,
                                                Topic topic) {
    Client* client = co_await try_(session->client());
    kafka::DeleteTopicsRequest request;
    if (co_await try_(client->any().version_of(kafka::ApiKey::kDeleteTopics)) >= 6) {
        request.topics.push_back({.name = topic.name, .topic_id = {}});
    } else {
        request.topic_names = {topic.name};
    }
    request.timeout_ms = 2000;
    ++self->counts_.requests;
    auto answer =
        co_await try_(client->any().call<kafka::DeleteTopicsResponse>(std::move(request)));
    for (const auto& result : answer.message.responses) {
        const KafkaError error = kafka::kafka_error(result.error_code);
        if (error == KafkaError::kUnknownTopicOrPartition) co_return false;
        if (error != KafkaError::kNone) co_return weir::fail(refused(result.error_code, "delete"));
    }
    ++self->counts_.topics_removed;
    co_return true;
}

Task<Result<void>> ClusterClients::alter_config(ClusterClients* self, Session* session,
                                                Prng* prng) {
    Client* client = co_await try_(session->client());
    const Topic& topic = self->topics_[prng->below(self->topics_.size())];
    const std::string value = std::to_string(1'000'000 + prng->below(1'000'000));
    while (true) {
        kafka::IncrementalAlterConfigsRequest request;
        auto& resource = request.resources.emplace_back();
        resource.resource_type = kTopicResource;
        resource.resource_name = topic.name;
        resource.configs.push_back({kConfigName, 0, value});
        ++self->counts_.requests;
        auto answer =
            co_await client->any().call<kafka::IncrementalAlterConfigsResponse>(std::move(request));
        if (answer && !answer->message.responses.empty() &&
            answer->message.responses[0].error_code == 0) {
            self->configs_[topic.name] = value;
            co_return Result<void>{};
        }
        // It may have happened. Only another try makes sure of what the topic has.
        co_await session->recover(
            answer ? "altering a config: " +
                         text(kafka::kafka_error(answer->message.responses.empty()
                                                     ? int16_t{-1}
                                                     : answer->message.responses[0].error_code))
                   : "altering a config: " + answer.error().to_string());
        auto again = co_await session->client();
        while (!again) {
            co_await session->recover("altering a config: " + again.error().to_string());
            again = co_await session->client();
        }
        client = *again;
    }
}

Task<Result<void>> ClusterClients::reassign(ClusterClients* self, Session* session, Prng* prng) {
    Client* client = co_await try_(session->client());
    if (!client->any().version_of(kafka::ApiKey::kAlterPartitionReassignments)) {
        co_return Result<void>{};
    }
    const Topic& topic = self->topics_[prng->below(self->topics_.size())];
    std::vector<int32_t> nodes;
    for (const auto& broker : client->brokers()) nodes.push_back(broker.id);
    std::ranges::sort(nodes);
    for (size_t i = nodes.size(); i > 1; --i) std::swap(nodes[i - 1], nodes[prng->below(i)]);
    nodes.resize(std::min<size_t>(nodes.size(), 3));
    kafka::AlterPartitionReassignmentsRequest request;
    request.timeout_ms = 2000;
    auto& asked = request.topics.emplace_back();
    asked.name = topic.name;
    auto& partition = asked.partitions.emplace_back();
    partition.partition_index =
        static_cast<int32_t>(prng->below(static_cast<uint64_t>(topic.partitions)));
    partition.replicas = nodes;
    ++self->counts_.requests;
    const auto answer = co_await try_(
        client->any().call<kafka::AlterPartitionReassignmentsResponse>(std::move(request)));
    // Refused or not: whichever replicas it has, the rules are the same.
    if (answer.message.error_code == 0) ++self->counts_.reassignments;
    co_return Result<void>{};
}

Task<void> ClusterClients::admin(ClusterClients* self) {
    Prng prng = self->prng("admin", 0);
    Session session(*self, "admin");
    uint32_t made = 0;
    while (true) {
        (void)co_await runtime::sleep_for(
            std::chrono::milliseconds(50 + static_cast<int64_t>(prng.below(1500))));
        if (self->winding_down_) break;
        Result<void> done{};
        const uint64_t which = prng.below(4);
        if (which == 0 && made < 20) {
            Topic topic{fmt::format("short-{}", made++), {}, 1};
            self->say(session.who(), "creating " + topic.name);
            while (!(done = co_await create_topic(self, &session, &topic)))
                co_await session.recover(
                    fmt::format("creating {}: {}", topic.name, done.error().to_string()));
            self->short_lived_.push_back(topic);
        } else if (which == 1 && !self->short_lived_.empty()) {
            const Topic topic = self->short_lived_.back();
            self->short_lived_.pop_back();
            self->say(session.who(), "deleting " + topic.name);
            Result<bool> deleted = co_await delete_topic(self, &session, topic);
            bool tried = false;
            while (!deleted) {
                tried = true;
                co_await session.recover(
                    fmt::format("deleting {}: {}", topic.name, deleted.error().to_string()));
                deleted = co_await delete_topic(self, &session, topic);
            }
            if (!*deleted && !tried)
                self->fail(fmt::format("topic {} was created, and is not there to be deleted",
                                       topic.name));
            self->removed_.push_back(topic.name);
        } else if (which == 2) {
            self->say(session.who(), "altering a config");
            done = co_await alter_config(self, &session, &prng);
        } else {
            self->say(session.who(), "reassigning");
            done = co_await reassign(self, &session, &prng);
        }
        if (!done) co_await session.recover("admin: " + done.error().to_string());
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// In the end every node knows the topics that were made and none that was deleted.
Task<void> ClusterClients::check_topics(ClusterClients* self) {
    for (size_t node = 0; node < self->options_.bootstrap.size(); ++node) {
        const std::string who = fmt::format("metadata check of {}", self->options_.bootstrap[node]);
        while (true) {
            Client client(
                {.bootstrap = {self->options_.bootstrap[node]},
                 .connection = {.client_id = who, .timeout = self->options_.request_timeout}});
            std::string missing;
            Result<void> opened = co_await client.open();
            if (!opened) {
                missing = opened.error().to_string();
            } else {
                const auto topics = co_await client.topics({});
                if (!topics) {
                    missing = topics.error().to_string();
                } else {
                    std::map<std::string, Uuid> there;
                    for (const auto& topic : *topics) there[topic.name] = topic.id;
                    for (const auto* list : {&self->topics_, &self->short_lived_})
                        for (const Topic& topic : *list)
                            if (!there.contains(topic.name) || there[topic.name] != topic.id)
                                missing = topic.name + " is not there";
                    for (const std::string& name : self->removed_)
                        if (there.contains(name)) missing = name + " is still there";
                }
            }
            for (const auto& [name, value] : self->configs_) {
                if (!missing.empty() || value.empty()) continue;
                kafka::DescribeConfigsRequest request;
                auto& resource = request.resources.emplace_back();
                resource.resource_type = kTopicResource;
                resource.resource_name = name;
                resource.configuration_keys = std::vector<std::string>{kConfigName};
                const auto answer =
                    co_await client.any().call<kafka::DescribeConfigsResponse>(std::move(request));
                missing = fmt::format("{} has not {}={}", name, kConfigName, value);
                if (!answer) continue;
                for (const auto& result : answer->message.results)
                    for (const auto& config : result.configs)
                        if (config.value == value) missing.clear();
            }
            co_await client.close();
            if (missing.empty()) break;
            self->say(who, missing);
            (void)co_await runtime::sleep_for(std::chrono::milliseconds(300));
        }
        self->doing_.erase(who);
    }
}

// ---------------------------------------------------------------- producers

struct ClusterClients::Batch {
    std::vector<uint8_t> bytes;
    std::vector<RecordName> records;
};

namespace {

struct Produced {
    std::optional<Error> lost;  // no answer
    KafkaError error = KafkaError::kNone;
    int64_t base_offset = -1;
};

std::vector<uint8_t> make_batch(const std::vector<RecordName>& records,
                                const std::vector<uint32_t>& pads, int64_t producer_id,
                                int16_t epoch, WallTime now) {
    kafka::BatchBuilder::Options options;
    options.producer_id = producer_id;
    options.producer_epoch = epoch;
    options.base_sequence = producer_id < 0 ? -1 : static_cast<int32_t>(records[0].number);
    kafka::BatchBuilder builder(options);
    for (size_t i = 0; i < records.size(); ++i) {
        const std::vector<uint8_t> value = ClusterHistory::value_of(records[i], pads[i]);
        builder.append({now, std::nullopt, Bytes(value), {}});
    }
    auto batch = builder.build();
    CHECK(batch);
    return std::move(*batch);
}

kafka::ProduceRequest produce_request(const ClusterClients::Topic& topic, int32_t partition,
                                      int16_t acks, Bytes batch) {
    kafka::ProduceRequest request;
    request.acks = acks;
    request.timeout_ms = 2000;
    auto& to_topic = request.topic_data.emplace_back();
    to_topic.name = topic.name;
    to_topic.topic_id = topic.id;
    auto& data = to_topic.partition_data.emplace_back();
    data.index = partition;
    data.records.parts = {batch};
    return request;
}

// Requests leave in the order of the batches, whichever of their tasks runs first: a producer that
// sends its second batch before its first is broken.
struct SendOrder {
    size_t next = 0;
    runtime::WaitQueue moved;
};

// The request refers to the caller's bytes, which stay until this ends.
Task<Produced> send_batch(ClientConnection* connection, kafka::ProduceRequest request,
                          SendOrder* order = nullptr, size_t place = 0) {
    while (order != nullptr && order->next != place) (void)co_await order->moved.wait();
    if (order != nullptr) {
        // The call is in the connection's queue before anybody else runs.
        ++order->next;
        order->moved.notify_all();
    }
    auto answer = co_await connection->call<kafka::ProduceResponse>(std::move(request));
    Produced produced;
    if (!answer) {
        produced.lost = std::move(answer).error();
        co_return produced;
    }
    for (const auto& topic : answer->message.responses) {
        for (const auto& p : topic.partition_responses) {
            produced.error = kafka::kafka_error(p.error_code);
            produced.base_offset = p.base_offset;
            co_return produced;
        }
    }
    produced.lost = Error{ErrorCode::kMalformed, "an answer without the partition", 0};
    co_return produced;
}

Task<Result<std::pair<int64_t, int16_t>>> init_producer(Client* client) {
    kafka::InitProducerIdRequest request;
    request.transactional_id.reset();
    request.transaction_timeout_ms = 60'000;
    const auto answer =
        co_await try_(client->any().call<kafka::InitProducerIdResponse>(std::move(request)));
    if (answer.message.error_code != 0)
        co_return weir::fail(refused(answer.message.error_code, "InitProducerId"));
    co_return std::pair{answer.message.producer_id, answer.message.producer_epoch};
}

}  // namespace

Task<void> ClusterClients::idempotent(ClusterClients* self, uint32_t number) {
    Prng prng = self->prng("idempotent", number);
    Session session(*self, fmt::format("idempotent {}", number));
    while (!self->winding_down_ && self->records_ < self->options_.records_max) {
        self->say(session.who(), "InitProducerId");
        auto client = co_await session.client();
        Result<std::pair<int64_t, int16_t>> id = weir::fail(ErrorCode::kUnavailable);
        if (client)
            id = co_await init_producer(*client);
        else
            id = weir::fail(client.error());
        if (!id) {
            co_await session.recover("InitProducerId: " + id.error().to_string());
            continue;
        }
        const uint32_t writer = self->history_.new_writer(WriterKind::kIdempotent);
        std::map<PartitionKey, uint32_t> next;
        const uint64_t bursts = 3 + prng.below(60);
        for (uint64_t burst = 0;
             burst < bursts && !self->winding_down_ && self->records_ < self->options_.records_max;
             ++burst) {
            const Topic* topic = &self->topics_[prng.below(self->topics_.size())];
            const auto partition =
                static_cast<int32_t>(prng.below(static_cast<uint64_t>(topic->partitions)));
            const PartitionKey key{topic->id, partition};
            // Of a producer that a partition does not know, brokers take any batch as the first: so
            // nothing follows the first before it is acknowledged.
            std::vector<Batch> open(next[key] == 0 ? 1 : 1 + prng.below(kInFlightMax));
            for (Batch& batch : open) {
                std::vector<uint32_t> pads;
                for (uint64_t i = 1 + prng.below(self->options_.batch_records_max); i > 0; --i) {
                    batch.records.push_back({writer, next[key]++});
                    pads.push_back(static_cast<uint32_t>(prng.below(self->options_.pad_max + 1)));
                    self->history_.sent(key, batch.records.back());
                    ++self->records_;
                }
                batch.bytes = make_batch(batch.records, pads, id->first, id->second,
                                         Shard::current().wall_now());
            }
            if (!co_await deliver(self, &session, session.who(), topic, partition, std::move(open)))
                co_return;
            co_await self->pause(&prng);
        }
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// Sends the batches, as many at a time as there are, until each is acknowledged. False when the
// broker said what it must never say.
Task<bool> ClusterClients::deliver(ClusterClients* self, Session* session, std::string who,
                                   const Topic* topic, int32_t partition, std::vector<Batch> open) {
    const PartitionKey key{topic->id, partition};
    while (!open.empty()) {
        self->say(who, fmt::format("producing to {}-{}", topic->name, partition));
        auto route = co_await session->leader_of(topic, partition);
        if (!route) {
            co_await session->recover(fmt::format("looking for the leader of {}-{}: {}",
                                                  topic->name, partition,
                                                  route.error().to_string()));
            continue;
        }
        SendOrder order;
        std::vector<Task<Produced>> sends;
        for (const Batch& batch : open) {
            ++self->counts_.requests;
            sends.push_back(send_batch(route->connection,
                                       produce_request(*topic, partition, -1, batch.bytes), &order,
                                       sends.size()));
        }
        const std::vector<Produced> answers = co_await runtime::all(std::move(sends));
        std::vector<Batch> left;
        std::string trouble;
        for (size_t i = 0; i < open.size(); ++i) {
            const Produced& answer = answers[i];
            const RecordName first = open[i].records[0];
            if (answer.lost) {
                trouble = answer.lost->to_string();
            } else if (answer.error == KafkaError::kNone ||
                       answer.error == KafkaError::kDuplicateSequenceNumber) {
                const bool known = answer.error == KafkaError::kNone && answer.base_offset >= 0;
                for (size_t r = 0; r < open[i].records.size(); ++r)
                    self->history_.acknowledged(
                        key, open[i].records[r],
                        known ? answer.base_offset + static_cast<int64_t>(r) : -1);
                continue;
            } else if (answer.error == KafkaError::kOutOfOrderSequenceNumber && i > 0) {
                trouble = text(answer.error);  // the one before it came later, or not at all
            } else if (kafka::is_retriable(answer.error) &&
                       answer.error != KafkaError::kOutOfOrderSequenceNumber) {
                trouble = text(answer.error);
            } else {
                // All before it was acknowledged: whoever leads must know it.
                self->fail(fmt::format(
                    "{} sends w{}#{} to {}-{}, of which all before was acknowledged, to node {} "
                    "in epoch {}, and is told {}",
                    who, first.writer, first.number, topic->name, partition, route->node,
                    route->epoch, text(answer.error)));
                co_return false;
            }
            left.push_back(std::move(open[i]));
        }
        open = std::move(left);
        if (!open.empty())
            co_await session->recover(
                fmt::format("producing to {}-{}: {}", topic->name, partition, trouble));
    }
    co_return true;
}

// A producer that sends each record once, and goes on whatever comes of it.
Task<void> ClusterClients::once(ClusterClients* self, uint32_t number, WriterKind kind) {
    const char* name = kind == WriterKind::kPlain ? "plain" : "weak";
    Prng prng = self->prng(name, number);
    Session session(*self, fmt::format("{} {}", name, number));
    const uint32_t writer = self->history_.new_writer(kind);
    std::map<PartitionKey, uint32_t> next;
    while (!self->winding_down_ && self->records_ < self->options_.records_max) {
        const Topic* topic = &self->topics_[prng.below(self->topics_.size())];
        const auto partition =
            static_cast<int32_t>(prng.below(static_cast<uint64_t>(topic->partitions)));
        const PartitionKey key{topic->id, partition};
        auto route = co_await session.leader_of(topic, partition);
        if (!route) {
            co_await session.recover("looking for a leader: " + route.error().to_string());
            continue;
        }
        self->say(session.who(), fmt::format("producing to {}-{}", topic->name, partition));
        Batch batch;
        std::vector<uint32_t> pads;
        for (uint64_t i = 1 + prng.below(self->options_.batch_records_max); i > 0; --i) {
            batch.records.push_back({writer, next[key]++});
            pads.push_back(static_cast<uint32_t>(prng.below(self->options_.pad_max + 1)));
            self->history_.sent(key, batch.records.back());
            ++self->records_;
        }
        batch.bytes = make_batch(batch.records, pads, -1, -1, Shard::current().wall_now());
        ++self->counts_.requests;
        if (kind == WriterKind::kWeak && prng.chance(0.5)) {
            const Result<void> sent = co_await route->connection->send_only(
                produce_request(*topic, partition, 0, batch.bytes));
            if (!sent) co_await session.recover("acks=0: " + sent.error().to_string());
        } else {
            const int16_t acks = kind == WriterKind::kWeak ? 1 : -1;
            const Produced answer = co_await send_batch(
                route->connection, produce_request(*topic, partition, acks, batch.bytes));
            if (answer.lost) {
                co_await session.recover("producing: " + answer.lost->to_string());
            } else if (answer.error != KafkaError::kNone) {
                co_await session.recover("producing: " + text(answer.error));
            } else {
                for (size_t r = 0; r < batch.records.size(); ++r)
                    self->history_.acknowledged(key, batch.records[r],
                                                answer.base_offset + static_cast<int64_t>(r));
            }
        }
        co_await self->pause(&prng);
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// ---------------------------------------------------------------- readers

// Reads from `position` on; gives the next position.
Task<Result<int64_t>> ClusterClients::fetch(ClusterClients* self, Session* session,
                                            const Topic* topic, int32_t partition, int64_t position,
                                            int32_t* last_epoch, int64_t* high_watermark) {
    const Session::Route route = co_await try_(session->leader_of(topic, partition));
    const PartitionKey key{topic->id, partition};
    constexpr int32_t kWaitMs = 200;
    kafka::FetchRequest request;
    request.max_wait_ms = kWaitMs;
    request.min_bytes = 1;
    request.max_bytes = 1 << 20;
    request.session_epoch = -1;
    auto& to_topic = request.topics.emplace_back();
    to_topic.topic = topic->name;
    to_topic.topic_id = topic->id;
    auto& asked = to_topic.partitions.emplace_back();
    asked.partition = partition;
    asked.current_leader_epoch = route.epoch;
    asked.fetch_offset = position;
    asked.last_fetched_epoch = *last_epoch;
    asked.partition_max_bytes = 64 << 10;
    const ClusterHistory::Teller teller{route.epoch, route.node,
                                        self->options_.life_of(route.node)};
    const int64_t told_before = self->history_.high_watermark_told(key, teller);
    ++self->counts_.requests;
    const auto answer = co_await try_(route.connection->call<kafka::FetchResponse>(
        std::move(request), INT16_MAX, std::chrono::milliseconds(kWaitMs)));
    if (answer.message.error_code != 0)
        co_return weir::fail(refused(answer.message.error_code, "fetch"));
    for (const auto& by_topic : answer.message.responses) {
        for (const auto& p : by_topic.partitions) {
            if (p.error_code != 0) co_return weir::fail(refused(p.error_code, "fetch"));
            if (p.diverging_epoch.end_offset >= 0) {
                self->fail(fmt::format(
                    "a reader of {}-{} at {} after epoch {} is told that it diverges: epoch {} "
                    "ends at {}",
                    topic->name, partition, position, *last_epoch, p.diverging_epoch.epoch,
                    p.diverging_epoch.end_offset));
                co_return weir::fail(ErrorCode::kCorrupt);
            }
            self->history_.told_high_watermark(key, teller, p.high_watermark, told_before);
            *high_watermark = p.high_watermark;
            if (p.records.null) continue;
            for (const Bytes part : p.records.parts) {
                kafka::BatchIterator batches(part);
                while (const auto batch = batches.next()) {
                    if (batch->header.next_offset() <= position) continue;
                    const auto open = kafka::OpenBatch::open(batch->bytes, kRecordsBytesMax);
                    if (!open) {
                        self->fail(fmt::format("{}-{}: the batch at {} can't be read: {}",
                                               topic->name, partition, batch->header.base_offset,
                                               open.error().to_string()));
                        co_return weir::fail(open.error());
                    }
                    kafka::RecordIterator records = open->records();
                    while (const auto record = records.next()) {
                        if (record->offset < position) continue;
                        if (record->offset != position)
                            self->fail(fmt::format("{}-{}: a reader at {} is given offset {}",
                                                   topic->name, partition, position,
                                                   record->offset));
                        if (record->offset >= p.high_watermark)
                            self->fail(fmt::format(
                                "{}-{}: offset {} is read, and the high watermark is {}",
                                topic->name, partition, record->offset, p.high_watermark));
                        self->history_.read(key, record->offset,
                                            batch->header.partition_leader_epoch,
                                            record->value.value_or(Bytes{}));
                        position = record->offset + 1;
                        *last_epoch = batch->header.partition_leader_epoch;
                    }
                    if (!records.ok())
                        self->fail(fmt::format("{}-{}: a malformed batch at {}", topic->name,
                                               partition, batch->header.base_offset));
                }
            }
        }
    }
    co_return position;
}

Task<void> ClusterClients::reader(ClusterClients* self, uint32_t number) {
    Prng prng = self->prng("reader", number);
    Session session(*self, fmt::format("reader {}", number));
    while (!self->all_read_) {
        const Topic* topic = &self->topics_[prng.below(self->topics_.size())];
        const auto partition =
            static_cast<int32_t>(prng.below(static_cast<uint64_t>(topic->partitions)));
        int64_t position = 0;
        int32_t last_epoch = -1;
        int64_t high_watermark = -1;
        for (uint64_t fetches = 5 + prng.below(100); fetches > 0 && !self->all_read_; --fetches) {
            self->say(session.who(),
                      fmt::format("reading {}-{} at {}", topic->name, partition, position));
            const auto next = co_await fetch(self, &session, topic, partition, position,
                                             &last_epoch, &high_watermark);
            if (next) {
                position = *next;
            } else {
                co_await session.recover(fmt::format("reading {}-{} at {}: {}", topic->name,
                                                     partition, position,
                                                     next.error().to_string()));
            }
            if (prng.chance(0.3)) co_await self->pause(&prng);
        }
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// Nobody writes any more: reads every partition from its start to its end. The end is known when
// the high watermark stands still over a fetch that found nothing.
Task<void> ClusterClients::read_all(ClusterClients* self) {
    Session session(*self, "last reader");
    for (const Topic& topic : self->topics_) {
        for (int32_t partition = 0; partition < topic.partitions; ++partition) {
            int64_t position = 0;
            int64_t high_watermark = -1;
            int32_t last_epoch = -1;
            int idle = 0;
            // Requests of weak and plain producers may still lie in a node's queue.
            while (idle < 5) {
                self->say(session.who(), fmt::format("reading {}-{} at {} of {}", topic.name,
                                                     partition, position, high_watermark));
                const auto next = co_await fetch(self, &session, &topic, partition, position,
                                                 &last_epoch, &high_watermark);
                if (!next) {
                    co_await session.recover(fmt::format("reading {}-{} at {}: {}", topic.name,
                                                         partition, position,
                                                         next.error().to_string()));
                    continue;
                }
                idle = *next == position && position == high_watermark ? idle + 1 : 0;
                position = *next;
            }
            const PartitionKey key{topic.id, partition};
            self->history_.check_all_read(key, 0, position);
            self->ends_[key] = position;
        }
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// ---------------------------------------------------------------- groups

struct ClusterClients::Member {
    std::string id;
    int32_t generation = -1;
    std::map<std::pair<size_t, int32_t>, int64_t> positions;  // by topic and partition
    Prng prng;
};

namespace {

template <class Message>
std::vector<uint8_t> versioned(const Message& message) {
    ByteWriter out;
    out.write_i16(0);
    CHECK(message.encode(out, 0));
    return out.flatten();
}

}  // namespace

// Joins, works, and returns why it can't any more.
Task<Result<void>> ClusterClients::member_life(ClusterClients* self, Session* session,
                                               Member* member) {
    Client* client = co_await try_(session->client());
    ClientConnection* coordinator = co_await try_(client->to_group_coordinator(kGroup));
    kafka::ConsumerProtocolSubscription subscription;
    for (const Topic& topic : self->topics_) subscription.topics.push_back(topic.name);
    kafka::JoinGroupRequest join;
    join.group_id = kGroup;
    join.session_timeout_ms = 6000;
    join.rebalance_timeout_ms = 4000;
    join.member_id = member->id;
    join.protocol_type = "consumer";
    join.protocols.push_back({"range", versioned(subscription)});
    self->say(session->who(), "joining");
    ++self->counts_.requests;
    auto joined = co_await try_(
        coordinator->call<kafka::JoinGroupResponse>(join, INT16_MAX, std::chrono::seconds(12)));
    if (kafka::kafka_error(joined.message.error_code) == KafkaError::kMemberIdRequired) {
        join.member_id = member->id = joined.message.member_id;
        joined = co_await try_(
            coordinator->call<kafka::JoinGroupResponse>(join, INT16_MAX, std::chrono::seconds(12)));
    }
    if (joined.message.error_code != 0)
        co_return weir::fail(refused(joined.message.error_code, "join"));
    ++self->counts_.rebalances;
    member->id = joined.message.member_id;
    member->generation = joined.message.generation_id;

    kafka::SyncGroupRequest sync;
    sync.group_id = kGroup;
    sync.generation_id = member->generation;
    sync.member_id = member->id;
    sync.protocol_type = "consumer";
    sync.protocol_name = "range";
    if (joined.message.leader == member->id) {
        std::vector<kafka::ConsumerProtocolAssignment> assignments(joined.message.members.size());
        size_t next = 0;
        for (const Topic& topic : self->topics_) {
            for (int32_t partition = 0; partition < topic.partitions; ++partition) {
                auto& assigned = assignments[next++ % assignments.size()].assigned_partitions;
                if (assigned.empty() || assigned.back().topic != topic.name)
                    assigned.push_back({topic.name, {}});
                assigned.back().partitions.push_back(partition);
            }
        }
        for (size_t i = 0; i < assignments.size(); ++i)
            sync.assignments.push_back(
                {joined.message.members[i].member_id, versioned(assignments[i])});
    }
    self->say(session->who(), "syncing");
    ++self->counts_.requests;
    const auto synced = co_await try_(coordinator->call<kafka::SyncGroupResponse>(
        std::move(sync), INT16_MAX, std::chrono::seconds(12)));
    if (synced.message.error_code != 0)
        co_return weir::fail(refused(synced.message.error_code, "sync"));
    ByteReader in(synced.message.assignment);
    const int16_t version = in.read_i16();
    const auto assignment = co_await try_(kafka::ConsumerProtocolAssignment::decode(in, version));
    member->positions.clear();
    kafka::OffsetFetchRequest ask;
    ask.group_id = kGroup;
    std::map<std::pair<size_t, int32_t>, int64_t> at_least;
    for (const auto& assigned : assignment.assigned_partitions) {
        const auto topic = std::ranges::find(self->topics_, assigned.topic, &Topic::name);
        CHECK(topic != self->topics_.end());
        const auto t = static_cast<size_t>(topic - self->topics_.begin());
        ask.topics->push_back(
            {.name = assigned.topic, .topic_id = {}, .partition_indexes = assigned.partitions});
        for (const int32_t p : assigned.partitions)
            at_least[{t, p}] = self->history_.committed_at_least({kGroup, {topic->id, p}});
    }
    if (!at_least.empty()) {
        self->say(session->who(), "asking for offsets");
        ++self->counts_.requests;
        const auto offsets = co_await try_(
            coordinator->call<kafka::OffsetFetchResponse>(std::move(ask), kOffsetFetchOneGroup));
        if (offsets.message.error_code != 0)
            co_return weir::fail(refused(offsets.message.error_code, "offset fetch"));
        for (const auto& topic : offsets.message.topics) {
            const auto known = std::ranges::find(self->topics_, topic.name, &Topic::name);
            CHECK(known != self->topics_.end());
            const auto t = static_cast<size_t>(known - self->topics_.begin());
            for (const auto& p : topic.partitions) {
                if (p.error_code != 0) co_return weir::fail(refused(p.error_code, "offset fetch"));
                self->history_.told_committed({kGroup, {known->id, p.partition_index}},
                                              p.committed_offset, at_least[{t, p.partition_index}]);
                member->positions[{t, p.partition_index}] =
                    std::max<int64_t>(0, p.committed_offset);
            }
        }
    }
    co_return co_await work_as_member(self, session, member);
}

Task<Result<void>> ClusterClients::work_as_member(ClusterClients* self, Session* session,
                                                  Member* member) {
    Client* client = co_await try_(session->client());
    // Now and then one goes away without a word, or leaves in good order.
    const uint64_t rounds = member->prng.chance(0.5) ? UINT64_MAX : 5 + member->prng.below(40);
    for (uint64_t round = 0; round < rounds; ++round) {
        kafka::OffsetCommitRequest commit;
        commit.group_id = kGroup;
        commit.generation_id_or_member_epoch = member->generation;
        commit.member_id = member->id;
        for (auto& [which, position] : member->positions) {
            const Topic& topic = self->topics_[which.first];
            int32_t epoch = -1;
            int64_t high_watermark = -1;
            self->say(session->who(),
                      fmt::format("reading {}-{} at {}", topic.name, which.second, position));
            const auto next = co_await fetch(self, session, &topic, which.second, position, &epoch,
                                             &high_watermark);
            if (!next) {
                session->doubt();
                continue;
            }
            position = *next;
            // Also what it stands at already: nobody may have said so yet.
            auto& to = commit.topics.emplace_back();
            to.name = topic.name;
            to.partitions.push_back({which.second, position});
        }
        // Anew each time: reading may have replaced the connection.
        ClientConnection* coordinator = co_await try_(client->to_group_coordinator(kGroup));
        if (!commit.topics.empty()) {
            for (const auto& [which, position] : member->positions)
                self->history_.commit_sent({kGroup, {self->topics_[which.first].id, which.second}},
                                           position);
            self->say(session->who(), "committing");
            ++self->counts_.requests;
            const auto answer = co_await coordinator->call<kafka::OffsetCommitResponse>(
                std::move(commit), kOffsetsByName);
            if (!answer) {
                // It may still come to the coordinator, after later ones of this member: so there
                // are none.
                member->id.clear();
                co_return weir::fail(answer.error());
            }
            for (const auto& topic : answer->message.topics) {
                const auto known = std::ranges::find(self->topics_, topic.name, &Topic::name);
                CHECK(known != self->topics_.end());
                const auto t = static_cast<size_t>(known - self->topics_.begin());
                for (const auto& p : topic.partitions) {
                    const KafkaError error = kafka::kafka_error(p.error_code);
                    if (error == KafkaError::kNone) {
                        const PartitionKey key{known->id, p.partition_index};
                        const int64_t position = member->positions[{t, p.partition_index}];
                        self->history_.commit_acknowledged({kGroup, key}, position);
                        int64_t& confirmed = self->committed_[key];
                        confirmed = std::max(confirmed, position);
                    } else {
                        // A time-out is one of those that may have happened.
                        member->id.clear();
                        co_return weir::fail(refused(p.error_code, "commit"));
                    }
                }
            }
        }
        if (self->all_read_) {
            bool all = true;
            for (const auto& [key, end] : self->ends_) all &= self->committed_[key] >= end;
            if (all) break;
        }
        kafka::HeartbeatRequest beat;
        beat.group_id = kGroup;
        beat.generation_id = member->generation;
        beat.member_id = member->id;
        self->say(session->who(), "heartbeat");
        ++self->counts_.requests;
        const auto alive =
            co_await try_(coordinator->call<kafka::HeartbeatResponse>(std::move(beat)));
        if (alive.message.error_code != 0)
            co_return weir::fail(refused(alive.message.error_code, "heartbeat"));
        self->say(session->who(), "waiting");
        (void)co_await runtime::sleep_for(
            std::chrono::milliseconds(50 + static_cast<int64_t>(member->prng.below(300))));
    }
    if (member->prng.chance(0.5)) {
        kafka::LeaveGroupRequest leave;
        leave.group_id = kGroup;
        leave.member_id = member->id;
        leave.members.push_back({member->id, std::nullopt, std::nullopt});
        ClientConnection* coordinator = co_await try_(client->to_group_coordinator(kGroup));
        (void)co_await coordinator->call<kafka::LeaveGroupResponse>(std::move(leave));
    }
    member->id.clear();
    co_return Result<void>{};
}

Task<void> ClusterClients::member(ClusterClients* self, uint32_t number) {
    Session session(*self, fmt::format("member {}", number));
    Member member{{}, -1, {}, self->prng("member", number)};
    while (true) {
        if (self->all_read_) {
            bool all = true;
            for (const auto& [key, end] : self->ends_) all &= self->committed_[key] >= end;
            if (all) break;
        }
        const Result<void> life = co_await member_life(self, &session, &member);
        if (life) continue;
        const bool unknown = life.error().message.find("UNKNOWN_MEMBER_ID") != std::string::npos ||
                             life.error().message.find("FENCED") != std::string::npos;
        if (unknown) member.id.clear();
        co_await session.recover("member: " + life.error().to_string());
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

}  // namespace weir::sim

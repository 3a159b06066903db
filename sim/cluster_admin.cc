// The simulated administrator: topics that come and go, their configs.
#include <fmt/format.h>

#include <algorithm>

#include "cluster_session.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/delete_topics.h"
#include "kafka/protocol/describe_configs.h"
#include "kafka/protocol/incremental_alter_configs.h"
#include "kafka/protocol/kafka_error.h"

namespace weir::sim {

using kafka::KafkaError;

namespace {

constexpr int8_t kTopicResource = 2;
constexpr const char* kConfigName = "max.compaction.lag.ms";
constexpr const char* kDurability = "weir.durability";

}  // namespace

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
    if (topic->relaxed) asked.configs.push_back({kDurability, "relaxed"});
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
        if (error != KafkaError::kNone)
            co_return weir::fail(kafka::error_of(result.error_code, "delete"));
    }
    ++self->counts_.topics_removed;
    co_return true;
}

Task<Result<void>> ClusterClients::alter_config(ClusterClients* self, Session* session,
                                                Prng* prng) {
    Client* client = co_await try_(session->client());
    const Topic& topic = self->topics_[prng->below(self->topics_.size())];
    const bool durability =
        topic.relaxed && self->options_.changing_durability && prng->chance(0.5);
    const std::string name = durability ? kDurability : kConfigName;
    const std::string value = durability ? (prng->chance(0.6) ? "relaxed" : "flush")
                                         : std::to_string(1'000'000 + prng->below(1'000'000));
    while (true) {
        kafka::IncrementalAlterConfigsRequest request;
        auto& resource = request.resources.emplace_back();
        resource.resource_type = kTopicResource;
        resource.resource_name = topic.name;
        resource.configs.push_back({name, 0, value});
        ++self->counts_.requests;
        auto answer =
            co_await client->any().call<kafka::IncrementalAlterConfigsResponse>(std::move(request));
        if (answer && !answer->message.responses.empty() &&
            answer->message.responses[0].error_code == 0) {
            if (!durability) self->configs_[topic.name] = value;
            co_return Result<void>{};
        }
        // It may have happened, or may happen later, after what is confirmed next.
        if (!durability) self->unsure_configs_[topic.name].insert(value);
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

Task<void> ClusterClients::admin(ClusterClients* self) {
    Prng prng = self->prng("admin", 0);
    Session session(*self, "admin");
    uint32_t made = 0;
    while (true) {
        (void)co_await runtime::sleep_for(
            std::chrono::milliseconds(50 + static_cast<int64_t>(prng.below(1500))));
        if (self->winding_down_) break;
        Result<void> done{};
        const uint64_t which = prng.below(3);
        if (which == 0 && made < 20) {
            Topic topic{fmt::format("short-{}", made++), {}, 1, false};
            self->say(session.who(), "creating " + topic.name);
            while (!(done = co_await create_topic(self, &session, &topic))) {
                // A request that was not answered may be carried out later, as Kafka's.
                self->unsure_topics_.insert(topic.name);
                co_await session.recover(
                    fmt::format("creating {}: {}", topic.name, done.error().to_string()));
            }
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
            if (!self->unsure_topics_.contains(topic.name)) self->removed_.push_back(topic.name);
        } else {
            self->say(session.who(), "altering a config");
            done = co_await alter_config(self, &session, &prng);
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
                        if (config.value == value ||
                            (config.value && self->unsure_configs_[name].contains(*config.value)))
                            missing.clear();
            }
            co_await client.close();
            if (missing.empty()) break;
            self->say(who, missing);
            (void)co_await runtime::sleep_for(std::chrono::milliseconds(300));
        }
        self->doing_.erase(who);
    }
}

}  // namespace weir::sim

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
constexpr uint64_t kItemsMax = 12;  // of a request
constexpr uint32_t kShortTopicsMax = 40;

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

// Those of the topics that have no id yet, in one request. An error where one of them is not known
// to be there; the others have their ids then.
Task<Result<void>> ClusterClients::create_these(ClusterClients* self, Session* session,
                                                std::vector<Topic*> topics) {
    Client* client = co_await try_(session->client());
    kafka::CreateTopicsRequest request;
    for (const Topic* topic : topics) {
        if (!topic->id.is_zero()) continue;
        auto& asked = request.topics.emplace_back();
        asked.name = topic->name;
        asked.num_partitions = topic->partitions;
        asked.replication_factor = static_cast<int16_t>(std::min(3u, self->options_.nodes));
        if (topic->relaxed) asked.configs.push_back({kDurability, "relaxed"});
    }
    request.timeout_ms = 2000;
    ++self->counts_.requests;
    const size_t asked = request.topics.size();
    if (asked > 1) self->options_.controller_is_busy();
    auto answer =
        co_await try_(client->any().call<kafka::CreateTopicsResponse>(std::move(request)));
    if (answer.message.topics.size() != asked)
        co_return weir::fail(ErrorCode::kMalformed, "CreateTopics answered for other topics");
    Result<void> all;
    for (const auto& created : answer.message.topics) {
        const auto topic = std::ranges::find_if(
            topics, [&](const Topic* each) { return created.name == each->name; });
        if (topic == topics.end())
            co_return weir::fail(ErrorCode::kMalformed, "CreateTopics answered for another topic");
        const KafkaError error = kafka::kafka_error(created.error_code);
        // Names are used once, so one that is there was made by an attempt that got no answer.
        if (error != KafkaError::kNone && error != KafkaError::kTopicAlreadyExists) {
            all = weir::fail(kafka::error_of(created.error_code, "create", created.error_message));
            continue;
        }
        if (!created.topic_id.is_zero()) {
            (*topic)->id = created.topic_id;
        } else {
            const Client::Topic found = co_await try_(client->topic((*topic)->name));
            (*topic)->id = found.id;
        }
        ++self->counts_.topics_made;
    }
    co_return all;
}

Task<Result<void>> ClusterClients::create_topic(ClusterClients* self, Session* session,
                                                Topic* topic) {
    co_return co_await create_these(self, session, {topic});
}

// In one request. Those that are gone leave `topics`; an error where some are left. `not_there`:
// how many were not there any more.
Task<Result<void>> ClusterClients::delete_these(ClusterClients* self, Session* session,
                                                std::vector<Topic>* topics,
                                                std::vector<std::string>* not_there) {
    Client* client = co_await try_(session->client());
    kafka::DeleteTopicsRequest request;
    const bool by_topic =
        co_await try_(client->any().version_of(kafka::ApiKey::kDeleteTopics)) >= 6;
    for (const Topic& topic : *topics) {
        if (by_topic)
            request.topics.push_back({.name = topic.name, .topic_id = {}});
        else
            request.topic_names.push_back(topic.name);
    }
    request.timeout_ms = 2000;
    ++self->counts_.requests;
    if (topics->size() > 1) self->options_.controller_is_busy();
    auto answer =
        co_await try_(client->any().call<kafka::DeleteTopicsResponse>(std::move(request)));
    Result<void> all;
    for (const auto& result : answer.message.responses) {
        const KafkaError error = kafka::kafka_error(result.error_code);
        const std::string name = result.name.value_or("");
        if (error == KafkaError::kNone) {
            ++self->counts_.topics_removed;
        } else if (error == KafkaError::kUnknownTopicOrPartition) {
            not_there->push_back(name);
        } else {
            all = weir::fail(kafka::error_of(result.error_code, "delete"));
            continue;
        }
        std::erase_if(*topics, [&](const Topic& topic) { return topic.name == name; });
    }
    if (all && !topics->empty())
        co_return weir::fail(ErrorCode::kMalformed, "DeleteTopics answered for other topics");
    co_return all;
}

// Of one topic or several, in one request; again for those that it failed for.
Task<Result<void>> ClusterClients::alter_configs(ClusterClients* self, Session* session,
                                                 Prng* prng) {
    Client* client = co_await try_(session->client());
    struct Change {
        std::string topic, key, value;
    };
    std::vector<Change> changes;
    const bool several = prng->chance(0.5);
    const size_t one = prng->below(self->topics_.size());
    for (size_t i = 0; i < self->topics_.size(); ++i) {
        if (!several && i != one) continue;
        const Topic& topic = self->topics_[i];
        const bool durability =
            topic.relaxed && self->options_.changing_durability && prng->chance(0.5);
        changes.push_back({topic.name, durability ? kDurability : kConfigName,
                           durability ? (prng->chance(0.6) ? "relaxed" : "flush")
                                      : std::to_string(1'000'000 + prng->below(1'000'000))});
    }
    while (true) {
        kafka::IncrementalAlterConfigsRequest request;
        for (const Change& change : changes) {
            auto& resource = request.resources.emplace_back();
            resource.resource_type = kTopicResource;
            resource.resource_name = change.topic;
            resource.configs.push_back({change.key, 0, change.value});
        }
        ++self->counts_.requests;
        if (changes.size() > 1) self->options_.controller_is_busy();
        auto answer =
            co_await client->any().call<kafka::IncrementalAlterConfigsResponse>(std::move(request));
        std::string problem = answer ? "it was not answered" : answer.error().to_string();
        if (answer) {
            for (const auto& result : answer->message.responses) {
                const auto change =
                    std::ranges::find(changes, result.resource_name, &Change::topic);
                if (change == changes.end()) continue;
                if (result.error_code != 0) {
                    problem = text(kafka::kafka_error(result.error_code));
                    continue;
                }
                if (change->key == kConfigName) self->configs_[change->topic] = change->value;
                changes.erase(change);
            }
        }
        if (changes.empty()) co_return Result<void>{};
        // It may have happened, or may happen later, after what is confirmed next.
        for (const Change& change : changes) {
            if (change.key == kConfigName) self->unsure_configs_[change.topic].insert(change.value);
        }
        co_await session->recover("altering a config: " + problem);
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
            std::chrono::milliseconds(50) +
            Duration(static_cast<int64_t>(
                prng.below(static_cast<uint64_t>(self->options_.admin_pause_max.count())))));
        if (self->winding_down_) break;
        Result<void> done{};
        const uint64_t which = prng.below(3);
        // A request has one item, or as many as keep the controller busy for a while.
        const uint64_t items = prng.chance(0.5) ? 1 : 2 + prng.below(kItemsMax - 1);
        if (which == 0 && made < kShortTopicsMax) {
            std::vector<Topic> topics;
            for (uint64_t i = 0; i < items && made < kShortTopicsMax; ++i)
                topics.push_back({fmt::format("short-{}", made++), {}, 1, false});
            std::vector<Topic*> wanted;
            for (Topic& topic : topics) wanted.push_back(&topic);
            const std::string names =
                fmt::format("{} to {}", topics.front().name, topics.back().name);
            self->say(session.who(), "creating " + names);
            while (!(done = co_await create_these(self, &session, wanted))) {
                // A request that was not answered may be carried out later, as Kafka's.
                for (const Topic& topic : topics) {
                    if (topic.id.is_zero()) self->unsure_topics_.insert(topic.name);
                }
                co_await session.recover(
                    fmt::format("creating {}: {}", names, done.error().to_string()));
            }
            self->short_lived_.insert(self->short_lived_.end(), topics.begin(), topics.end());
        } else if (which == 1 && !self->short_lived_.empty()) {
            std::vector<Topic> topics;
            while (topics.size() < items && !self->short_lived_.empty()) {
                topics.push_back(self->short_lived_.back());
                self->short_lived_.pop_back();
            }
            const std::vector<Topic> all = topics;
            self->say(session.who(), fmt::format("deleting {} topics", topics.size()));
            std::vector<std::string> not_there;
            done = co_await delete_these(self, &session, &topics, &not_there);
            for (const std::string& name : not_there)
                self->fail(
                    fmt::format("topic {} was created, and is not there to be deleted", name));
            while (!done) {
                co_await session.recover(
                    fmt::format("deleting {} topics: {}", topics.size(), done.error().to_string()));
                done = co_await delete_these(self, &session, &topics, &not_there);
            }
            for (const Topic& topic : all) {
                if (!self->unsure_topics_.contains(topic.name))
                    self->removed_.push_back(topic.name);
            }
        } else {
            self->say(session.who(), "altering a config");
            done = co_await alter_configs(self, &session, &prng);
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

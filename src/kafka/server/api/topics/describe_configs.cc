// DescribeConfigs: every option of a topic or of the node, where its value comes from, and what
// else it could have been. Tools compare what they see with what they want, so a wrong source is an
// eternal difference.
#include "kafka/protocol/describe_configs.h"

#include <algorithm>
#include <set>

#include "kafka/server/api/repeated.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using cluster::ConfigKey;
using cluster::ConfigResource;
using cluster::ConfigSource;
using cluster::EffectiveConfig;
using runtime::Task;

DescribeConfigsResponse::Config describe(const ConfigKey& key, const EffectiveConfig& effective,
                                         ConfigResource resource,
                                         const DescribeConfigsRequest& body) {
    // What nobody knows may be a secret.
    const bool is_secret =
        key.type == cluster::ConfigType::kPassword || key.type == cluster::ConfigType::kUnknown;
    DescribeConfigsResponse::Config config;
    config.name = key.name;
    config.value = is_secret ? std::nullopt : effective.value;
    config.read_only = key.update == cluster::ConfigUpdate::kStart;
    config.is_default = resource == ConfigResource::kTopic
                            ? effective.source != ConfigSource::kTopic
                            : effective.source == ConfigSource::kDefault;
    config.config_source = static_cast<int8_t>(effective.source);
    config.is_sensitive = is_secret;
    config.config_type = static_cast<int8_t>(key.type);
    config.documentation.reset();
    if (body.include_documentation && !key.doc.empty())
        config.documentation = cluster::describe_config(key);
    if (body.include_synonyms) {
        for (const cluster::ConfigSynonym& synonym : effective.synonyms) {
            config.synonyms.push_back({synonym.name, is_secret ? std::nullopt : synonym.value,
                                       static_cast<int8_t>(synonym.source)});
        }
    }
    return config;
}

// Null and no keys at all both ask for all.
bool is_asked_for(const DescribeConfigsRequest::Resource& resource, std::string_view name) {
    return !resource.configuration_keys || resource.configuration_keys->empty() ||
           std::ranges::find(*resource.configuration_keys, name) !=
               resource.configuration_keys->end();
}

void refuse(DescribeConfigsResponse::Resource& result, KafkaError error, std::string message) {
    result.error_code = code(error);
    result.error_message = std::move(message);
}

void describe_topic(Server& server, const DescribeConfigsRequest& body,
                    const DescribeConfigsRequest::Resource& resource,
                    DescribeConfigsResponse::Resource& result) {
    const cluster::TopicImage* topic = server.image().find(resource.resource_name);
    if (topic == nullptr) {
        const std::string problem = cluster::check_topic_name(resource.resource_name);
        if (!problem.empty()) return refuse(result, KafkaError::kInvalidTopicException, problem);
        return refuse(result, KafkaError::kUnknownTopicOrPartition,
                      "This server does not host this topic-partition.");
    }
    const cluster::ConfigView view = server.metadata().configs();
    for (const ConfigKey& key : cluster::topic_config_keys()) {
        if (is_asked_for(resource, key.name) && !key.internal) {
            result.configs.push_back(
                describe(key, view.topic(topic->configs, key), ConfigResource::kTopic, body));
        }
    }
}

// What is known of an option that was set; of what a plug-in alone could know, nothing.
ConfigKey key_of(const std::string& name) {
    if (const ConfigKey* key = cluster::find_broker_config(name)) return *key;
    ConfigKey key{.name = name,
                  .type = cluster::ConfigType::kUnknown,
                  .default_value = std::nullopt,
                  .doc = "",
                  .update = cluster::ConfigUpdate::kStart};
    if (const ConfigKey* base = cluster::find_listener_config(name)) key.type = base->type;
    return key;
}

void describe_broker(Server& server, const DescribeConfigsRequest& body,
                     const DescribeConfigsRequest::Resource& resource,
                     DescribeConfigsResponse::Resource& result) {
    const cluster::ConfigView view = server.metadata().configs();
    const auto show = [&](const ConfigKey& key, const EffectiveConfig& effective) {
        if (is_asked_for(resource, key.name))
            result.configs.push_back(describe(key, effective, ConfigResource::kBroker, body));
    };
    if (resource.resource_name.empty()) {
        // What was set for all brokers while running, and nothing else.
        for (const auto& [name, value] : view.default_broker()) {
            constexpr auto kSource = ConfigSource::kDynamicDefaultBroker;
            show(key_of(name),
                 {.value = value, .source = kSource, .synonyms = {{name, value, kSource}}});
        }
        return;
    }
    if (resource.resource_name != std::to_string(server.node().id)) {
        return refuse(result, KafkaError::kInvalidRequest,
                      "Unexpected broker id, expected " + std::to_string(server.node().id) +
                          " or empty string, but received " + resource.resource_name);
    }
    for (const ConfigKey& key : cluster::broker_config_keys()) show(key, view.broker(key));
    for (const ConfigKey& key : cluster::other_broker_config_keys()) show(key, view.broker(key));
    std::set<std::string> unknown;
    for (const auto& configs :
         {server.image().configs(ConfigResource::kBroker, ""),
          server.image().configs(ConfigResource::kBroker, resource.resource_name)}) {
        for (const auto& [name, value] : configs) {
            if (cluster::find_broker_config(name) == nullptr) unknown.insert(name);
        }
    }
    for (const std::string& name : unknown) {
        const ConfigKey key = key_of(name);
        show(key, view.broker(key));
    }
}

void describe_group(Server& server, const DescribeConfigsRequest& body,
                    const DescribeConfigsRequest::Resource& resource,
                    DescribeConfigsResponse::Resource& result) {
    if (resource.resource_name.empty())
        return refuse(result, KafkaError::kInvalidRequest, "Group name must not be empty");
    const cluster::ConfigView view = server.metadata().configs();
    const auto& own = server.image().configs(ConfigResource::kGroup, resource.resource_name);
    for (const ConfigKey& key : cluster::group_config_keys()) {
        if (is_asked_for(resource, key.name))
            result.configs.push_back(
                describe(key, view.group(own, key), ConfigResource::kGroup, body));
    }
}

void describe_client_metrics(Server& server, const DescribeConfigsRequest& body,
                             const DescribeConfigsRequest::Resource& resource,
                             DescribeConfigsResponse::Resource& result) {
    if (resource.resource_name.empty()) {
        return refuse(result, KafkaError::kInvalidRequest,
                      "Client metrics subscription name must not be empty");
    }
    const cluster::ConfigView view = server.metadata().configs();
    const auto& own =
        server.image().configs(ConfigResource::kClientMetrics, resource.resource_name);
    for (const ConfigKey& key : cluster::client_metrics_config_keys()) {
        if (is_asked_for(resource, key.name))
            result.configs.push_back(
                describe(key, view.client_metrics(own, key), ConfigResource::kClientMetrics, body));
    }
}

// The root, and the components that name themselves in the log: parts of the source tree. All have
// the level that weir start was given. tests/test_topics.py compares them with what is logged.
constexpr std::string_view kLoggers[] = {"root",        "broker", "cluster", "kafka",
                                         "replication", "rpc",    "runtime", "storage"};

void describe_loggers(Server& server, const DescribeConfigsRequest& body,
                      const DescribeConfigsRequest::Resource& resource,
                      DescribeConfigsResponse::Resource& result) {
    if (resource.resource_name != std::to_string(server.node().id)) {
        return refuse(result, KafkaError::kInvalidRequest,
                      "Unexpected broker id, expected " + std::to_string(server.node().id) +
                          " but received " + resource.resource_name);
    }
    std::string level = server.metadata().configs().broker_value("log.level");
    std::ranges::transform(level, level.begin(),
                           [](char c) { return c >= 'a' && c <= 'z' ? char(c - 32) : c; });
    constexpr auto kSource = ConfigSource::kBrokerLogger;
    for (const std::string_view name : kLoggers) {
        const ConfigKey key{
            .name = name,
            .type = cluster::ConfigType::kString,
            .default_value = std::nullopt,
            .doc = "The least level of events that are logged (the option log.level)."};
        if (!is_asked_for(resource, key.name)) continue;
        result.configs.push_back(describe(
            key,
            {.value = level, .source = kSource, .synonyms = {{std::string(name), level, kSource}}},
            ConfigResource::kBrokerLogger, body));
    }
}

Task<DescribeConfigsResponse> answer(Request& request, DescribeConfigsRequest body) {
    Server& server = request.server;
    DescribeConfigsResponse response;
    drop_repeated(body.resources, [](const DescribeConfigsRequest::Resource& resource) {
        return std::pair(resource.resource_type, resource.resource_name);
    });
    for (const DescribeConfigsRequest::Resource& resource : body.resources) {
        DescribeConfigsResponse::Resource& result = response.results.emplace_back();
        result.error_message.reset();
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name;
        switch (static_cast<ConfigResource>(resource.resource_type)) {
            case ConfigResource::kTopic:
                describe_topic(server, body, resource, result);
                break;
            case ConfigResource::kBroker:
                describe_broker(server, body, resource, result);
                break;
            case ConfigResource::kBrokerLogger:
                describe_loggers(server, body, resource, result);
                break;
            case ConfigResource::kClientMetrics:
                describe_client_metrics(server, body, resource, result);
                break;
            case ConfigResource::kGroup:
                describe_group(server, body, resource, result);
                break;
            default:
                refuse(result, KafkaError::kInvalidRequest,
                       "Unsupported resource type: " + std::to_string(resource.resource_type));
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_describe_configs(Request& request) {
    return run_handler<DescribeConfigsRequest, DescribeConfigsResponse, answer>(request);
}

}  // namespace weir::kafka

// DescribeConfigs: every option of a topic or of the node, where its value comes from, and what
// else it could have been. Tools compare what they see with what they want, so a wrong source is an
// eternal difference.
#include "kafka/protocol/describe_configs.h"

#include <algorithm>

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
                                         bool is_topic, const DescribeConfigsRequest& body) {
    const bool is_secret = key.type == cluster::ConfigType::kPassword;
    DescribeConfigsResponse::Config config;
    config.name = key.name;
    config.value = is_secret ? std::nullopt : effective.value;
    config.read_only = key.update == cluster::ConfigUpdate::kStart;
    config.is_default = is_topic ? effective.source != ConfigSource::kTopic
                                 : effective.source == ConfigSource::kDefault;
    config.config_source = static_cast<int8_t>(effective.source);
    config.is_sensitive = is_secret;
    config.config_type = static_cast<int8_t>(key.type);
    config.documentation.reset();
    if (body.include_documentation) config.documentation = std::string(key.doc);
    if (body.include_synonyms) {
        for (const cluster::ConfigSynonym& synonym : effective.synonyms) {
            config.synonyms.push_back({synonym.name, is_secret ? std::nullopt : synonym.value,
                                       static_cast<int8_t>(synonym.source)});
        }
    }
    return config;
}

bool is_asked_for(const DescribeConfigsRequest::Resource& resource, std::string_view name) {
    return !resource.configuration_keys || std::ranges::find(*resource.configuration_keys, name) !=
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
        if (is_asked_for(resource, key.name))
            result.configs.push_back(describe(key, view.topic(topic->configs, key), true, body));
    }
}

void describe_broker(Server& server, const DescribeConfigsRequest& body,
                     const DescribeConfigsRequest::Resource& resource,
                     DescribeConfigsResponse::Resource& result) {
    const cluster::ConfigView view = server.metadata().configs();
    if (resource.resource_name.empty()) {
        // What was set for all brokers while running, and nothing else.
        for (const auto& [name, value] : server.image().configs(ConfigResource::kBroker, "")) {
            const ConfigKey* key = cluster::find_broker_config(name);
            if (key == nullptr || !is_asked_for(resource, name)) continue;
            const EffectiveConfig config{
                .value = value,
                .source = ConfigSource::kDynamicDefaultBroker,
                .synonyms = {{name, value, ConfigSource::kDynamicDefaultBroker}}};
            result.configs.push_back(describe(*key, config, false, body));
        }
        return;
    }
    if (resource.resource_name != std::to_string(server.node().id)) {
        return refuse(result, KafkaError::kInvalidRequest,
                      "Unexpected broker id, expected " + std::to_string(server.node().id) +
                          " or empty string, but received " + resource.resource_name);
    }
    for (const ConfigKey& key : cluster::broker_config_keys()) {
        if (is_asked_for(resource, key.name))
            result.configs.push_back(describe(key, view.broker(key), false, body));
    }
}

void describe_free_form(Server& server, const DescribeConfigsRequest& body,
                        const DescribeConfigsRequest::Resource& resource, ConfigResource type,
                        ConfigSource source, DescribeConfigsResponse::Resource& result) {
    for (const auto& [name, value] : server.image().configs(type, resource.resource_name)) {
        if (!is_asked_for(resource, name)) continue;
        const ConfigKey key{.name = name, .default_value = std::nullopt, .doc = ""};
        result.configs.push_back(
            describe(key, {.value = value, .source = source, .synonyms = {{name, value, source}}},
                     false, body));
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
                break;  // the level is an option of the node's start
            case ConfigResource::kClientMetrics:
                describe_free_form(server, body, resource, ConfigResource::kClientMetrics,
                                   ConfigSource::kClientMetrics, result);
                break;
            case ConfigResource::kGroup:
                describe_free_form(server, body, resource, ConfigResource::kGroup,
                                   ConfigSource::kGroup, result);
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

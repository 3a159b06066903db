// weir topic create|list|describe|delete
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/client_command.h"
#include "cli/topic_data_commands.h"
#include "kafka/client/offsets.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/delete_topics.h"
#include "kafka/protocol/describe_configs.h"

namespace weir::cli {

using kafka::Client;
using runtime::Task;
using runtime::try_;
using Json = nlohmann::ordered_json;

namespace {

constexpr int32_t kTimeoutMs = 30'000;
constexpr int8_t kTopicResource = 2;
constexpr int8_t kSourceTopic = 1;

struct CreateFlags {
    ClientFlags client;
    std::string name;
    int32_t partitions = 1;
    int16_t replicas = -1;
    std::vector<std::string> configs;
};

Task<Result<void>> create_topic(Client* client, const CreateFlags* flags) {
    kafka::CreateTopicsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = flags->name;
    topic.num_partitions = flags->partitions;
    topic.replication_factor = flags->replicas;
    for (const std::string& text : flags->configs) {
        const auto [key, value] = co_await try_(parse_assignment(text));
        topic.configs.push_back({.name = key, .value = value});
    }
    request.timeout_ms = kTimeoutMs;
    const auto answer =
        co_await try_(client->any().call<kafka::CreateTopicsResponse>(std::move(request)));
    for (const auto& result : answer.message.topics) {
        if (result.error_code != 0) {
            co_return fail(kafka::error_of(result.error_code,
                                           fmt::format("create topic {}", result.name),
                                           result.error_message));
        }
        if (flags->client.json()) {
            fmt::print("{}\n", Json{{"name", result.name},
                                    {"id", result.topic_id.to_string()},
                                    {"partitions", result.num_partitions},
                                    {"replicas", result.replication_factor}}
                                   .dump());
        } else {
            fmt::print("created topic {}\n", result.name);
        }
    }
    co_return Result<void>{};
}

Task<Result<void>> list_topics(Client* client, const ClientFlags* flags) {
    const auto topics = co_await try_(client->topics({}));
    Json list = Json::array();
    std::vector<std::vector<std::string>> rows{{"NAME", "PARTITIONS", "REPLICAS"}};
    for (const auto& topic : topics) {
        const size_t replicas = topic.partitions.empty() ? 0 : topic.partitions[0].replicas.size();
        list.push_back({{"name", topic.name},
                        {"partitions", topic.partitions.size()},
                        {"replicas", replicas},
                        {"internal", topic.is_internal}});
        rows.push_back(
            {topic.name, std::to_string(topic.partitions.size()), std::to_string(replicas)});
    }
    fmt::print("{}", flags->json() ? list.dump() + "\n" : format_table(rows));
    co_return Result<void>{};
}

struct NameFlags {
    ClientFlags client;
    std::string name;
};

Task<Result<Json>> changed_configs(Client* client, std::string name) {
    kafka::DescribeConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kTopicResource;
    resource.resource_name = name;
    resource.configuration_keys.reset();
    const auto answer =
        co_await try_(client->any().call<kafka::DescribeConfigsResponse>(std::move(request)));
    Json configs = Json::object();
    for (const auto& result : answer.message.results) {
        if (result.error_code != 0)
            co_return fail(kafka::error_of(result.error_code, fmt::format("configs of {}", name),
                                           result.error_message));
        for (const auto& config : result.configs) {
            if (config.config_source == kSourceTopic)
                configs[config.name] = config.value.value_or("");
        }
    }
    co_return configs;
}

Task<Result<void>> describe_topic(Client* client, const NameFlags* flags) {
    const auto topic = co_await try_(client->topic(flags->name));
    const Json configs = co_await try_(changed_configs(client, flags->name));
    const auto first =
        co_await try_(kafka::list_offsets(*client, topic, kafka::kEarliestTimestamp));
    const auto end = co_await try_(kafka::list_offsets(*client, topic, kafka::kLatestTimestamp));
    Json partitions = Json::array();
    std::vector<std::vector<std::string>> rows{
        {"PARTITION", "LEADER", "REPLICAS", "IN-SYNC", "START", "END"}};
    for (const auto& p : topic.partitions) {
        const int64_t start_offset = first.at(p.index).offset;
        const int64_t end_offset = end.at(p.index).offset;
        partitions.push_back({{"partition", p.index},
                              {"leader", p.leader},
                              {"replicas", p.replicas},
                              {"in_sync", p.in_sync},
                              {"start_offset", start_offset},
                              {"high_watermark", end_offset}});
        rows.push_back({std::to_string(p.index), std::to_string(p.leader),
                        fmt::format("{}", fmt::join(p.replicas, ",")),
                        fmt::format("{}", fmt::join(p.in_sync, ",")), std::to_string(start_offset),
                        std::to_string(end_offset)});
    }
    if (flags->client.json()) {
        fmt::print("{}\n", Json{{"name", topic.name},
                                {"id", topic.id.to_string()},
                                {"internal", topic.is_internal},
                                {"configs", configs},
                                {"partitions", partitions}}
                               .dump());
    } else {
        fmt::print("topic {}  id {}\n", topic.name, topic.id.to_string());
        for (const auto& [key, value] : configs.items())
            fmt::print("config {}={}\n", key, value.get<std::string>());
        fmt::print("{}", format_table(rows));
    }
    co_return Result<void>{};
}

Task<Result<void>> delete_topic(Client* client, const NameFlags* flags) {
    kafka::DeleteTopicsRequest request;
    if (co_await try_(client->any().version_of(kafka::ApiKey::kDeleteTopics)) >= 6) {
        request.topics.push_back({.name = flags->name, .topic_id = {}});
    } else {
        request.topic_names = {flags->name};
    }
    request.timeout_ms = kTimeoutMs;
    const auto answer =
        co_await try_(client->any().call<kafka::DeleteTopicsResponse>(std::move(request)));
    for (const auto& result : answer.message.responses) {
        if (result.error_code != 0) {
            co_return fail(kafka::error_of(result.error_code,
                                           fmt::format("delete topic {}", flags->name),
                                           result.error_message));
        }
    }
    fmt::print("{}", flags->client.json() ? Json{{"deleted", flags->name}}.dump() + "\n"
                                          : fmt::format("deleted topic {}\n", flags->name));
    co_return Result<void>{};
}

}  // namespace

void add_topic_commands(CLI::App& app, int* exit_code) {
    CLI::App* topic = app.add_subcommand(
        "topic", "create, list, describe and delete topics; produce to and consume from them");
    topic->require_subcommand(1);

    auto create = std::make_shared<CreateFlags>();
    CLI::App* create_command = topic->add_subcommand("create", "create a topic");
    create_command->add_option("name", create->name)->required();
    create_command->add_option("--partitions", create->partitions, "-1: the broker's default")
        ->capture_default_str();
    create_command->add_option("--replicas", create->replicas, "-1: the broker's default")
        ->capture_default_str();
    create_command->add_option("-c,--config", create->configs,
                               "a topic config, key=value; repeatable");
    add_client_flags(create_command, &create->client);
    create_command->callback([=] {
        *exit_code = run_client(
            create->client, [=](Client& client) { return create_topic(&client, create.get()); });
    });

    auto list = std::make_shared<ClientFlags>();
    CLI::App* list_command = topic->add_subcommand("list", "list all topics");
    add_client_flags(list_command, list.get());
    list_command->callback([=] {
        *exit_code =
            run_client(*list, [=](Client& client) { return list_topics(&client, list.get()); });
    });

    auto describe = std::make_shared<NameFlags>();
    CLI::App* describe_command =
        topic->add_subcommand("describe", "a topic's partitions, offsets and configs");
    describe_command->add_option("name", describe->name)->required();
    add_client_flags(describe_command, &describe->client);
    describe_command->callback([=] {
        *exit_code = run_client(describe->client, [=](Client& client) {
            return describe_topic(&client, describe.get());
        });
    });

    auto remove = std::make_shared<NameFlags>();
    CLI::App* delete_command = topic->add_subcommand("delete", "delete a topic and its data");
    delete_command->add_option("name", remove->name)->required();
    add_client_flags(delete_command, &remove->client);
    delete_command->callback([=] {
        *exit_code = run_client(
            remove->client, [=](Client& client) { return delete_topic(&client, remove.get()); });
    });

    add_topic_produce_command(*topic, exit_code);
    add_topic_consume_command(*topic, exit_code);
}

}  // namespace weir::cli

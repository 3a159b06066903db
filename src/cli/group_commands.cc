// weir group list|describe
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/byte_reader.h"
#include "cli/client_command.h"
#include "kafka/client/offsets.h"
#include "kafka/protocol/consumer_protocol_assignment.h"
#include "kafka/protocol/describe_groups.h"
#include "kafka/protocol/list_groups.h"
#include "kafka/protocol/offset_fetch.h"

namespace weir::cli {

using kafka::Client;
using runtime::Task;
using runtime::try_;
using Json = nlohmann::ordered_json;

namespace {

// From version 10 on topics are named by id, which a group may have outlived.
constexpr int16_t kOffsetFetchByName = 9;

struct GroupFlags {
    ClientFlags client;
    std::string group;
};

Task<Result<void>> list_groups(Client* client, const ClientFlags* flags) {
    Json list = Json::array();
    std::vector<std::vector<std::string>> rows{{"GROUP", "STATE", "PROTOCOL"}};
    // Each broker knows the groups that it coordinates.
    for (const auto& broker : client->brokers()) {
        kafka::ClientConnection* connection = co_await try_(client->to_node(broker.id));
        const auto answer =
            co_await try_(connection->call<kafka::ListGroupsResponse>(kafka::ListGroupsRequest{}));
        if (answer.message.error_code != 0)
            co_return fail(kafka::error_of(answer.message.error_code, "list groups"));
        for (const auto& group : answer.message.groups) {
            list.push_back({{"group", group.group_id},
                            {"state", group.group_state},
                            {"protocol_type", group.protocol_type},
                            {"type", group.group_type}});
            rows.push_back({group.group_id, group.group_state, group.protocol_type});
        }
    }
    fmt::print("{}", flags->json() ? list.dump() + "\n" : format_table(rows));
    co_return Result<void>{};
}

Json assignment_of(const std::vector<uint8_t>& bytes) {
    Json assigned = Json::array();
    if (bytes.size() < 2) return assigned;
    ByteReader in(bytes);
    const int16_t version = in.read_i16();
    // Other protocols (Connect's, say) have assignments of their own, which are not ours to read.
    const auto assignment = kafka::ConsumerProtocolAssignment::decode(
        in, std::min(version, kafka::ConsumerProtocolAssignment::kVersionMax));
    if (!assignment) return assigned;
    for (const auto& topic : assignment->assigned_partitions)
        assigned.push_back({{"topic", topic.topic}, {"partitions", topic.partitions}});
    return assigned;
}

// The group's committed offsets, beside where the partitions end.
Task<Result<Json>> committed_offsets(Client* client, kafka::ClientConnection* coordinator,
                                     std::string group) {
    kafka::OffsetFetchRequest request;
    if (co_await try_(coordinator->version_of(kafka::ApiKey::kOffsetFetch, kOffsetFetchByName)) >=
        8) {
        auto& asked = request.groups.emplace_back();
        asked.group_id = group;
        asked.topics.reset();
    } else {
        request.group_id = group;
        request.topics.reset();
    }
    const auto answer = co_await try_(
        coordinator->call<kafka::OffsetFetchResponse>(std::move(request), kOffsetFetchByName));
    const auto& response = answer.message;
    const int16_t error =
        response.groups.empty() ? response.error_code : response.groups[0].error_code;
    if (error != 0)
        co_return fail(kafka::error_of(error, fmt::format("offsets of group {}", group)));
    const auto& topics = response.groups.empty() ? response.topics : response.groups[0].topics;
    Json offsets = Json::array();
    for (const auto& topic : topics) {
        auto described = co_await client->topic(topic.name);
        std::map<int32_t, kafka::ListedOffset> ends;
        if (described)
            ends = co_await try_(
                kafka::list_offsets(*client, std::move(*described), kafka::kLatestTimestamp));
        for (const auto& p : topic.partitions) {
            if (p.committed_offset < 0) continue;
            const auto end = ends.find(p.partition_index);
            Json row{{"topic", topic.name},
                     {"partition", p.partition_index},
                     {"offset", p.committed_offset}};
            row["end"] = end == ends.end() ? Json() : Json(end->second.offset);
            row["lag"] = end == ends.end()
                             ? Json()
                             : Json(std::max<int64_t>(0, end->second.offset - p.committed_offset));
            offsets.push_back(std::move(row));
        }
    }
    co_return offsets;
}

std::string text_of(const Json& value) { return value.is_null() ? "-" : value.dump(); }

Task<Result<void>> describe_group(Client* client, const GroupFlags* flags) {
    kafka::ClientConnection* coordinator =
        co_await try_(client->to_group_coordinator(flags->group));
    kafka::DescribeGroupsRequest request;
    request.groups = {flags->group};
    const auto answer =
        co_await try_(coordinator->call<kafka::DescribeGroupsResponse>(std::move(request)));
    if (answer.message.groups.size() != 1)
        co_return fail(ErrorCode::kMalformed, "the broker described another number of groups");
    const auto& group = answer.message.groups[0];
    if (group.error_code != 0)
        co_return fail(kafka::error_of(group.error_code, fmt::format("group {}", flags->group),
                                       group.error_message));
    const Json offsets = co_await try_(committed_offsets(client, coordinator, flags->group));
    Json members = Json::array();
    for (const auto& member : group.members) {
        members.push_back({{"id", member.member_id},
                           {"client", member.client_id},
                           {"host", member.client_host},
                           {"assignment", assignment_of(member.member_assignment)}});
    }
    if (flags->client.json()) {
        fmt::print("{}\n", Json{{"group", group.group_id},
                                {"state", group.group_state},
                                {"protocol_type", group.protocol_type},
                                {"protocol", group.protocol_data},
                                {"coordinator", coordinator->address()},
                                {"members", members},
                                {"offsets", offsets}}
                               .dump());
        co_return Result<void>{};
    }
    fmt::print("group {}  state {}  protocol {}  coordinator {}\n", group.group_id,
               group.group_state, group.protocol_data, coordinator->address());
    std::vector<std::vector<std::string>> rows{{"MEMBER", "CLIENT", "HOST", "ASSIGNMENT"}};
    for (const auto& member : members) {
        std::string assigned;
        for (const auto& topic : member["assignment"])
            assigned +=
                fmt::format("{}{} ", topic["topic"].get<std::string>(), topic["partitions"].dump());
        rows.push_back({member["id"].get<std::string>(), member["client"].get<std::string>(),
                        member["host"].get<std::string>(), assigned});
    }
    fmt::print("{}", format_table(rows));
    rows = {{"TOPIC", "PARTITION", "OFFSET", "END", "LAG"}};
    for (const auto& row : offsets)
        rows.push_back({row["topic"].get<std::string>(), text_of(row["partition"]),
                        text_of(row["offset"]), text_of(row["end"]), text_of(row["lag"])});
    fmt::print("{}", format_table(rows));
    co_return Result<void>{};
}

}  // namespace

void add_group_commands(CLI::App& app, int* exit_code) {
    CLI::App* group = app.add_subcommand("group", "list and describe consumer groups");
    group->require_subcommand(1);

    auto list = std::make_shared<ClientFlags>();
    CLI::App* list_command = group->add_subcommand("list", "list all groups");
    add_client_flags(list_command, list.get());
    list_command->callback([=] {
        *exit_code =
            run_client(*list, [=](Client& client) { return list_groups(&client, list.get()); });
    });

    auto describe = std::make_shared<GroupFlags>();
    CLI::App* describe_command =
        group->add_subcommand("describe", "a group's members, offsets and lag");
    describe_command->add_option("group", describe->group)->required();
    add_client_flags(describe_command, &describe->client);
    describe_command->callback([=] {
        *exit_code = run_client(describe->client, [=](Client& client) {
            return describe_group(&client, describe.get());
        });
    });
}

}  // namespace weir::cli

// weir cluster info|health|members|features|decommission|maintenance: what a cluster's nodes are
// and do.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/admin_client.h"
#include "cli/client_command.h"
#include "runtime/shard.h"

namespace weir::cli {

using runtime::Task;
using runtime::try_;
using Json = nlohmann::ordered_json;

namespace {

std::string text_of(const Json& value) {
    if (value.is_null()) return "-";
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
    return value.dump();
}

Task<Result<void>> show_health(const AdminFlags* flags) {
    const Json health = co_await try_(ask_admin(flags, "GET", "/v1/cluster/health"));
    if (flags->json()) {
        fmt::print("{}\n", health.dump());
        co_return Result<void>{};
    }
    fmt::print(
        "healthy           {}\ncontroller        {}\nleaderless        {}\n"
        "under-replicated  {}\n",
        text_of(health["healthy"]), text_of(health["controller"]), text_of(health["leaderless"]),
        text_of(health["under_replicated"]));
    std::vector<std::vector<std::string>> rows{{"NODE", "ADDRESS", "RACK", "ALIVE", "DRAINING"}};
    for (const Json& node : health["nodes"])
        rows.push_back({text_of(node["id"]), text_of(node["address"]),
                        text_of(node.value("rack", Json())), text_of(node["alive"]),
                        text_of(node["draining"])});
    fmt::print("{}", format_table(rows));
    for (const Json& each : health.value("ailments", Json::array())) {
        const std::string topic = text_of(each["topic"]);
        fmt::print("node {}: {}: {}\n", text_of(each["node"]),
                   topic.empty() ? "the cluster's metadata"
                                 : fmt::format("{}-{}", topic, text_of(each["partition"])),
                   text_of(each["reason"]));
    }
    co_return Result<void>{};
}

Task<Result<void>> show_members(const AdminFlags* flags) {
    const Json answer = co_await try_(ask_admin(flags, "GET", "/v1/cluster/members"));
    if (flags->json()) {
        fmt::print("{}\n", answer["members"].dump());
        co_return Result<void>{};
    }
    std::vector<std::vector<std::string>> rows{
        {"NODE", "ADDRESS", "RPC", "RACK", "STATE", "ALIVE", "VOTER", "REPLICAS", "LEADERS"}};
    for (const Json& node : answer["members"])
        rows.push_back({text_of(node["id"]), text_of(node["address"]), text_of(node["rpc"]),
                        text_of(node["rack"]), text_of(node["state"]), text_of(node["alive"]),
                        text_of(node["voter"]), text_of(node["replicas"]),
                        text_of(node["leaders"])});
    fmt::print("{}", format_table(rows));
    co_return Result<void>{};
}

Task<Result<void>> show_info(const AdminFlags* flags) {
    const Json members = co_await try_(ask_admin(flags, "GET", "/v1/cluster/members"));
    const Json health = co_await try_(ask_admin(flags, "GET", "/v1/cluster/health"));
    size_t alive = 0;
    for (const Json& node : members["members"]) alive += node["alive"].get<bool>() ? 1 : 0;
    const Json info{{"cluster_id", members["cluster_id"]},
                    {"controller", members["controller"]},
                    {"healthy", health["healthy"]},
                    {"nodes", members["members"].size()},
                    {"alive", alive}};
    if (flags->json()) {
        fmt::print("{}\n", info.dump());
    } else {
        fmt::print("cluster     {}\ncontroller  {}\nnodes       {} ({} alive)\nhealthy     {}\n",
                   text_of(info["cluster_id"]), text_of(info["controller"]), info["nodes"].dump(),
                   alive, text_of(info["healthy"]));
    }
    co_return Result<void>{};
}

Task<Result<void>> show_features(const AdminFlags* flags) {
    const Json features = co_await try_(ask_admin(flags, "GET", "/v1/cluster/features"));
    if (flags->json()) {
        fmt::print("{}\n", features.dump());
        co_return Result<void>{};
    }
    std::vector<std::vector<std::string>> rows{{"FEATURE", "LEVEL", "STATE", "WHAT IT STANDS FOR"}};
    for (const Json& feature : features) {
        for (const Json& level : feature["levels"]) {
            const auto number = level["level"].get<int32_t>();
            rows.push_back({text_of(feature["feature"]), std::to_string(number),
                            number <= feature["finalized"].get<int32_t>()  ? "finalized"
                            : number <= feature["possible"].get<int32_t>() ? "possible"
                                                                           : "not all nodes",
                            text_of(level["what"])});
        }
    }
    fmt::print("{}", format_table(rows));
    co_return Result<void>{};
}

Instant deadline_of(const AdminFlags& flags) {
    return runtime::Shard::current().now() + std::chrono::seconds(flags.timeout_seconds);
}

struct FinalizeFlags {
    AdminFlags admin;
    std::string feature;
    uint16_t level = 0;
};

Task<Result<void>> finalize(const FinalizeFlags* flags) {
    (void)co_await try_(
        insist_admin(&flags->admin, "POST",
                     fmt::format("/v1/cluster/features/{}/{}", flags->feature, flags->level),
                     deadline_of(flags->admin)));
    fmt::print("{}",
               flags->admin.json()
                   ? Json{{"feature", flags->feature}, {"finalized", flags->level}}.dump() + "\n"
                   : fmt::format("{} is at level {}\n", flags->feature, flags->level));
    co_return Result<void>{};
}

struct NodeFlags {
    AdminFlags admin;
    int32_t node = -1;
    std::string state;
};

// nullopt: it is no member.
Task<Result<std::optional<Json>>> find_member(const AdminFlags* flags, int32_t node) {
    const Json answer = co_await try_(ask_admin(flags, "GET", "/v1/cluster/members"));
    for (const Json& member : answer["members"])
        if (member["id"].get<int32_t>() == node) co_return std::optional(member);
    co_return std::optional<Json>();
}

Task<Result<bool>> is_gone(const NodeFlags* flags, Progress* progress) {
    const auto member = co_await try_(find_member(&flags->admin, flags->node));
    if (!member) co_return true;
    progress->say(fmt::format("node {}: {} replicas and {} leaders left", flags->node,
                              text_of((*member)["replicas"]), text_of((*member)["leaders"])));
    co_return false;
}

Task<Result<bool>> is_drained(const NodeFlags* flags, Progress* progress) {
    const auto member = co_await try_(find_member(&flags->admin, flags->node));
    if (!member)
        co_return fail(ErrorCode::kInvalidArgument,
                       fmt::format("node {} is no member", flags->node));
    if ((*member)["leaders"].get<int64_t>() == 0) co_return true;
    progress->say(
        fmt::format("node {} leads {} partitions", flags->node, text_of((*member)["leaders"])));
    co_return false;
}

Task<Result<void>> decommission(const NodeFlags* flags) {
    const Instant deadline = deadline_of(flags->admin);
    (void)co_await try_(insist_admin(
        &flags->admin, "POST", fmt::format("/v1/cluster/decommission/{}", flags->node), deadline));
    co_await try_(wait_until_done([flags](Progress* progress) { return is_gone(flags, progress); },
                                  deadline, fmt::format("decommissioning node {}", flags->node)));
    fmt::print("{}", flags->admin.json()
                         ? Json{{"decommissioned", flags->node}}.dump() + "\n"
                         : fmt::format("node {} has left the cluster\n", flags->node));
    co_return Result<void>{};
}

Task<Result<void>> maintain(const NodeFlags* flags) {
    const Instant deadline = deadline_of(flags->admin);
    (void)co_await try_(insist_admin(
        &flags->admin, "POST",
        fmt::format("/v1/cluster/maintenance/{}/{}", flags->node, flags->state), deadline));
    if (flags->state == "on") {
        co_await try_(
            wait_until_done([flags](Progress* progress) { return is_drained(flags, progress); },
                            deadline, fmt::format("maintenance of node {}", flags->node)));
    }
    fmt::print("{}", flags->admin.json()
                         ? Json{{"node", flags->node}, {"maintenance", flags->state}}.dump() + "\n"
                         : fmt::format("node {}: maintenance {}\n", flags->node, flags->state));
    co_return Result<void>{};
}

}  // namespace

void add_cluster_commands(CLI::App& app, int* exit_code) {
    CLI::App* cluster = app.add_subcommand("cluster", "look at a cluster's nodes and change them");
    cluster->require_subcommand(1);
    struct Show {
        const char* name;
        const char* help;
        Task<Result<void>> (*run)(const AdminFlags*);
    };
    for (const Show& show :
         {Show{"info", "the cluster in a few lines", show_info},
          Show{"health", "whether all is well: nodes, leaders, replicas", show_health},
          Show{"members", "the nodes, their state, and what they hold", show_members},
          Show{"features", "what the cluster may do, of what its nodes know", show_features}}) {
        auto flags = std::make_shared<AdminFlags>();
        CLI::App* command = cluster->add_subcommand(show.name, show.help);
        add_admin_flags(command, flags.get());
        command->callback([exit_code, flags, run = show.run] {
            *exit_code = run_admin([flags, run] { return run(flags.get()); });
        });
    }

    auto finalized = std::make_shared<FinalizeFlags>();
    CLI::App* finalize_command = cluster->add_subcommand(
        "finalize",
        "after an upgrade of all nodes: use what a level stands for; there is no way back");
    finalize_command->add_option("feature", finalized->feature)->required();
    finalize_command->add_option("level", finalized->level)->required();
    add_admin_flags(finalize_command, &finalized->admin, true);
    finalize_command->callback(
        [=] { *exit_code = run_admin([=] { return finalize(finalized.get()); }); });

    auto leaving = std::make_shared<NodeFlags>();
    CLI::App* decommission_command = cluster->add_subcommand(
        "decommission", "move everything off a node and remove it from the cluster; waits");
    decommission_command->add_option("node", leaving->node)->required();
    add_admin_flags(decommission_command, &leaving->admin, true);
    decommission_command->callback(
        [=] { *exit_code = run_admin([=] { return decommission(leaving.get()); }); });

    auto maintained = std::make_shared<NodeFlags>();
    CLI::App* maintenance_command = cluster->add_subcommand(
        "maintenance",
        "on: move leadership off a node, and wait until it leads nothing; off: back");
    maintenance_command->add_option("node", maintained->node)->required();
    maintenance_command->add_option("state", maintained->state)
        ->required()
        ->check(CLI::IsMember({"on", "off"}));
    add_admin_flags(maintenance_command, &maintained->admin, true);
    maintenance_command->callback(
        [=] { *exit_code = run_admin([=] { return maintain(maintained.get()); }); });
}

}  // namespace weir::cli

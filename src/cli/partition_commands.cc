// weir partition list|move|transfer-leader: where partitions are, and who leads them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
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

struct PartitionFlags {
    AdminFlags admin;
    std::string topic;
    int32_t partition = -1;
    std::vector<int32_t> replicas;
    int32_t to = -1;
};

std::string joined(const Json& numbers) {
    std::vector<std::string> texts;
    for (const Json& number : numbers) texts.push_back(number.dump());
    return fmt::format("{}", fmt::join(texts, ","));
}

Task<Result<void>> list(const PartitionFlags* flags) {
    const Json partitions = co_await try_(ask_admin(
        &flags->admin, "GET",
        flags->topic.empty() ? "/v1/partitions" : "/v1/partitions?topic=" + flags->topic));
    if (flags->admin.json()) {
        fmt::print("{}\n", partitions.dump());
        co_return Result<void>{};
    }
    std::vector<std::vector<std::string>> rows{
        {"TOPIC", "PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN-SYNC", "HIGH-WATERMARK", "LAG"}};
    for (const Json& p : partitions) {
        std::vector<std::string> lags;
        for (const auto& [node, lag] : p["lag"].items())
            lags.push_back(fmt::format("{}:{}", node, lag.dump()));
        rows.push_back({p["topic"].get<std::string>(), p["partition"].dump(), p["leader"].dump(),
                        p["epoch"].dump(), joined(p["replicas"]), joined(p["in_sync"]),
                        p["high_watermark"].dump(), fmt::format("{}", fmt::join(lags, " "))});
    }
    fmt::print("{}", format_table(rows));
    co_return Result<void>{};
}

Task<Result<Json>> find_partition(const PartitionFlags* flags) {
    const Json partitions =
        co_await try_(ask_admin(&flags->admin, "GET", "/v1/partitions?topic=" + flags->topic));
    for (const Json& p : partitions)
        if (p["partition"].get<int32_t>() == flags->partition) co_return p;
    co_return fail(ErrorCode::kInvalidArgument,
                   fmt::format("topic {} has no partition {}", flags->topic, flags->partition));
}

Task<Result<bool>> is_moved(const PartitionFlags* flags, Progress* progress) {
    const Json partition = co_await try_(find_partition(flags));
    const auto replicas = partition["replicas"].get<std::vector<int32_t>>();
    if (replicas == flags->replicas) co_return true;
    progress->say(fmt::format("{}-{}: replicas {}, in sync {}", flags->topic, flags->partition,
                              joined(partition["replicas"]), joined(partition["in_sync"])));
    co_return false;
}

Instant deadline_of(const AdminFlags& flags) {
    return runtime::Shard::current().now() + std::chrono::seconds(flags.timeout_seconds);
}

Task<Result<void>> move(const PartitionFlags* flags) {
    const Instant deadline = deadline_of(flags->admin);
    (void)co_await try_(
        insist_admin(&flags->admin, "POST",
                     fmt::format("/v1/partitions/{}/{}/move?replicas={}", flags->topic,
                                 flags->partition, fmt::join(flags->replicas, ",")),
                     deadline));
    co_await try_(wait_until_done([flags](Progress* progress) { return is_moved(flags, progress); },
                                  deadline,
                                  fmt::format("moving {}-{}", flags->topic, flags->partition)));
    fmt::print("{}", flags->admin.json()
                         ? Json{{"topic", flags->topic},
                                {"partition", flags->partition},
                                {"replicas", flags->replicas}}
                                   .dump() +
                               "\n"
                         : fmt::format("{}-{} is on {}\n", flags->topic, flags->partition,
                                       fmt::join(flags->replicas, ",")));
    co_return Result<void>{};
}

// The answer to the request said that it was handed over; here it is seen. By then another may lead
// already, in a later epoch: what an administrator makes leader is not kept from balancing.
Task<Result<bool>> is_transferred(const PartitionFlags* flags, int32_t epoch_before,
                                  int32_t* leader, Progress* progress) {
    const Json partition = co_await try_(find_partition(flags));
    *leader = partition["leader"].get<int32_t>();
    if (*leader == flags->to) co_return true;
    if (*leader >= 0 && partition["epoch"].get<int32_t>() > epoch_before) co_return true;
    progress->say(fmt::format("{}-{} is led by node {}", flags->topic, flags->partition, *leader));
    co_return false;
}

Task<Result<void>> transfer(const PartitionFlags* flags) {
    const Instant deadline = deadline_of(flags->admin);
    const Json before = co_await try_(find_partition(flags));
    const auto epoch_before = before["epoch"].get<int32_t>();
    (void)co_await try_(insist_admin(&flags->admin, "POST",
                                     fmt::format("/v1/partitions/{}/{}/transfer-leader?to={}",
                                                 flags->topic, flags->partition, flags->to),
                                     deadline));
    int32_t leader = -1;
    co_await try_(wait_until_done(
        [&](Progress* progress) { return is_transferred(flags, epoch_before, &leader, progress); },
        deadline, fmt::format("leadership of {}-{}", flags->topic, flags->partition)));
    fmt::print(
        "{}",
        flags->admin.json()
            ? Json{{"topic", flags->topic}, {"partition", flags->partition}, {"leader", leader}}
                      .dump() +
                  "\n"
        : leader == flags->to
            ? fmt::format("{}-{} is led by node {}\n", flags->topic, flags->partition, leader)
            : fmt::format("{}-{} was handed to node {} and is led by node {} again\n", flags->topic,
                          flags->partition, flags->to, leader));
    co_return Result<void>{};
}

}  // namespace

void add_partition_commands(CLI::App& app, int* exit_code) {
    CLI::App* partition =
        app.add_subcommand("partition", "list partitions, move them, change who leads them");
    partition->require_subcommand(1);

    auto listed = std::make_shared<PartitionFlags>();
    CLI::App* list_command = partition->add_subcommand(
        "list", "leader, epoch, replicas, in sync, high watermark, and each replica's lag");
    list_command->add_option("--topic", listed->topic, "of this topic alone");
    add_admin_flags(list_command, &listed->admin);
    list_command->callback([=] { *exit_code = run_admin([=] { return list(listed.get()); }); });

    auto moved = std::make_shared<PartitionFlags>();
    CLI::App* move_command = partition->add_subcommand(
        "move", "put a partition on these nodes; the first is the preferred leader; waits");
    move_command->add_option("topic", moved->topic)->required();
    move_command->add_option("partition", moved->partition)->required();
    move_command->add_option("--replicas", moved->replicas, "node ids")
        ->required()
        ->delimiter(',')
        ->type_name("N[,N…]");
    add_admin_flags(move_command, &moved->admin, true);
    move_command->callback([=] { *exit_code = run_admin([=] { return move(moved.get()); }); });

    auto led = std::make_shared<PartitionFlags>();
    CLI::App* transfer_command = partition->add_subcommand(
        "transfer-leader", "make a replica the leader, while nothing is lost or refused; waits");
    transfer_command->add_option("topic", led->topic)->required();
    transfer_command->add_option("partition", led->partition)->required();
    transfer_command->add_option("--to", led->to, "node id")->required();
    add_admin_flags(transfer_command, &led->admin, true);
    transfer_command->callback(
        [=] { *exit_code = run_admin([=] { return transfer(led.get()); }); });
}

}  // namespace weir::cli

// The simulated operator: over the admin API of any node it hands over leaders, moves replicas and
// changes how many there are, puts nodes into maintenance and takes them out, and has nodes leave
// the cluster for good. In the end the cluster must be as it was told to be.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cluster_session.h"
#include "http/client.h"
#include "kafka/protocol/alter_partition_reassignments.h"

namespace weir::sim {

using Json = nlohmann::json;

struct ClusterClients::Operator {
    Prng prng;
    std::string who = "operator";
};

struct ClusterClients::AdminAnswer {
    int status = 0;  // 0: none, and whether it was done is not known
    std::string address;
    Json body;
};

namespace {

constexpr size_t kReplicasMax = 5;
constexpr Duration kSettlePause = std::chrono::milliseconds(300);
constexpr Duration kTellAllMax = std::chrono::seconds(30);  // until each node knows the metadata

std::string name_of(const std::string& topic, int32_t partition) {
    return fmt::format("{}-{}", topic, partition);
}

}  // namespace

Task<ClusterClients::AdminAnswer> ClusterClients::ask_admin(ClusterClients* self, Operator* op,
                                                            std::string method,
                                                            std::string target) {
    const auto& nodes = self->options_.admin_addresses;
    std::string address = nodes[op->prng.below(nodes.size())];
    self->say(op->who, fmt::format("{} {} {}", address, method, target));
    ++self->counts_.requests;
    auto answer = co_await http::ask({.address = address,
                                      .method = std::move(method),
                                      .target = std::move(target),
                                      .timeout = self->options_.request_timeout * 2,
                                      .answer_bytes_max = 1 << 20});
    AdminAnswer told{.status = answer ? answer->status : 0, .address = address, .body = {}};
    if (answer) told.body = Json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
    if (answer && told.body.is_discarded()) {
        self->fail(fmt::format("{} answers what is no JSON: {}", address, answer->body));
        told.status = 0;
    }
    // Not now: "whether it was done is not known" is what 503 says too.
    if (told.status == 503) told.status = 0;
    if (told.status == 0) ++self->counts_.failures;
    co_return told;
}

// Which nodes there are, as one that was asked knows; and which of those that leave have left.
Task<std::vector<int32_t>> ClusterClients::members(ClusterClients* self, Operator* op) {
    std::vector<int32_t> nodes;
    const AdminAnswer answer = co_await ask_admin(self, op, "GET", "/v1/cluster/members");
    if (answer.status != 200) co_return nodes;
    std::set<int32_t>& listed = self->listed_[answer.address];
    for (const Json& member : answer.body["members"]) {
        nodes.push_back(member["id"]);
        listed.insert(nodes.back());
        self->addresses_[nodes.back()] = member["address"];
        // Whoever still lists one that left knows too little; its machine is another node by now.
        if (self->left_.contains(nodes.back())) continue;
        // Also when the answer to who asked for it was lost.
        if (member["state"] == "decommissioning") self->leaving_.insert(nodes.back());
        if (member["state"] == "maintenance") self->in_maintenance_.insert(nodes.back());
        if (member["state"] == "decommissioning")
            self->called_back_.erase(nodes.back());
        else if (self->leaving_.contains(nodes.back()))
            self->called_back_.insert(nodes.back());
    }
    const auto has_left = [&](int32_t node) {
        if (std::ranges::find(nodes, node) != nodes.end()) return false;
        // Who never heard of it may just know too little; not when all is well for so long.
        if (!listed.contains(node) && Shard::current().now() < self->told_all_) return false;
        ++self->counts_.removed_nodes;
        self->left_.insert(node);
        self->in_maintenance_.erase(node);
        // The machine of one that was lost has come again as another node.
        if (!self->lost_.contains(node)) self->options_.node_left(self->addresses_[node]);
        return true;
    };
    std::erase_if(self->leaving_, has_left);
    std::erase_if(self->asked_to_leave_, [&](int32_t node) {
        return self->leaving_.contains(node) || self->left_.contains(node) || has_left(node);
    });
    co_return nodes;
}

Task<void> ClusterClients::transfer_leader(ClusterClients* self, Operator* op, std::string topic,
                                           int32_t partition, int32_t to) {
    const AdminAnswer answer = co_await ask_admin(
        self, op, "POST",
        fmt::format("/v1/partitions/{}/{}/transfer-leader?to={}", topic, partition, to));
    if (answer.status == 200) ++self->counts_.transfers;
}

Task<void> ClusterClients::move_replicas(ClusterClients* self, Operator* op, std::string topic,
                                         int32_t partition, std::vector<int32_t> nodes) {
    const std::string name = name_of(topic, partition);
    const AdminAnswer answer =
        co_await ask_admin(self, op, "POST",
                           fmt::format("/v1/partitions/{}/{}/move?replicas={}", topic, partition,
                                       fmt::join(nodes, ",")));
    // What nobody answered may happen later, after what is asked next.
    if (answer.status == 0) self->unsure_.insert(name);
    if (answer.status != 200) co_return;
    ++self->counts_.reassignments;
    self->placed_[name] = std::move(nodes);
}

// Over Kafka's own request. No target cancels what is under way.
Task<Result<void>> ClusterClients::reassign(ClusterClients* self, Session* session,
                                            std::string topic, int32_t partition,
                                            std::optional<std::vector<int32_t>> nodes) {
    Client* client = co_await try_(session->client());
    kafka::AlterPartitionReassignmentsRequest request;
    request.timeout_ms = 2000;
    auto& asked = request.topics.emplace_back();
    asked.name = topic;
    auto& to_partition = asked.partitions.emplace_back();
    to_partition.partition_index = partition;
    to_partition.replicas = nodes;
    ++self->counts_.requests;
    const std::string name = name_of(topic, partition);
    const auto answer =
        co_await client->any().call<kafka::AlterPartitionReassignmentsResponse>(std::move(request));
    if (!answer) {
        self->unsure_.insert(name);
        co_return weir::fail(answer.error());
    }
    int16_t error = answer->message.error_code;
    for (const auto& each : answer->message.responses)
        for (const auto& p : each.partitions) error = error != 0 ? error : p.error_code;
    if (error != 0) {
        // Whether it was done is known of a clear refusal alone.
        if (kafka::is_retriable(kafka::kafka_error(error))) self->unsure_.insert(name);
        co_return Result<void>{};
    }
    if (!nodes) {
        self->placed_.erase(name);
        co_return Result<void>{};
    }
    ++self->counts_.reassignments;
    self->placed_[name] = std::move(*nodes);
    co_return Result<void>{};
}

Task<void> ClusterClients::operate(ClusterClients* self) {
    Operator op{.prng = self->prng("operator", 0)};
    Session session(*self, op.who + "'s kafka");
    const Operations& operations = self->options_.operations;
    Prng& prng = op.prng;
    while (true) {
        (void)co_await runtime::sleep_for(
            std::chrono::milliseconds(20 + static_cast<int64_t>(prng.below(800))));
        if (self->winding_down_) break;
        std::vector<int32_t> nodes = co_await members(self, &op);
        if (nodes.empty()) continue;
        for (size_t i = nodes.size(); i > 1; --i) std::swap(nodes[i - 1], nodes[prng.below(i)]);
        const int32_t node = nodes[0];
        const bool offsets = prng.chance(0.2);
        const Topic& topic = self->topics_[prng.below(self->topics_.size())];
        const std::string name = offsets ? "__consumer_offsets" : topic.name;
        const auto partitions = static_cast<uint64_t>(offsets ? 1 : topic.partitions);
        const auto partition = static_cast<int32_t>(prng.below(partitions));
        switch (prng.below(6)) {
            case 0:
            case 1:
                if (operations.transfers)
                    co_await transfer_leader(self, &op, name, partition, node);
                break;
            case 2:
            case 3: {
                if (!operations.moves) break;
                const size_t usual = std::min<size_t>(self->options_.nodes, 3);
                if (nodes.size() < usual) break;
                nodes.resize(operations.replication_factors
                                 ? 1 + prng.below(std::min(nodes.size(), kReplicasMax))
                                 : usual);
                auto client = co_await session.client();
                const bool by_kafka =
                    client &&
                    (*client)->any().version_of(kafka::ApiKey::kAlterPartitionReassignments) &&
                    prng.chance(0.5);
                if (!by_kafka) {
                    co_await move_replicas(self, &op, name, partition, std::move(nodes));
                    break;
                }
                std::optional<std::vector<int32_t>> target;
                if (!prng.chance(0.3)) target = std::move(nodes);
                self->say(op.who, target ? "reassigning" : "cancelling");
                const auto done =
                    co_await reassign(self, &session, name, partition, std::move(target));
                if (!done) co_await session.drop();
                break;
            }
            case 4:
                if (operations.maintenance) co_await maintain(self, &op, node);
                break;
            default: {
                // One at a time, or too few nodes are left for the replicas.
                if (!self->leaving_.empty() || !self->asked_to_leave_.empty()) break;
                const auto lost = std::ranges::find_if(
                    self->lost_, [&](int32_t each) { return !self->left_.contains(each); });
                if (lost != self->lost_.end())
                    co_await decommission(self, &op, *lost);
                else if (operations.decommission)
                    co_await decommission(self, &op, node);
            }
        }
    }
    co_await session.drop();
    self->doing_.erase(op.who);
    // Others may wait for nodes that are in maintenance.
    co_await settle(self);
}

Task<void> ClusterClients::maintain(ClusterClients* self, Operator* op, int32_t node) {
    // One that leaves may not be called back: its machine is given up when it has left.
    if (self->leaving_.contains(node)) co_return;
    const bool on = !self->in_maintenance_.contains(node);
    const AdminAnswer answer = co_await ask_admin(
        self, op, "POST", fmt::format("/v1/cluster/maintenance/{}/{}", node, on ? "on" : "off"));
    if (answer.status != 200) co_return;
    if (on) ++self->counts_.maintenances;
    if (on)
        self->in_maintenance_.insert(node);
    else
        self->in_maintenance_.erase(node);
}

Task<void> ClusterClients::decommission(ClusterClients* self, Operator* op, int32_t node) {
    const AdminAnswer answer =
        co_await ask_admin(self, op, "POST", fmt::format("/v1/cluster/decommission/{}", node));
    if (answer.status == 200) self->leaving_.insert(node);
    if (answer.status == 0) self->asked_to_leave_.insert(node);
}

namespace {

// Healthy, but for what nothing can mend: a place that could not be read, and of which there is no
// other copy.
bool is_healthy(const Json& health) {
    if (health.value("healthy", false)) return true;
    if (health.value("leaderless", 1) != 0 || health.value("under_replicated", 1) != 0)
        return false;
    return std::ranges::all_of(health["ailments"], [](const Json& ailment) {
        const std::string reason = ailment.value("reason", "");
        return reason.find("Input/output error") != std::string::npos &&
               reason.find("there is no other replica") != std::string::npos;
    });
}

}  // namespace

// All faults are over: what was begun is ended, until every node says that all is well.
Task<void> ClusterClients::settle(ClusterClients* self) {
    Operator op{.prng = self->prng("operator", 1)};
    if (self->told_all_ == Instant::never()) self->told_all_ = Shard::current().now() + kTellAllMax;
    while (true) {
        (void)co_await runtime::sleep_for(kSettlePause);
        (void)co_await members(self, &op);
        // Of a question that nobody answered, too: it may come late.
        const std::set<int32_t> maintained = self->in_maintenance_;
        for (const int32_t node : maintained) {
            if (!self->leaving_.contains(node)) co_await maintain(self, &op, node);
        }
        for (const int32_t node : self->lost_) {
            if (!self->leaving_.contains(node) && !self->left_.contains(node))
                co_await decommission(self, &op, node);
        }
        // By the end of a maintenance that was asked for before, and came later.
        const std::set<int32_t> called_back = self->called_back_;
        for (const int32_t node : called_back) {
            if (self->leaving_.contains(node)) co_await decommission(self, &op, node);
        }
        if (!self->leaving_.empty() || !self->in_maintenance_.empty()) continue;
        bool all_well = true;
        for (const std::string& address : self->options_.admin_addresses) {
            const auto answer = co_await http::ask({.address = address,
                                                    .target = "/v1/cluster/health",
                                                    .timeout = self->options_.request_timeout * 2});
            const Json health = answer ? Json::parse(answer->body, nullptr, false) : Json();
            const bool well = health.is_object() && is_healthy(health) &&
                              health["nodes"].size() == self->options_.admin_addresses.size() &&
                              std::ranges::none_of(health["nodes"], [](const Json& node) {
                                  return node.value("draining", true);
                              });
            if (well) continue;
            all_well = false;
            self->say(op.who, fmt::format("{} is not well: {}", address,
                                          answer ? answer->body : answer.error().to_string()));
            break;
        }
        if (all_well && co_await check_placement(self, &op)) break;
    }
    self->doing_.erase(op.who);
}

// The replicas are where they were last asked to be.
Task<bool> ClusterClients::check_placement(ClusterClients* self, Operator* op) {
    const AdminAnswer answer = co_await ask_admin(self, op, "GET", "/v1/partitions");
    if (answer.status != 200) co_return false;
    self->replicas_.clear();
    for (const Json& row : answer.body) {
        const std::string name = name_of(row["topic"], row["partition"]);
        const std::vector<int32_t> replicas = row["replicas"];
        self->replicas_[name] = replicas;
        const auto asked = self->placed_.find(name);
        // Nodes that left have taken their replicas along.
        if (asked == self->placed_.end() || self->unsure_.contains(name) ||
            std::ranges::any_of(asked->second,
                                [&](int32_t node) { return self->left_.contains(node); }))
            continue;
        if (replicas == asked->second) continue;
        self->say(op->who,
                  fmt::format("{} should be on {}, and is on {}", name, asked->second, replicas));
        co_return false;
    }
    co_return true;
}

}  // namespace weir::sim

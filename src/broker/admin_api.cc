#include "broker/admin_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "cluster/cluster_admin.h"
#include "cluster/features.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::broker {

using cluster::AdminReply;
using cluster::MetadataImage;
using cluster::NodeState;
using runtime::Shard;
using runtime::Task;

namespace {

using Json = nlohmann::ordered_json;

constexpr Duration kChangeTimeout = 10s;
constexpr Duration kProgressTimeout = 1s;
constexpr Duration kTransferTimeout = 10s;

// Whatever bytes are in it, as a path may have any: those that are not UTF-8 are replaced.
std::string text_of(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

AdminReply refuse(uint16_t status, std::string_view message) {
    return {status, text_of(Json{{"error", message}})};
}

AdminReply reply_to(const cluster::AdminError& error) {
    using enum cluster::AdminFault;
    switch (error.fault) {
        case kNone:
            return {200, "{}"};
        case kUnknownTopic:
        case kUnknownTopicId:
        case kUnknownNode:
        case kResourceNotFound:
            return refuse(404, error.message);
        case kNotController:
        case kUnavailable:
        case kStorage:
            return refuse(503, error.message);
        default:
            return refuse(400, error.message);
    }
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const size_t at = text.find(separator);
        if (at != 0) parts.emplace_back(text.substr(0, at));
        text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
    }
    return parts;
}

std::optional<int32_t> number(std::string_view text) {
    int32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
    return value;
}

std::optional<std::string> parameter(const std::string& query, std::string_view name) {
    for (const std::string& each : split(query, '&')) {
        const size_t at = each.find('=');
        if (at != std::string::npos && std::string_view(each).substr(0, at) == name)
            return each.substr(at + 1);
    }
    return std::nullopt;
}

runtime::WaitOptions change_options() {
    return {.deadline = Shard::current().now() + kChangeTimeout};
}

std::string_view state_name(NodeState state) {
    switch (state) {
        case NodeState::kActive:
            return "active";
        case NodeState::kDraining:
            return "maintenance";
        case NodeState::kDecommissioning:
            return "decommissioning";
    }
    return "active";
}

}  // namespace

Task<http::Response> AdminApi::answer(http::Request request) {
    AdminReply reply;
    if (const auto refusal =
            http::check_provenance(request.from, request.method != "GET", names_)) {
        reply = refuse(static_cast<uint16_t>(refusal->status), refusal->why);
    } else if (request.method == "GET" && request.path == "/v1/cluster/health") {
        reply = co_await health();
    } else if (request.method == "GET" && request.path == "/v1/cluster/members") {
        reply = members();
    } else if (request.method == "GET" && request.path == "/v1/cluster/features") {
        reply = features();
    } else if (request.method == "GET" && request.path == "/v1/partitions") {
        reply = co_await partitions(request.query);
    } else if (request.method != "POST") {
        reply = refuse(404, "there is no such path");
    } else {
        const cluster::AdminCall call{request.method, request.path, request.query};
        reply = co_await change_at_controller(call);
    }
    co_return http::Response{
        .status = reply.status, .content_type = "application/json", .body = reply.body + "\n"};
}

Task<AdminReply> AdminApi::change_at_controller(cluster::AdminCall call) {
    const bool is_elsewhere = controller_.leader().valid() && !controller_.leads() &&
                              controller_.leader().v != link_.self();
    if (!is_elsewhere) co_return co_await change(std::move(call));
    const auto answer = co_await link_.controller_calls().call(
        cluster::kAdminCall, cluster::encode(call),
        Shard::current().now() + kChangeTimeout + kTransferTimeout);
    // The controller went, and this node took its place.
    if (!answer && controller_.leads()) co_return co_await change(std::move(call));
    if (!answer) co_return refuse(503, answer.error().message);
    const auto decoded = cluster::decode_admin_reply(answer->bytes());
    co_return decoded ? *decoded : refuse(503, decoded.error().to_string());
}

// ------------------------------------------------------------------ what there is

cluster::ClusterView AdminApi::view() const {
    return {.controller = controller_.leader().v,
            .is_alive = [this](int32_t node) { return link_.is_alive(node); },
            .self = self_};
}

Task<AdminReply> AdminApi::health() {
    std::vector<int32_t> nodes{link_.self()};
    for (const auto& [id, node] : controller_.image().nodes()) {
        if (id != link_.self() && link_.is_alive(id)) nodes.push_back(id);
    }
    auto ailments =
        co_await link_.ailments().ask(std::move(nodes), Shard::current().now() + kProgressTimeout);
    co_return AdminReply{
        200, cluster::to_json(cluster::health_of(controller_.image(), controller_.local().leaders(),
                                                 view(), std::move(ailments)))};
}

AdminReply AdminApi::members() const {
    const MetadataImage& image = controller_.image();
    std::map<int32_t, size_t> leaders;
    for (const cluster::PartitionRow& row :
         cluster::partition_rows(image, controller_.local().leaders(), view(), std::nullopt, {}))
        ++leaders[row.leader];
    Json list = Json::array();
    const auto add = [&](int32_t id, const std::string& address, Json rpc, Json rack,
                         uint32_t shards, NodeState state, const cluster::FeatureRange& range) {
        const raft::Configuration* members =
            controller_.group() == nullptr ? nullptr : &controller_.group()->configuration();
        list.push_back({{"id", id},
                        {"address", address},
                        {"rpc", std::move(rpc)},
                        {"rack", std::move(rack)},
                        {"shards", shards},
                        {"state", state_name(state)},
                        {"alive", link_.is_alive(id)},
                        {"voter", members != nullptr && members->is_voter(NodeId{id})},
                        {"version_min", range.min},
                        {"version_max", range.max},
                        {"replicas", image.replica_count(id)},
                        {"leaders", leaders[id]}});
    };
    const std::string feature(cluster::kWeirVersion);
    for (const auto& [id, node] : image.nodes()) {
        const auto range = node.info.features.find(feature);
        add(id, cluster::address_of(node.info.kafka.primary()), cluster::address_of(node.info.rpc),
            node.info.rack ? Json(*node.info.rack) : Json(), node.info.shards, node.state,
            range == node.info.features.end() ? cluster::FeatureRange{} : range->second);
    }
    if (image.nodes().empty()) {
        add(self_.id, self_.address, Json(), self_.rack ? Json(*self_.rack) : Json(),
            Shard::current().count(), NodeState::kActive,
            cluster::supported_features().find(feature)->second);
    }
    return {200, text_of(Json{{"cluster_id", image.cluster_id().to_string()},
                              {"controller", controller_.leader().v},
                              {"members", std::move(list)}})};
}

AdminReply AdminApi::features() const {
    const MetadataImage& image = controller_.image();
    Json list = Json::array();
    for (const auto& [name, range] : cluster::supported_features()) {
        Json levels = Json::array();
        for (const cluster::FeatureLevel& each : cluster::feature_levels()) {
            if (each.feature == name)
                levels.push_back({{"level", each.level}, {"what", each.what}});
        }
        list.push_back({{"feature", name},
                        {"finalized", image.feature_level(name)},
                        {"possible", cluster::highest_common_level(image, name)},
                        {"levels", std::move(levels)}});
    }
    return {200, text_of(list)};
}

Task<AdminReply> AdminApi::partitions(std::string query) {
    const auto topic = parameter(query, "topic");
    if (topic && controller_.image().find(*topic) == nullptr)
        co_return refuse(404, fmt::format("there is no topic '{}'", *topic));
    std::map<int32_t, std::vector<storage::LogId>> by_leader;
    for (const auto& [name, each] : controller_.image().topics()) {
        if (topic && name != *topic) continue;
        for (const auto& partition : each.partitions) {
            const cluster::LeaderState* known = controller_.local().leaders().find(partition.log);
            if (known != nullptr && !known->is_expected() && known->leader >= 0 &&
                link_.is_alive(known->leader))
                by_leader[known->leader].push_back(partition.log);
        }
    }
    const auto progress = co_await link_.progress().ask(std::move(by_leader),
                                                        Shard::current().now() + kProgressTimeout);
    co_return AdminReply{
        200, cluster::to_json(cluster::partition_rows(
                 controller_.image(), controller_.local().leaders(), view(),
                 topic ? std::optional<std::string_view>(*topic) : std::nullopt, progress))};
}

// ------------------------------------------------------------------ what can be done

Task<AdminReply> AdminApi::change(cluster::AdminCall call) {
    const std::vector<std::string> path = split(call.path, '/');
    const auto is = [&](size_t at, std::string_view word) {
        return at < path.size() && path[at] == word;
    };
    if (path.size() == 4 && is(1, "cluster") && is(2, "decommission")) {
        if (const auto node = number(path[3])) co_return co_await decommission(*node);
    }
    if (path.size() == 5 && is(1, "cluster") && is(2, "maintenance") &&
        (is(4, "on") || is(4, "off"))) {
        if (const auto node = number(path[3]))
            co_return reply_to(co_await cluster::set_node_state(
                controller_, *node, is(4, "on") ? NodeState::kDraining : NodeState::kActive,
                change_options()));
    }
    if (path.size() == 5 && is(1, "cluster") && is(2, "features")) {
        if (const auto level = number(path[4])) {
            std::vector<cluster::FeatureUpdate> updates;
            updates.push_back({.feature = path[3], .level = *level});
            co_return reply_to(co_await cluster::update_features(controller_, std::move(updates),
                                                                 false, change_options()));
        }
    }
    if (path.size() == 5 && is(1, "partitions")) {
        const auto partition = number(path[3]);
        if (partition && is(4, "move")) {
            std::vector<int32_t> replicas;
            for (const std::string& text :
                 split(parameter(call.query, "replicas").value_or(""), ',')) {
                const auto node = number(text);
                if (!node) co_return refuse(400, "replicas=1,2,3 lists node ids");
                replicas.push_back(*node);
            }
            if (replicas.empty()) co_return refuse(400, "replicas=1,2,3 is missing");
            co_return co_await move(path[2], *partition, std::move(replicas));
        }
        if (partition && is(4, "transfer-leader")) {
            const auto to = number(parameter(call.query, "to").value_or(""));
            if (!to) co_return refuse(400, "to=N is missing");
            co_return co_await transfer(path[2], static_cast<uint32_t>(*partition), *to);
        }
    }
    co_return refuse(404, "there is no such path");
}

Task<AdminReply> AdminApi::decommission(int32_t node) {
    AdminReply reply =
        reply_to(co_await cluster::decommission(controller_, node, change_options()));
    if (reply.status == 200) {
        reply.body =
            text_of(Json{{"node", node}, {"replicas", controller_.image().replica_count(node)}});
    }
    co_return reply;
}

Task<AdminReply> AdminApi::move(std::string topic, int32_t partition,
                                std::vector<int32_t> replicas) {
    std::vector<cluster::Reassignment> wanted;
    wanted.push_back({std::move(topic), partition, std::move(replicas)});
    const auto errors =
        co_await cluster::reassign(controller_, std::move(wanted), true, change_options());
    co_return reply_to(errors.front());
}

Task<AdminReply> AdminApi::transfer(std::string topic, uint32_t partition, int32_t to) {
    const cluster::TopicImage* found = controller_.image().find(topic);
    if (found == nullptr || partition >= found->partitions.size())
        co_return refuse(404, fmt::format("there is no partition {} of '{}'", partition, topic));
    const cluster::PartitionAssignment assignment = found->partitions[partition];
    if (std::ranges::find(assignment.replicas, to) == assignment.replicas.end())
        co_return refuse(400, fmt::format("node {} has no replica of the partition", to));
    const cluster::LeaderState* known = controller_.local().leaders().find(assignment.log);
    if (known == nullptr || known->is_expected() || known->leader < 0)
        co_return refuse(409, "the partition has no leader just now");
    if (known->leader == to) co_return AdminReply{200, "{}"};
    const auto done = co_await link_.transfers().transfer(
        assignment.log, known->leader, to, Shard::current().now() + kTransferTimeout);
    if (!done) co_return refuse(409, done.error().to_string());
    co_return AdminReply{200, "{}"};
}

}  // namespace weir::broker

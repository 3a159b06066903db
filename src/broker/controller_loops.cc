#include "broker/controller_loops.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "cluster/group_members.h"
#include "cluster/node_admin.h"
#include "cluster/placement.h"
#include "runtime/shard.h"

namespace weir::broker {

using cluster::MetadataImage;
using cluster::MetadataRecord;
using cluster::NodeState;
using runtime::Shard;
using runtime::Task;
using runtime::try_;

namespace {

constexpr Duration kMembersInterval = 250ms;
constexpr Duration kMovesInterval = 500ms;
constexpr Duration kLeadersInterval = 250ms;
// Leadership goes back to who is preferred: not so soon that a node that stumbles gets it each
// time. The longer one is Kafka's leader.imbalance.check.interval.seconds.
constexpr Duration kBalanceSoon = 5s;
constexpr Duration kBalanceInterval = 300s;
constexpr Duration kBalanceStep = 500ms;  // between the parts of one: 100 leaders a second
constexpr Duration kLockTimeout = 5s;
constexpr Duration kTransferTimeout = 3s;
// At the same time: moves of replicas, which copy data, and transfers of leadership.
constexpr size_t kMovesMax = 20;
constexpr size_t kTransfersMax = 50;

}  // namespace

void ControllerLoops::start() {
    if (link_.is_alone()) return;
    scope_.spawn(run_members(), runtime::WorkClass::kBackground);
    scope_.spawn(run_moves(), runtime::WorkClass::kBackground);
    scope_.spawn(run_leaders(), runtime::WorkClass::kBackground);
}

Task<void> ControllerLoops::close() { co_await scope_.close(); }

// ------------------------------------------------------------------ the controller's group

Task<void> ControllerLoops::run_members() {
    const runtime::StopToken stop = scope_.stop_token();
    while (co_await runtime::sleep_for(kMembersInterval, stop)) {
        if (!controller_.leads()) continue;
        const auto wanted =
            cluster::plan_group_members(controller_.image(), controller_.group()->configuration(),
                                        [this](int32_t node) { return link_.is_alive(node); });
        // Waits for new voters to catch up, and is asked again where it failed.
        if (wanted)
            (void)co_await controller_.group()->change_configuration(*wanted, {.stop = stop});
        if (!stop.stop_requested() && controller_.leads()) (void)co_await remove_empty_nodes();
    }
}

// Those that were decommissioned, hold nothing, and have left the group: a voter that is not in the
// image is then a founder that is yet to register.
Task<Result<void>> ControllerLoops::remove_empty_nodes() {
    const auto is_ready = [this](const cluster::NodeImage& node) {
        return node.state == NodeState::kDecommissioning &&
               controller_.image().replica_count(node.info.id) == 0 &&
               controller_.group()->configuration().find(NodeId{node.info.id}) == nullptr &&
               controller_.image().nodes().size() > 1;
    };
    if (std::ranges::none_of(controller_.image().nodes(),
                             [&](const auto& each) { return is_ready(each.second); }))
        co_return Result<void>{};
    const runtime::Units lock = co_await try_(controller_.lock(
        {.deadline = Shard::current().now() + kLockTimeout, .stop = scope_.stop_token()}));
    std::vector<MetadataRecord> records;
    for (const auto& [id, node] : controller_.image().nodes()) {
        if (!is_ready(node)) continue;
        auto planned = co_await try_(cluster::plan_removal(controller_.image(), id));
        for (MetadataRecord& record : planned) records.push_back(std::move(record));
        Shard::current().log().info("cluster", "a node is removed", "node={}", id);
    }
    if (records.empty()) co_return Result<void>{};
    co_return co_await controller_.commit(std::move(records));
}

// ------------------------------------------------------------------ moves

Task<void> ControllerLoops::run_moves() {
    while (co_await runtime::sleep_for(kMovesInterval, scope_.stop_token())) {
        if (controller_.leads()) (void)co_await move_away();
    }
}

Task<Result<void>> ControllerLoops::move_away() {
    const auto leaving_of = [](const MetadataImage& image) {
        std::set<int32_t> leaving;
        for (const auto& [id, node] : image.nodes()) {
            if (node.state == NodeState::kDecommissioning && image.replica_count(id) > 0)
                leaving.insert(id);
        }
        return leaving;
    };
    if (leaving_of(controller_.image()).empty()) co_return Result<void>{};
    const runtime::Units lock = co_await try_(controller_.lock(
        {.deadline = Shard::current().now() + kLockTimeout, .stop = scope_.stop_token()}));
    const MetadataImage& image = controller_.image();
    const std::set<int32_t> leaving = leaving_of(image);
    std::vector<cluster::PlacementNode> nodes = controller_.placement_nodes();
    // The placement is told of all partitions one by one.
    for (cluster::PlacementNode& node : nodes) node.replicas = node.leaders = 0;
    std::vector<cluster::PlacedPartition> partitions;
    std::vector<std::pair<Uuid, uint32_t>> places;
    size_t under_way = 0;
    for (const auto& [name, topic] : image.topics()) {
        for (size_t i = 0; i < topic.partitions.size(); ++i) {
            const cluster::PartitionAssignment& partition = topic.partitions[i];
            under_way += partition.is_moving() ? 1 : 0;
            partitions.push_back(
                {.replicas = partition.target.empty() ? partition.replicas : partition.target});
            places.emplace_back(topic.id, static_cast<uint32_t>(i));
        }
    }
    cluster::Placement placement(std::move(nodes), std::move(partitions),
                                 image.partition_count() + 1);
    const cluster::Evacuation evacuation = placement.plan_evacuation(leaving);
    std::vector<MetadataRecord> records;
    for (const cluster::Move& move : evacuation.moves) {
        if (under_way >= kMovesMax) break;
        const auto& [topic, index] = places[move.partition];
        // What is on its way already is seen through first, unless it goes to a leaving node that
        // is dead: that would never end. No other node of its target is let go by that.
        const std::vector<int32_t>& target = image.find(topic)->partitions[index].target;
        const bool is_stuck = std::ranges::any_of(
            target, [&](int32_t node) { return leaving.contains(node) && !link_.is_alive(node); });
        if (!target.empty() && !is_stuck) continue;
        auto planned =
            co_await try_(cluster::plan_reassignment(image, topic, index, move.replicas));
        for (MetadataRecord& record : planned) records.push_back(std::move(record));
        ++under_way;
    }
    if (records.empty()) co_return Result<void>{};
    co_return co_await controller_.commit(std::move(records));
}

// ------------------------------------------------------------------ leaders

bool ControllerLoops::can_lead(int32_t node) const {
    const cluster::NodeImage* known = controller_.image().find_node(node);
    return known != nullptr && known->state == NodeState::kActive && link_.is_alive(node);
}

ControllerLoops::Led ControllerLoops::led_partitions() const {
    Led led;
    const cluster::LeaderTable& leaders = controller_.local().leaders();
    for (const auto& [name, topic] : controller_.image().topics()) {
        for (const cluster::PartitionAssignment& partition : topic.partitions) {
            const cluster::LeaderState* known = leaders.find(partition.log);
            // While replicas move, who is preferred is not there yet.
            if (known == nullptr || known->is_expected() || partition.is_moving()) continue;
            led.partitions.push_back({.replicas = partition.replicas,
                                      .leader = known->leader,
                                      .in_sync = known->in_sync});
            led.logs.push_back(partition.log);
        }
    }
    return led;
}

// Soon after nodes or partitions came or went, and until that is settled; else seldom, so that what
// an administrator made leader is left alone for a while.
bool ControllerLoops::is_balance_due(Instant now) {
    std::vector<int32_t> can_lead_now;
    for (const auto& [id, node] : controller_.image().nodes()) {
        if (can_lead(id)) can_lead_now.push_back(id);
    }
    if (can_lead_now != could_lead_ || controller_.image().partition_count() != partitions_seen_) {
        could_lead_ = std::move(can_lead_now);
        partitions_seen_ = controller_.image().partition_count();
        changed_ = now;
    }
    const Duration pause = balancer_.is_active()                 ? kBalanceStep
                           : balanced_ < changed_ + kBalanceSoon ? kBalanceSoon
                                                                 : kBalanceInterval;
    return now >= balanced_ + pause;
}

Task<void> ControllerLoops::run_leaders() {
    balanced_ = Shard::current().now();
    while (co_await runtime::sleep_for(kLeadersInterval, scope_.stop_token())) {
        if (!controller_.leads()) continue;
        const auto can = [this](int32_t node) { return can_lead(node); };
        bool draining = false;
        std::vector<int32_t> nodes;
        for (const auto& [id, node] : controller_.image().nodes()) {
            if (node.state != NodeState::kActive) nodes.push_back(id);
        }
        for (const int32_t node : nodes) {
            const Led led = led_partitions();
            size_t stuck = 0;
            auto transfers =
                cluster::plan_leader_drain(led.partitions, node, can, kTransfersMax, &stuck);
            draining |= !transfers.empty();
            co_await transfer(std::move(transfers), led);
            if (scope_.stop_requested() || !controller_.leads()) break;
        }
        if (scope_.stop_requested() || !controller_.leads()) continue;
        if (!can_lead(link_.self()) && !nodes.empty()) co_await hand_over_controller();
        const Instant now = Shard::current().now();
        if (!is_balance_due(now) || draining) continue;
        balanced_ = now;
        const Led led = led_partitions();
        co_await transfer(balancer_.plan(led.partitions, can), led);
    }
}

Task<void> ControllerLoops::transfer(std::vector<cluster::LeaderTransfer> transfers,
                                     const Led& led) {
    std::vector<Task<bool>> tasks;
    for (const cluster::LeaderTransfer& each : transfers)
        tasks.push_back(transfer_one(led.logs[each.partition], each.from, each.to));
    if (!tasks.empty()) (void)co_await runtime::all(std::move(tasks));
}

Task<bool> ControllerLoops::transfer_one(storage::LogId log, int32_t from, int32_t to) {
    const auto done = co_await link_.transfers().transfer(
        log, from, to, Shard::current().now() + kTransferTimeout);
    if (!done) {
        Shard::current().log().debug("cluster", "a leader did not hand over",
                                     "log={} from={} to={} error=\"{}\"", log.v, from, to,
                                     done.error().to_string());
    }
    co_return done.has_value();
}

// This node is in maintenance, or about to leave.
Task<void> ControllerLoops::hand_over_controller() {
    for (const raft::Member& member : controller_.group()->configuration().members) {
        if (!member.voter || member.node.v == link_.self() || !can_lead(member.node.v)) continue;
        (void)co_await controller_.group()->transfer(member.node, {.stop = scope_.stop_token()});
        co_return;
    }
}

}  // namespace weir::broker

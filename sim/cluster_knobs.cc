#include "cluster_knobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/units.h"
#include "broker/budget.h"
#include "runtime/sim/world.h"

namespace weir::sim {

namespace {

constexpr Duration kStallMean = 2ms;  // that a node gets no processor, of each step

}  // namespace

std::string Knobs::to_string() const {
    return fmt::format(
        "knobs: nodes={}+{} shards<={} minority_only={} work={}ms fault_mean={}ms kills={} "
        "blackouts={} hunting={} pauses={} orderly={} busy_controller={} links={} full_disk={} "
        "clock_jumps={} "
        "rolling={} "
        "sick_disk={} "
        "lost_disk={} slow_disks={} secret={} strangers={}ms send_bytes={}\n"
        "  store: journal_file={} memory={} cache={} bypass={} offsets_partitions={}\n"
        "  clients: topics={}x{} relaxed={}{} idempotent={} plain={} weak={} readers={} "
        "members={} admin={} "
        "batch<={} pad<={} pause<={}us records<={}\n"
        "  operator: transfers={} moves={} replication_factors={} maintenance={} "
        "decommission={}\n",
        nodes, joiners, shards_max, minority_only, work_time.count() / 1'000'000,
        fault_mean.count() / 1'000'000, kills, blackouts, hunting, pauses, orderly, busy_controller,
        links, full_disk, clock_jumps, rolling, one_sick_disk, lost_disk, slow_disks,
        static_cast<int>(secret), strangers_mean.count() / 1'000'000, send_bytes,
        journal_file_bytes, memory_bytes, cache_bytes, bypass_bytes, offsets_partitions,
        clients.topics, clients.partitions, clients.relaxed_topics,
        clients.changing_durability ? " (changing)" : "", clients.idempotent_producers,
        clients.plain_producers, clients.weak_producers, clients.readers, clients.members,
        clients.admin, clients.batch_records_max, clients.pad_max, clients.pause_max.count() / 1000,
        clients.records_max, clients.operations.transfers, clients.operations.moves,
        clients.operations.replication_factors, clients.operations.maintenance,
        clients.operations.decommission);
}

Knobs draw_knobs(uint64_t seed, uint32_t nodes_wanted) {
    Prng prng(seed, "cluster knobs");
    Knobs knobs{};
    constexpr uint32_t kSizes[] = {1, 3, 3, 3, 3, 3, 5, 2, 4, 7};
    knobs.nodes = kSizes[prng.below(std::size(kSizes))];
    if (nodes_wanted > 0) knobs.nodes = nodes_wanted;
    knobs.shards_max = static_cast<uint32_t>(prng.between(1, knobs.nodes > 3 ? 2 : 4));
    knobs.minority_only = prng.chance(0.7);
    knobs.work_time = std::chrono::milliseconds(prng.between(1500, 12'000));
    knobs.fault_mean = std::chrono::milliseconds(prng.between(150, 2500));
    knobs.kills = prng.chance(0.7);
    knobs.pauses = prng.chance(0.35);
    knobs.orderly = prng.chance(0.35);
    knobs.links = prng.chance(0.6);
    knobs.full_disk = prng.chance(0.1);
    knobs.clock_jumps = prng.chance(0.3);
    knobs.rolling = prng.chance(0.2);
    knobs.one_sick_disk = prng.chance(0.4);
    knobs.offsets_partitions = static_cast<int32_t>(prng.between(1, 3));
    knobs.journal_file_bytes = uint64_t{64 << 10} << prng.below(3);
    knobs.memory_bytes = 1_MiB << prng.below(4);
    knobs.cache_bytes = uint64_t{64 << 10} << prng.below(5);
    knobs.bypass_bytes = uint64_t{4 << 10} << prng.below(7);
    ClientOptions& clients = knobs.clients;
    clients.seed = seed;
    clients.nodes = knobs.nodes;
    clients.topics = static_cast<uint32_t>(prng.between(1, 2));
    clients.partitions = static_cast<uint32_t>(prng.between(1, 4));
    clients.idempotent_producers = static_cast<uint32_t>(prng.between(1, 3));
    clients.plain_producers = static_cast<uint32_t>(prng.below(3));
    clients.weak_producers = static_cast<uint32_t>(prng.below(2));
    clients.readers = static_cast<uint32_t>(prng.between(1, 2));
    clients.members = prng.chance(0.5) ? static_cast<uint32_t>(prng.between(1, 3)) : 0;
    clients.admin = prng.chance(0.5);
    clients.batch_records_max = static_cast<uint32_t>(prng.between(1, 8));
    clients.pad_max = static_cast<uint32_t>(prng.below(4) == 0 ? 8000 : prng.below(300));
    clients.pause_max = std::chrono::milliseconds(prng.below(120));
    clients.request_timeout = std::chrono::milliseconds(prng.between(1500, 4000));
    clients.records_max = clients.pad_max > 1000 ? 800 : 2500;
    Prng changes(seed, "changes of the cluster");
    if (knobs.nodes > 1 && knobs.nodes < 7 && changes.chance(0.5))
        knobs.joiners = static_cast<uint32_t>(changes.between(1, 2));
    Operations& operations = clients.operations;
    operations.transfers = changes.chance(0.5);
    operations.moves = changes.chance(0.5);
    operations.maintenance = changes.chance(0.35);
    operations.decommission = changes.chance(0.35);
    // Of less than three replicas none can be lost.
    knobs.lost_disk = knobs.nodes >= 3 && knobs.minority_only && changes.chance(0.2);
    operations.replication_factors = !knobs.lost_disk && changes.chance(0.5);
    Prng windows(seed, "windows");
    knobs.blackouts = knobs.kills && !knobs.minority_only && windows.chance(0.5);
    knobs.hunting = windows.chance(0.3);
    knobs.slow_disks = windows.chance(0.25);
    knobs.send_bytes = windows.chance(0.7) ? raft::Options{}.send_bytes_max
                                           : uint64_t{1} << (4 * windows.below(4));
    // Most orderly stops meet the controller within a request of several items.
    knobs.busy_controller = knobs.orderly && knobs.nodes > 1 && windows.chance(0.4);
    if (knobs.busy_controller) {
        clients.admin = true;
        clients.admin_pause_max = std::chrono::milliseconds(200);
    }
    // Where a majority may forget, all replicas must come back: none loses its disk for good.
    if (windows.chance(0.35) && !knobs.lost_disk) {
        clients.relaxed_topics = static_cast<uint32_t>(windows.between(1, clients.topics));
        clients.changing_durability = windows.chance(0.3);
        if (windows.chance(0.4)) {
            knobs.kills = knobs.blackouts = true;
            knobs.minority_only = false;
        }
        knobs.slow_disks = windows.chance(0.5);
    }
    Prng hostile(seed, "hostile peers");
    const uint64_t secret = hostile.below(6);
    knobs.secret = secret < 2   ? Knobs::Secret::kNone
                   : secret < 5 ? Knobs::Secret::kAll
                                : Knobs::Secret::kSome;
    if (knobs.nodes > 1 && hostile.chance(0.5))
        knobs.strangers_mean = std::chrono::milliseconds(hostile.between(30, 600));
    return knobs;
}

Plan plan_of(uint64_t seed) {
    Plan plan = draw_plan(seed);
    plan.disk.capacity_bytes = kDiskBytes;
    // The run kills nodes itself.
    plan.crash = {};
    // Of a connection's byte-wise segments and of a clock that takes a third of a millisecond to be
    // read a cluster only gets slow; the lower floors have runs of their own for both.
    plan.net.chunk_bytes_max = std::max<uint64_t>(plan.net.chunk_bytes_max, 2048);
    plan.net.buffer_bytes_max = std::max<uint64_t>(plan.net.buffer_bytes_max, 16 << 10);
    plan.schedule.clock_read_cost = std::min<Duration>(plan.schedule.clock_read_cost, 5us);
    // Elections need a network that is faster than their time-outs, most of the time.
    plan.net.delay_min = std::min<Duration>(plan.net.delay_min, 1ms);
    plan.net.delay_mean = std::min<Duration>(plan.net.delay_mean, 5ms);
    plan.net.stall_max = std::min<Duration>(plan.net.stall_max, 5s);
    plan.net.connect_timeout = 2s;
    plan.net.unacknowledged_max = 10s;
    plan.disk.stall_max = std::min<Duration>(plan.disk.stall_max, 2s);
    plan.disk.sync_mean = std::min<Duration>(plan.disk.sync_mean, 5ms);
    plan.clock.drift_max = std::min(plan.clock.drift_max, 0.02);
    // ... and from processors that they get (seed 24708).
    if (plan.schedule.stall_chance > 0) {
        plan.schedule.stall_max = std::min<Duration>(
            plan.schedule.stall_max,
            Duration(static_cast<int64_t>(static_cast<double>(kStallMean.count()) * 2 /
                                          plan.schedule.stall_chance)));
    }
    return plan;
}
std::string host(uint32_t index) { return fmt::format("n{}", index); }

ClientOptions with_addresses(ClientOptions options, uint32_t nodes) {
    for (uint32_t i = 0; i < nodes; ++i) {
        options.bootstrap.push_back(host(i) + ":9092");
        options.admin_addresses.push_back(host(i) + ":9644");
    }
    return options;
}

std::shared_ptr<const rpc::Credentials> cluster_secret(bool required) {
    auto secret = rpc::ClusterSecret::parse("the secret of the simulated cluster");
    CHECK(secret);
    return std::make_shared<rpc::ClusterSecret>(std::move(*secret), required);
}

broker::BrokerOptions broker_options(const Knobs& knobs, const ClusterBugs& bugs, uint32_t index) {
    cluster::ConfigMap flags{
        {"data", "/data"},
        {"kafka", host(index) + ":9092"},
        {"admin", host(index) + ":9644"},
        {"num.partitions", "1"},
        {"offsets.topic.num.partitions", std::to_string(knobs.offsets_partitions)},
        {"group.initial.rebalance.delay.ms", "100"},
        // Wall clocks jump by days here: what forgets by wall time must not.
        {"log.retention.ms", "-1"},
        {"log.message.timestamp.after.max.ms", "9223372036854775807"},
        {"producer.id.expiration.ms", "2147483647"},
        {"offsets.retention.minutes", "2147483647"},
    };
    const bool has_secret =
        knobs.secret == Knobs::Secret::kAll || (knobs.secret == Knobs::Secret::kSome && index % 2);
    if (knobs.nodes > 1) {
        flags[has_secret ? "cluster.secret.file" : "insecure"] = has_secret ? "/secret" : "true";
        if (knobs.secret == Knobs::Secret::kSome && has_secret)
            flags["cluster.secret.optional"] = "true";
        flags["rpc"] = host(index) + ":9700";
        std::string seeds;
        for (uint32_t i = 0; i < knobs.nodes; ++i)
            seeds += fmt::format("{}{}:9700", i == 0 ? "" : ",", host(i));
        flags["seeds"] = seeds;
    }
    auto made = broker::make_options({}, std::move(flags), 1_GiB);
    CHECK(made);
    broker::BrokerOptions options = std::move(*made);
    options.memory = knobs.memory_bytes;
    options.journal_file_bytes = knobs.journal_file_bytes;
    options.journal_bytes = knobs.journal_file_bytes * 6;
    options.adjust_store = [&knobs, &bugs](storage::StoreOptions& store) {
        store.journal_first_file_bytes = knobs.journal_file_bytes;
        // No fault of the plan damages a journal: one that is damaged shows a bug.
        store.go_on = false;
        store.cache_bytes_max = std::min(store.cache_bytes_max, knobs.cache_bytes);
        store.bypass_bytes_min = knobs.bypass_bytes;
        store.bugs = bugs.storage;
    };
    options.adjust_raft = [&knobs, &bugs](raft::Options& raft) {
        // As in a node of a size that there is: an append fits into what its receiver has for it
        // twice (broker/budget_test.cc).
        raft.send_bytes_max =
            std::min(knobs.send_bytes, broker::divide(knobs.memory_bytes, 1).received / 2);
        raft.bugs = bugs.raft;
    };
    options.server_bugs = bugs.server;
    options.rpc_bugs = bugs.rpc;
    if (has_secret) options.credentials = cluster_secret(knobs.secret == Knobs::Secret::kAll);
    return options;
}

}  // namespace weir::sim

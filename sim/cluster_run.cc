#include "cluster_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/units.h"
#include "broker/broker.h"
#include "cluster_clients.h"
#include "cluster_history.h"
#include "cluster_watch.h"
#include "runtime/remote.h"
#include "runtime/sim/world.h"
#include "runtime/wait.h"

namespace weir::sim {

namespace {

constexpr Duration kServeMax = 120s;  // from the start until the topics are there, under faults
constexpr Duration kFoundingFaultsMax = 60s;
constexpr Duration kHealMax = 240s;   // from the healing until everything is finished
constexpr Duration kStopMax = 60s;    // for a node that is asked to stop
constexpr Duration kAlikeMax = 120s;  // ... until the replicas are alike, and no others are there
constexpr Duration kLookEvery = 50ms;
constexpr Duration kStallMean = 2ms;  // that a node gets no processor, of each step
constexpr Duration kSlowSyncMin = 3ms;
constexpr Duration kSlowSyncMax = 100ms;
constexpr Duration kHuntMax = 900ms;  // an election and a moment
constexpr uint64_t kDiskBytes = uint64_t{1} << 30;

// What is drawn for the whole run besides the plan of faults.
struct Knobs {
    uint32_t nodes;    // that found the cluster
    uint32_t joiners;  // that come later
    uint32_t shards_max;
    bool minority_only;  // no majority is down or cut off at a time
    Duration work_time;  // under faults
    Duration fault_mean;
    // Classes of faults that are on.
    bool kills, pauses, orderly, links, full_disk, clock_jumps, rolling;
    bool blackouts;       // kills of most nodes at once
    bool hunting;         // most faults strike leaders, one soon after the other
    bool lost_disk;       // one node's, once
    bool one_sick_disk;   // the plan's disk errors strike one node; else none
    bool slow_disks;      // some machines' disks take long to flush
    uint64_t send_bytes;  // of one append between replicas
    int32_t offsets_partitions;
    uint64_t journal_file_bytes;
    uint64_t unflushed_bytes;
    uint64_t cache_bytes;
    uint64_t bypass_bytes;
    ClientOptions clients;

    std::string to_string() const {
        return fmt::format(
            "knobs: nodes={}+{} shards<={} minority_only={} work={}ms fault_mean={}ms kills={} "
            "blackouts={} hunting={} pauses={} orderly={} links={} full_disk={} clock_jumps={} "
            "rolling={} "
            "sick_disk={} "
            "lost_disk={} slow_disks={} send_bytes={}\n"
            "  store: journal_file={} unflushed={} cache={} bypass={} offsets_partitions={}\n"
            "  clients: topics={}x{} relaxed={}{} idempotent={} plain={} weak={} readers={} "
            "members={} admin={} "
            "batch<={} pad<={} pause<={}us records<={}\n"
            "  operator: transfers={} moves={} replication_factors={} maintenance={} "
            "decommission={}\n",
            nodes, joiners, shards_max, minority_only, work_time.count() / 1'000'000,
            fault_mean.count() / 1'000'000, kills, blackouts, hunting, pauses, orderly, links,
            full_disk, clock_jumps, rolling, one_sick_disk, lost_disk, slow_disks, send_bytes,
            journal_file_bytes, unflushed_bytes, cache_bytes, bypass_bytes, offsets_partitions,
            clients.topics, clients.partitions, clients.relaxed_topics,
            clients.changing_durability ? " (changing)" : "", clients.idempotent_producers,
            clients.plain_producers, clients.weak_producers, clients.readers, clients.members,
            clients.admin, clients.batch_records_max, clients.pad_max,
            clients.pause_max.count() / 1000, clients.records_max, clients.operations.transfers,
            clients.operations.moves, clients.operations.replication_factors,
            clients.operations.maintenance, clients.operations.decommission);
    }
};

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
    knobs.unflushed_bytes = uint64_t{128 << 10} << prng.below(4);
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

// One entry of a replica's log, as far as two replicas must be alike.
struct SeenEntry {
    storage::Position first;
    int32_t term;
    uint32_t crc;
    bool operator==(const SeenEntry&) const = default;
};

struct SeenReplica {
    std::string what;
    int64_t start = 0;
    int64_t high_watermark = 0;
    int64_t end = 0;
    std::vector<SeenEntry> entries;  // below the high watermark
    std::vector<std::tuple<int64_t, int16_t, int32_t>> producers;
};

class ClusterRun {
  public:
    explicit ClusterRun(const ClusterRunOptions& options);
    ~ClusterRun();
    ClusterRunResult run();

  private:
    struct Machine {
        uint32_t index = 0;
        int32_t id = -1;  // that its cluster gave it
        Node* node = nullptr;
        // Of the present life.
        broker::Broker* broker = nullptr;   // while it serves
        broker::Broker* opening = nullptr;  // from its start to its end
        bool serving = false;
        bool stop = false;
        bool fatal = false;
        std::optional<std::function<Task<void>(broker::Broker&)>> job;
        // What the nemesis did to it.
        bool held_down = false;  // it restarts it later
        bool cut = false;
        uint64_t isolation = 0;  // which one, while no other machine can be asked anything
        bool sick = false;       // errors of its disk have a reason
        std::optional<DiskFaults> sick_disk;
        bool was_full = false;
        Instant has_room_since{-1};  // since it was full last
        bool full = false;
        // It left the cluster, or its disk broke: it comes again as another node.
        bool wipe = false;
        uint64_t failed_starts = 0;
        std::string last_error;
    };

    // --- the world's side
    void start(Machine& machine);
    void kill(Machine& machine, Kill how);
    void reap_finished();
    void strike();
    void next_strike();
    bool may_take_down(const Machine& machine) const;
    // A cluster that is being founded comes to be there under fewer faults.
    bool hunting() const { return knobs_.hunting && clients_.serving(); }
    Machine& pick();
    void take_down(Machine& machine, Kill how);
    void black_out();
    void restart_in_order(Machine& machine);
    void roll(size_t next);
    void cut_links();
    void lose_disk();
    void give_up(const std::string& address);
    bool may_have_left(const Machine& machine) const;
    void heal();
    void look();
    void next_look();
    void forget(const Machine& machine);
    bool wait(const std::function<bool()>& done, Duration budget, std::string_view what);
    void compare_replicas();
    uint64_t life_of(int32_t node) const {
        for (const auto& machine : machines_)
            if (machine->id == node) return machine->node->lives();
        return 0;
    }
    uint64_t isolation_of(int32_t node) const {
        for (const auto& machine : machines_)
            if (machine->id == node) return machine->isolation;
        return 0;
    }
    void end_isolations() {
        for (auto& machine : machines_) machine->isolation = 0;
    }
    bool gather(std::map<uint64_t, std::map<uint32_t, SeenReplica>>* replicas);
    void stop_all();
    std::string state() const;
    void note_replicas();
    Duration draw(Duration low, Duration high) {
        return Duration(static_cast<int64_t>(prng_.between(static_cast<uint64_t>(low.count()),
                                                           static_cast<uint64_t>(high.count()))));
    }
    void note(const std::string& text) {
        if (options_.note_sink)
            options_.note_sink(fmt::format("{:>12}us {}", world_.now().ns / 1000, text));
    }
    void fail(const std::string& text) {
        if (!failure_.empty()) return;
        failure_ = fmt::format("at {}us: {}", world_.now().ns / 1000, text);
        note("FAILURE " + text);
    }

    // --- the nodes' side
    static Task<void> node_main(ClusterRun* run, Machine* machine, Shard* shard);
    static Task<void> watch_stop(Machine* machine, runtime::StopSource* source,
                                 runtime::StopToken over);
    static Task<void> client_main(ClusterRun* run, Shard* shard);
    static Task<void> look(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker);
    static Task<void> look_here(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker);
    broker::BrokerOptions options_of(const Machine& machine) const;
    ClientOptions client_options();

    ClusterRunOptions options_;
    Knobs knobs_;
    ClusterRunResult result_;
    std::string failure_;
    World world_;
    std::vector<std::unique_ptr<Machine>> machines_;
    Node* client_node_ = nullptr;
    Prng prng_;
    ClusterHistory history_;
    ClusterClients clients_;
    ClusterWatch watch_;
    bool striking_ = false;
    bool healed_ = false;
    bool rolling_ = false;
    uint64_t isolations_ = 0;  // so far
    bool disk_lost_ = false;
};

std::string host(uint32_t index) { return fmt::format("n{}", index); }

ClientOptions with_addresses(ClientOptions options, uint32_t nodes) {
    for (uint32_t i = 0; i < nodes; ++i) {
        options.bootstrap.push_back(host(i) + ":9092");
        options.admin_addresses.push_back(host(i) + ":9644");
    }
    return options;
}

ClientOptions ClusterRun::client_options() {
    ClientOptions options = with_addresses(knobs_.clients, knobs_.nodes + knobs_.joiners);
    options.life_of = [this](int32_t node) { return life_of(node); };
    options.isolation_of = [this](int32_t node) { return isolation_of(node); };
    options.node_left = [this](const std::string& address) {
        world_.schedule(0ns, [this, address] { give_up(address); });
    };
    return options;
}

ClusterRun::ClusterRun(const ClusterRunOptions& options)
    : options_(options),
      knobs_(draw_knobs(options.seed, options.nodes)),
      world_({.plan = plan_of(options.seed),
              .log_sink = options.log_sink,
              .log_level = options.log_level,
              .trace_sink = options.trace_sink}),
      prng_(world_.prng("nemesis")),
      history_([this](const std::string& broken) { fail(broken); }),
      clients_(client_options(), history_, [this](const std::string& broken) { fail(broken); }),
      watch_(history_, [this](const std::string& broken) { fail(broken); }) {
    note(world_.plan().to_string());
    note(knobs_.to_string());
    for (uint32_t i = 0; i < knobs_.nodes + knobs_.joiners; ++i) {
        machines_.push_back(std::make_unique<Machine>());
        Machine& machine = *machines_.back();
        machine.index = i;
        machine.node = &world_.add_node({.name = host(i), .shards = 1});
    }
    client_node_ = &world_.add_node({.name = "clients", .shards = 1});
    const size_t sick = prng_.below(knobs_.nodes);
    for (auto& machine : machines_) {
        DiskFaults& disk = machine->node->disk_faults();
        machine->sick = knobs_.one_sick_disk && machine->index == sick &&
                        (disk.read_error_chance > 0 || disk.write_error_chance > 0 ||
                         disk.sync_error_chance > 0 || disk.metadata_error_chance > 0 ||
                         disk.metadata_full_chance > 0);
        // From when the cluster is there.
        if (machine->sick) machine->sick_disk = disk;
        disk.read_error_chance = disk.write_error_chance = disk.sync_error_chance = 0;
        disk.metadata_error_chance = disk.metadata_full_chance = 0;
        if (knobs_.slow_disks && prng_.chance(0.6))
            disk.sync_mean = draw(kSlowSyncMin, kSlowSyncMax);
    }
    DiskFaults& none = client_node_->disk_faults();
    none = {};
}

ClusterRun::~ClusterRun() {
    for (auto& machine : machines_) {
        if (machine->node->running()) kill(*machine, Kill::kProcess);
    }
    if (client_node_->running()) world_.kill(*client_node_, Kill::kProcess);
}

broker::BrokerOptions ClusterRun::options_of(const Machine& machine) const {
    cluster::ConfigMap flags{
        {"data", "/data"},
        {"kafka", host(machine.index) + ":9092"},
        {"admin", host(machine.index) + ":9644"},
        {"memory", "64MiB"},
        {"num.partitions", "1"},
        {"offsets.topic.num.partitions", std::to_string(knobs_.offsets_partitions)},
        {"group.initial.rebalance.delay.ms", "100"},
        // Wall clocks jump by days here: what forgets by wall time must not.
        {"log.retention.ms", "-1"},
        {"log.message.timestamp.after.max.ms", "9223372036854775807"},
        {"producer.id.expiration.ms", "2147483647"},
        {"offsets.retention.minutes", "2147483647"},
    };
    if (knobs_.nodes > 1) {
        flags["rpc"] = host(machine.index) + ":9700";
        std::string seeds;
        for (uint32_t i = 0; i < knobs_.nodes; ++i)
            seeds += fmt::format("{}{}:9700", i == 0 ? "" : ",", host(i));
        flags["seeds"] = seeds;
    }
    auto made = broker::make_options({}, std::move(flags), 1_GiB);
    CHECK(made);
    broker::BrokerOptions options = std::move(*made);
    options.journal_file_bytes = knobs_.journal_file_bytes;
    options.journal_bytes = knobs_.journal_file_bytes * 6;
    options.adjust_store = [this](storage::StoreOptions& store) {
        store.journal_first_file_bytes = knobs_.journal_file_bytes;
        store.unflushed_bytes_max = knobs_.unflushed_bytes;
        store.cache_bytes_max = knobs_.cache_bytes;
        store.bypass_bytes_min = knobs_.bypass_bytes;
        store.bugs = options_.bugs.storage;
    };
    options.adjust_raft = [this](raft::Options& raft) {
        raft.send_bytes_max = knobs_.send_bytes;
        raft.bugs = options_.bugs.raft;
    };
    options.server_bugs = options_.bugs.server;
    return options;
}

// ---------------------------------------------------------------- nodes

// A node may wait for the others until somebody ends it.
Task<void> ClusterRun::watch_stop(Machine* machine, runtime::StopSource* source,
                                  runtime::StopToken over) {
    while (!machine->stop && co_await runtime::sleep_for(20ms, over)) {
    }
    if (machine->stop) source->request_stop();
}

Task<void> ClusterRun::node_main(ClusterRun* run, Machine* machine, Shard* shard) {
    if (shard->id() != 0) co_return;
    runtime::StopSource stop_starting;
    auto broker = std::make_unique<broker::Broker>(
        run->options_of(*machine), broker::BuildInfo{.version = "sim", .driver = "sim"},
        [run, machine, &stop_starting](const Error& error) {
            machine->fatal = true;
            stop_starting.request_stop();
            if (!machine->sick && !machine->full)
                run->fail(fmt::format("n{} stops without a reason: {}", machine->index,
                                      error.to_string()));
        });
    Scope watch;
    watch.spawn(watch_stop(machine, &stop_starting, watch.stop_token()));
    machine->opening = broker.get();
    const Instant began = shard->now();
    const Result<void> started = co_await broker->start(stop_starting.token());
    co_await watch.close();
    if (started) {
        machine->broker = broker.get();
        machine->serving = true;
        machine->id = broker->node_id();
        while (!machine->stop && !machine->fatal) {
            if (machine->job) {
                co_await (*machine->job)(*broker);
                machine->job.reset();
            }
            (void)co_await runtime::sleep_for(10ms);
        }
    } else {
        ++machine->failed_starts;
        machine->last_error = started.error().to_string();
        run->note(fmt::format("n{} does not start: {}", machine->index, machine->last_error));
        const bool was_removed =
            started.error().code == ErrorCode::kInvalidArgument && run->may_have_left(*machine);
        const bool met_full_disk = machine->full || machine->has_room_since >= began;
        if (!machine->sick && !met_full_disk && !machine->fatal && !machine->stop && !was_removed)
            run->fail(
                fmt::format("n{} does not start: {}", machine->index, started.error().to_string()));
    }
    machine->broker = nullptr;
    machine->opening = nullptr;
    machine->serving = false;
    machine->job.reset();
    co_await broker->stop();
}

Task<void> ClusterRun::client_main(ClusterRun* run, Shard* shard) {
    if (shard->id() == 0) co_await ClusterClients::run(&run->clients_);
}

void ClusterRun::start(Machine& machine) {
    machine.stop = machine.fatal = machine.serving = false;
    if (machine.wipe) {
        note(fmt::format("n{}'s disk is empty", machine.index));
        world_.wipe_disk(*machine.node);
        watch_.left(machine.id);
        machine.wipe = false;
        machine.id = -1;
        ++result_.seen.joined;
    }
    const auto shards = static_cast<uint32_t>(prng_.between(1, knobs_.shards_max));
    machine.node->set_shard_count(shards);
    note(fmt::format("n{} starts on {} shards", machine.index, shards));
    world_.start(*machine.node,
                 [this, &machine](Shard& shard) { return node_main(this, &machine, &shard); });
}

void ClusterRun::kill(Machine& machine, Kill how) {
    forget(machine);
    machine.broker = nullptr;
    machine.opening = nullptr;
    machine.serving = false;
    machine.job.reset();
    world_.kill(*machine.node, how);
}

// A node that ended by itself comes again, as a supervisor would have it.
void ClusterRun::reap_finished() {
    for (auto& each : machines_) {
        Machine& machine = *each;
        if (!machine.node->running() || !machine.node->finished() || machine.held_down) continue;
        world_.reap(*machine.node);
        note(
            fmt::format("n{} ended{}", machine.index, machine.fatal ? " after a fatal error" : ""));
        if (!machine.stop) ++result_.seen.failed_lives;
        // Whoever cannot write does not stop in good order.
        if (!machine.stop || machine.fatal || machine.sick || machine.full) forget(machine);
        machine.held_down = true;
        world_.schedule(draw(10ms, 1500ms), [this, &machine] {
            machine.held_down = false;
            if (!machine.node->running()) start(machine);
        });
    }
}

// ---------------------------------------------------------------- the nemesis

// With this one away, is there still a majority that is up and not cut off?
bool ClusterRun::may_take_down(const Machine& machine) const {
    if (!knobs_.minority_only || machines_.size() == 1) return true;
    size_t away = 1;
    size_t all = 0;
    for (const auto& other : machines_) {
        if (other->index >= knobs_.nodes && other->node->lives() == 0) continue;
        ++all;
        if (other.get() != &machine && (!other->node->running() || other->cut || other->sick ||
                                        other->full || other->node->paused()))
            ++away;
    }
    return away * 2 < all;
}

ClusterRun::Machine& ClusterRun::pick() {
    if (hunting() && prng_.chance(0.7)) {
        look();
        const std::vector<int32_t>& leaders = watch_.leaders();
        if (!leaders.empty()) {
            const int32_t leader = leaders[prng_.below(leaders.size())];
            for (auto& machine : machines_)
                if (machine->id == leader) return *machine;
        }
    }
    return *machines_[prng_.below(machines_.size())];
}

void ClusterRun::next_strike() {
    const auto mean = static_cast<double>(knobs_.fault_mean.count());
    world_.schedule(Duration(static_cast<int64_t>(prng_.exponential(mean)) + 1'000'000), [this] {
        if (healed_) return;
        if (striking_) strike();
        if (striking_ && hunting() && prng_.chance(0.5))
            world_.schedule(draw(0ns, kHuntMax), [this] {
                if (striking_) strike();
            });
        next_strike();
    });
}

void ClusterRun::strike() {
    if (knobs_.lost_disk && !disk_lost_ && prng_.chance(0.1)) {
        lose_disk();
        return;
    }
    Machine& machine = pick();
    const bool up = machine.node->running() && !machine.node->finished() && !machine.held_down &&
                    !machine.node->paused() && !machine.stop;
    switch (prng_.below(7)) {
        case 0:
        case 1: {
            if (!knobs_.kills || !up || rolling_ || !may_take_down(machine)) return;
            const Kill how = prng_.chance(0.5) ? Kill::kPower : Kill::kProcess;
            if (knobs_.blackouts && clients_.serving() && prng_.chance(0.3))
                black_out();
            else
                take_down(machine, how);
            return;
        }
        case 2: {
            if (!knobs_.pauses || !up || !may_take_down(machine)) return;
            note(fmt::format("n{} is paused", machine.index));
            ++result_.seen.pauses;
            world_.pause(*machine.node);
            world_.schedule(draw(20ms, 3s), [this, &machine] {
                if (machine.node->running() && machine.node->paused()) {
                    note(fmt::format("n{} is resumed", machine.index));
                    world_.resume(*machine.node);
                }
            });
            return;
        }
        case 3:
            if (knobs_.rolling && !rolling_ && prng_.chance(0.3)) {
                roll(0);
                return;
            }
            if (!knobs_.orderly || rolling_ || !up || !may_take_down(machine)) return;
            restart_in_order(machine);
            return;
        case 4:
        case 5:
            if (knobs_.links) cut_links();
            return;
        default:
            if (knobs_.clock_jumps && up && prng_.chance(0.7)) {
                ++result_.seen.clock_jumps;
                const Duration by = draw(1ms, 3h) * (prng_.chance(0.5) ? 1 : -1);
                note(fmt::format("n{}'s wall clock jumps by {} ms", machine.index,
                                 by.count() / 1'000'000));
                world_.jump_wall_clock(*machine.node, by);
                return;
            }
            if (!knobs_.full_disk || machine.full || !may_take_down(machine)) return;
            note(fmt::format("n{}'s disk is full", machine.index));
            ++result_.seen.full_disks;
            machine.full = machine.was_full = true;
            machine.node->disk().set_capacity(0);
            world_.schedule(draw(100ms, 3s), [this, &machine] {
                note(fmt::format("n{}'s disk has room", machine.index));
                machine.node->disk().set_capacity(kDiskBytes);
                machine.full = false;
                machine.has_room_since = world_.now();
            });
    }
}

void ClusterRun::take_down(Machine& machine, Kill how) {
    note(fmt::format("n{} is killed{}{}", machine.index,
                     how == Kill::kPower ? ", with its power" : "",
                     machine.serving ? "" : ", while it starts"));
    ++(how == Kill::kPower ? result_.seen.power_cuts : result_.seen.kills);
    kill(machine, how);
    machine.held_down = true;
    world_.schedule(prng_.chance(0.5) ? draw(5ms, 300ms) : draw(300ms, 4s), [this, &machine] {
        machine.held_down = false;
        if (!machine.node->running()) start(machine);
    });
}

// The power of a rack, or one mistake on all machines.
void ClusterRun::black_out() {
    ++result_.seen.blackouts;
    const Kill how = prng_.chance(0.7) ? Kill::kPower : Kill::kProcess;
    for (auto& machine : machines_) {
        if (machine->node->running() && !machine->node->finished() && !machine->held_down &&
            prng_.chance(0.85))
            take_down(*machine, how);
    }
}

void ClusterRun::restart_in_order(Machine& machine) {
    note(fmt::format("n{} is asked to stop", machine.index));
    ++result_.seen.orderly_restarts;
    machine.stop = true;
}

// One after the other, each when the one before serves again.
void ClusterRun::roll(size_t next) {
    rolling_ = next < machines_.size() && !healed_;
    if (!rolling_) return;
    Machine& machine = *machines_[next];
    const bool calm = std::ranges::all_of(
        machines_, [](const auto& m) { return m->serving && !m->node->paused(); });
    if (!calm) {
        world_.schedule(200ms, [this, next] { roll(next); });
        return;
    }
    restart_in_order(machine);
    world_.schedule(500ms, [this, next] { roll(next + 1); });
}

void ClusterRun::cut_links() {
    Machine& machine = pick();
    if (machine.cut || !may_take_down(machine)) return;
    const bool one_way = prng_.chance(0.4);
    const bool inbound = prng_.chance(0.5);
    const bool clients_too = prng_.chance(0.4);
    // From all others, or from some of them alone.
    std::vector<Node*> others;
    for (auto& other : machines_) {
        if (other.get() != &machine && prng_.chance(0.8)) others.push_back(other->node);
    }
    const bool from_all = others.size() + 1 == machines_.size();
    if (clients_too || others.empty()) others.push_back(client_node_);
    note(fmt::format("n{} is cut off from {} nodes{}{}", machine.index, others.size(),
                     clients_too ? ", the clients' among them" : "",
                     one_way ? (inbound ? ", inbound" : ", outbound") : ""));
    ++(one_way ? result_.seen.partitions_one_way : result_.seen.partitions_two_way);
    machine.cut = true;
    for (Node* other : others) {
        if (!one_way || inbound) world_.cut_link(*other, *machine.node);
        if (!one_way || !inbound) world_.cut_link(*machine.node, *other);
    }
    if (from_all) machine.isolation = ++isolations_;
    world_.schedule(draw(50ms, 5s), [this, &machine, others] {
        if (healed_) return;
        note(fmt::format("n{} is back in the network", machine.index));
        machine.cut = false;
        end_isolations();  // a link may have been cut twice
        for (Node* other : others) {
            world_.heal_link(*other, *machine.node);
            world_.heal_link(*machine.node, *other);
        }
    });
}

// With all that it held: its node never comes back.
void ClusterRun::lose_disk() {
    Machine& machine = pick();
    // All that is there has three replicas, and the others are well.
    const bool calm = std::ranges::all_of(machines_, [](const auto& m) { return !m->sick; });
    if (disk_lost_ || !calm || machine.id < 0 || machine.held_down || machine.wipe ||
        !machine.node->running() || machine.node->finished() || rolling_ || !may_take_down(machine))
        return;
    disk_lost_ = true;
    note(fmt::format("n{} loses its disk", machine.index));
    ++result_.seen.lost_disks;
    kill(machine, Kill::kPower);
    machine.wipe = true;
    machine.held_down = true;
    clients_.node_lost(machine.id);
    world_.schedule(draw(100ms, 4s), [this, &machine] {
        machine.held_down = false;
        if (!machine.node->running()) start(machine);
    });
}

// The cluster knows it no more. Its machine joins as a new node.
void ClusterRun::give_up(const std::string& address) {
    const auto found = std::ranges::find(machines_, address,
                                         [](const auto& m) { return host(m->index) + ":9092"; });
    CHECK(found != machines_.end());
    Machine& machine = **found;
    note(fmt::format("n{} has left the cluster", machine.index));
    machine.wipe = true;
    if (!machine.node->running() || machine.node->finished()) return;
    if (machine.node->paused()) world_.resume(*machine.node);
    if (prng_.chance(0.5) && !machine.held_down) {
        restart_in_order(machine);
        return;
    }
    kill(machine, Kill::kProcess);
    if (std::exchange(machine.held_down, true)) return;
    world_.schedule(draw(10ms, 3s), [this, &machine] {
        machine.held_down = false;
        if (!machine.node->running()) start(machine);
    });
}

// One that was removed before it heard that it had been taken in knows no id of its own.
bool ClusterRun::may_have_left(const Machine& machine) const {
    if (machine.id >= 0) return clients_.may_have_left(machine.id);
    return machine.wipe || clients_.may_be_leaving(host(machine.index) + ":9092");
}

void ClusterRun::heal() {
    note("healing");
    healed_ = true;
    striking_ = false;
    world_.heal();
    end_isolations();
    for (auto& machine : machines_) {
        machine->cut = false;
        machine->full = false;
        machine->node->disk().set_capacity(kDiskBytes);
        machine->node->disk_faults().capacity_bytes = kDiskBytes;
        if (machine->node->running() && machine->node->paused()) world_.resume(*machine->node);
        // What an operator does who made room; going on without is not always seen to work.
        if (machine->was_full && machine->node->running() && !machine->node->finished())
            restart_in_order(*machine);
    }
    clients_.wind_down();
}

// ---------------------------------------------------------------- watching

void ClusterRun::look() {
    std::vector<ClusterWatch::Server> servers;
    for (const auto& machine : machines_) {
        if (machine->serving && machine->node->running())
            servers.push_back({machine->id, machine->broker, machine->node->shard_count()});
    }
    watch_.look(servers, clients_.topics());
}

void ClusterRun::next_look() {
    world_.schedule(kLookEvery, [this] {
        look();
        next_look();
    });
}

// What it had in memory alone.
void ClusterRun::forget(const Machine& machine) {
    look();
    watch_.forgets(machine.id);
}

// ---------------------------------------------------------------- the run

std::string ClusterRun::state() const {
    std::string text;
    for (const auto& machine : machines_)
        text += fmt::format("n{} {}{}{}; ", machine->index,
                            machine->serving           ? "serves"
                            : machine->node->running() ? "runs"
                                                       : "is down",
                            machine->node->running() && machine->node->paused() ? " (paused)" : "",
                            machine->last_error.empty() ? "" : " (" + machine->last_error + ")");
    return text + "clients: " + clients_.doing();
}

bool ClusterRun::wait(const std::function<bool()>& done, Duration budget, std::string_view what) {
    const Instant deadline = world_.now() + budget;
    while (failure_.empty() && !done()) {
        const World::Outcome outcome = world_.run_until(
            [&] {
                return !failure_.empty() || done() ||
                       std::ranges::any_of(machines_, [](const auto& m) {
                           return m->node->running() && m->node->finished() && !m->held_down;
                       });
            },
            deadline - world_.now());
        reap_finished();
        if (outcome == World::Outcome::kDone) continue;
        fail(fmt::format("{} is not done after {} s: {}", what,
                         std::chrono::duration_cast<std::chrono::seconds>(budget).count(),
                         state()));
    }
    return failure_.empty();
}

namespace {

std::string replica_text(const raft::Core& core) {
    std::string members;
    for (const raft::Member& member : core.configuration().members)
        members += fmt::format("{}{}{}{} ", member.node.v, member.voter ? "v" : "",
                               member.old_voter ? "o" : "", member.learner ? "l" : "");
    return fmt::format(
        "{} of term {}, led by {}, log [{}, {}.{}), durable {}.{}, commit {}.{}, members {}{}{}",
        core.role() == raft::Role::kLeader ? "leader" : "replica", core.term(), core.leader().v,
        core.log_start().offset, core.end().offset, core.end().ordinal, core.durable_end().offset,
        core.durable_end().ordinal, core.commit().offset, core.commit().ordinal, members,
        core.quiet() ? "quiet " : "",
        core.next_deadline() == Instant::never() ? "without a deadline" : "");
}

}  // namespace

// For whoever reads a failing run: what each replica takes for true.
void ClusterRun::note_replicas() {
    if (!options_.note_sink) return;
    for (const auto& machine : machines_) {
        if (machine->opening == nullptr) continue;
        if (cluster::Controller* controller = machine->opening->controller();
            controller != nullptr && controller->group() != nullptr) {
            options_.note_sink(fmt::format("  machine {}: the controller's {}", machine->index,
                                           replica_text(controller->group()->core())));
        }
        if (!machine->serving) continue;
        for (uint32_t shard = 0; shard < machine->node->shard_count(); ++shard) {
            machine->broker->server(shard).partitions().for_each([&](kafka::Partition& partition) {
                if (partition.group() == nullptr) return;
                options_.note_sink(fmt::format("  node {}: {}-{} {}", machine->id,
                                               partition.topic(), partition.index(),
                                               replica_text(partition.group()->core())));
            });
        }
    }
}

ClusterRunResult ClusterRun::run() {
    result_.seen.nodes = machines_.size();
    for (auto& machine : machines_) {
        Machine* at = machine.get();
        at->held_down = true;
        if (at->index >= knobs_.nodes) continue;
        world_.schedule(draw(0ns, prng_.chance(0.5) ? 50ms : 2s), [this, at] {
            at->held_down = false;
            if (!at->node->running()) start(*at);
        });
    }
    world_.start(*client_node_, [this](Shard& shard) { return client_main(this, &shard); });
    next_strike();
    next_look();
    // Before the cluster is there, too; not for ever, since a node on a slow disk that is killed
    // sooner than it can start, time after time, gets nowhere.
    striking_ = prng_.chance(0.3);
    world_.schedule(kFoundingFaultsMax, [this] {
        if (!clients_.serving()) striking_ = false;
    });
    if (wait([this] { return clients_.serving(); }, kServeMax, "making the topics")) {
        striking_ = true;
        note("the topics are there");
        for (auto& machine : machines_)
            if (machine->sick) machine->node->disk_faults() = *machine->sick_disk;
        for (size_t i = knobs_.nodes; i < machines_.size(); ++i) {
            world_.schedule(draw(0ns, knobs_.work_time), [this, i] {
                machines_[i]->held_down = false;
                ++result_.seen.joined;
                start(*machines_[i]);
            });
        }
        const Instant end = world_.now() + knobs_.work_time;
        wait([&] { return world_.now() >= end; }, knobs_.work_time + 10s, "the work");
    }
    if (failure_.empty()) {
        heal();
        if (wait([this] { return clients_.finished(); }, kHealMax, "what the clients began"))
            compare_replicas();
    }
    if (failure_.empty())
        stop_all();
    else
        note_replicas();
    const ClusterHistory::Counts history = history_.counts();
    const ClusterClients::Counts clients = clients_.counts();
    ClusterRunResult::Seen& seen = result_.seen;
    seen.sent = history.sent;
    seen.acknowledged = history.acknowledged;
    seen.read = history.read;
    seen.commits = history.commits;
    seen.epochs = history.epochs;
    seen.may_lose = history.may_lose;
    seen.lost = history.lost;
    seen.requests = clients.requests;
    seen.failures = clients.failures;
    seen.rebalances = clients.rebalances;
    seen.topics_made = clients.topics_made;
    seen.topics_removed = clients.topics_removed;
    seen.transfers = clients.transfers;
    seen.reassignments = clients.reassignments;
    seen.maintenances = clients.maintenances;
    seen.removed_nodes = clients.removed_nodes;
    result_.failure = failure_;
    result_.trace_hash = world_.trace_hash();
    for (auto& machine : machines_)
        result_.trace_hash = mix64(result_.trace_hash ^ machine->node->disk().content_hash());
    result_.virtual_time = world_.now() - Instant{};
    result_.steps = world_.steps();
    return result_;
}

void ClusterRun::stop_all() {
    note("stopping");
    for (auto& machine : machines_) {
        machine->stop = true;
        machine->held_down = true;
    }
    const auto all_down = [this] {
        return client_node_->finished() && std::ranges::all_of(machines_, [](const auto& m) {
                   return !m->node->running() || m->node->finished();
               });
    };
    const World::Outcome outcome = world_.run_until(all_down, kStopMax);
    if (outcome != World::Outcome::kDone) {
        fail("the nodes do not stop: " + state());
        return;
    }
    for (auto& machine : machines_)
        if (machine->node->running()) world_.reap(*machine->node);
    world_.reap(*client_node_);
}

// ---------------------------------------------------------------- replicas

Task<void> ClusterRun::look_here(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker) {
    kafka::Server& server = broker->server(Shard::current().id());
    std::vector<kafka::Partition*> partitions;
    server.partitions().for_each(
        [&](kafka::Partition& partition) { partitions.push_back(&partition); });
    for (kafka::Partition* partition : partitions) {
        // Nobody deletes topics now, so each stays while it is read.
        storage::Log& log = partition->log();
        SeenReplica replica;
        replica.what = fmt::format("{}-{}", partition->topic(), partition->index());
        replica.start = log.start_offset();
        replica.high_watermark = partition->high_watermark();
        replica.end = log.end().offset;
        for (const auto& producer : partition->producers())
            replica.producers.emplace_back(producer.id, producer.epoch, producer.last_sequence);
        storage::Position at{replica.start, 0};
        while (at.offset < replica.high_watermark) {
            const auto entries = co_await log.read_entries(
                at, {.end = {replica.high_watermark, 0}, .bytes_max = 64_KiB}, {});
            if (!entries || entries->empty()) break;
            for (const storage::FoundEntry& entry : *entries) {
                at = entry.info.end();
                replica.entries.push_back(
                    {entry.info.first, entry.info.term, crc32c(entry.payload.bytes())});
            }
        }
        (*seen)[log.id().v] = std::move(replica);
    }
}

Task<void> ClusterRun::look(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker) {
    for (runtime::ShardId i = 0; i < Shard::current().count(); ++i)
        co_await runtime::on(i, [seen, broker] { return look_here(seen, broker); });
}

bool ClusterRun::gather(std::map<uint64_t, std::map<uint32_t, SeenReplica>>* replicas) {
    std::vector<std::map<uint64_t, SeenReplica>> seen(machines_.size());
    if (!wait(
            [this] {
                return std::ranges::all_of(machines_, [](const auto& m) { return m->serving; });
            },
            60s, "serving on all nodes"))
        return false;
    for (size_t i = 0; i < machines_.size(); ++i)
        machines_[i]->job = [&seen, i](broker::Broker& broker) { return look(&seen[i], &broker); };
    if (!wait(
            [this] {
                return std::ranges::none_of(machines_,
                                            [](const auto& m) { return m->job.has_value(); });
            },
            60s, "reading the replicas"))
        return false;
    replicas->clear();
    for (uint32_t i = 0; i < seen.size(); ++i)
        for (auto& [log, replica] : seen[i]) (*replicas)[log][i] = std::move(replica);
    return true;
}

// Nobody writes: the replicas come to have the same high watermark, and then are equal below it.
void ClusterRun::compare_replicas() {
    note("comparing replicas");
    std::map<uint64_t, std::map<uint32_t, SeenReplica>> replicas;
    std::string behind;
    const Instant deadline = world_.now() + kAlikeMax;
    do {
        if (!gather(&replicas)) return;
        behind.clear();
        for (const auto& [log, by_node] : replicas) {
            const int64_t high_watermark = by_node.begin()->second.high_watermark;
            std::set<int32_t> holders;
            for (const auto& [node, replica] : by_node) holders.insert(machines_[node]->id);
            const std::string& name = by_node.begin()->second.what;
            const auto wanted = clients_.replicas().find(name);
            if (wanted == clients_.replicas().end() ||
                holders != std::set<int32_t>(wanted->second.begin(), wanted->second.end()))
                behind += fmt::format("{} is on {}; ", name, holders);
            for (const auto& [node, replica] : by_node) {
                if (replica.high_watermark != high_watermark || replica.end != high_watermark)
                    behind += fmt::format("{} on n{}: [{}, {}, {}); ", replica.what, node,
                                          replica.start, replica.high_watermark, replica.end);
            }
        }
        if (!behind.empty()) (void)world_.run_for(500ms);
    } while (!behind.empty() && world_.now() < deadline);
    if (!behind.empty()) {
        fail("replicas do not catch up (start, high watermark, end): " + behind);
        return;
    }
    for (const auto& [log, by_node] : replicas) {
        const auto& [first_node, first] = *by_node.begin();
        for (const auto& [node, replica] : by_node) {
            ++result_.seen.replicas_compared;
            const int64_t from = std::max(first.start, replica.start);
            const auto below = [&](const SeenEntry& entry) { return entry.first.offset < from; };
            const auto a = std::ranges::find_if_not(first.entries, below);
            const auto b = std::ranges::find_if_not(replica.entries, below);
            const auto [one, other] =
                std::mismatch(a, first.entries.end(), b, replica.entries.end());
            if (one != first.entries.end() || other != replica.entries.end()) {
                fail(fmt::format(
                    "{}: the replicas on n{} and n{} differ from offset {} on", replica.what,
                    first_node, node,
                    one != first.entries.end() ? one->first.offset : other->first.offset));
                return;
            }
            if (replica.producers != first.producers) {
                fail(fmt::format(
                    "{}: the producers (id, epoch, sequence) on n{} and n{} differ: "
                    "{} and {}",
                    replica.what, first_node, node, first.producers, replica.producers));
                return;
            }
        }
    }
}

}  // namespace

// ---------------------------------------------------------------- results

void ClusterRunResult::Seen::add(const Seen& other) {
    nodes += other.nodes;
    kills += other.kills;
    power_cuts += other.power_cuts;
    blackouts += other.blackouts;
    pauses += other.pauses;
    orderly_restarts += other.orderly_restarts;
    failed_lives += other.failed_lives;
    partitions_two_way += other.partitions_two_way;
    partitions_one_way += other.partitions_one_way;
    full_disks += other.full_disks;
    clock_jumps += other.clock_jumps;
    sent += other.sent;
    acknowledged += other.acknowledged;
    read += other.read;
    commits += other.commits;
    epochs += other.epochs;
    may_lose += other.may_lose;
    lost += other.lost;
    requests += other.requests;
    failures += other.failures;
    rebalances += other.rebalances;
    topics_made += other.topics_made;
    topics_removed += other.topics_removed;
    transfers += other.transfers;
    reassignments += other.reassignments;
    maintenances += other.maintenances;
    removed_nodes += other.removed_nodes;
    lost_disks += other.lost_disks;
    joined += other.joined;
    replicas_compared += other.replicas_compared;
}

std::string ClusterRunResult::Seen::to_string() const {
    return fmt::format(
        "nodes={} kills={} power_cuts={} blackouts={} pauses={} orderly_restarts={} "
        "failed_lives={} "
        "partitions={} one_way={} full_disks={} clock_jumps={} sent={} acknowledged={} read={} "
        "commits={} epochs={} may_lose={} lost={} requests={} failures={} rebalances={} topics={} "
        "removed={} "
        "transfers={} reassignments={} maintenances={} removed_nodes={} lost_disks={} joined={} "
        "replicas={}",
        nodes, kills, power_cuts, blackouts, pauses, orderly_restarts, failed_lives,
        partitions_two_way, partitions_one_way, full_disks, clock_jumps, sent, acknowledged, read,
        commits, epochs, may_lose, lost, requests, failures, rebalances, topics_made,
        topics_removed, transfers, reassignments, maintenances, removed_nodes, lost_disks, joined,
        replicas_compared);
}

ClusterRunResult run_cluster(const ClusterRunOptions& options) {
    ClusterRun run(options);
    return run.run();
}

}  // namespace weir::sim

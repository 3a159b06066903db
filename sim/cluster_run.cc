#include <algorithm>

#include "cluster_run_state.h"

namespace weir::sim {

namespace {

constexpr Duration kServeMax = 120s;  // from the start until the topics are there, under faults
constexpr Duration kFoundingFaultsMax = 60s;
constexpr Duration kHealMax = 240s;  // from the healing until everything is finished
constexpr Duration kStopMax = 60s;   // for a node that is asked to stop
constexpr Duration kLookEvery = 50ms;
constexpr Duration kSlowSyncMin = 3ms;
constexpr Duration kSlowSyncMax = 100ms;

}  // namespace

ClientOptions ClusterRun::client_options() {
    ClientOptions options = with_addresses(knobs_.clients, knobs_.nodes + knobs_.joiners);
    options.life_of = [this](int32_t node) { return life_of(node); };
    options.isolation_of = [this](int32_t node) { return isolation_of(node); };
    options.controller_is_busy = [this] { strike_busy_controller(); };
    options.node_left = [this](const std::string& address) {
        world_.schedule(0ns, [this, address] { give_up(address); });
    };
    return options;
}

ClusterStrangers::Options ClusterRun::strangers_options() const {
    ClusterStrangers::Options options{.seed = options_.seed,
                                      .pause_mean = knobs_.strangers_mean,
                                      .required = knobs_.secret == Knobs::Secret::kAll};
    if (knobs_.secret != Knobs::Secret::kNone) options.credentials = cluster_secret(true);
    for (uint32_t i = 0; i < knobs_.nodes + knobs_.joiners; ++i)
        options.addresses.push_back(host(i) + ":9700");
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
      watch_(history_, [this](const std::string& broken) { fail(broken); }),
      strangers_(strangers_options(), [this](const std::string& broken) { fail(broken); }) {
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
    client_node_->disk_faults() = {};
    if (knobs_.strangers_mean == 0ns) return;
    strangers_node_ = &world_.add_node({.name = "strangers", .shards = 1});
    strangers_node_->disk_faults() = {};
}

ClusterRun::~ClusterRun() {
    for (auto& machine : machines_) {
        if (machine->node->running()) kill(*machine, Kill::kProcess);
    }
    if (client_node_->running()) world_.kill(*client_node_, Kill::kProcess);
    if (strangers_node_ != nullptr && strangers_node_->running())
        world_.kill(*strangers_node_, Kill::kProcess);
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

bool ClusterRun::has_offline_log(const Machine& machine) {
    const auto is_offline = [](const replication::Group* group) {
        return group != nullptr && group->log().damage() && group->log().damage()->offline;
    };
    bool found = is_offline(machine.broker->controller()->group());
    for (uint32_t shard = 0; shard < machine.node->shard_count(); ++shard) {
        machine.broker->server(shard).partitions().for_each(
            [&](kafka::Partition& partition) { found |= is_offline(partition.group()); });
    }
    return found;
}

// ---------------------------------------------------------------- watching

void ClusterRun::look() {
    std::vector<ClusterWatch::Server> servers;
    for (const auto& machine : machines_) {
        if (machine->serving && machine->node->running())
            servers.push_back({machine->id, machine->broker, machine->node->shard_count()});
    }
    const bool all_serve = std::ranges::all_of(machines_, [](const auto& machine) {
        return machine->serving && machine->node->running();
    });
    watch_.look(servers, clients_.topics(), world_.now(), healed_ && all_serve);
    // What an operator does who mended a disk: a log that could not be written stays offline until
    // the node restarts.
    for (const auto& machine : machines_) {
        if (healed_ && machine->sick && machine->serving && !machine->stop &&
            has_offline_log(*machine))
            restart_in_order(*machine);
    }
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
    std::string peers;
    for (const raft::PeerStatus& peer : core.peers())
        peers +=
            fmt::format(" {}: state {} match {}.{}{}", peer.node.v, static_cast<int>(peer.state),
                        peer.match.offset, peer.match.ordinal, peer.down ? " down" : "");
    return fmt::format(
        "{} of term {}, led by {}, log [{}, {}.{}), durable {}.{}, commit {}.{}, members "
        "{}{}{}{}{}",
        core.role() == raft::Role::kLeader ? "leader" : "replica", core.term(), core.leader().v,
        core.log_start().offset, core.end().offset, core.end().ordinal, core.durable_end().offset,
        core.durable_end().ordinal, core.commit().offset, core.commit().ordinal, members,
        core.quiet() ? "quiet " : "",
        core.next_deadline() == Instant::never() ? "without a deadline" : "",
        core.recovering() ? " recovering" : "", peers);
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
    if (strangers_node_ != nullptr) {
        world_.start(*strangers_node_,
                     [this](Shard& shard) { return strangers_main(this, &shard); });
    }
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
    seen.attacks = strangers_.counts().attempts;
    seen.attacks_wild = strangers_.counts().wild;
    seen.attacks_replayed = strangers_.counts().replays;
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
    strangers_.stop();
    const auto all_down = [this] {
        return client_node_->finished() &&
               (strangers_node_ == nullptr || strangers_node_->finished()) &&
               std::ranges::all_of(machines_, [](const auto& m) {
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
    if (strangers_node_ != nullptr) world_.reap(*strangers_node_);
}

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
    attacks += other.attacks;
    attacks_wild += other.attacks_wild;
    attacks_replayed += other.attacks_replayed;
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
        "attacks={} wild={} replayed={} "
        "replicas={}",
        nodes, kills, power_cuts, blackouts, pauses, orderly_restarts, failed_lives,
        partitions_two_way, partitions_one_way, full_disks, clock_jumps, sent, acknowledged, read,
        commits, epochs, may_lose, lost, requests, failures, rebalances, topics_made,
        topics_removed, transfers, reassignments, maintenances, removed_nodes, lost_disks, joined,
        attacks, attacks_wild, attacks_replayed, replicas_compared);
}

ClusterRunResult run_cluster(const ClusterRunOptions& options) {
    ClusterRun run(options);
    return run.run();
}

}  // namespace weir::sim

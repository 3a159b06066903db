#include "raft/testing/cluster.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <optional>
#include <queue>
#include <utility>

#include "base/check.h"
#include "base/prng.h"
#include "raft/testing/log.h"
#include "raft/testing/text.h"

namespace weir::raft {
namespace {

constexpr size_t kNodesMax = 7;

// What goes wrong in one run, drawn from its seed. Each fault is off in a part of the runs, so that
// the others show.
struct Plan {
    size_t voters = 3;
    size_t spares = 0;  // further nodes, to be added
    Options options;
    double loss = 0;
    double duplicate = 0;
    Duration delay_mean = 1ms;
    Duration flush_mean = 1ms;
    double far_delay = 0;    // share of messages that come much later
    Duration crash_every{};  // 0: never
    Duration partition_every{};
    Duration pause_every{};
    Duration change_every{};
    Duration transfer_every{};
    Duration trim_every{};
    Duration propose_every = 10ms;
    Duration read_every{};
    double false_alarm = 0;  // a node is called down that is not
    double drift = 0;        // of clocks: rates in [1, 1 + drift]
    Duration faults_for = 8s;
    bool relaxed = false;
    bool may_lose = false;  // relaxed: majorities may crash
    bool damage = false;    // relaxed: disks lose what was flushed, and replicas discard their logs
    double hostile = 0;     // of each event: a message that no healthy member sends comes before it
};

Plan draw_plan(uint64_t seed) {
    Prng prng(seed, "plan");
    const auto maybe = [&](double chance, Duration low, Duration high) {
        if (!prng.chance(chance)) return Duration{};
        return Duration(
            prng.between(static_cast<uint64_t>(low.count()), static_cast<uint64_t>(high.count())));
    };
    Plan plan;
    plan.voters = prng.chance(0.1) ? 1 : prng.chance(0.7) ? 3 : prng.chance(0.5) ? 5 : 2;
    plan.spares = prng.below(3);
    plan.loss = prng.chance(0.5) ? prng.unit() * 0.3 : 0;
    plan.duplicate = prng.chance(0.5) ? prng.unit() * 0.2 : 0;
    plan.delay_mean = Duration(prng.between(100'000, 30'000'000));
    plan.flush_mean = Duration(prng.between(100'000, prng.chance(0.2) ? 200'000'000 : 10'000'000));
    plan.far_delay = prng.chance(0.4) ? prng.unit() * 0.05 : 0;
    plan.crash_every = maybe(0.7, 300ms, 3s);
    plan.partition_every = maybe(0.7, 300ms, 3s);
    plan.pause_every = maybe(0.3, 500ms, 3s);
    plan.change_every = maybe(0.5, 200ms, 2s);
    plan.transfer_every = maybe(0.4, 200ms, 2s);
    plan.trim_every = maybe(0.5, 100ms, 1s);
    plan.propose_every = Duration(prng.between(2'000'000, 200'000'000));
    plan.read_every = maybe(0.7, 5ms, 100ms);
    plan.false_alarm = prng.chance(0.3) ? 0.05 : 0;
    Options& options = plan.options;
    options.resend_timeout = Duration(prng.between(100'000'000, 600'000'000));
    options.quiet_after = prng.chance(0.5) ? Duration(prng.between(100'000'000, 500'000'000)) : 0ns;
    if (options.quiet_after > 0ns && prng.chance(0.7)) plan.propose_every = 500ms;
    options.window_bytes = prng.chance(0.5) ? prng.between(1, 2'000) : 1 << 20;
    options.send_bytes_max = prng.chance(0.5) ? prng.between(1, 1'000) : 1 << 20;
    options.catch_up_timeout = 5s;
    options.snapshot_retry = 300ms;
    options.reads_max = 50;
    options.lease_reads = prng.chance(0.4);
    if (options.lease_reads) {
        options.clock_drift_max = 0.3;
        plan.drift = 0.3;
        // Often a leader that is cut off must race against a quick election.
        if (prng.chance(0.6)) {
            options.election_timeout_max = options.election_timeout_min + 40ms;
            options.quiet_after = 0ns;
            plan.delay_mean = Duration(prng.between(100'000, 2'000'000));
            plan.flush_mean = Duration(prng.between(100'000, 1'000'000));
            plan.partition_every = 700ms;
            plan.propose_every = 8ms;
            plan.read_every = 4ms;
            if (prng.chance(0.5)) {
                plan.loss = 0.3;
                plan.transfer_every = 150ms;
            } else {
                plan.transfer_every = 0ns;  // each voids the lease of its term
            }
        }
    }
    plan.relaxed = prng.chance(0.35);
    if (plan.relaxed) {
        plan.may_lose = prng.chance(0.3);
        plan.flush_mean = Duration(prng.between(1'000'000, 300'000'000));
        plan.crash_every = Duration(prng.between(100'000'000, 1'000'000'000));
        // What a learner knows to be committed, and the voters lost, it can't take back.
        if (plan.may_lose) plan.change_every = 0ns;
        plan.damage = !plan.may_lose && prng.chance(0.6);
        if (plan.damage && prng.chance(0.5)) {
            // An old leader believes long that it leads, and finds somebody who has forgotten.
            options.election_timeout_max = options.election_timeout_min + 3s;
            options.lease_reads = false;
            options.quiet_after = 0ns;
            plan.partition_every = 400ms;
            plan.crash_every = 300ms;
            plan.propose_every = 10ms;
            plan.flush_mean = 5ms;
            plan.delay_mean = 1ms;
        }
    }
    return plan;
}

// A message on its way, with what its borrowed parts refer to.
struct Packet {
    NodeId from;
    NodeId to;
    Message message;
    std::vector<LogEntry> entries;
    std::shared_ptr<const ModelLog> snapshot;  // with `head`: an InstallSnapshot
    SnapshotHead head;
    uint64_t from_life = 0;
};

enum class EventKind : uint8_t {
    kDeliver,
    kTick,
    kFlushed,
    kRead,
    kSnapshot,
    kSnapshotSent,
    kMonitor,
    kCrash,
    kRestart,
    kPartition,
    kHeal,
    kPause,
    kResume,
    kChange,
    kTransfer,
    kTrim,
    kPropose,
    kReadIndex,
};

struct Event {
    int64_t at;
    uint64_t order;
    EventKind kind;
    uint8_t node;
    uint64_t life;  // of the node; 0: any
    uint64_t a;

    bool operator<(const Event& other) const {  // for a queue whose top is the first
        return at != other.at ? at > other.at : order > other.order;
    }
};

struct Node {
    NodeId id;
    std::optional<Core> core;
    ModelLog log;  // in memory
    ModelDisk disk;
    size_t flushing = 0;  // operations of disk.pending in the flush under way
    bool flush_under_way = false;
    bool paused = false;
    uint64_t life = 0;  // counts starts; 0 before the first
    double clock_rate = 1;
    int64_t clock_offset = 0;
    int64_t tick_at = INT64_MAX;     // of the event that waits
    Term acknowledged_term = 0;      // the last that it told a leader it has for good, ...
    Position acknowledged;           // ... and up to where
    Configuration members;           // in force before the call under way
    Position walked;                 // the oracle has seen what is committed below it
    bool recovering = false;         // kept on its disk
    bool terms_lost = false;         // kept on its disk
    std::optional<ModelDisk> older;  // what its disk held at some time
    bool reachable[kNodesMax] = {};
    uint64_t life_seen[kNodesMax] = {};
    std::vector<Packet> held;  // came while paused
};

class Cluster {
  public:
    Cluster(uint64_t seed, const RaftBugs& bugs, bool trace)
        : plan_(draw_plan(seed)),
          prng_(seed, "faults"),
          net_(seed, "net"),
          hostile_(seed, "hostile"),
          trace_(trace) {
        plan_.hostile = hostile_.chance(0.5) ? 0.02 : 0;
        plan_.options.bugs = bugs;
        // A plan's drift is what the options allow; the bug is that they are not heeded.
        const size_t count = std::min(plan_.voters + plan_.spares, kNodesMax);
        Configuration first;
        for (size_t i = 0; i < plan_.voters; ++i) {
            const auto priority = static_cast<uint8_t>(i == 0 ? 2 : 1);
            first.members.push_back(
                {.node = {static_cast<int32_t>(i)}, .voter = true, .priority = priority});
        }
        nodes_.resize(count);
        for (size_t i = 0; i < count; ++i) {
            Node& node = nodes_[i];
            node.id = {static_cast<int32_t>(i)};
            if (i < plan_.voters) node.disk.log.base_configuration = first;
            // As far apart as the options allow.
            node.clock_rate = prng_.chance(0.5) ? 1 : 1 + plan_.drift;
            node.clock_offset = static_cast<int64_t>(prng_.below(1'000'000'000'000));
        }
    }

    ClusterResult run() {
        for (Node& node : nodes_) start(node);
        const auto plan_fault = [&](EventKind kind, Duration every) {
            if (every > 0ns) schedule(kind, 0, 0, every, static_cast<uint64_t>(every.count()));
        };
        plan_fault(EventKind::kCrash, plan_.crash_every);
        plan_fault(EventKind::kPartition, plan_.partition_every);
        plan_fault(EventKind::kPause, plan_.pause_every);
        plan_fault(EventKind::kChange, plan_.change_every);
        plan_fault(EventKind::kTransfer, plan_.transfer_every);
        plan_fault(EventKind::kTrim, plan_.trim_every);
        plan_fault(EventKind::kPropose, plan_.propose_every);
        plan_fault(EventKind::kReadIndex, plan_.read_every);
        schedule(EventKind::kMonitor, 0, 0, 200ms, 0);
        while (violation_.empty() && now_ < plan_.faults_for.count()) step();
        if (violation_.empty()) heal();
        if (violation_.empty()) check_logs();
        stats_.virtual_ns = static_cast<uint64_t>(now_);
        ClusterResult result;
        result.violation = violation_;
        result.stats = stats_;
        result.trace_hash = hash_;
        return result;
    }

  private:
    // ---- events

    void schedule(EventKind kind, size_t node, uint64_t life, Duration after, uint64_t a) {
        queue_.push({now_ + after.count(), order_++, kind, static_cast<uint8_t>(node), life, a});
    }

    Duration around(Duration mean) {
        return Duration(static_cast<int64_t>(prng_.exponential(static_cast<double>(mean.count()))) +
                        1);
    }

    void fail(std::string what) {
        if (violation_.empty()) violation_ = fmt::format("at {} ms: {}", now_ / 1'000'000, what);
    }

    template <class... Args>
    void note(fmt::format_string<Args...> format, Args&&... args) {
        if (!trace_) return;
        fmt::print("{:>9.3f} {}\n", static_cast<double>(now_) / 1e6,
                   fmt::format(format, std::forward<Args>(args)...));
    }

    void step() {
        const Event event = queue_.top();
        queue_.pop();
        now_ = event.at;
        ++stats_.events;
        if (plan_.hostile > 0 && hostile_.chance(plan_.hostile)) attack();
        Node& node = nodes_[event.node];
        hash_ = mix64(hash_ ^ mix64(static_cast<uint64_t>(event.at) * 31 +
                                    static_cast<uint64_t>(event.kind) * 7 + event.node));
        if (event.life != 0 && event.life != node.life) {
            if (event.kind == EventKind::kDeliver) free_packet(event.a);
            return;
        }
        switch (event.kind) {
            case EventKind::kDeliver:
                return deliver(event.a);
            case EventKind::kTick:
                return tick(node);
            case EventKind::kFlushed:
                return flushed(node);
            case EventKind::kRead:
                return read_entries(node, event.a);
            case EventKind::kSnapshot:
                return make_snapshot(node, event.a);
            case EventKind::kSnapshotSent:
                return snapshot_sent(node, NodeId{static_cast<int32_t>(event.a >> 1)},
                                     (event.a & 1) != 0);
            case EventKind::kMonitor:
                monitor();
                return schedule(EventKind::kMonitor, 0, 0, 200ms, 0);
            case EventKind::kRestart:
                if (!node.core) start(node);
                return;
            case EventKind::kResume:
                return resume(node);
            case EventKind::kHeal:
                return heal_links();
            default:
                break;
        }
        if (healing_ && event.kind != EventKind::kPropose && event.kind != EventKind::kReadIndex)
            return;
        const Duration mean(static_cast<int64_t>(event.a));
        schedule(event.kind, 0, 0, around(healing_ ? std::max<Duration>(mean, 100ms) : mean),
                 event.a);
        switch (event.kind) {
            case EventKind::kCrash:
                return crash_some();
            case EventKind::kPartition:
                return partition();
            case EventKind::kPause:
                return pause_some();
            case EventKind::kChange:
                return change();
            case EventKind::kTransfer:
                return transfer();
            case EventKind::kTrim:
                return trim();
            case EventKind::kPropose:
                return propose();
            case EventKind::kReadIndex:
                return read_index();
            default:
                CHECK(false);
        }
    }

    // ---- a node and its disk

    Instant clock(const Node& node) const {
        return {node.clock_offset +
                static_cast<int64_t>(static_cast<double>(now_) * node.clock_rate)};
    }

    void start(Node& node) {
        ++node.life;
        node.log = node.disk.log;
        CoreStart at;
        at.self = node.id;
        at.hard_state = node.disk.hard_state;
        at.start = node.log.start;
        at.end = node.log.end();
        at.commit = node.log.start;
        at.terms = node.log.terms();
        at.configurations = node.log.configurations();
        at.seed = prng_.next();
        at.recovering = node.recovering;
        at.terms_lost = node.terms_lost;
        node.core.emplace(plan_.options, std::move(at));
        node.members = node.core->configuration();
        node.walked = node.log.start;
        node.paused = false;
        note("{} starts: log {}..{} term {} vote {} members {}", node.id.v, text(node.log.start),
             text(node.log.end()), node.disk.hard_state.term, node.disk.hard_state.voted_for,
             text(node.log.configuration()));
        Effects out;
        node.core->start(clock(node), out);
        carry_out(node, out, nullptr);
    }

    void crash(Node& node) {
        if (!node.core) return;
        ++stats_.crashes;
        // Whatever was flushed is there; of the rest some of the first operations may be.
        size_t kept = node.disk.pending.empty() ? 0 : prng_.below(node.disk.pending.size() + 1);
        while (kept-- > 0) node.disk.apply_first();
        node.disk.pending.clear();
        if (plan_.relaxed) {
            node.recovering = true;
            node.acknowledged = {};
        }
        if (plan_.damage) damage(node);
        halt(node);
        note("{} crashes; keeps {}..{}", node.id.v, text(node.disk.log.start),
             text(node.disk.log.end()));
    }

    // 1. A journal loses its end: log, term and vote are older ones. What it forgets of its group's
    // members is beyond what a group can bear, so that stays.  2. A log that can't be read is
    // discarded; its members, all committed, are kept.
    void damage(Node& node) {
        const ModelLog& log = node.disk.log;
        if (prng_.chance(0.3) && node.older && node.older->log.start == log.start &&
            node.older->log.configuration() == log.configuration()) {
            ++stats_.disks_rolled_back;
            node.disk = *node.older;
            node.terms_lost = true;
            note("{} loses the end of its journal", node.id.v);
        } else if (prng_.chance(0.3) && node.core->configuration_settled() &&
                   node.core->configuration() == log.configuration() &&
                   !log.configuration().members.empty()) {
            ++stats_.logs_discarded;
            node.disk.log.base_configuration = Configuration(log.configuration());
            node.disk.log.entries.clear();
            note("{} discards its log", node.id.v);
        }
    }

    void stop_in_good_order(Node& node) {
        if (!node.core) return;
        while (!node.disk.pending.empty()) node.disk.apply_first();
        halt(node);
        note("{} stops", node.id.v);
    }

    void halt(Node& node) {
        node.flush_under_way = false;
        node.flushing = 0;
        node.core.reset();
        node.paused = false;
        node.held.clear();
        node.tick_at = INT64_MAX;
        ++node.life;
    }

    // It may have lost what it acknowledged.
    bool lossy(const Node& node) const {
        return plan_.relaxed && (node.core ? node.core->recovering() : node.recovering);
    }

    // Whether a crash of this node leaves, of all voters that anybody may count, a majority that
    // lost nothing.
    bool may_crash(const Node& crashing) const {
        if (!plan_.relaxed || plan_.may_lose) return true;
        const auto fine = [&](const Configuration& configuration) {
            for (const bool old : {false, true}) {
                size_t all = 0;
                size_t lost = 0;
                for (const Member& member : configuration.members) {
                    if (!(old ? member.old_voter : member.voter)) continue;
                    const Node& node = nodes_[static_cast<size_t>(member.node.v)];
                    ++all;
                    if (node.id == crashing.id || lossy(node)) ++lost;
                }
                if (all > 0 && lost > all / 2) return false;
            }
            return true;
        };
        return std::ranges::all_of(nodes_, [&](const Node& node) {
            return std::ranges::all_of(node.log.configurations(), [&](const ConfigurationAt& row) {
                return row.configuration.members.empty() || fine(row.configuration);
            });
        });
    }

    // What counts of a node's log.
    Position relied_on(const Node& node) const {
        if (!plan_.relaxed) return node.disk.log.end();
        for (const ModelDisk::Op& op : node.disk.pending) {
            if (op.entry.configuration != nullptr) return op.entry.info.first;
        }
        return node.log.end();
    }

    void rely_on_memory(Node& node) {
        const Position before = node.core->durable_end();
        if (!plan_.relaxed || installing(node) || relied_on(node) <= before) return;
        Effects out;
        node.core->on_durable(relied_on(node), clock(node), out);
        if (node.core->durable_end() != before) carry_out(node, out, nullptr);
    }

    void write(Node& node, ModelDisk::Op op) {
        node.disk.pending.push_back(std::move(op));
        begin_flush(node);
    }

    void begin_flush(Node& node) {
        if (node.flush_under_way || node.disk.pending.empty()) return;
        node.flush_under_way = true;
        node.flushing = node.disk.pending.size();
        schedule(EventKind::kFlushed, index(node), node.life, around(plan_.flush_mean), 0);
    }

    size_t index(const Node& node) const { return static_cast<size_t>(node.id.v); }

    void flushed(Node& node) {
        if (node.paused) {
            return schedule(EventKind::kFlushed, index(node), node.life, 50ms, 0);
        }
        node.flush_under_way = false;
        std::vector<ModelDisk::Op> done;
        for (size_t i = 0; i < node.flushing; ++i) {
            done.push_back(node.disk.pending.front());
            node.disk.apply_first();
        }
        begin_flush(node);
        bool appended = false;
        for (const ModelDisk::Op& op : done) {
            Effects out;
            switch (op.kind) {
                case ModelDisk::Op::Kind::kSave:
                    node.core->on_saved(op.hard_state, clock(node), out);
                    break;
                case ModelDisk::Op::Kind::kCut:
                    node.core->on_truncated(clock(node), out);
                    appended = true;  // perhaps before the cut, when on_durable() was ignored
                    break;
                case ModelDisk::Op::Kind::kInstall:
                    node.log = *op.log;
                    node.walked = node.log.start;
                    ++stats_.installs;
                    node.core->on_installed(clock(node), out);
                    break;
                case ModelDisk::Op::Kind::kAppend:
                    appended = true;
                    continue;
                case ModelDisk::Op::Kind::kDropBelow:
                    continue;
            }
            carry_out(node, out, nullptr);
            if (!violation_.empty()) return;
        }
        if (!appended) return;
        // A cut that still waits will take some of what is durable now.
        Position end = node.disk.log.end();
        for (const ModelDisk::Op& op : node.disk.pending) {
            if (op.kind == ModelDisk::Op::Kind::kCut) end = std::min(end, op.position);
        }
        Effects out;
        node.core->on_durable(end, clock(node), out);
        carry_out(node, out, nullptr);
    }

    void tick(Node& node) {
        node.tick_at = INT64_MAX;
        if (node.paused) return;
        Effects out;
        node.core->tick(clock(node), out);
        carry_out(node, out, nullptr);
    }

    void arm(Node& node) {
        const Instant deadline = node.core->next_deadline();
        if (deadline == Instant::never()) return;
        const auto local = static_cast<double>(deadline.ns - node.clock_offset);
        const int64_t at = std::max(now_, static_cast<int64_t>(local / node.clock_rate) + 1);
        if (at >= node.tick_at && node.tick_at > now_) return;
        node.tick_at = at;
        schedule(EventKind::kTick, index(node), node.life, Duration(at - now_), 0);
    }

    // ---- the driver's part

    void carry_out(Node& node, Effects& out, const Packet* packet) {
        Core& core = *node.core;
        if (out.truncate_to) {
            ++stats_.truncations;
            note("{} cuts its log at {}", node.id.v, text(*out.truncate_to));
            if (!node.log.cut(*out.truncate_to)) return fail("a cut within an entry");
            if (core.term() == node.acknowledged_term && *out.truncate_to < node.acknowledged) {
                return fail(fmt::format("{} cuts its log at {}, below what it acknowledged",
                                        node.id.v, text(*out.truncate_to)));
            }
            ModelDisk::Op op{};
            op.kind = ModelDisk::Op::Kind::kCut;
            op.position = *out.truncate_to;
            // What is cut may not even have come to the disk; the model wants a cut it can do.
            write(node, std::move(op));
        }
        if (out.install) {
            CHECK(packet != nullptr && packet->snapshot != nullptr);
            note("{} installs a snapshot at {}", node.id.v, text(out.install->start));
            ModelDisk::Op op{};
            op.kind = ModelDisk::Op::Kind::kInstall;
            op.log = packet->snapshot;
            write(node, std::move(op));
        }
        for (size_t i = out.append_begin; i < out.append_end; ++i) {
            append(node, packet->entries[i]);
        }
        for (const ControlEntry& control : out.control) {
            LogEntry entry;
            entry.info = control.info;
            entry.value = static_cast<uint64_t>(control.info.term) << 32;
            entry.bytes = 20;
            if (control.kind == ControlKind::kConfiguration) {
                entry.configuration = std::make_shared<const Configuration>(control.configuration);
                note("{} appends members {} at {}", node.id.v, text(control.configuration),
                     text(control.info.first));
            }
            append(node, std::move(entry));
        }
        if (out.save) {
            ModelDisk::Op op{};
            op.kind = ModelDisk::Op::Kind::kSave;
            op.hard_state = *out.save;
            write(node, std::move(op));
        }
        if (core.end() != node.log.end() && !installing(node)) return fail("two ends of a log");
        if (out.configuration_changed || out.truncate_to) check_configuration(node);
        if (out.recovered) {
            node.recovering = node.terms_lost = false;
            ++stats_.recoveries;
            note("{} is recovered", node.id.v);
        }
        if (out.elected_by_all) elected_by_all(node);
        if (out.role) took_role(node, *out.role);
        if (out.commit) committed(node);
        for (const Outgoing& outgoing : out.messages) {
            Packet sent;
            sent.from = node.id;
            sent.to = outgoing.to;
            sent.message = outgoing.message;
            check_sent(node, outgoing);
            transmit(std::move(sent));
        }
        for (const SendEntries& work : out.entries) {
            works_.push_back(work);
            schedule(EventKind::kRead, index(node), node.life, Duration(prng_.below(500'000)),
                     works_.size() - 1);
        }
        for (const NodeId to : out.snapshots) {
            schedule(EventKind::kSnapshot, index(node), node.life, around(5ms),
                     static_cast<uint64_t>(to.v));
        }
        for (const ReadReady& read : out.reads) read_done(node, read);
        if (out.change_done) {
            note("{} ends a change: {}", node.id.v, *out.change_done);
            if (*out.change_done) ++stats_.changes;
        }
        if (out.transfer_done && *out.transfer_done) ++stats_.transfers;
        if (core.quiet()) ++stats_.sleeps;
        core.check_invariants();
        if (out.configuration_changed) node.members = core.configuration();
        arm(node);
        if (violation_.empty()) rely_on_memory(node);
    }

    bool installing(const Node& node) const {
        return std::ranges::any_of(node.disk.pending, [](const ModelDisk::Op& op) {
            return op.kind == ModelDisk::Op::Kind::kInstall;
        });
    }

    void append(Node& node, LogEntry entry) {
        if (entry.info.first != node.log.end()) return fail("an append that leaves a gap");
        ModelDisk::Op op{};
        op.kind = ModelDisk::Op::Kind::kAppend;
        op.entry = entry;
        node.log.append(std::move(entry));
        write(node, std::move(op));
    }

    void read_entries(Node& node, uint64_t which) {
        const SendEntries work = works_[which];
        std::vector<LogEntry> entries;
        uint64_t bytes = 0;
        Position end = work.prev;
        const bool unreadable = work.prev < node.log.start || net_.chance(0.02);
        if (!unreadable) {
            for (size_t i = node.log.index_of(work.prev); i < node.log.entries.size(); ++i) {
                const LogEntry& entry = node.log.entries[i];
                if (entry.info.first != end || entry.info.end() > work.until) break;
                if (!entries.empty() && bytes + entry.bytes > work.bytes_max) break;
                bytes += entry.bytes;
                end = entry.info.end();
                entries.push_back(entry);
                if (net_.chance(0.05)) break;
            }
        }
        // By now the log may have become another.
        if (end > node.core->end()) end = work.prev;
        Effects out;
        const auto request = node.core->on_sent(work, end, bytes, clock(node), out);
        if (request) {
            Packet sent;
            sent.from = node.id;
            sent.to = work.to;
            sent.message = *request;
            sent.entries = std::move(entries);
            transmit(std::move(sent));
        }
        carry_out(node, out, nullptr);
    }

    void make_snapshot(Node& node, uint64_t to) {
        const NodeId peer{static_cast<int32_t>(to)};
        Core& core = *node.core;
        if (core.role() != Role::kLeader || net_.chance(0.1))
            return snapshot_sent(node, peer, false);
        // At the log's start, or anywhere up to the commit.
        Position at = std::max(core.snapshot_start_min(), node.log.start);
        if (net_.chance(0.3)) {
            const size_t last = node.log.index_of(core.commit());
            const size_t first = node.log.index_of(at);
            const size_t pick = first + net_.below(last - first + 1);
            at = pick < node.log.entries.size() ? node.log.entries[pick].info.first : core.commit();
            if (at > core.commit()) at = core.commit();
        }
        Packet sent;
        sent.from = node.id;
        sent.to = peer;
        sent.head = core.snapshot_head(at);
        ModelLog snapshot = node.log;
        snapshot.drop_below(at);
        snapshot.entries.clear();
        snapshot.base_terms = sent.head.terms;
        snapshot.base_configuration = sent.head.configuration;
        snapshot.start = at;
        sent.snapshot = std::make_shared<const ModelLog>(std::move(snapshot));
        sent.message = TimeoutNow{core.term()};  // its term, for the checks
        const bool gone = transmit(std::move(sent), true);
        schedule(EventKind::kSnapshotSent, index(node), node.life, around(20ms),
                 to << 1 | (gone ? 1u : 0u));
    }

    void snapshot_sent(Node& node, NodeId to, bool delivered) {
        Effects out;
        node.core->on_snapshot_sent(to, delivered, clock(node), out);
        carry_out(node, out, nullptr);
    }

    // ---- the network

    bool transmit(Packet packet, bool snapshot = false) {
        if (packet.to.v < 0 || static_cast<size_t>(packet.to.v) >= nodes_.size()) return false;
        const auto from = static_cast<size_t>(packet.from.v);
        const auto to = static_cast<size_t>(packet.to.v);
        if (trace_) {
            note("{} -> {} {}{}", from, to,
                 snapshot ? "snapshot at " + text(packet.head.start) : text(packet.message),
                 packet.entries.empty() ? ""
                                        : fmt::format(" {} entries to {}", packet.entries.size(),
                                                      text(packet.entries.back().info.end())));
        }
        if (cut_[from][to] || (!healing_ && net_.chance(plan_.loss))) return false;
        const int copies = !healing_ && net_.chance(plan_.duplicate) ? 2 : 1;
        for (int i = 0; i < copies; ++i) {
            Duration delay = 50us + Duration(static_cast<int64_t>(net_.exponential(
                                        static_cast<double>(plan_.delay_mean.count()))));
            if (!healing_ && net_.chance(plan_.far_delay))
                delay += Duration(net_.below(3'000'000'000));
            const uint64_t slot = take_slot();
            packets_[slot] = packet;
            schedule(EventKind::kDeliver, to, 0, delay, slot);
        }
        return true;
    }

    uint64_t take_slot() {
        if (free_.empty()) {
            packets_.emplace_back();
            return packets_.size() - 1;
        }
        const uint64_t slot = free_.back();
        free_.pop_back();
        return slot;
    }

    void free_packet(uint64_t slot) { free_.push_back(slot); }

    void deliver(uint64_t slot) {
        Packet packet = std::move(packets_[slot]);
        free_packet(slot);
        Node& node = nodes_[static_cast<size_t>(packet.to.v)];
        if (!node.core || cut_[static_cast<size_t>(packet.from.v)][index(node)]) return;
        if (node.paused) {
            if (node.held.size() < 100) node.held.push_back(std::move(packet));
            return;
        }
        receive(node, packet);
    }

    void receive(Node& node, Packet& packet) {
        Effects out;
        Verdict verdict;
        if (packet.snapshot != nullptr) {
            const Term term = std::get<TimeoutNow>(packet.message).term;
            verdict =
                node.core->step(packet.from, InstallSnapshot{term, packet.head}, clock(node), out);
        } else if (auto* request = std::get_if<AppendRequest>(&packet.message)) {
            views_.clear();
            for (const LogEntry& entry : packet.entries) {
                views_.push_back({entry.info, entry.configuration.get()});
            }
            request->entries = views_;
            verdict = node.core->step(packet.from, packet.message, clock(node), out);
        } else {
            verdict = node.core->step(packet.from, packet.message, clock(node), out);
        }
        if (verdict == Verdict::kInvalid || verdict == Verdict::kContradiction) {
            ++stats_.invalid;
            note("{} calls that invalid: {}", node.id.v, text(packet.message));
            if (no_bugs())
                return fail("a message of a healthy peer was called invalid: " +
                            text(packet.message));
        }
        carry_out(node, out, &packet);
    }

    bool no_bugs() const { return plan_.options.bugs == RaftBugs{}; }

    // Nodes outside of the group say what would unseat its leader, and members say what can't be.
    // Neither may change anything.
    void attack() {
        Node& node = nodes_[hostile_.below(nodes_.size())];
        if (!node.core || node.paused) return;
        const bool stranger = hostile_.chance(0.5);
        const NodeId from{stranger ? static_cast<int32_t>(50 + hostile_.below(5))
                                   : static_cast<int32_t>(hostile_.below(nodes_.size()))};
        if (from == node.id) return;
        const Term own = node.core->term();
        // A replica that waits to be told of its group believes any term of its owner's peers.
        if (!stranger && node.core->configuration().members.empty()) return;
        const int64_t near = static_cast<int64_t>(hostile_.below(4)) - 1;
        const Term term = static_cast<Term>(
            stranger ? std::clamp<int64_t>(own + near, 0, kTermMax)
                     : std::min<int64_t>(INT32_MAX, int64_t{own} + kTermLeapMax + 1 +
                                                        static_cast<int64_t>(hostile_.below(
                                                            uint64_t{1} << hostile_.below(31)))));
        const Position end{static_cast<int64_t>(hostile_.below(1'000'000)), 0};
        const Message messages[] = {
            VoteRequest{.term = term, .end = end, .transfer = true},
            VoteRequest{.term = term, .end = end, .pre_vote = true},
            VoteReply{.term = term, .granted = hostile_.chance(0.5)},
            AppendRequest{.term = term, .commit = end},
            AppendReply{.term = term, .accepted = true, .match = end, .received = end},
            Heartbeat{.term = term, .quiet = true, .commit = end, .end = end},
            HeartbeatReply{.term = term, .quiet = true, .context = 1, .match = end},
            TimeoutNow{.term = term},
            RecoveryRequest{.term = term},
            RecoveryReply{.term = term, .end = end}};
        const Message& message = messages[hostile_.below(std::size(messages))];
        // What is due by now is not the message's doing: a step of its own settles it (seed 2746: a
        // change of members timed out in the turn of the message).
        Effects due;
        (void)node.core->step({60}, Heartbeat{}, clock(node), due, Vouched::kNo);
        if (!due.empty()) {
            carry_out(node, due, nullptr);
            return;
        }
        Effects out;
        ++stats_.attacks;
        node.core->step(from, message, clock(node), out, stranger ? Vouched::kNo : Vouched::kYes);
        if (!out.empty() || node.core->term() != own)
            fail(fmt::format("{} changed something at {} by what {} may say: {}", from.v, node.id.v,
                             stranger ? "no stranger" : "no member", text(message)));
    }

    // The driver's heartbeats between nodes: who can be reached, and whether it was started anew.
    void monitor() {
        for (Node& node : nodes_) {
            if (!node.core || node.paused) continue;
            for (const Node& other : nodes_) {
                if (other.id == node.id) continue;
                const size_t at = index(other);
                const bool linked = !cut_[index(node)][at] && !cut_[at][index(node)];
                const bool reachable = other.core && !other.paused && linked;
                const bool alarm = !healing_ && prng_.chance(plan_.false_alarm);
                const bool anew = reachable && node.life_seen[at] != other.life;
                if (node.reachable[at] && (!reachable || alarm || anew))
                    tell(node, other.id, false);
                if (!violation_.empty()) return;
                if (reachable && (!node.reachable[at] || alarm || anew)) tell(node, other.id, true);
                if (!violation_.empty()) return;
                node.reachable[at] = reachable;
                if (reachable) node.life_seen[at] = other.life;
            }
        }
    }

    void tell(Node& node, NodeId other, bool up) {
        Effects out;
        if (up) {
            node.core->on_peer_up(other, clock(node), out);
        } else {
            node.core->on_peer_down(other, clock(node), out);
            carry_out(node, out, nullptr);
            if (!violation_.empty()) return;
            out.clear();
            node.core->on_connection_lost(other, clock(node), out);
        }
        carry_out(node, out, nullptr);
    }

    // ---- faults and clients

    Node& any_node() { return nodes_[prng_.below(nodes_.size())]; }

    Node* some_leader() {
        const size_t first = prng_.below(nodes_.size());
        for (size_t i = 0; i < nodes_.size(); ++i) {
            Node& node = nodes_[(first + i) % nodes_.size()];
            if (node.core && !node.paused && node.core->role() == Role::kLeader) return &node;
        }
        return nullptr;
    }

    void crash_some() {
        Node* leader = some_leader();
        Node& node = leader != nullptr && prng_.chance(0.4) ? *leader : any_node();
        if (plan_.relaxed && prng_.chance(0.2)) {
            stop_in_good_order(node);
        } else if (may_crash(node)) {
            crash(node);
        }
        schedule(EventKind::kRestart, index(node), 0, around(prng_.chance(0.5) ? 50ms : 1s), 0);
        if (!prng_.chance(0.1)) return;
        for (Node& other : nodes_) {
            if (!other.core || !may_crash(other)) continue;
            crash(other);
            schedule(EventKind::kRestart, index(other), 0, around(300ms), 0);
        }
    }

    void remember_disks() {
        for (Node& node : nodes_) {
            if (!plan_.damage || !prng_.chance(0.3)) continue;
            node.older.emplace();
            node.older->log = node.disk.log;
            node.older->hard_state = node.disk.hard_state;
        }
    }

    void partition() {
        remember_disks();
        const bool one_way = prng_.chance(0.3);
        uint64_t side = prng_.next();
        if (prng_.chance(0.4)) side = 1ull << prng_.below(nodes_.size());  // isolates one
        for (size_t a = 0; a < nodes_.size(); ++a) {
            for (size_t b = 0; b < nodes_.size(); ++b) {
                const bool apart = (side >> a & 1) != (side >> b & 1);
                cut_[a][b] = apart && (!one_way || (side >> a & 1) != 0);
            }
        }
        note("partition {:b}{}", side & ((1u << nodes_.size()) - 1), one_way ? " one way" : "");
        schedule(EventKind::kHeal, 0, 0, around(700ms), 0);
    }

    void heal_links() {
        for (auto& row : cut_) std::ranges::fill(row, false);
    }

    void pause_some() {
        Node& node = any_node();
        if (!node.core || node.paused) return;
        node.paused = true;
        note("{} pauses", node.id.v);
        schedule(EventKind::kResume, index(node), node.life, around(600ms), 0);
    }

    void resume(Node& node) {
        if (!node.paused) return;
        node.paused = false;
        note("{} goes on", node.id.v);
        arm(node);
        std::vector<Packet> held = std::move(node.held);
        node.held.clear();
        for (Packet& packet : held) {
            if (!violation_.empty()) return;
            receive(node, packet);
        }
    }

    void change() {
        Node* leader = some_leader();
        if (leader == nullptr) return;
        Configuration target;
        for (const Node& node : nodes_) {
            const double draw = prng_.unit();
            Member member{.node = node.id};
            member.voter = draw < 0.6;
            member.learner = !member.voter && draw < 0.75;
            if (member.voter || member.learner) target.members.push_back(member);
        }
        if (!target.valid()) return;
        Effects out;
        const RequestStatus status =
            leader->core->change_configuration(target, clock(*leader), out);
        note("{} is asked for members {}: {}", leader->id.v, text(target), text(status));
        carry_out(*leader, out, nullptr);
    }

    void transfer() {
        Node* leader = some_leader();
        if (leader == nullptr) return;
        Effects out;
        const NodeId target = any_node().id;
        const RequestStatus status = leader->core->transfer(target, clock(*leader), out);
        note("{} is asked to hand over to {}: {}", leader->id.v, target.v, text(status));
        carry_out(*leader, out, nullptr);
    }

    // Retention: durable and committed entries alone.
    void trim() {
        Node& node = any_node();
        if (!node.core || node.paused || installing(node) || node.log.entries.empty()) return;
        const Position end =
            std::min({node.core->commit(), node.core->durable_end(), node.disk.log.end()});
        const size_t limit = node.log.index_of(end);
        if (limit == 0) return;
        const size_t pick = prng_.below(limit) + 1;
        const Position at =
            pick < node.log.entries.size() ? node.log.entries[pick].info.first : node.log.end();
        if (at > end) return;
        node.log.drop_below(at);
        ModelDisk::Op op{};
        op.kind = ModelDisk::Op::Kind::kDropBelow;
        op.position = at;
        write(node, std::move(op));
        Effects out;
        node.core->on_prefix_truncated(at, clock(node), out);
        carry_out(node, out, nullptr);
    }

    void propose() {
        Node* leader = some_leader();
        if (leader == nullptr) return;
        const uint64_t burst = prng_.chance(0.1) ? prng_.below(20) : 1;
        for (uint64_t i = 0; i < burst && violation_.empty(); ++i) propose_at(*leader);
    }

    void propose_at(Node& leader) {
        if (leader.core->may_propose() != ProposeStatus::kOk) return;
        LogEntry entry;
        entry.info.kind = EntryKind::kData;
        entry.info.term = leader.core->term();
        entry.info.first = leader.core->end();
        entry.info.next_offset = entry.info.first.offset + 1 + static_cast<int64_t>(prng_.below(3));
        entry.value = ++values_;
        entry.bytes = static_cast<uint32_t>(1 + prng_.below(300));
        const EntryInfo info = entry.info;
        append(leader, std::move(entry));
        Effects out;
        leader.core->on_proposed(info, clock(leader), out);
        carry_out(leader, out, nullptr);
    }

    void read_index() {
        Node* leader = some_leader();
        if (leader == nullptr) return;
        const uint64_t id = reads_.size();
        reads_.push_back(acknowledged_);
        Effects out;
        const RequestStatus status = leader->core->read_index(id, clock(*leader), out);
        if (status == RequestStatus::kStarted && !out.reads.empty()) ++stats_.lease_reads;
        carry_out(*leader, out, nullptr);
    }

    void read_done(const Node& node, const ReadReady& read) {
        if (!read.confirmed) return;
        ++stats_.reads;
        if (read.position < reads_[read.id]) {
            fail(fmt::format("a read at {} sees {}, though {} was acknowledged before it began",
                             node.id.v, text(read.position), text(reads_[read.id])));
        }
    }

    // ---- oracles

    // What leaves a node is covered by what is on its disk.
    void check_sent(Node& node, const Outgoing& outgoing) {
        const HardState saved = node.disk.hard_state;
        Term term = std::visit([](const auto& m) { return m.term; }, outgoing.message);
        if (const auto* request = std::get_if<VoteRequest>(&outgoing.message)) {
            if (request->pre_vote) return;
            if (saved.term != term || saved.voted_for != node.id.v)
                return fail(fmt::format("{} campaigns before its own vote is saved", node.id.v));
        }
        if (const auto* reply = std::get_if<VoteReply>(&outgoing.message)) {
            if (reply->pre_vote && reply->granted) return;
            if (reply->granted && (saved.term != term || saved.voted_for != outgoing.to.v))
                return fail(fmt::format("{} votes before that is saved", node.id.v));
        }
        if (term > saved.term) return fail(fmt::format("{} speaks of a term not saved", node.id.v));
        if (const auto* reply = std::get_if<AppendReply>(&outgoing.message)) {
            if (!reply->accepted) return;
            if (reply->match > relied_on(node))
                return fail(fmt::format("{} acknowledges what is not durable", node.id.v));
            if (term > node.acknowledged_term) node.acknowledged = {};
            node.acknowledged_term = term;
            node.acknowledged = std::max(node.acknowledged, reply->match);
        }
    }

    void check_configuration(const Node& node) {
        if (installing(node)) return;
        if (node.core->configuration() != node.log.configuration()) {
            fail(fmt::format("{} goes by members {}, its log says {}", node.id.v,
                             text(node.core->configuration()), text(node.log.configuration())));
        }
    }

    void took_role(Node& node, const RoleChange& change) {
        note("{} is {} of term {}, leader {}", node.id.v, text(change.role), change.term,
             change.leader.v);
        if (change.role != Role::kLeader) return;
        ++stats_.elections;
        const auto [known, fresh] = leaders_.emplace(change.term, node.id);
        if (!fresh && known->second != node.id)
            return fail(fmt::format("two leaders of term {}: {} and {}", change.term,
                                    known->second.v, node.id.v));
        // Leader completeness: of what older terms committed (a leader that woke up late may be
        // behind newer ones). Log matching says the rest.
        size_t older = history_.size();
        while (older > 0 && committed_in_[older - 1] >= change.term) --older;
        if (older > 0 && history_[older - 1].info.first >= node.log.start) {
            const LogEntry& last = history_[older - 1];
            const LogEntry* own = node.log.find(last.info.first);
            if (own == nullptr || !own->same(last))
                return fail(fmt::format("leader {} of term {} lacks what is committed at {}",
                                        node.id.v, change.term, text(last.info.first)));
        }
        check_logs();
    }

    // What was committed and this leader does not have is lost, if that may be.
    void elected_by_all(Node& leader) {
        ++stats_.elections_by_all;
        const Term term = leader.core->term();
        size_t kept = history_.size();
        while (kept > 0 && committed_in_[kept - 1] >= term) --kept;
        const size_t older = kept;
        while (kept > 0 && history_[kept - 1].info.first >= leader.log.start) {
            const LogEntry* own = leader.log.find(history_[kept - 1].info.first);
            if (own != nullptr && own->same(history_[kept - 1])) break;
            --kept;
        }
        if (kept == older) return;
        size_t lost = 1;  // the leader itself
        for (const Node& node : nodes_) {
            if (node.id != leader.id && lossy(node)) ++lost;
        }
        if (!plan_.may_lose || older < history_.size() || 2 * lost <= plan_.voters)
            return fail(fmt::format("{} leads by all votes without what is committed at {}",
                                    leader.id.v, text(history_[kept].info.first)));
        ++stats_.losses;
        note("{} entries are lost", history_.size() - kept);
        history_.resize(kept);
        committed_in_.resize(kept);
        hashes_.resize(kept);
        const Position end = history_.empty() ? Position{} : history_.back().info.end();
        acknowledged_ = std::min(acknowledged_, end);
        for (Node& node : nodes_) node.walked = std::min(node.walked, end);
    }

    // Every node walks the same history, and only ever on.
    void committed(Node& node) {
        const Position commit = node.core->commit();
        if (!node.log.boundary(commit))
            return fail(
                fmt::format("{} commits up to {}, within an entry", node.id.v, text(commit)));
        for (size_t i = node.log.index_of(node.walked); i < node.log.entries.size(); ++i) {
            const LogEntry& entry = node.log.entries[i];
            if (entry.info.first >= commit) break;
            if (!walk(node, entry)) return;
        }
        node.walked = std::max(node.walked, commit);
        // Raft §5.4.2.
        const bool leads = node.core->role() == Role::kLeader;
        if (leads && node.core->terms().term_before(commit) != node.core->term())
            return fail(
                fmt::format("{} commits {}, of an older term, by count", node.id.v, text(commit)));
        if (leads) acknowledged_ = std::max(acknowledged_, commit);
    }

    bool walk(const Node& node, const LogEntry& entry) {
        const auto found = std::ranges::lower_bound(history_, entry.info.first, {},
                                                    [](const LogEntry& e) { return e.info.first; });
        if (found != history_.end()) {
            if (found->same(entry)) return true;
            fail(fmt::format("{} commits another entry at {} than was committed there", node.id.v,
                             text(entry.info.first)));
            return false;
        }
        const Position end = history_.empty() ? Position{} : history_.back().info.end();
        if (entry.info.first != end) {
            fail(fmt::format("{} commits at {}, the history ends at {}", node.id.v,
                             text(entry.info.first), text(end)));
            return false;
        }
        history_.push_back(entry);
        committed_in_.push_back(node.core->term());
        hashes_.push_back(chain(hashes_.empty() ? 0 : hashes_.back(), entry));
        ++stats_.committed;
        if (plan_.relaxed) ++stats_.relaxed_committed;
        return check_quorum(node, entry);
    }

    // Committed is durable on a majority: of the members that were in force when it was counted.
    bool check_quorum(const Node& node, const LogEntry& entry) {
        const Configuration& members = node.members;
        const auto has = [&](NodeId id) {
            if (static_cast<size_t>(id.v) >= nodes_.size()) return false;
            const Node& other = nodes_[static_cast<size_t>(id.v)];
            if (lossy(other)) return true;  // it may have had it
            const ModelLog& disk = plan_.relaxed && other.core ? other.log : other.disk.log;
            if (entry.info.end() <= disk.start) return true;
            const LogEntry* own = disk.find(entry.info.first);
            return own != nullptr && own->same(entry);
        };
        for (const bool old : {false, true}) {
            if (old && !members.joint()) continue;
            size_t all = 0;
            size_t durable = 0;
            for (const Member& member : members.members) {
                if (!(old ? member.old_voter : member.voter)) continue;
                ++all;
                if (has(member.node)) ++durable;
            }
            if (2 * durable <= all) {
                fail(fmt::format("{} commits {} with {} of {} durable", node.id.v,
                                 text(entry.info.first), durable, all));
                return false;
            }
        }
        return true;
    }

    // Log matching (Raft §5.3), and that a snapshot's state is the history's.
    void check_logs() {
        for (size_t a = 0; a < nodes_.size(); ++a) {
            const ModelLog& one = nodes_[a].core ? nodes_[a].log : nodes_[a].disk.log;
            if (one.start > Position{} && !hashes_.empty()) {
                const auto found = std::ranges::lower_bound(
                    history_, one.start, {}, [](const LogEntry& e) { return e.info.first; });
                const auto below = static_cast<size_t>(found - history_.begin());
                if (below == 0 || hashes_[below - 1] != one.base_hash)
                    return fail(fmt::format("the state below the log of {} is wrong", a));
            }
            for (size_t b = a + 1; b < nodes_.size(); ++b) {
                const ModelLog& two = nodes_[b].core ? nodes_[b].log : nodes_[b].disk.log;
                check_pair(a, one, b, two);
            }
        }
    }

    void check_pair(size_t a, const ModelLog& one, size_t b, const ModelLog& two) {
        bool agreed = false;  // at the entry behind, so they must at this one
        for (size_t i = one.entries.size(); i-- > 0;) {
            const LogEntry& entry = one.entries[i];
            const LogEntry* other = two.find(entry.info.first);
            if (other == nullptr) {
                if (agreed && entry.info.first >= two.start)
                    return fail(fmt::format("logs of {} and {} differ below {}", a, b,
                                            text(entry.info.first)));
                continue;
            }
            if (other->info.term == entry.info.term || agreed) {
                if (!other->same(entry))
                    return fail(fmt::format("logs of {} and {} differ at {}", a, b,
                                            text(entry.info.first)));
                agreed = true;
            }
        }
    }

    // ---- the end: everything works again

    bool settled() {
        Node* leader = some_leader();
        if (leader == nullptr || !leader->core->leader_ready()) return false;
        const Core& core = *leader->core;
        if (core.configuration().joint() || history_.size() <= committed_at_heal_) return false;
        return std::ranges::all_of(core.configuration().members, [&](const Member& member) {
            const Core& other = *nodes_[static_cast<size_t>(member.node.v)].core;
            return other.leader() == leader->id && other.term() == core.term() &&
                   !other.recovering() && other.commit() >= history_.back().info.end() &&
                   other.commit() == core.commit();
        });
    }

    void heal() {
        note("all heals");
        healing_ = true;
        heal_links();
        plan_.delay_mean = std::min<Duration>(plan_.delay_mean, 5ms);
        plan_.flush_mean = std::min<Duration>(plan_.flush_mean, 5ms);
        // What piled up behind a tiny window must go through.
        plan_.options.window_bytes = 1 << 20;
        plan_.options.send_bytes_max = 1 << 20;
        for (Node& node : nodes_) {
            if (node.paused) resume(node);
            if (!node.core) start(node);
        }
        committed_at_heal_ = history_.size();
        const int64_t until = now_ + std::chrono::nanoseconds(60s).count();
        uint64_t checked = stats_.events;
        while (violation_.empty()) {
            if (stats_.events - checked >= 20) {
                checked = stats_.events;
                if (settled()) return;
            }
            if (now_ > until) {
                std::string states;
                for (const Node& node : nodes_) {
                    states += fmt::format(" {}:{}{} term {} commit {} of {} members {};", node.id.v,
                                          text(node.core->role()),
                                          node.core->recovering() ? " recovering" : "",
                                          node.core->term(), text(node.core->commit()),
                                          text(node.core->end()), text(node.core->configuration()));
                }
                return fail("no progress a minute after healing:" + states);
            }
            step();
        }
    }

    Plan plan_;
    Prng prng_;
    Prng net_;
    Prng hostile_;
    bool trace_;
    std::vector<Node> nodes_;
    std::priority_queue<Event> queue_;
    std::vector<Packet> packets_;
    std::vector<uint64_t> free_;
    std::vector<SendEntries> works_;
    std::vector<EntryView> views_;
    bool cut_[kNodesMax][kNodesMax] = {};
    int64_t now_ = 0;
    uint64_t order_ = 0;
    uint64_t values_ = 0;
    uint64_t hash_ = 0;
    bool healing_ = false;
    size_t committed_at_heal_ = 0;

    std::map<Term, NodeId> leaders_;
    std::vector<LogEntry> history_;   // what is committed, for ever
    std::vector<Term> committed_in_;  // by the leader of this term
    std::vector<uint64_t> hashes_;    // of it, up to and with each entry
    Position acknowledged_;           // by any leader
    std::vector<Position> reads_;     // what each must see
    std::string violation_;
    ClusterStats stats_;
};

}  // namespace

void ClusterStats::add(const ClusterStats& other) {
    events += other.events;
    virtual_ns += other.virtual_ns;
    elections += other.elections;
    committed += other.committed;
    reads += other.reads;
    lease_reads += other.lease_reads;
    crashes += other.crashes;
    truncations += other.truncations;
    installs += other.installs;
    changes += other.changes;
    transfers += other.transfers;
    sleeps += other.sleeps;
    attacks += other.attacks;
    invalid += other.invalid;
    disks_rolled_back += other.disks_rolled_back;
    logs_discarded += other.logs_discarded;
    relaxed_committed += other.relaxed_committed;
    recoveries += other.recoveries;
    elections_by_all += other.elections_by_all;
    losses += other.losses;
}

ClusterResult run_cluster(uint64_t seed, const RaftBugs& bugs, bool trace) {
    return Cluster(seed, bugs, trace).run();
}

}  // namespace weir::raft

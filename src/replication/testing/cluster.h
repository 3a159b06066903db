// For tests: nodes of a simulated world that hold one replicated log each, over the real store and
// the real connections, and a client that appends wherever it finds a leader.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "replication/replicator.h"
#include "rpc/listener.h"
#include "runtime/sim/world.h"
#include "runtime/wait.h"
#include "storage/store.h"

namespace weir::replication {

using runtime::Shard;
using runtime::Task;

inline constexpr storage::LogId kLog{7};

// A fold over the data entries that can be taken back: the chain of their first eight bytes.
class ChainMachine final : public StateMachine {
  public:
    struct Step {
        storage::Position first;
        storage::Position end;
        uint64_t value;
    };

    uint32_t summary_bytes() const override { return 8; }
    Result<void> recover(Bytes state, storage::Position state_end,
                         std::vector<storage::RecoveredState::Replayed> entries) override {
        base_ = 0;
        base_end_ = 0;
        tail_.clear();
        if (!state.empty()) {
            if (state.size() < 20) return fail(ErrorCode::kMalformed);
            base_ = load_be<uint64_t>(state.data());
            const uint32_t count = load_be<uint32_t>(state.data() + 8);
            base_end_ = load_be<int64_t>(state.data() + 12);
            if (state.size() != 20 + size_t{count} * 32) return fail(ErrorCode::kMalformed);
            for (uint32_t i = 0; i < count; ++i) {
                const uint8_t* at = state.data() + 20 + size_t{i} * 32;
                const Step step{{load_be<int64_t>(at), load_be<uint32_t>(at + 8)},
                                {load_be<int64_t>(at + 12), load_be<uint32_t>(at + 20)},
                                load_be<uint64_t>(at + 24)};
                if (step.first < state_end) tail_.push_back(step);
            }
        }
        for (const auto& entry : entries) on_append(entry.info, entry.summary);
        return {};
    }
    storage::CapturedState capture() override {
        std::vector<uint8_t> bytes(20 + tail_.size() * 32);
        store_be<uint64_t>(bytes.data(), base_);
        store_be<uint32_t>(bytes.data() + 8, static_cast<uint32_t>(tail_.size()));
        store_be<int64_t>(bytes.data() + 12, base_end_);
        for (size_t i = 0; i < tail_.size(); ++i) {
            uint8_t* at = bytes.data() + 20 + i * 32;
            store_be<int64_t>(at, tail_[i].first.offset);
            store_be<uint32_t>(at + 8, tail_[i].first.ordinal);
            store_be<int64_t>(at + 12, tail_[i].end.offset);
            store_be<uint32_t>(at + 20, tail_[i].end.ordinal);
            store_be<uint64_t>(at + 24, tail_[i].value);
        }
        return {std::move(bytes), base_end_};
    }
    void on_append(const storage::EntryInfo& info, Bytes summary) override {
        // A relaxed log that is shorter than the snapshot's state gets its entries again.
        if (info.first.offset < base_end_) return;
        tail_.push_back({info.first, info.end(), load_be<uint64_t>(summary.data())});
    }
    void on_truncate(storage::Position end) override {
        while (!tail_.empty() && tail_.back().first >= end) tail_.pop_back();
    }
    void on_commit() override {
        while (!tail_.empty() && tail_.front().end <= group->commit()) {
            base_ = mix(base_, tail_.front().value);
            base_end_ = tail_.front().end.offset;
            tail_.pop_front();
        }
    }
    void on_role() override { ++roles; }

    static uint64_t mix(uint64_t chain, uint64_t value) {
        return (chain ^ value) * 0x9e3779b97f4a7c15ull + 1;
    }
    uint64_t committed_chain() const { return base_; }

    Group* group = nullptr;
    int roles = 0;

  private:
    uint64_t base_ = 0;      // over the committed entries ...
    int64_t base_end_ = 0;   // ... which end here
    std::deque<Step> tail_;  // the others
};

class TestCluster {
  public:
    struct Acknowledged {
        int64_t offset;
        uint64_t value;
    };

    TestCluster(sim::Plan plan, size_t nodes, raft::RaftBugs bugs = {})
        : bugs_(bugs), world_({.plan = plan, .log_sink = [this](const Logger::Event& event) {
                                   log_ += fmt::format("{} {} {} {}\n", world_ms(), event.component,
                                                       event.message, event.fields);
                               }}) {
        for (size_t i = 0; i < nodes; ++i) {
            nodes_.push_back(std::make_unique<Node>());
            nodes_.back()->node = &world_.add_node({.name = name(i), .shards = 1});
            members_.push_back(static_cast<int32_t>(i));
        }
    }
    ~TestCluster() {
        for (size_t i = 0; i < nodes_.size(); ++i) {
            if (running(i)) kill(i, sim::Kill::kProcess);
        }
    }

    struct Node {
        sim::Node* node = nullptr;
        std::unique_ptr<runtime::MemoryBudget> memory;
        std::unique_ptr<runtime::MemoryBudget> rpc_memory;
        // Of the present life; nullptr until it serves, and after its end.
        Group* group = nullptr;
        Replicator* replicator = nullptr;
        ChainMachine* machine = nullptr;
        const rpc::Endpoint* endpoint = nullptr;
        bool stop = false;
        std::optional<std::function<Task<void>(Group&)>> job;
    };

    sim::World& world() { return world_; }
    Node& node(size_t i) { return *nodes_[i]; }
    size_t size() const { return nodes_.size(); }
    const std::string& log() const { return log_; }
    bool running(size_t i) { return nodes_[i]->node->running(); }
    // Who takes part from the first start on; the others learn it.
    void set_founders(std::vector<int32_t> founders) { members_ = std::move(founders); }
    storage::StoreOptions store_options;
    raft::Options raft_options;
    bool relaxed = false;            // of all groups; may change while they run
    bool count_time_asleep = false;  // ReplicatorOptions::count_time_asleep
    size_t extra_groups = 0;         // that each node opens beside the one of its log, idle

    static std::string name(size_t node) { return "n" + std::to_string(node); }

    void start(size_t i) {
        Node& node = *nodes_[i];
        node.memory = std::make_unique<runtime::MemoryBudget>(16_MiB);
        node.rpc_memory = std::make_unique<runtime::MemoryBudget>(16_MiB);
        node.stop = false;
        world_.start(*node.node, [this, i](Shard&) { return serve(this, i); });
    }
    void start_all() {
        for (size_t i = 0; i < nodes_.size(); ++i) start(i);
    }
    void kill(size_t i, sim::Kill how) {
        Node& node = *nodes_[i];
        node.group = nullptr;
        node.replicator = nullptr;
        node.machine = nullptr;
        node.endpoint = nullptr;
        node.job.reset();
        world_.kill(*node.node, how);
    }
    void stop(size_t i) {
        nodes_[i]->stop = true;
        ASSERT_TRUE(run_until([&] { return nodes_[i]->node->finished(); }, 60s)) << log_;
        world_.reap(*nodes_[i]->node);
        EXPECT_EQ(nodes_[i]->rpc_memory->used(), 0u);
    }
    bool run_until(const std::function<bool()>& done, Duration budget) {
        return world_.run_until(done, budget) == sim::World::Outcome::kDone;
    }
    void run_for(Duration time) { (void)world_.run_for(time); }

    // -1: none that is ready.
    int leader() const {
        for (size_t i = 0; i < nodes_.size(); ++i) {
            if (nodes_[i]->group != nullptr && nodes_[i]->group->leads())
                return static_cast<int>(i);
        }
        return -1;
    }
    int wait_leader(Duration budget = 30s) {
        EXPECT_TRUE(run_until([&] { return leader() >= 0; }, budget)) << log_;
        return leader();
    }
    // Runs a job on a node's shard, to its end.
    void run_on(size_t i, std::function<Task<void>(Group&)> job, Duration budget = 60s) {
        nodes_[i]->job = std::move(job);
        ASSERT_TRUE(run_until([&] { return !nodes_[i]->job; }, budget)) << log_;
    }
    // Appends `count` entries at the leader and waits until they are acknowledged.
    void append(int count, size_t size = 200) {
        int left = count;
        for (int tries = 0; left > 0 && tries < 50; ++tries) {
            const int at = wait_leader();
            if (at < 0) return;
            run_on(static_cast<size_t>(at), [&](Group& group) -> Task<void> {
                while (left > 0 && co_await append_one(this, &group, size)) --left;
            });
        }
        EXPECT_EQ(left, 0) << log_;
    }
    static Task<bool> append_one(TestCluster* cluster, Group* group, size_t size) {
        if (!co_await group->admit(size, {})) co_return false;
        const uint64_t value = cluster->next_value_++;
        std::vector<uint8_t> payload(std::max<size_t>(size, 8), static_cast<uint8_t>(value));
        store_be<uint64_t>(payload.data(), value);
        storage::Entry entry;
        entry.info.next_offset = 1;
        entry.payload = runtime::SharedBytes::copy_of(payload);
        const auto info = group->append(std::move(entry));
        if (!info) co_return false;
        // A leader's own state machine is its owner's to feed.
        for (auto& node : cluster->nodes_) {
            if (node->group == group) node->machine->on_append(*info, payload);
        }
        if (!co_await group->wait_committed(info->end(), info->term)) co_return false;
        cluster->acknowledged_.push_back({info->first.offset, value});
        co_return true;
    }

    // Every node's committed entries are those that were acknowledged, at their offsets; returns
    // the node's high watermark.
    void check(size_t i) {
        run_on(i, [&](Group& group) -> Task<void> {
            std::map<int64_t, uint64_t> held;
            storage::Position at{group.log().start_offset(), 0};
            while (at < group.commit()) {
                const auto entries = co_await group.log().read_entries(
                    at, {.end = group.commit(), .bytes_max = 64_KiB}, {});
                if (!entries || entries->empty()) {
                    ADD_FAILURE() << "node " << i << " can't be read at " << at.offset << "\n"
                                  << log_;
                    co_return;
                }
                for (const storage::FoundEntry& entry : *entries) {
                    at = entry.info.end();
                    if (entry.info.kind == storage::EntryKind::kControl) continue;
                    held[entry.info.first.offset] = load_be<uint64_t>(entry.payload.data());
                }
            }
            for (const auto& [offset, value] : held) {
                const auto [place, is_new] = truth_.emplace(offset, value);
                EXPECT_EQ(place->second, value)
                    << "node " << i << " has another entry at " << offset << "\n"
                    << log_;
            }
            for (const Acknowledged& each : acknowledged_) {
                if (each.offset < group.log().start_offset() ||
                    each.offset >= group.high_watermark())
                    continue;
                const auto found = held.find(each.offset);
                EXPECT_TRUE(found != held.end() && found->second == each.value)
                    << "node " << i << " lost offset " << each.offset << "\n"
                    << log_;
            }
        });
    }
    // All nodes come to hold all that was acknowledged, and agree.
    void check_all(Duration budget = 60s) {
        int64_t end = 0;
        for (const Acknowledged& each : acknowledged_) end = std::max(end, each.offset + 1);
        EXPECT_TRUE(run_until(
            [&] {
                int64_t high = -1;
                for (const auto& node : nodes_) {
                    if (node->group == nullptr || node->group->high_watermark() < end) return false;
                    if (high >= 0 && node->group->high_watermark() != high) return false;
                    high = node->group->high_watermark();
                }
                return true;
            },
            budget))
            << summary() << log_;
        std::optional<uint64_t> chain;
        for (size_t i = 0; i < nodes_.size(); ++i) {
            if (nodes_[i]->group == nullptr) continue;
            check(i);
            if (nodes_[i]->group == nullptr) continue;
            // A log that was discarded is folded from its start on, without what lay below.
            if (began_anew_ && nodes_[i]->group->log().start_offset() > 0) continue;
            if (!chain) chain = nodes_[i]->machine->committed_chain();
            EXPECT_EQ(nodes_[i]->machine->committed_chain(), *chain)
                << "node " << i << " folds to another state\n"
                << log_;
        }
    }
    std::string summary() const {
        std::string text;
        for (size_t i = 0; i < nodes_.size(); ++i) {
            const Group* group = nodes_[i]->group;
            text +=
                group == nullptr
                    ? fmt::format("n{}: down\n", i)
                    : fmt::format("n{}: role={} term={} leader={} commit={}.{} end={}.{}\n", i,
                                  static_cast<int>(group->role()), group->term(), group->leader().v,
                                  group->commit().offset, group->commit().ordinal,
                                  group->log().end().offset, group->log().end().ordinal);
            if (group == nullptr) continue;
            for (const raft::PeerStatus& peer : group->core().peers())
                text += fmt::format("  peer {} state={} match={}.{}\n", peer.node.v,
                                    static_cast<int>(peer.state), peer.match.offset,
                                    peer.match.ordinal);
            const ReplicatorMetrics& metrics = nodes_[i]->replicator->metrics();
            text += fmt::format(
                "  messages sent={} received={} malformed={} appends dropped={} frames refused={} "
                "snapshots={}/{} durable={}.{} start={}\n",
                metrics.messages_sent, metrics.messages_received, metrics.messages_malformed,
                metrics.appends_dropped, metrics.frames_refused, metrics.snapshots_sent,
                metrics.snapshots_installed, group->log().durable_end().offset,
                group->log().durable_end().ordinal, group->log().start_offset());
        }
        return text;
    }
    const std::vector<Acknowledged>& acknowledged() const { return acknowledged_; }
    // What is left after a loss that may be: this many of the first of them.
    void keep_acknowledged(size_t count) {
        acknowledged_.resize(count);
        truth_.clear();
    }

  private:
    int64_t world_ms() const { return world_.now().ns / 1'000'000; }

    static Task<void> serve(TestCluster* cluster, size_t index) {
        Node& node = *cluster->nodes_[index];
        storage::StoreOptions options = cluster->store_options;
        options.directory = "/data";
        options.memory = node.memory.get();
        options.on_fatal = [](const Error&) {};
        auto opened = co_await storage::StoreSet::open(options);
        if (!opened) co_return;  // a fault of the plan; the next life tries again
        const std::unique_ptr<storage::StoreSet> set = std::move(*opened);
        storage::Store& store = set->local();
        storage::Log* log = store.find(kLog);
        if (log == nullptr) {
            auto made = co_await store.create_log(kLog, {.segment_bytes = 256_KiB});
            if (!made) {
                co_await set->close();
                co_return;
            }
            log = *made;
        }
        Uuid cluster_id, uuid;
        cluster_id.bytes.fill(1);
        uuid.bytes.fill(static_cast<uint8_t>(100 + index));
        rpc::Endpoint endpoint(rpc::Identity{cluster_id, NodeId{static_cast<int32_t>(index)}, uuid},
                               rpc::EndpointOptions{.memory = node.rpc_memory.get()});
        for (size_t other = 0; other < cluster->size(); ++other) {
            if (other != index)
                endpoint.set_address(NodeId{static_cast<int32_t>(other)}, name(other), 7000);
        }
        ChainMachine machine;
        raft::Options raft_options = cluster->raft_options;
        raft_options.bugs = cluster->bugs_;
        Replicator replicator({.self = {static_cast<int32_t>(index)},
                               .raft = raft_options,
                               .store = &store,
                               .count_time_asleep = cluster->count_time_asleep});
        replicator.start(&endpoint);
        rpc::Listener listener({&endpoint}, {});
        while (!co_await listener.open(name(index) + ":7000"))
            (void)co_await runtime::sleep_for(50ms);
        listener.start();
        raft::Configuration founders;
        for (const int32_t member : cluster->members_)
            founders.members.push_back({.node = {member}, .voter = true});
        const bool founder = founders.find({static_cast<int32_t>(index)}) != nullptr;
        auto group = co_await replicator.open(
            *log, machine, Beginning{.founders = founder ? founders : raft::Configuration{}},
            [&](Group& made) { machine.group = &made; });
        std::vector<std::unique_ptr<ChainMachine>> extra;
        for (size_t i = 0; group && i < cluster->extra_groups; ++i) {
            const storage::LogId id{1000 + i};
            if (store.find(id) == nullptr) (void)co_await store.create_log(id, {});
            ChainMachine& each = *extra.emplace_back(std::make_unique<ChainMachine>());
            EXPECT_TRUE(co_await replicator.open(*store.find(id), each, Beginning{founders},
                                                 [&](Group& made) { each.group = &made; }));
        }
        if (group) {
            node.group = *group;
            node.machine = &machine;
            node.endpoint = &endpoint;
            node.replicator = &replicator;
            bool relaxed = false;
            while (!node.stop && !store.failed()) {
                cluster->began_anew_ |= replicator.metrics().logs_discarded > 0;
                if (std::exchange(relaxed, cluster->relaxed) != cluster->relaxed)
                    (*group)->set_relaxed(cluster->relaxed);
                if (node.job) {
                    co_await (*node.job)(**group);
                    node.job.reset();
                }
                (void)co_await runtime::sleep_for(1ms);
            }
        } else if (!store.failed()) {  // else a fault of the plan: the next life tries again
            ADD_FAILURE() << "node " << index << ": " << group.error().to_string();
        }
        node.group = nullptr;
        node.machine = nullptr;
        node.replicator = nullptr;
        node.job.reset();
        node.endpoint = nullptr;
        co_await listener.close();
        co_await replicator.close();
        co_await endpoint.close();
        co_await set->close();
    }

    raft::RaftBugs bugs_;
    bool began_anew_ = false;  // some node discarded its log
    std::string log_;
    std::vector<std::unique_ptr<Node>> nodes_;
    std::vector<int32_t> members_;
    uint64_t next_value_ = 1;
    std::vector<Acknowledged> acknowledged_;
    std::map<int64_t, uint64_t> truth_;
    sim::World world_;
};

}  // namespace weir::replication

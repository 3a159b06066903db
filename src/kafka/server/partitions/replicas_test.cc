// Partitions on several nodes of the simulator: the real store, the real connections, a table of
// partitions on each node; the metadata is what the test says.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/units.h"
#include "cluster/features.h"
#include "cluster/metadata_shard.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"
#include "kafka/server/partitions/partition_table.h"
#include "rpc/listener.h"
#include "runtime/sim/world.h"
#include "storage/store.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

constexpr storage::LogId kLog{7};

class Replicas : public testing::Test {
  protected:
    static constexpr size_t kNodes = 4;
    struct Node {
        sim::Node* node = nullptr;
        std::unique_ptr<runtime::MemoryBudget> memory, rpc_memory;
        // Of the present life.
        PartitionTable* table = nullptr;
        cluster::MetadataShard* metadata = nullptr;
        replication::Replicator* replicator = nullptr;
        std::optional<std::function<Task<void>()>> job;
    };

    Replicas() {
        for (size_t i = 0; i < kNodes; ++i) {
            nodes.push_back(std::make_unique<Node>());
            nodes.back()->node = &world.add_node({.name = name(i), .shards = 1});
        }
        topic.bytes.fill(9);
        apply(cluster::FeatureFinalized{
            std::string(cluster::kWeirVersion),
            cluster::supported_features().find(cluster::kWeirVersion)->second.max});
        apply(cluster::NodeRegistered{.id = 0, .uuid = uuid(0)});
        apply(cluster::NodeRegistered{.id = 1, .uuid = uuid(1)});
        apply(cluster::NodeRegistered{.id = 2, .uuid = uuid(2)});
        apply(cluster::NodeRegistered{.id = 3, .uuid = uuid(3)});
        apply(cluster::TopicCreated{.name = "t",
                                    .id = topic,
                                    .partitions = {{.log = kLog, .replicas = {0, 1, 2}}},
                                    .configs = {}});
        for (size_t i = 0; i < kNodes; ++i) start(i);
    }
    ~Replicas() override {
        for (size_t i = 0; i < kNodes; ++i) {
            if (nodes[i]->node->running()) kill(i);
        }
    }

    static std::string name(size_t i) { return fmt::format("n{}", i); }
    static Uuid uuid(size_t i) {
        Uuid id;
        id.bytes.fill(static_cast<uint8_t>(100 + i));
        return id;
    }
    void apply(cluster::MetadataRecord record) {
        if (std::holds_alternative<cluster::NodeRegistered>(record)) {
            auto& node = std::get<cluster::NodeRegistered>(record);
            node.epoch = 1;
            node.rpc = {name(static_cast<size_t>(node.id)), 7000};
            node.kafka = {name(static_cast<size_t>(node.id)), 9092};
            node.shards = 1;
            node.features = cluster::supported_features();
        }
        ASSERT_TRUE(image.apply(record).has_value());
    }
    // A change of the metadata, told to every node that runs.
    void change(cluster::MetadataRecord record) {
        apply(record);
        for (size_t i = 0; i < kNodes; ++i) {
            if (nodes[i]->table == nullptr) continue;
            run_on(i, [this, i, record]() -> Task<void> {
                nodes[i]->metadata->adopt(image, 0);
                cluster::MetadataChange news;
                news.records = {record};
                co_await nodes[i]->table->follow(news);
            });
        }
    }

    void start(size_t i) {
        nodes[i]->memory = std::make_unique<runtime::MemoryBudget>(16_MiB);
        nodes[i]->rpc_memory = std::make_unique<runtime::MemoryBudget>(16_MiB);
        world.start(*nodes[i]->node, [this, i](Shard&) { return serve(this, i); });
    }
    void kill(size_t i) {
        nodes[i]->table = nullptr;
        nodes[i]->metadata = nullptr;
        nodes[i]->replicator = nullptr;
        nodes[i]->job.reset();
        world.kill(*nodes[i]->node, sim::Kill::kProcess);
    }
    bool run_until(const std::function<bool()>& done, Duration budget = 60s) {
        return world.run_until(done, budget) == sim::World::Outcome::kDone;
    }
    void run_on(size_t i, std::function<Task<void>()> job) {
        nodes[i]->job = std::move(job);
        ASSERT_TRUE(run_until([&] { return !nodes[i]->job; })) << log;
    }

    static Task<void> serve(Replicas* test, size_t index) {
        Node& node = *test->nodes[index];
        storage::StoreOptions options;
        options.directory = "/data";
        options.memory = node.memory.get();
        options.on_fatal = [](const Error&) {};
        auto opened = co_await storage::StoreSet::open(options);
        if (!opened) {
            ADD_FAILURE() << opened.error().to_string();
            co_return;
        }
        const std::unique_ptr<storage::StoreSet> set = std::move(*opened);
        Uuid cluster_id;
        cluster_id.bytes.fill(1);
        rpc::Endpoint endpoint(
            rpc::Identity{cluster_id, NodeId{static_cast<int32_t>(index)}, uuid(index)},
            rpc::EndpointOptions{.memory = node.rpc_memory.get()});
        for (size_t other = 0; other < kNodes; ++other) {
            if (other != index)
                endpoint.set_address(NodeId{static_cast<int32_t>(other)}, name(other), 7000);
        }
        replication::Replicator replicator(
            {.self = {static_cast<int32_t>(index)}, .raft = {}, .store = &set->local()});
        replicator.start(&endpoint);
        rpc::Listener listener({&endpoint}, {});
        while (!co_await listener.open(name(index) + ":7000"))
            (void)co_await runtime::sleep_for(50ms);
        listener.start();
        cluster::MetadataShard metadata(static_cast<int32_t>(index), {});
        metadata.adopt(test->image, 0);
        metadata.set_status({.controller = 0, .alive = {0, 1, 2, 3}});
        metadata.set_announce([test, &metadata](const cluster::LeaderState& state) {
            test->announced.push_back(state);
            (void)metadata.learn_leader(state);
            if (state.hearsay || test->statements_lost) return;
            for (auto& each : test->nodes) {
                if (each->metadata != nullptr) (void)each->metadata->learn_leader(state);
            }
        });
        metadata.set_report([test](const cluster::MetadataShard::ReplicasReport& report) {
            test->reported.insert(report.revision);
        });
        node.metadata = &metadata;
        node.replicator = &replicator;
        runtime::Scope scope;
        std::vector<Mailbox*> boxes;
        Mailbox mailbox(0, boxes, scope);
        boxes.push_back(&mailbox);
        runtime::MemoryBudget unpacking_memory(64 << 20);
        Unpacking unpacking(unpacking_memory);
        PartitionTable table(set->local(), metadata, replicator, mailbox, test->bugs, unpacking);
        if (const auto done = co_await table.open(); !done) {
            ADD_FAILURE() << done.error().to_string();
            co_return;
        }
        node.table = &table;
        while (true) {
            if (node.job) {
                co_await (*node.job)();
                node.job.reset();
            }
            (void)co_await runtime::sleep_for(1ms);
        }
    }

    Partition* partition(size_t i) {
        return nodes[i]->table == nullptr ? nullptr : nodes[i]->table->find(kLog);
    }
    int leader() {
        for (size_t i = 0; i < kNodes; ++i) {
            if (partition(i) != nullptr && partition(i)->leads()) return static_cast<int>(i);
        }
        return -1;
    }
    size_t wait_leader() {
        EXPECT_TRUE(run_until([&] { return leader() >= 0; })) << log;
        return static_cast<size_t>(std::max(0, leader()));
    }
    size_t follower() {
        const auto leads = static_cast<size_t>(leader());
        for (size_t i = 0; i < kNodes; ++i) {
            if (i != leads && partition(i) != nullptr) return i;
        }
        return 0;
    }

    static Task<Result<int64_t>> no_controller() {
        co_return fail(ErrorCode::kUnavailable, "the controller is not here");
    }
    static std::vector<uint8_t> batch(int32_t sequence, int32_t records) {
        BatchBuilder builder({.compression = Compression::kNone,
                              .producer_id = 5,
                              .producer_epoch = 0,
                              .base_sequence = sequence});
        for (int32_t i = 0; i < records; ++i) {
            builder.append({.timestamp = {1000},
                            .key = std::nullopt,
                            .value = as_bytes("value"),
                            .headers = {}});
        }
        return *builder.build();
    }
    AppendOutcome append(size_t i, int32_t sequence, int32_t records, bool wait = true,
                         AppendOptions options = {}) {
        AppendOutcome outcome;
        run_on(i, [&, options]() -> Task<void> {
            const auto use = partition(i)->enter();
            outcome = co_await partition(i)->append(
                {.bytes = runtime::SharedBytes::copy_of(batch(sequence, records)),
                 .max_timestamp = {1000}},
                options, {});
            if (wait && outcome.error == KafkaError::kNone) {
                outcome.error = co_await partition(i)->wait_committed(
                    outcome.end, outcome.term, {.deadline = Shard::current().now() + 20s});
            }
        });
        return outcome;
    }
    FetchOutcome fetch(size_t i, FetchRange range) {
        FetchOutcome outcome;
        range.bytes_max = 1_MiB;
        range.at_least_one = true;
        run_on(i, [&]() -> Task<void> {
            const auto use = partition(i)->enter();
            outcome = co_await partition(i)->fetch(range, {});
        });
        return outcome;
    }

    std::string log;
    ServerBugs bugs;  // of all nodes, at once
    std::vector<std::unique_ptr<Node>> nodes;
    Uuid topic;
    cluster::MetadataImage image;  // as all nodes have it
    std::vector<cluster::LeaderState> announced;
    bool statements_lost = false;  // between the nodes
    std::set<uint32_t> reported;
    sim::World world{{.plan = {.seed = 11}, .log_sink = [this](const Logger::Event& event) {
                          log += fmt::format("{} {} {}\n", event.component, event.message,
                                             event.fields);
                      }}};
};

TEST_F(Replicas, what_was_acknowledged_survives_its_leader_and_is_known_when_it_is_sent_again) {
    const size_t first = wait_leader();
    EXPECT_EQ(partition(3), nullptr) << "the node has no replica";
    ASSERT_EQ(append(first, 0, 3).error, KafkaError::kNone);
    ASSERT_EQ(append(first, 3, 2).base_offset, 3);
    const int32_t epoch = partition(first)->leader_epoch();
    kill(first);
    const size_t second = wait_leader();
    ASSERT_NE(second, first);
    // The new leader knows why it is one.
    ASSERT_TRUE(run_until(
        [&] {
            return announced.back().leader == static_cast<int32_t>(second) &&
                   announced.back().in_sync.size() == 2;
        },
        2s))
        << log;
    EXPECT_GT(partition(second)->leader_epoch(), epoch);
    // A follower took the producer's state with the batches.
    const AppendOutcome again = append(second, 3, 2);
    EXPECT_EQ(again.error, KafkaError::kNone);
    EXPECT_EQ(again.base_offset, 3);
    EXPECT_EQ(append(second, 7, 1).error, KafkaError::kOutOfOrderSequenceNumber);
    EXPECT_EQ(append(second, 5, 1).base_offset, 5);
    // The old epoch ends where the new one began.
    EXPECT_EQ(partition(second)->end_of_epoch(epoch).end_offset, 5);
    EXPECT_EQ(partition(second)->check_epoch(epoch), KafkaError::kFencedLeaderEpoch);
    start(first);
    EXPECT_TRUE(run_until([&] {
        return partition(first) != nullptr && partition(first)->high_watermark() == 6;
    })) << log;
    EXPECT_EQ(partition(first)->producers().at(0).last_sequence, 5);
}

TEST_F(Replicas, what_a_leader_alone_appended_is_cut_off_and_its_producer_may_send_it_again) {
    const size_t first = wait_leader();
    ASSERT_EQ(append(first, 0, 3).error, KafkaError::kNone);
    // Nobody hears this leader any more.
    for (size_t i = 0; i < kNodes; ++i) {
        if (i == first) continue;
        world.cut_link(*nodes[first]->node, *nodes[i]->node);
        world.cut_link(*nodes[i]->node, *nodes[first]->node);
    }
    const AppendOutcome lost = append(first, 3, 4, false);
    ASSERT_EQ(lost.base_offset, 3);
    EXPECT_EQ(partition(first)->producers().at(0).last_sequence, 6);
    EXPECT_EQ(partition(first)->high_watermark(), 3);
    ASSERT_TRUE(run_until([&] {
        for (size_t i = 0; i < 3; ++i) {
            if (i != first && partition(i)->leads()) return true;
        }
        return false;
    })) << log;
    ASSERT_TRUE(run_until([&] { return !partition(first)->is_leader(); })) << log;
    EXPECT_EQ(append(first, 3, 4).error, KafkaError::kNotLeaderOrFollower);
    const size_t second = static_cast<size_t>(leader());
    ASSERT_EQ(append(second, 3, 1).base_offset, 3) << "it is not known: it was lost";
    world.heal();
    ASSERT_TRUE(run_until([&] { return partition(first)->high_watermark() == 4; })) << log;
    EXPECT_EQ(partition(first)->producers().at(0).last_sequence, 3);
    EXPECT_EQ(partition(first)->log().end().offset, 4);
}

// 1. A leader that nobody hears takes a batch.  2. Its client, who got no answer, sends it
// again.  3. The leader knows it, and must not say so: another one leads, and has never seen it.
TEST_F(Replicas, a_batch_that_is_sent_again_is_not_acknowledged_before_it_is_committed) {
    const size_t first = wait_leader();
    ASSERT_EQ(append(first, 0, 3).error, KafkaError::kNone);
    for (size_t i = 0; i < kNodes; ++i) {
        if (i == first) continue;
        world.cut_link(*nodes[first]->node, *nodes[i]->node);
        world.cut_link(*nodes[i]->node, *nodes[first]->node);
    }
    ASSERT_EQ(append(first, 3, 4, false).base_offset, 3);
    // The bug is seen here.
    bugs.answer_duplicate_before_commit = true;
    EXPECT_EQ(append(first, 3, 4).error, KafkaError::kNone);
    EXPECT_EQ(partition(first)->high_watermark(), 3) << "what was acknowledged is not committed";
    bugs.answer_duplicate_before_commit = false;
    EXPECT_NE(append(first, 3, 4).error, KafkaError::kNone);
    // And the batch is lost.
    ASSERT_TRUE(run_until([&] {
        for (size_t i = 0; i < 3; ++i) {
            if (i != first && partition(i)->leads()) return true;
        }
        return false;
    })) << log;
    const auto second = static_cast<size_t>(leader());
    EXPECT_EQ(append(second, 3, 1).base_offset, 3);
}

// A client that is told NOT_LEADER_OR_FOLLOWER takes the record for one that was not written.
TEST_F(Replicas, who_was_deposed_tells_what_became_of_what_it_took) {
    const size_t first = wait_leader();
    ASSERT_EQ(append(first, 0, 3).error, KafkaError::kNone);
    // The others have it, and the leader does not hear so.
    for (size_t i = 0; i < kNodes; ++i) {
        if (i != first) world.cut_link(*nodes[i]->node, *nodes[first]->node);
    }
    const AppendOutcome taken = append(first, 3, 4, false);
    ASSERT_EQ(taken.error, KafkaError::kNone);
    const auto deposed = [&] { return !partition(first)->is_leader(); };
    const auto told = [&](const AppendOutcome& outcome) {
        KafkaError error = KafkaError::kNone;
        run_on(first, [&]() -> Task<void> {
            error = co_await partition(first)->wait_committed(outcome.end, outcome.term, {});
        });
        return error;
    };
    ASSERT_TRUE(run_until(deposed)) << log;
    for (size_t i = 0; i < kNodes; ++i) {
        if (i != first) world.cut_link(*nodes[first]->node, *nodes[i]->node);
    }
    EXPECT_EQ(told(taken), KafkaError::kNotLeaderOrFollower) << "it can't know";
    world.heal();
    EXPECT_EQ(told(taken), KafkaError::kNone);

    // Nobody has it but the leader.
    const size_t second = wait_leader();
    ASSERT_TRUE(run_until([&] { return partition(second)->high_watermark() == 7; })) << log;
    for (size_t i = 0; i < kNodes; ++i) {
        if (i == second) continue;
        world.cut_link(*nodes[second]->node, *nodes[i]->node);
        world.cut_link(*nodes[i]->node, *nodes[second]->node);
    }
    const AppendOutcome lost = append(second, 7, 1, false);
    ASSERT_EQ(lost.error, KafkaError::kNone);
    ASSERT_TRUE(run_until([&] { return !partition(second)->is_leader(); })) << log;
    world.heal();
    KafkaError error = KafkaError::kNone;
    run_on(second, [&]() -> Task<void> {
        error = co_await partition(second)->wait_committed(lost.end, lost.term, {});
    });
    EXPECT_EQ(error, KafkaError::kNotLeaderOrFollower);
}

TEST_F(Replicas, followers_give_what_is_committed_and_send_writers_to_the_leader) {
    const size_t leads = wait_leader();
    ASSERT_EQ(append(leads, 0, 3).error, KafkaError::kNone);
    const size_t other = follower();
    ASSERT_TRUE(run_until([&] { return partition(other)->high_watermark() == 3; })) << log;
    EXPECT_GT(fetch(other, {.offset = 0}).size, 0u);
    EXPECT_EQ(fetch(other, {.offset = 3}).error, KafkaError::kNone);
    EXPECT_EQ(fetch(other, {.offset = 4}).error, KafkaError::kOffsetNotAvailable);
    EXPECT_EQ(fetch(leads, {.offset = 4}).error, KafkaError::kOffsetOutOfRange);
    const FetchOutcome refused = fetch(other, {.offset = 0, .leader_only = true});
    EXPECT_EQ(refused.error, KafkaError::kNotLeaderOrFollower);
    EXPECT_EQ(refused.hint.leader, static_cast<int32_t>(leads));
    const AppendOutcome written = append(other, 3, 1);
    EXPECT_EQ(written.error, KafkaError::kNotLeaderOrFollower);
    EXPECT_EQ(written.hint.leader, static_cast<int32_t>(leads));
    EXPECT_EQ(written.hint.epoch, partition(leads)->leader_epoch());
}

// The reader has had from another replica what this one lacks.
TEST_F(Replicas, a_follower_that_is_behind_tells_no_reader_that_it_diverges) {
    const size_t leads = wait_leader();
    ASSERT_EQ(append(leads, 0, 3).error, KafkaError::kNone);
    const size_t late = follower();
    ASSERT_TRUE(run_until([&] { return partition(late)->high_watermark() == 3; })) << log;
    world.cut_link(*nodes[leads]->node, *nodes[late]->node);
    ASSERT_EQ(append(leads, 3, 4).error, KafkaError::kNone);
    const int32_t epoch = partition(leads)->leader_epoch();
    const FetchOutcome beyond = fetch(late, {.offset = 7, .last_fetched_epoch = epoch});
    EXPECT_FALSE(beyond.diverging.has_value());
    EXPECT_EQ(beyond.error, KafkaError::kOffsetNotAvailable);
    const FetchOutcome later = fetch(late, {.offset = 2, .last_fetched_epoch = epoch + 1});
    EXPECT_EQ(later.error, KafkaError::kOffsetNotAvailable) << "of an election it has not heard of";
    EXPECT_EQ(fetch(late, {.offset = 2, .last_fetched_epoch = epoch}).error, KafkaError::kNone);
}

TEST_F(Replicas, a_replica_that_is_gone_is_not_in_sync_and_counts_no_more) {
    const size_t leads = wait_leader();
    ASSERT_EQ(append(leads, 0, 3, true, {.in_sync_min = 3}).error, KafkaError::kNone);
    ASSERT_TRUE(run_until([&] { return !announced.empty(); })) << log;
    EXPECT_EQ(announced.back().in_sync, (std::vector<int32_t>{0, 1, 2}));
    const size_t gone = follower();
    kill(gone);
    ASSERT_TRUE(run_until([&] { return announced.back().in_sync.size() == 2; })) << log;
    EXPECT_EQ(append(leads, 3, 1, true, {.in_sync_min = 3}).error, KafkaError::kNotEnoughReplicas);
    EXPECT_EQ(append(leads, 3, 1, true, {.in_sync_min = 2}).error, KafkaError::kNone);
    start(gone);
    ASSERT_TRUE(run_until([&] { return announced.back().in_sync.size() == 3; })) << log;
    EXPECT_EQ(announced.back().leader, static_cast<int32_t>(leads));
}

TEST_F(Replicas, a_leader_whose_word_is_lost_is_known_where_it_has_followers) {
    const size_t first = wait_leader();
    const auto known = [&](size_t i) { return nodes[i]->metadata->leaders().find(kLog); };
    const auto all_know = [&](const std::function<bool(const cluster::LeaderState&)>& what) {
        for (size_t i = 0; i < 3; ++i) {
            if (nodes[i]->metadata == nullptr || known(i) == nullptr || !what(*known(i)))
                return false;
        }
        return true;
    };
    ASSERT_TRUE(run_until(
        [&] { return all_know([&](const auto& state) { return state.in_sync.size() == 3; }); }));
    EXPECT_EQ(known((first + 1) % 3)->leader, static_cast<int32_t>(first));

    statements_lost = true;
    kill(first);
    const size_t second = wait_leader();
    start(first);
    const auto names_second = [&](const auto& state) {
        return state.leader == static_cast<int32_t>(second);
    };
    EXPECT_TRUE(run_until([&] { return all_know(names_second); }, 10s)) << log;
    const size_t third = 3 - first - second;
    EXPECT_TRUE(known(third)->hearsay);
    EXPECT_EQ(known(third)->in_sync, std::vector{static_cast<int32_t>(second)});

    // Its own word counts more, whenever it comes.
    statements_lost = false;
    kill(third);
    ASSERT_TRUE(run_until([&] { return known(second)->in_sync.size() == 2; }));
    start(third);
    EXPECT_TRUE(run_until([&] {
        return all_know([&](const auto& state) {
            return names_second(state) && !state.hearsay && state.in_sync.size() == 3;
        });
    })) << log;
}

// Kafka's controller names the first replica of the list in the record that makes the partition.
TEST_F(Replicas, a_new_partition_is_led_by_its_first_replica_after_one_election) {
    const size_t before = wait_leader();
    ASSERT_LT(before, kNodes);
    EXPECT_EQ(before, 0u) << "also a partition that is there when its nodes start";
    const auto elections = [&] {
        uint64_t won = 0;
        for (const auto& node : nodes) won += node->replicator->metrics().elections_won;
        return won;
    };
    const uint64_t won_before = elections();
    cluster::TopicCreated created{.name = "new", .id = uuid(50), .partitions = {}, .configs = {}};
    constexpr uint64_t kPartitions = 24;
    for (uint64_t i = 0; i < kPartitions; ++i) {
        std::vector<int32_t> replicas;
        for (uint64_t j = 0; j < 3; ++j) replicas.push_back(static_cast<int32_t>((i + j) % kNodes));
        created.partitions.push_back({.log = {100 + i}, .replicas = replicas});
    }
    change(created);
    const auto leads_first = [&](const cluster::PartitionAssignment& each) {
        Partition* first = nodes[static_cast<size_t>(each.replicas[0])]->table->find(each.log);
        return first != nullptr && first->leads() && first->leader_epoch() == 1;
    };
    EXPECT_TRUE(run_until([&] { return std::ranges::all_of(created.partitions, leads_first); }))
        << log;
    EXPECT_EQ(elections() - won_before, kPartitions);
    // Nothing is moved or held again later on.
    world.run_until([] { return false; }, 8s);
    EXPECT_TRUE(std::ranges::all_of(created.partitions, leads_first)) << log;
    EXPECT_EQ(elections() - won_before, kPartitions);
}

TEST_F(Replicas, a_reassignment_moves_the_replica_its_data_and_its_producers) {
    const size_t leads = wait_leader();
    ASSERT_EQ(append(leads, 0, 3).error, KafkaError::kNone);
    change(cluster::PartitionReassigned{
        .topic = topic, .partition = 0, .target = {3, 1, 2}, .revision = 1});
    ASSERT_TRUE(run_until([&] { return reported.contains(1); })) << log;
    change(cluster::PartitionReplicasChanged{
        .topic = topic, .partition = 0, .replicas = {3, 1, 2}, .revision = 2});
    ASSERT_TRUE(run_until([&] { return partition(0) == nullptr; })) << log;
    const size_t now = wait_leader();
    EXPECT_NE(now, 0u);
    EXPECT_EQ(append(now, 0, 3).base_offset, 0) << "sent again";
    EXPECT_EQ(append(now, 3, 1).base_offset, 3);
    ASSERT_TRUE(run_until([&] {
        return partition(3) != nullptr && partition(3)->high_watermark() == 4;
    })) << log;
    EXPECT_EQ(partition(3)->producers().at(0).last_sequence, 3);
    // Leadership goes where it is asked to go.
    run_on(now, [&]() -> Task<void> {
        if (now != 3) EXPECT_TRUE(co_await nodes[now]->table->transfer(kLog, NodeId{3}));
    });
    ASSERT_TRUE(run_until([&] { return partition(3)->leads(); })) << log;
    EXPECT_EQ(append(3, 4, 1).base_offset, 4);
}

// Cancelled when the group was at its new members already, and the controller had not heard of it:
// they keep what they have until the group is back.
TEST_F(Replicas, a_reassignment_that_is_cancelled_too_late_loses_nothing) {
    const size_t leads = wait_leader();
    ASSERT_EQ(append(leads, 0, 3).error, KafkaError::kNone);
    change(
        cluster::PartitionReassigned{.topic = topic, .partition = 0, .target = {3}, .revision = 1});
    ASSERT_TRUE(run_until([&] { return reported.contains(1); })) << log;
    ASSERT_TRUE(run_until([&] { return partition(3)->leads(); })) << log;
    ASSERT_EQ(append(3, 3, 1).base_offset, 3);
    // Nobody else has the last record. The node starts anew right after the cancellation.
    change(
        cluster::PartitionReassigned{.topic = topic, .partition = 0, .target = {}, .revision = 2});
    kill(3);
    start(3);
    ASSERT_TRUE(run_until([&] { return reported.contains(2); })) << log;
    change(cluster::PartitionReplicasChanged{
        .topic = topic, .partition = 0, .replicas = {0, 1, 2}, .revision = 3});
    ASSERT_TRUE(run_until([&] { return partition(3) == nullptr; })) << log;
    const size_t now = wait_leader();
    EXPECT_NE(now, 3u);
    EXPECT_EQ(append(now, 4, 1).base_offset, 4);
}

// A leader that knows the cluster as it was does not take its group back to where it was.
TEST_F(Replicas, a_leader_that_has_not_heard_of_a_reassignment_does_not_undo_it) {
    wait_leader();
    const cluster::MetadataImage before = image;
    change(cluster::PartitionReassigned{
        .topic = topic, .partition = 0, .target = {1, 2, 3}, .revision = 1});
    ASSERT_TRUE(run_until([&] { return reported.contains(1); })) << log;
    const size_t now = wait_leader();
    run_on(now, [&]() -> Task<void> {
        nodes[now]->metadata->adopt(before, 0);
        co_return;
    });
    (void)run_until([] { return false; }, 10s);
    ASSERT_EQ(wait_leader(), now);
    EXPECT_EQ(partition(now)->group()->configuration().find(NodeId{0}), nullptr);
}

// Two of three hear of the partition when it is to move already, and the third, which led it, is
// lost before it told them anything.
TEST_F(Replicas, founders_that_hear_late_elect_a_leader_without_the_one_that_heard_in_time) {
    constexpr storage::LogId kOther{8};
    Uuid other;
    other.bytes.fill(10);
    const auto replica = [&](size_t i) -> Partition* {
        return nodes[i]->table == nullptr ? nullptr : nodes[i]->table->find(kOther);
    };
    ASSERT_TRUE(run_until([&] { return nodes[0]->table != nullptr; })) << log;
    kill(1);
    kill(2);
    change(cluster::TopicCreated{.name = "u",
                                 .id = other,
                                 .partitions = {{.log = kOther, .replicas = {0, 1, 2}}},
                                 .configs = {}});
    ASSERT_TRUE(run_until([&] { return replica(0) != nullptr; })) << log;
    change(cluster::PartitionReassigned{
        .topic = other, .partition = 0, .target = {1, 2, 3}, .revision = 1, .are_founders = true});
    kill(0);
    start(1);
    start(2);
    ASSERT_TRUE(run_until([&] {
        return replica(1) != nullptr && replica(2) != nullptr &&
               (replica(1)->leads() || replica(2)->leads());
    })) << log;
    // And they go where they were asked to.
    ASSERT_TRUE(run_until([&] { return reported.contains(1); })) << log;
}

// The group moved away from node 0 and is to come back to it, while node 2 hears nothing of it all:
// to node 2 it is the founder that it was.
TEST_F(Replicas, a_founder_that_is_to_be_added_again_does_not_elect_one_that_was_cut_off) {
    ASSERT_EQ(append(wait_leader(), 0, 3).error, KafkaError::kNone);
    change(cluster::PartitionReassigned{
        .topic = topic, .partition = 0, .target = {1, 2, 3}, .revision = 1, .are_founders = true});
    ASSERT_TRUE(run_until([&] { return reported.contains(1); })) << log;
    change(cluster::PartitionReplicasChanged{
        .topic = topic, .partition = 0, .replicas = {1, 2, 3}, .revision = 2});
    ASSERT_TRUE(run_until([&] { return partition(0) == nullptr; })) << log;
    // Nobody tells it anything when it is back.
    for (size_t i = 1; i < kNodes; ++i) {
        world.cut_link(*nodes[0]->node, *nodes[i]->node);
        world.cut_link(*nodes[i]->node, *nodes[0]->node);
    }
    change(cluster::PartitionReassigned{
        .topic = topic, .partition = 0, .target = {0, 1, 2, 3}, .revision = 3});
    ASSERT_TRUE(run_until([&] { return partition(0) != nullptr; })) << log;
    const raft::Core& core = partition(0)->group()->core();
    EXPECT_TRUE(core.configuration().members.empty());
    EXPECT_TRUE(core.votes_withheld());
}

// Its node follows the metadata late: it is at a record that takes the replica away, which was
// given back since. Without it the leader would count on what is about to be dropped.
TEST_F(Replicas, a_replica_that_a_lagging_image_does_not_name_is_silent_until_that_is_sure) {
    const size_t leads = wait_leader();
    ASSERT_EQ(append(leads, 0, 3).error, KafkaError::kNone);
    const size_t late = follower();
    const size_t other = 3 - leads - late;
    cluster::MetadataImage lagging = image;
    const cluster::PartitionReplicasChanged taken{
        .topic = topic,
        .partition = 0,
        .replicas = {static_cast<int32_t>(leads), static_cast<int32_t>(other), 3},
        .revision = 1};
    ASSERT_TRUE(lagging.apply(taken));
    const auto follow = [&](const cluster::MetadataImage& seen) {
        run_on(late, [&]() -> Task<void> {
            nodes[late]->metadata->set_find_end([] { return no_controller(); });
            nodes[late]->metadata->adopt(seen, 0);
            cluster::MetadataChange news;
            news.records = {taken};
            co_await nodes[late]->table->follow(news);
        });
    };
    follow(lagging);
    kill(other);
    ASSERT_EQ(append(leads, 3, 1, false).error, KafkaError::kNone);
    (void)run_until([] { return false; }, 5s);
    ASSERT_NE(partition(late), nullptr);
    EXPECT_EQ(partition(leads)->high_watermark(), 3);
    EXPECT_EQ(partition(late)->log().end().offset, 3);
    EXPECT_EQ(leader(), -1) << "without a majority";
    // Named again, it goes on.
    follow(image);
    const size_t now = wait_leader();
    ASSERT_TRUE(run_until([&] { return partition(now)->high_watermark() >= 3; })) << log;
    ASSERT_NE(partition(late), nullptr);
    EXPECT_EQ(append(now, 4, 1).error, KafkaError::kNone);
}

}  // namespace
}  // namespace weir::kafka

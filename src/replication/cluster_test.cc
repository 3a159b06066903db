// Replicated logs on simulated nodes: real store, real connections, real groups.
#include "replication/testing/cluster.h"

#include <gtest/gtest.h>

namespace weir::replication {
namespace {

sim::Plan calm(uint64_t seed = 1) {
    sim::Plan plan;
    plan.seed = seed;
    return plan;
}

TEST(Replication, a_node_alone_leads_and_commits_what_is_durable) {
    TestCluster cluster(calm(), 1);
    cluster.start_all();
    cluster.append(100);
    cluster.check_all();
    cluster.stop(0);
    cluster.start(0);
    cluster.append(100);
    cluster.check_all();
    EXPECT_EQ(cluster.acknowledged().size(), 200u);
}

TEST(Replication, three_nodes_elect_one_leader_and_hold_the_same) {
    TestCluster cluster(calm(), 3);
    cluster.start_all();
    cluster.append(300);
    cluster.append(20, 200'000);
    cluster.check_all();
    for (size_t i = 0; i < 3; ++i) cluster.stop(i);
}

TEST(Replication, what_was_acknowledged_survives_the_death_of_any_leader) {
    TestCluster cluster(calm(7), 3);
    cluster.start_all();
    for (int round = 0; round < 6; ++round) {
        cluster.append(50);
        const int leader = cluster.wait_leader();
        cluster.kill(static_cast<size_t>(leader),
                     round % 2 == 0 ? sim::Kill::kPower : sim::Kill::kProcess);
        cluster.append(50);
        cluster.start(static_cast<size_t>(leader));
    }
    cluster.check_all();
}

TEST(Replication, a_follower_that_was_away_catches_up) {
    TestCluster cluster(calm(3), 3);
    cluster.start_all();
    cluster.append(20);
    const size_t away = cluster.wait_leader() == 0 ? 1 : 0;
    cluster.kill(away, sim::Kill::kPower);
    cluster.append(2000, 1000);
    cluster.start(away);
    cluster.check_all();
    EXPECT_EQ(cluster.node(away).replicator->metrics().snapshots_installed, 0u);
}

TEST(Replication, a_follower_below_the_leaders_start_gets_a_snapshot) {
    TestCluster cluster(calm(4), 3);
    cluster.start_all();
    cluster.append(50);
    const int leader = cluster.wait_leader();
    const size_t away = leader == 0 ? 1 : 0;
    cluster.kill(away, sim::Kill::kPower);
    cluster.append(500);
    cluster.run_on(static_cast<size_t>(leader), [&](Group& group) -> Task<void> {
        EXPECT_TRUE((co_await group.truncate_prefix(400)).has_value());
        EXPECT_FALSE((co_await group.truncate_prefix(100'000)).has_value());
    });
    cluster.start(away);
    cluster.append(10);
    cluster.check_all();
    EXPECT_EQ(cluster.node(away).replicator->metrics().snapshots_installed, 1u);
    EXPECT_EQ(cluster.node(away).group->log().start_offset(), 400);
    // And it keeps what it was given.
    cluster.kill(away, sim::Kill::kPower);
    cluster.start(away);
    cluster.append(10);
    cluster.check_all();
    // The third one has followed the start by itself.
    const size_t third = 3 - away - static_cast<size_t>(leader);
    EXPECT_EQ(cluster.node(third).group->log().start_offset(), 400);
}

// 1. A new leader's term start is not committed.  2. The only other replica needs a snapshot.  3.
// It must get one although nothing is committed until it has it.
TEST(Replication, a_snapshot_goes_to_the_replica_that_the_commit_waits_for) {
    TestCluster cluster(calm(11), 3);
    cluster.start_all();
    cluster.append(50);
    const int leader = cluster.wait_leader();
    const size_t away = leader == 0 ? 1 : 0;
    const size_t third = 3 - away - static_cast<size_t>(leader);
    cluster.kill(away, sim::Kill::kPower);
    cluster.append(200);
    cluster.run_on(static_cast<size_t>(leader), [&](Group& group) -> Task<void> {
        EXPECT_TRUE((co_await group.truncate_prefix(150)).has_value());
    });
    cluster.kill(third, sim::Kill::kPower);
    cluster.kill(static_cast<size_t>(leader), sim::Kill::kProcess);
    cluster.start(static_cast<size_t>(leader));
    cluster.start(away);
    cluster.append(10);
    cluster.start(third);
    cluster.check_all();
    EXPECT_EQ(cluster.node(away).replicator->metrics().snapshots_installed, 1u);
}

TEST(Replication, leadership_is_handed_over) {
    TestCluster cluster(calm(5), 3);
    cluster.start_all();
    cluster.append(50);
    const int from = cluster.wait_leader();
    const int to = (from + 1) % 3;
    cluster.run_on(static_cast<size_t>(from), [&](Group& group) -> Task<void> {
        const auto handed = co_await group.transfer({to});
        EXPECT_TRUE(handed.has_value());
    });
    EXPECT_TRUE(cluster.run_until([&] { return cluster.leader() == to; }, 2s)) << cluster.log();
    cluster.append(50);
    cluster.check_all();
}

// The first request's outcome and the second request come in one step, before the first caller
// resumes: each is told of its own.
TEST(Replication, the_next_transfer_does_not_take_the_outcome_of_the_last) {
    TestCluster cluster(calm(41), 3);
    cluster.start_all();
    cluster.append(20);
    const int from = cluster.wait_leader();
    const raft::NodeId to{(from + 1) % 3};
    cluster.kill(static_cast<size_t>(to.v), sim::Kill::kProcess);
    cluster.run_on(static_cast<size_t>(from), [&](Group& group) -> Task<void> {
        runtime::Scope scope;
        Result<void> first;
        scope.spawn([](Group* asked, raft::NodeId target, Result<void>* ended) -> Task<void> {
            *ended = co_await asked->transfer(target);
        }(&group, to, &first));
        // The target is down: the core gives up after transfer_timeout. This asks again as soon as
        // it has, ahead of the caller who is woken by that.
        co_await runtime::yield();
        co_await runtime::yield();
        while (group.core().may_propose() != raft::ProposeStatus::kOk) co_await runtime::yield();
        EXPECT_FALSE(co_await group.transfer(to));
        co_await scope.join();
        // Not the end of its patience, which is longer.
        EXPECT_FALSE(first);
        if (!first) EXPECT_EQ(first.error().message, "leadership was not handed over");
    });
    cluster.start(static_cast<size_t>(to.v));
    cluster.check_all();
}

// Cluster seed 30000165: the group was closed while its leader asked the target whether it may
// lead, and the transfer went on in memory that was another group's by then.
TEST(Replication, a_group_that_closes_waits_for_a_transfer_that_still_asks_the_target) {
    TestCluster cluster(calm(43), 3);
    cluster.extra_groups = 1;
    cluster.start_all();
    cluster.append(20);
    int led = -1;
    ASSERT_TRUE(cluster.run_until(
        [&] {
            for (size_t i = 0; i < 3; ++i) {
                if (cluster.node(i).replicator->find({1000})->leads())
                    led = static_cast<int>(i);
            }
            return led >= 0;
        },
        10s));
    const raft::NodeId to{(led + 1) % 3};
    sim::Node& target = *cluster.node(static_cast<size_t>(to.v)).node;
    cluster.world().pause(target);
    cluster.run_on(static_cast<size_t>(led), [&](Group&) -> Task<void> {
        Replicator* replicator = cluster.node(static_cast<size_t>(led)).replicator;
        runtime::Scope scope;
        bool ended = false;
        scope.spawn([](Group* asked, raft::NodeId node, bool* done) -> Task<void> {
            EXPECT_FALSE(co_await asked->transfer(node));
            *done = true;
        }(replicator->find({1000}), to, &ended));
        (void)co_await runtime::sleep_for(1ms);
        EXPECT_FALSE(ended);
        const Instant began = Shard::current().now();
        co_await replicator->close_group({1000});
        EXPECT_TRUE(ended);
        // It is not kept from closing for as long as the target may take to answer.
        EXPECT_LT(Shard::current().now() - began, 500ms);
        co_await scope.join();
    });
    cluster.world().resume(target);
}

TEST(Replication, a_change_of_members_ends_with_its_deadline_and_its_stop) {
    TestCluster cluster(calm(42), 4);
    cluster.set_founders({0, 1, 2});
    cluster.start_all();
    cluster.append(20);
    cluster.kill(3, sim::Kill::kProcess);  // it can't catch up
    const auto leader = static_cast<size_t>(cluster.wait_leader());
    cluster.run_on(leader, [&](Group& group) -> Task<void> {
        const auto late = co_await group.change_configuration(
            raft::voters({0, 1, 2, 3}), {.deadline = Shard::current().now() + 100ms});
        EXPECT_FALSE(late);
        if (!late) EXPECT_EQ(late.error().code, ErrorCode::kTimedOut);
        const auto busy = co_await group.change_configuration(raft::voters({0, 1, 2, 3}));
        EXPECT_FALSE(busy);
        if (!busy) EXPECT_EQ(busy.error().code, ErrorCode::kResourceExhausted);
        runtime::StopSource stop;
        stop.request_stop();
        const auto stopped = co_await group.transfer({static_cast<int32_t>((leader + 1) % 3)},
                                                     {.stop = stop.token()});
        if (!stopped) EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
    });
}

struct Unrest {
    uint64_t elections = 0;
    uint64_t connections_lost = 0;
};

// What three nodes with many idle groups did because all of them, or one follower, stood still.
Unrest stand_still(Duration time, bool all, bool bug = false) {
    TestCluster cluster(calm(44), 3);
    cluster.count_time_asleep = bug;
    cluster.raft_options.quiet_after = 0ns;  // else most of them sleep anyway
    cluster.extra_groups = 30;
    cluster.start_all();
    cluster.append(20);
    cluster.run_for(10s);
    const auto count = [&] {
        Unrest sum;
        for (size_t i = 0; i < 3; ++i) {
            sum.elections += cluster.node(i).replicator->metrics().elections_won;
            sum.connections_lost += cluster.node(i).endpoint->metrics().connections_lost;
        }
        return sum;
    };
    const Unrest before = count();
    std::vector<size_t> paused{0, 1, 2};
    if (!all) paused = {cluster.wait_leader() == 0 ? 1u : 0u};
    for (const size_t i : paused) cluster.world().pause(*cluster.node(i).node);
    cluster.world().schedule(time, [] {});  // time goes on with nobody in it
    cluster.run_for(time);
    for (const size_t i : paused) cluster.world().resume(*cluster.node(i).node);
    cluster.run_for(5s);
    const Unrest after = count();
    cluster.append(20);
    cluster.check_all();
    return {after.elections - before.elections, after.connections_lost - before.connections_lost};
}

TEST(Replication, nodes_that_all_stood_still_hold_no_election) {
    for (const Duration time : {300ms, 2500ms, 3500ms, 4000ms, 30'000ms}) {
        const Unrest unrest = stand_still(time, true);
        EXPECT_EQ(unrest.elections, 0u) << time / 1ms << " ms";
        EXPECT_EQ(unrest.connections_lost, 0u) << time / 1ms << " ms";
    }
    // And these would be seen.
    EXPECT_GT(stand_still(3500ms, true, true).elections, 0u);
}

// Its peers ran: they have another leader by then, and it is told so before it serves anybody.
TEST(Replication, a_leader_that_stood_still_alone_leads_no_more) {
    TestCluster cluster(calm(45), 3);
    cluster.start_all();
    cluster.append(20);
    const auto old = static_cast<size_t>(cluster.wait_leader());
    cluster.world().pause(*cluster.node(old).node);
    ASSERT_TRUE(cluster.run_until(
        [&] {
            for (size_t i = 0; i < 3; ++i) {
                if (i != old && cluster.node(i).group->leads()) return true;
            }
            return false;
        },
        10s));
    cluster.world().resume(*cluster.node(old).node);
    cluster.run_on(old, [&](Group& group) -> Task<void> {
        // It may still believe that it leads, but can't confirm it.
        EXPECT_FALSE(co_await group.read_barrier({.deadline = Shard::current().now() + 2s}));
    });
    EXPECT_FALSE(cluster.node(old).group->leads());
    cluster.append(20);
    cluster.check_all();
}

// Reads all that the node has; whether some of it can't be read.
bool finds_damage(TestCluster& cluster, size_t i) {
    bool found = false;
    cluster.run_on(i, [&](Group& group) -> Task<void> {
        storage::Position at{group.log().start_offset(), 0};
        while (at < group.log().end()) {
            const auto read = co_await group.log().read_entries(at, {}, {});
            found = found || (!read && read.error().code == ErrorCode::kCorrupt);
            if (!read || read->empty()) break;
            at = read->back().info.end();
        }
    });
    return found;
}

// Flips a bit in the node's segments, and lets it find that after its next start.
void damage(TestCluster& cluster, size_t i) {
    Prng prng(7 + i, "rot");
    for (int tries = 0; tries < 50; ++tries) {
        cluster.kill(i, sim::Kill::kProcess);
        const std::string where = cluster.node(i).node->disk().rot(
            prng, [](std::string_view path, bool) { return path.ends_with(".segment"); });
        ASSERT_NE(where, "");
        cluster.start(i);
        ASSERT_TRUE(cluster.run_until([&] { return cluster.node(i).group != nullptr; }, 30s));
        if (cluster.node(i).group->log().damage() || finds_damage(cluster, i)) return;
    }
    FAIL() << "no flip was found";
}

TEST(Replication, a_damaged_log_is_fetched_again_from_the_others) {
    for (const bool of_leader : {false, true}) {
        TestCluster cluster(calm(46), 3);
        cluster.start_all();
        cluster.append(10, 600'000);
        cluster.run_for(2s);
        const auto leader = static_cast<size_t>(cluster.wait_leader());
        const size_t i = of_leader ? leader : (leader + 1) % 3;
        damage(cluster, i);
        ASSERT_TRUE(cluster.run_until(
            [&] {
                const auto& node = cluster.node(i);
                return node.replicator->metrics().logs_discarded == 1 &&
                       !node.group->core().recovering() && node.group->ailment().empty();
            },
            60s))
            << cluster.log() << cluster.summary();
        cluster.append(5, 600'000);
        cluster.check_all();
        // What it has now is whole, also after its next start.
        cluster.kill(i, sim::Kill::kPower);
        cluster.start(i);
        cluster.append(5);
        cluster.check_all();
        EXPECT_FALSE(finds_damage(cluster, i));
    }
}

// 1. A leader meets damage in its log while it leads.  2. It hands over to a replica that is whole.
// 3. It is repaired from that one, and says meanwhile what ails it.
TEST(Replication, a_leader_that_finds_its_log_damaged_steps_down_and_is_repaired) {
    TestCluster cluster(calm(47), 3);
    cluster.start_all();
    cluster.append(10, 600'000);
    cluster.run_for(2s);
    const size_t i = (static_cast<size_t>(cluster.wait_leader()) + 1) % 3;
    // Nothing of its segments is in memory.
    cluster.kill(i, sim::Kill::kProcess);
    cluster.start(i);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.node(i).group != nullptr; }, 30s));
    cluster.append(1);
    cluster.run_for(1s);
    cluster.run_on(static_cast<size_t>(cluster.wait_leader()), [&](Group& group) -> Task<void> {
        EXPECT_TRUE(co_await group.transfer({static_cast<int32_t>(i)}, {}));
    });
    ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() == static_cast<int>(i); }, 10s));
    Prng prng(7, "rot");
    for (int tries = 0; tries < 50 && !cluster.node(i).group->log().damage(); ++tries) {
        const std::string where = cluster.node(i).node->disk().rot(
            prng, [](std::string_view path, bool) { return path.ends_with(".segment"); });
        ASSERT_NE(where, "");
        if (finds_damage(cluster, i)) break;
    }
    ASSERT_EQ(cluster.leader(), static_cast<int>(i)) << "it leads when it finds the damage";
    EXPECT_NE(cluster.node(i).group->ailment(), "");
    ASSERT_TRUE(cluster.run_until(
        [&] { return cluster.leader() >= 0 && cluster.leader() != static_cast<int>(i); }, 10s))
        << cluster.log() << cluster.summary();
    ASSERT_TRUE(cluster.run_until(
        [&] {
            const auto& node = cluster.node(i);
            return node.replicator->metrics().logs_discarded == 1 &&
                   !node.group->core().recovering() && node.group->ailment().empty();
        },
        60s))
        << cluster.log() << cluster.summary();
    cluster.append(5, 600'000);
    cluster.check_all();
    EXPECT_FALSE(finds_damage(cluster, i));
}

// A journal file of the node that does not run is cut short.
void cut_journal(TestCluster& cluster, size_t i) {
    sim::Disk& disk = cluster.node(i).node->disk();
    std::vector<std::string> names;
    const std::string directory = "/data/shards-1/0";
    ASSERT_EQ(disk.list(directory, &names), 0);
    std::ranges::sort(names);
    for (const std::string& name : names) {
        if (!name.starts_with("journal-")) continue;
        ASSERT_EQ(disk.truncate(*disk.find(directory + "/" + name), 24 << 10), 0);
        return;
    }
    FAIL() << "no journal";
}

// 1. What the leader and a follower acknowledged, the third does not have.  2. The follower's
// journal loses it.  3. Follower and third are a majority, and must not go on without the leader.
TEST(Replication, a_replica_whose_journal_was_cut_recovers_before_it_votes) {
    TestCluster cluster(calm(48), 3);
    cluster.store_options.go_on = true;
    cluster.start_all();
    cluster.append(1);
    const auto leader = static_cast<size_t>(cluster.wait_leader());
    const size_t follower = (leader + 1) % 3, third = (leader + 2) % 3;
    cluster.kill(third, sim::Kill::kProcess);
    for (int i = 0; i < 40; ++i) cluster.append(1);
    cluster.kill(leader, sim::Kill::kProcess);
    cluster.kill(follower, sim::Kill::kProcess);
    cut_journal(cluster, follower);
    cluster.start(follower);
    cluster.start(third);
    cluster.run_for(20s);
    ASSERT_NE(cluster.node(follower).group, nullptr) << cluster.log();
    EXPECT_TRUE(cluster.node(follower).group->log().may_have_lost());
    EXPECT_TRUE(cluster.node(follower).group->core().recovering());
    EXPECT_NE(cluster.node(follower).group->ailment().find("its journal was damaged"),
              std::string::npos);
    for (const size_t i : {follower, third})
        EXPECT_NE(cluster.node(i).group->core().role(), raft::Role::kLeader);
    cluster.start(leader);
    ASSERT_TRUE(cluster.run_until(
        [&] {
            const Group* group = cluster.node(follower).group;
            return !group->log().may_have_lost() && !group->core().recovering() &&
                   group->ailment().empty();
        },
        60s))
        << cluster.log() << cluster.summary();
    cluster.append(5);
    cluster.check_all();
}

TEST(Replication, the_only_replica_of_a_damaged_journal_does_not_lead_before_that_is_accepted) {
    TestCluster cluster(calm(49), 1);
    cluster.store_options.go_on = true;
    cluster.start_all();
    for (int i = 0; i < 40; ++i) cluster.append(1);
    cluster.kill(0, sim::Kill::kProcess);
    cut_journal(cluster, 0);
    cluster.start(0);
    cluster.run_for(20s);
    ASSERT_NE(cluster.node(0).group, nullptr) << cluster.log();
    EXPECT_TRUE(cluster.node(0).group->loss_stops_it());
    EXPECT_TRUE(cluster.node(0).group->ailment().starts_with("offline: its journal was damaged"));
    EXPECT_NE(cluster.node(0).group->core().role(), raft::Role::kLeader);
}

TEST(Replication, where_every_replica_is_damaged_none_discards_its_log) {
    TestCluster cluster(calm(47), 3);
    cluster.start_all();
    cluster.append(10, 600'000);
    cluster.run_for(2s);
    for (size_t i = 0; i < 3; ++i) cluster.kill(i, sim::Kill::kProcess);
    Prng prng(3, "rot");
    for (size_t i = 0; i < 3; ++i) {
        for (int flips = 0; flips < 30; ++flips) {
            (void)cluster.node(i).node->disk().rot(
                prng, [](std::string_view path, bool) { return path.ends_with(".segment"); });
        }
        cluster.start(i);
    }
    cluster.wait_leader();
    for (size_t i = 0; i < 3; ++i) (void)finds_damage(cluster, i);
    cluster.run_for(30s);
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(cluster.node(i).replicator->metrics().logs_discarded, 0u);
        EXPECT_NE(cluster.node(i).group->ailment(), "");
    }
    cluster.append(5);  // what comes is taken
}

// 1. With one node down, a second is elected by the vote of the third, which then loses power: it
// has nothing but the vote.  2. The new leader is cut off.  3. The first and the third elect
// another one. Returns the terms of both.
std::pair<raft::Term, raft::Term> elect_twice(const storage::StorageBugs& bugs) {
    TestCluster cluster(calm(48), 3);
    cluster.store_options.bugs = bugs;
    cluster.start_all();
    cluster.append(20);
    const auto away = static_cast<size_t>(cluster.wait_leader());
    cluster.kill(away, sim::Kill::kPower);
    const auto leads = [&](size_t i) {
        const Group* group = cluster.node(i).group;
        return group != nullptr && group->role() == raft::Role::kLeader;
    };
    const size_t a = (away + 1) % 3;
    const size_t b = (away + 2) % 3;
    EXPECT_TRUE(cluster.run_until([&] { return leads(a) || leads(b); }, 30s));
    const size_t elected = leads(a) ? a : b;
    const size_t voter = leads(a) ? b : a;
    cluster.kill(voter, sim::Kill::kPower);
    sim::World& world = cluster.world();
    for (const size_t other : {away, voter}) {
        world.cut_link(*cluster.node(elected).node, *cluster.node(other).node);
        world.cut_link(*cluster.node(other).node, *cluster.node(elected).node);
    }
    const raft::Term first = cluster.node(elected).group->term();
    cluster.start(away);
    cluster.start(voter);
    EXPECT_TRUE(cluster.run_until([&] { return leads(away) || leads(voter); }, 30s));
    return {first, cluster.node(leads(away) ? away : voter).group->term()};
}

TEST(Replication, a_vote_outlives_a_power_cut) {
    const auto [first, second] = elect_twice({});
    EXPECT_LT(first, second);
    // Two leaders of one term: their logs would pass for the same.
    const auto [one, other] = elect_twice({.forget_hard_state = true});
    EXPECT_EQ(one, other);
}

// A follower that stands still for a while loses nothing of what its connection holds: it is not
// sent again.
TEST(Replication, what_a_stopped_follower_is_yet_to_read_is_not_sent_again) {
    TestCluster cluster(calm(49), 3);
    cluster.start_all();
    cluster.append(5);
    const auto leader = static_cast<size_t>(cluster.wait_leader());
    const size_t slow = (leader + 1) % 3;
    const uint64_t before = cluster.node(leader).replicator->metrics().append_bytes_sent;
    cluster.world().pause(*cluster.node(slow).node);
    cluster.append(40, 20'000);
    cluster.run_for(1500ms);
    cluster.world().resume(*cluster.node(slow).node);
    cluster.append(5);
    cluster.check_all();
    const uint64_t payload = 40 * 20'000;
    const uint64_t sent = cluster.node(leader).replicator->metrics().append_bytes_sent - before;
    EXPECT_GE(sent, 2 * payload);
    EXPECT_LT(sent, 2 * payload + payload / 4);
}

TEST(Replication, a_node_that_goes_is_told_to_a_few_groups_a_step) {
    TestCluster cluster(calm(43), 3);
    cluster.extra_groups = 200;
    cluster.start_all();
    cluster.append(5);
    cluster.run_for(5s);
    cluster.kill(2, sim::Kill::kPower);
    cluster.run_for(5s);
    cluster.start(2);
    cluster.run_for(5s);
    for (size_t i = 0; i < 3; ++i) {
        // All groups hear of it, in steps of 64.
        EXPECT_EQ(cluster.node(i).replicator->metrics().news_step_max, 64u);
        EXPECT_EQ(cluster.node(i).replicator->size(), 201u);
    }
    cluster.append(5);
    cluster.check_all();
}

TEST(Replication, members_are_replaced_one_by_one) {
    TestCluster cluster(calm(6), 5);
    cluster.set_founders({0, 1, 2});
    cluster.start_all();
    cluster.append(300, 1000);
    const int leader = cluster.wait_leader();
    cluster.run_on(
        static_cast<size_t>(leader),
        [&](Group& group) -> Task<void> {
            const auto changed = co_await group.change_configuration(raft::voters({2, 3, 4}));
            EXPECT_TRUE(changed.has_value())
                << (changed ? "" : changed.error().to_string()) << cluster.log();
        },
        60s);
    cluster.kill(0, sim::Kill::kPower);
    cluster.kill(1, sim::Kill::kPower);
    EXPECT_TRUE(cluster.run_until([&] { return cluster.leader() >= 2; }, 30s)) << cluster.log();
    cluster.append(50);
    for (const size_t i : {2u, 3u, 4u}) {
        EXPECT_TRUE(
            cluster.run_until([&] { return cluster.node(i).group->high_watermark() == 350; }, 30s))
            << cluster.summary();
        cluster.check(i);
    }
    // They know it after a power cut of all of them.
    for (const size_t i : {2u, 3u, 4u}) cluster.kill(i, sim::Kill::kPower);
    for (const size_t i : {2u, 3u, 4u}) cluster.start(i);
    cluster.append(10);
    EXPECT_EQ(cluster.node(3).group->configuration(), raft::voters({2, 3, 4}));
}

TEST(Replication, a_partitioned_leader_acknowledges_nothing_and_gives_way) {
    TestCluster cluster(calm(8), 3);
    cluster.start_all();
    cluster.append(50);
    const int old = cluster.wait_leader();
    sim::World& world = cluster.world();
    for (int other = 0; other < 3; ++other) {
        if (other == old) continue;
        world.cut_link(world.node(static_cast<uint32_t>(old)),
                       world.node(static_cast<uint32_t>(other)));
        world.cut_link(world.node(static_cast<uint32_t>(other)),
                       world.node(static_cast<uint32_t>(old)));
    }
    const size_t before = cluster.acknowledged().size();
    cluster.run_on(static_cast<size_t>(old), [&](Group& group) -> Task<void> {
        EXPECT_FALSE(co_await TestCluster::append_one(&cluster, &group, 100));
        const auto read = co_await group.read_barrier({.deadline = Shard::current().now() + 2s});
        EXPECT_FALSE(read.has_value());
    });
    EXPECT_EQ(cluster.acknowledged().size(), before);
    EXPECT_TRUE(
        cluster.run_until([&] { return cluster.leader() >= 0 && cluster.leader() != old; }, 10s));
    cluster.append(50);
    world.heal();
    cluster.check_all();
}

TEST(Replication, a_read_barrier_is_passed_by_a_leader) {
    TestCluster cluster(calm(9), 3);
    cluster.start_all();
    cluster.append(10);
    const int leader = cluster.wait_leader();
    for (int i = 0; i < 3; ++i) {
        cluster.run_on(static_cast<size_t>(i), [&](Group& group) -> Task<void> {
            const auto read =
                co_await group.read_barrier({.deadline = Shard::current().now() + 1s});
            EXPECT_EQ(read.has_value(), i == leader);
        });
    }
}

// WEIR_SEED=N repeats one seed, WEIR_SEEDS=N runs more of them. Drawn faults of disk, network,
// clocks and scheduling; nodes die and come back; then all heals and everything that was
// acknowledged is on every node. Of relaxed groups one node at a time loses what it had in memory
// alone, until it has it again; or any do, and then what is left need only be the same everywhere.
enum class Mode : uint8_t { kFlush, kRelaxed, kRelaxedAndLosing };

void run_seed(uint64_t seed, Mode mode = Mode::kFlush) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    sim::Plan plan = sim::draw_plan(seed);
    if (mode == Mode::kRelaxed) {
        // These end nodes when they like.
        plan.disk.write_error_chance = plan.disk.sync_error_chance = 0;
        plan.disk.metadata_error_chance = plan.disk.read_error_chance = 0;
    }
    plan.disk.capacity_bytes = 1ull << 30;  // a full disk is storage's own simulation
    plan.disk.metadata_full_chance = 0;
    TestCluster cluster(plan, 3);
    cluster.store_options.journal_file_bytes = 256_KiB;
    cluster.store_options.journal_first_file_bytes = 64_KiB;
    cluster.store_options.journal_bytes_max = 2_MiB;
    cluster.store_options.unflushed_bytes_max = 512_KiB;
    cluster.store_options.commit_bytes_max = 64_KiB;
    cluster.store_options.bypass_bytes_min = 16_KiB;
    cluster.store_options.cache_bytes_max = 256_KiB;
    cluster.store_options.read_ahead_bytes = 64_KiB;
    Prng prng(seed, "cluster");
    cluster.relaxed = mode != Mode::kFlush;
    cluster.start_all();
    const auto may_kill = [&](size_t victim) {
        for (size_t i = 0; i < 3 && mode == Mode::kRelaxed; ++i) {
            const Group* group = cluster.node(i).group;
            if (i != victim && (group == nullptr || group->core().recovering())) return false;
        }
        return true;
    };
    std::vector<int> down_for(3);
    for (int round = 0; round < 40; ++round) {
        cluster.run_for(std::chrono::milliseconds(20 + prng.below(400)));
        for (size_t i = 0; i < 3; ++i) {
            TestCluster::Node& node = cluster.node(i);
            if (cluster.running(i) && node.node->finished()) cluster.world().reap(*node.node);
            if (!cluster.running(i)) {
                if (--down_for[i] <= 0) cluster.start(i);
                continue;
            }
            if (node.group == nullptr || node.job) continue;
            const uint64_t what = prng.below(10);
            if (what < 6) {
                const size_t size = size_t{8} << prng.below(12);
                const int count = static_cast<int>(prng.below(20));
                node.job = [&cluster, size, count](Group& group) -> Task<void> {
                    for (int k = 0; k < count; ++k) {
                        if (!co_await TestCluster::append_one(&cluster, &group, size)) co_return;
                    }
                };
            } else if (what == 6) {
                const auto to = static_cast<int32_t>(prng.below(3));
                node.job = [to](Group& group) -> Task<void> {
                    (void)co_await group.transfer({to});
                };
            } else if (what == 7) {
                const uint64_t share = prng.below(100);
                node.job = [share](Group& group) -> Task<void> {
                    if (!group.leads()) co_return;
                    const int64_t start = group.log().start_offset();
                    const int64_t to = start + (group.high_watermark() - start) *
                                                   static_cast<int64_t>(share) / 100;
                    (void)co_await group.truncate_prefix(to);
                };
            }
        }
        if (prng.below(8) == 0) {
            const size_t i = prng.below(3);
            if (cluster.running(i) && may_kill(i)) {
                cluster.kill(i, prng.below(2) == 0 ? sim::Kill::kPower : sim::Kill::kProcess);
                down_for[i] = static_cast<int>(prng.below(6));
            }
        }
        if (mode != Mode::kFlush && prng.below(12) == 0) cluster.relaxed = !cluster.relaxed;
        if (prng.below(10) == 0) {
            const auto a = static_cast<uint32_t>(prng.below(3));
            const auto b = static_cast<uint32_t>((a + 1 + prng.below(2)) % 3);
            cluster.world().cut_link(cluster.world().node(a), cluster.world().node(b));
            if (prng.below(2) == 0)
                cluster.world().cut_link(cluster.world().node(b), cluster.world().node(a));
        }
        if (prng.below(6) == 0) {
            for (uint32_t a = 0; a < 3; ++a) {
                for (uint32_t b = 0; b < 3; ++b) {
                    if (a != b)
                        cluster.world().heal_link(cluster.world().node(a), cluster.world().node(b));
                }
            }
        }
    }
    cluster.world().heal();
    for (size_t i = 0; i < 3; ++i) {
        TestCluster::Node& node = cluster.node(i);
        if (cluster.running(i) && mode != Mode::kRelaxed &&
            (node.node->finished() || node.group == nullptr))
            cluster.kill(i, sim::Kill::kProcess);
        if (!cluster.running(i)) cluster.start(i);
    }
    cluster.run_for(5s);
    for (size_t i = 0; i < 3; ++i) {
        // A store that failed under faults ends its node's life.
        TestCluster::Node& node = cluster.node(i);
        if (cluster.running(i) && node.node->finished()) {
            cluster.world().reap(*node.node);
            cluster.start(i);
        }
    }
    if (mode == Mode::kRelaxedAndLosing) cluster.keep_acknowledged(0);
    cluster.append(5);
    cluster.check_all(120s);
    for (size_t i = 0; i < 3 && mode != Mode::kFlush; ++i) {
        EXPECT_TRUE(cluster.run_until(
            [&] {
                const Group* group = cluster.node(i).group;
                return group == nullptr || !group->core().recovering();
            },
            30s))
            << "node " << i << " does not recover\n"
            << cluster.summary() << cluster.log();
        const Group* group = cluster.node(i).group;
        if (group != nullptr && mode == Mode::kRelaxed)
            EXPECT_EQ(cluster.node(i).replicator->metrics().elections_by_all, 0u);
    }
}

void run_seeds(Mode mode) {
    const char* one = std::getenv("WEIR_SEED");
    if (one != nullptr) {
        run_seed(std::strtoull(one, nullptr, 10), mode);
        return;
    }
    const char* more = std::getenv("WEIR_SEEDS");
    const uint64_t last = more != nullptr ? std::strtoull(more, nullptr, 10) : 60;
    for (uint64_t seed = 1; seed <= last && !testing::Test::HasFailure(); ++seed)
        run_seed(seed, mode);
}

TEST(Replication, drawn_faults_lose_nothing_that_was_acknowledged) { run_seeds(Mode::kFlush); }
TEST(Replication, drawn_faults_of_relaxed_groups_lose_nothing_if_few_forget) {
    run_seeds(Mode::kRelaxed);
}
TEST(Replication, drawn_faults_of_relaxed_groups_leave_one_history) {
    run_seeds(Mode::kRelaxedAndLosing);
}

// Cluster seed 21463: a vote that the full disk had no room for put the replica out until its node
// was started again.
TEST(Replication, a_replica_whose_disk_was_full_takes_part_again) {
    TestCluster cluster(calm(33), 3);
    cluster.store_options.journal_file_bytes = 64_KiB;
    cluster.start_all();
    cluster.append(20);
    const size_t full = (static_cast<size_t>(cluster.wait_leader()) + 1) % 3;
    cluster.node(full).node->disk_faults().metadata_full_chance = 1;
    // Each new leader's term has to be saved, until there is no room for another.
    for (int i = 0; i < 60; ++i) {
        cluster.append(10);
        const auto from = static_cast<size_t>(cluster.wait_leader());
        const auto to = static_cast<int>(3 - full - from);
        ASSERT_NE(from, full);
        cluster.run_on(from,
                       [&](Group& group) -> Task<void> { (void)co_await group.transfer({to}); });
        ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() == to; }, 10s));
    }
    EXPECT_LT(cluster.node(full).group->log().hard_state().term,
              cluster.node(full).group->core().term())
        << "the disk had room, and nothing is shown";
    cluster.node(full).node->disk_faults().metadata_full_chance = 0;
    EXPECT_TRUE(
        cluster.run_until([&] { return cluster.node(full).group->high_watermark() == 620; }, 30s))
        << cluster.summary() << cluster.log();
    cluster.kill(static_cast<size_t>(cluster.leader()), sim::Kill::kPower);
    cluster.append(10);
}

// ---- relaxed: what is in memory counts

constexpr Duration kSlowFlush = 60ms;

struct RelaxedReplication : testing::Test {
    RelaxedReplication() {
        cluster.relaxed = true;
        for (size_t i = 0; i < cluster.size(); ++i)
            cluster.node(i).node->disk_faults().sync_mean = kSlowFlush;
        cluster.start_all();
        cluster.append(1);
        // Each keeps beside its log that it will acknowledge from memory.
        EXPECT_TRUE(cluster.run_until(
            [&] { return all([](Group& group) { return group.acks_from_memory(); }); }, 30s));
    }
    bool all(const std::function<bool(Group&)>& holds) {
        for (size_t i = 0; i < cluster.size(); ++i) {
            Group* group = cluster.node(i).group;
            if (group == nullptr || !holds(*group)) return false;
        }
        return true;
    }
    bool wait_recovered() {
        return cluster.run_until(
            [&] { return all([](Group& group) { return !group.core().recovering(); }); }, 30s);
    }

    TestCluster cluster{calm(21), 3};
};

TEST_F(RelaxedReplication, entries_commit_before_any_disk_has_them) {
    const Instant before = cluster.world().now();
    cluster.append(100);
    EXPECT_LT(cluster.world().now() - before, 100 * kSlowFlush / 4);
    const auto leader = static_cast<size_t>(cluster.leader());
    EXPECT_GT(cluster.node(leader).group->commit(),
              cluster.node(leader).group->log().durable_end());
    cluster.check_all();
}

TEST_F(RelaxedReplication, nodes_that_lose_power_one_after_the_other_lose_nothing) {
    uint64_t lost_entries = 0;
    for (int round = 0; round < 12; ++round) {
        cluster.append(40);
        const auto leader = static_cast<size_t>(cluster.wait_leader());
        const size_t victim = round % 2 == 0 ? leader : (leader + 1) % 3;
        const int64_t had = cluster.node(victim).group->log().end().offset;
        cluster.kill(victim, sim::Kill::kPower);
        if (round % 3 == 0) cluster.append(40);
        cluster.start(victim);
        ASSERT_TRUE(cluster.run_until([&] { return cluster.node(victim).group != nullptr; }, 30s));
        EXPECT_TRUE(cluster.node(victim).group->core().recovering());
        lost_entries += static_cast<uint64_t>(
            std::max<int64_t>(0, had - cluster.node(victim).group->log().end().offset));
        cluster.append(40);
        ASSERT_TRUE(wait_recovered()) << cluster.summary() << cluster.log();
        EXPECT_EQ(cluster.node(victim).replicator->metrics().recoveries, 1u);
    }
    EXPECT_GT(lost_entries, 50u) << "the power cuts took nothing, and prove nothing";
    cluster.check_all();
}

TEST_F(RelaxedReplication, a_power_cut_of_all_leaves_a_prefix_and_says_so) {
    cluster.append(200);
    for (size_t i = 0; i < 3; ++i) cluster.kill(i, sim::Kill::kPower);
    cluster.start(0);
    cluster.start(1);
    cluster.run_for(10s);
    EXPECT_EQ(cluster.leader(), -1) << "two of three can't know what the third has";
    cluster.start(2);
    const int leader = cluster.wait_leader();
    EXPECT_EQ(cluster.node(static_cast<size_t>(leader)).replicator->metrics().elections_by_all, 1u);
    EXPECT_NE(cluster.log().find("what came after it is lost"), std::string::npos);
    ASSERT_TRUE(wait_recovered());
    const auto left =
        static_cast<size_t>(cluster.node(static_cast<size_t>(leader)).group->high_watermark());
    EXPECT_LT(left, 201u) << "the power cut took nothing, and proves nothing";
    cluster.keep_acknowledged(left);
    cluster.check_all();
    cluster.append(50);
    cluster.check_all();
}

// Cluster seeds 30000392 and 34001370: 1. A learner has what a relaxed group committed. 2. All
// voters lose power, and one is elected by all: what was committed last is lost. 3. The learner
// refused what the new leader sent, for as long as its node ran.
TEST(Replication, a_learner_that_outlives_a_loss_of_all_voters_gets_what_is_left) {
    TestCluster cluster(calm(41), 4);
    cluster.set_founders({0, 1, 2});
    cluster.relaxed = true;
    for (size_t i = 0; i < 3; ++i) cluster.node(i).node->disk_faults().sync_mean = 400ms;
    cluster.start_all();
    cluster.append(1);
    raft::Configuration target = raft::voters({0, 1, 2});
    target.members.push_back({.node = {3}, .learner = true});
    cluster.run_on(static_cast<size_t>(cluster.wait_leader()), [&](Group& group) -> Task<void> {
        EXPECT_TRUE(co_await group.change_configuration(target));
    });
    cluster.run_for(5s);
    cluster.append(200);
    const Group& learner = *cluster.node(3).group;
    ASSERT_TRUE(cluster.run_until([&] { return learner.high_watermark() == 201; }, 30s));
    for (size_t i = 0; i < 3; ++i) cluster.kill(i, sim::Kill::kPower);
    for (size_t i = 0; i < 3; ++i) cluster.start(i);
    const auto leader = static_cast<size_t>(cluster.wait_leader());
    const auto left = cluster.node(leader).group->high_watermark();
    ASSERT_LT(left, 201) << "the power cut took nothing, and proves nothing";
    cluster.keep_acknowledged(static_cast<size_t>(left));
    cluster.append(50);
    EXPECT_TRUE(cluster.run_until([&] { return learner.high_watermark() == left + 50; }, 30s))
        << cluster.summary() << cluster.log();
    EXPECT_EQ(cluster.node(3).replicator->metrics().logs_discarded, 1u);
    cluster.check_all();
}

TEST_F(RelaxedReplication, an_orderly_stop_loses_nothing_and_one_while_recovering_goes_on_so) {
    cluster.append(50);
    const auto follower = (static_cast<size_t>(cluster.wait_leader()) + 1) % 3;
    cluster.stop(follower);
    cluster.start(follower);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.node(follower).group != nullptr; }, 30s));
    EXPECT_FALSE(cluster.node(follower).group->core().recovering());
    cluster.append(50);
    for (size_t i = 0; i < 3; ++i) cluster.kill(i, sim::Kill::kPower);
    cluster.start(follower);
    cluster.run_for(2s);
    EXPECT_TRUE(cluster.node(follower).group->core().recovering());
    cluster.stop(follower);
    cluster.start(follower);
    cluster.run_for(2s);
    EXPECT_TRUE(cluster.node(follower).group->core().recovering());
}

TEST_F(RelaxedReplication, flushed_again_it_counts_what_is_durable_alone) {
    cluster.append(50);
    cluster.relaxed = false;
    ASSERT_TRUE(cluster.run_until(
        [&] { return all([](Group& group) { return !group.acks_from_memory(); }); }, 30s));
    cluster.run_for(5s);  // nothing is kept beside the logs any more
    cluster.append(20);
    for (size_t i = 0; i < 3; ++i) cluster.kill(i, sim::Kill::kPower);
    cluster.start(0);
    cluster.start(1);
    EXPECT_GE(cluster.wait_leader(), 0) << "a majority is enough again";
    cluster.start(2);
    cluster.check_all();
    for (size_t i = 0; i < 3; ++i)
        EXPECT_EQ(cluster.node(i).replicator->metrics().elections_by_all, 0u);
}

// Cluster seed 9603: a replica that began without members kept those that its log had lost, and
// counted on them.
TEST(Replication, a_joiner_forgets_the_members_that_its_log_loses) {
    TestCluster cluster(calm(31), 4);
    cluster.set_founders({0, 1, 2});
    cluster.relaxed = true;
    cluster.start_all();
    cluster.append(20);
    const auto old = static_cast<size_t>(cluster.wait_leader());
    const auto cut = [&](size_t other) {
        sim::World& world = cluster.world();
        world.cut_link(world.node(static_cast<uint32_t>(old)),
                       world.node(static_cast<uint32_t>(other)));
        world.cut_link(world.node(static_cast<uint32_t>(other)),
                       world.node(static_cast<uint32_t>(old)));
    };
    for (size_t other = 0; other < 3; ++other) {
        if (other != old) cut(other);
    }
    // The old leader adds the joiner alone, after an entry that is lost too, and goes.
    cluster.run_on(old, [&](Group& group) -> Task<void> {
        const std::vector<uint8_t> payload(100);
        storage::Entry entry;
        entry.info.next_offset = 1;
        entry.payload = runtime::SharedBytes::copy_of(payload);
        const auto info = group.append(std::move(entry));
        EXPECT_TRUE(info.has_value());
        if (info) cluster.node(old).machine->on_append(*info, payload);
        EXPECT_FALSE(co_await group.change_configuration(raft::voters({0, 1, 2, 3})));
    });
    cut(3);
    ASSERT_NE(cluster.node(3).group->configuration().find({3}), nullptr) << cluster.log();
    cluster.run_for(1s);  // its disk has it
    cluster.kill(3, sim::Kill::kProcess);
    cluster.start(3);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.node(3).group != nullptr; }, 30s));
    const Group& joiner = *cluster.node(3).group;
    EXPECT_NE(joiner.configuration().find({3}), nullptr);
    const storage::Position lost = joiner.log().end();
    // Another one adds it again, elsewhere in the log.
    ASSERT_TRUE(cluster.run_until(
        [&] { return cluster.leader() >= 0 && cluster.leader() != static_cast<int>(old); }, 30s));
    const auto next = static_cast<size_t>(cluster.leader());
    cluster.append(30);
    cluster.run_on(next, [&](Group& group) -> Task<void> {
        EXPECT_TRUE(co_await group.change_configuration(raft::voters({0, 1, 2, 3})));
    });
    EXPECT_TRUE(cluster.run_until([&] { return joiner.high_watermark() == 50; }, 30s));
    EXPECT_LT(lost, joiner.log().end());
    cluster.world().heal();
    cluster.check_all();
}

TEST_F(RelaxedReplication, memory_counts_no_more_where_the_disk_takes_nothing) {
    for (size_t i = 0; i < 3; ++i) cluster.node(i).node->disk_faults().sync_mean = 1h;
    const auto leader = static_cast<size_t>(cluster.wait_leader());
    cluster.run_for(1s);  // the flushes under way before end
    int64_t committed = 0;
    cluster.run_on(
        leader,
        [&](Group& group) -> Task<void> {
            const Instant begin = Shard::current().now();
            while (Shard::current().now() < begin + 5s) {
                ChainMachine* machine = cluster.node(leader).machine;
                std::vector<uint8_t> payload(100);
                storage::Entry entry;
                entry.info.next_offset = 1;
                entry.payload = runtime::SharedBytes::copy_of(payload);
                const auto info = group.append(std::move(entry));
                EXPECT_TRUE(info.has_value());
                if (!info) break;
                machine->on_append(*info, payload);
                (void)co_await runtime::sleep_for(10ms);
                if (Shard::current().now() < begin + 2s) committed = group.high_watermark();
            }
            EXPECT_EQ(group.high_watermark(), committed);
            EXPECT_LT(group.high_watermark(), group.log().end().offset - 300);
        },
        60s);
}

}  // namespace
}  // namespace weir::replication

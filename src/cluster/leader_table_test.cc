#include "cluster/leader_table.h"

#include <gtest/gtest.h>

#include <set>

#include "base/prng.h"

namespace weir::cluster {
namespace {

using storage::LogId;

LeaderState state_of(uint64_t log, int32_t leader, int32_t epoch, uint32_t revision = 0) {
    return {
        .log = {log}, .leader = leader, .epoch = epoch, .revision = revision, .in_sync = {1, 2}};
}

TEST(LeaderTable, the_newest_epoch_wins_then_the_newest_revision) {
    LeaderTable table(10);
    EXPECT_EQ(table.find({7}), nullptr);
    EXPECT_TRUE(table.learn(state_of(7, 1, 3, 5)));
    EXPECT_FALSE(table.learn(state_of(7, 1, 3, 5)));
    EXPECT_FALSE(table.learn(state_of(7, 2, 2, 9)));
    EXPECT_TRUE(table.learn(state_of(7, 1, 3, 6)));
    EXPECT_TRUE(table.learn(state_of(7, 2, 4, 0)));
    EXPECT_EQ(table.find({7})->leader, 2);
    table.forget({7});
    EXPECT_EQ(table.find({7}), nullptr);
}

TEST(LeaderTable, hearsay_counts_until_the_leader_itself_says_something) {
    LeaderTable table(10);
    LeaderState hearsay = state_of(7, 2, 4);
    hearsay.hearsay = true;
    EXPECT_TRUE(table.learn(state_of(7, 1, 3, 5)));
    EXPECT_TRUE(table.learn(hearsay));
    EXPECT_FALSE(table.learn(hearsay));
    EXPECT_EQ(table.find({7})->leader, 2);
    EXPECT_FALSE(table.learn(state_of(7, 1, 3, 6)));
    EXPECT_TRUE(table.learn(state_of(7, 2, 4, 0)));
    EXPECT_FALSE(table.learn(hearsay));
    EXPECT_FALSE(table.find({7})->hearsay);
}

TEST(LeaderTable, the_order_and_the_number_of_statements_do_not_matter) {
    Prng prng(3);
    std::vector<LeaderState> said;
    for (int32_t epoch = 1; epoch < 20; ++epoch) {
        for (uint32_t revision = 0; revision < prng.between(1, 4); ++revision) {
            LeaderState state = state_of(7, epoch % 3, epoch, revision);
            said.push_back(state);
        }
    }
    for (int round = 0; round < 100; ++round) {
        std::vector<LeaderState> heard = said;
        for (int i = 0; i < 20; ++i) heard.push_back(said[prng.below(said.size())]);
        for (size_t i = heard.size() - 1; i > 0; --i) std::swap(heard[i], heard[prng.below(i + 1)]);
        LeaderTable table(10);
        for (const LeaderState& state : heard) table.learn(state);
        EXPECT_EQ(*table.find({7}), said.back());
    }
}

TEST(LeaderTable, it_is_bounded_and_still_learns_of_what_it_holds) {
    LeaderTable table(2);
    EXPECT_TRUE(table.learn(state_of(1, 1, 1)));
    EXPECT_TRUE(table.learn(state_of(2, 1, 1)));
    EXPECT_FALSE(table.learn(state_of(3, 1, 1)));
    EXPECT_TRUE(table.learn(state_of(2, 1, 2)));
    EXPECT_EQ(table.size(), 2u);
}

TEST(LeaderTable, what_stays_unknown_for_two_sweeps_is_forgotten) {
    LeaderTable table(10);
    table.learn(state_of(1, 1, 1));
    table.learn(state_of(2, 1, 1));
    table.sweep([](LogId log) { return log.v == 1; });
    EXPECT_EQ(table.size(), 2u);  // its record may be on its way
    table.sweep([](LogId) { return true; });
    table.sweep([](LogId log) { return log.v == 1; });
    EXPECT_EQ(table.size(), 2u);  // it was known in between
    table.sweep([](LogId log) { return log.v == 1; });
    EXPECT_EQ(table.size(), 1u);
    EXPECT_NE(table.find({1}), nullptr);
}

TEST(LeaderUpdates, the_bytes_are_those_in_the_docs) {
    // docs/formats/leader-update.md, the worked example.
    const LeaderUpdate update{
        .node = 2,
        .after = 299,
        .upto = 300,
        .states = {{.log = {1030}, .leader = 2, .epoch = 5, .revision = 1, .in_sync = {2, 3}},
                   {.log = {1029}, .leader = -1, .epoch = 4, .revision = 2, .in_sync = {2}}}};
    const std::vector<uint8_t> expected = {0x01, 0x02, 0xab, 0x02, 0xac, 0x02, 0x02,     // header
                                           0x8c, 0x10, 0x03, 0x05, 0x01, 0x02, 2,    3,  // log 1030
                                           0x01, 0x00, 0x04, 0x02, 0x01, 2};             // log 1029
    EXPECT_EQ(encode_leader_update(update), expected);
    const auto decoded = decode_leader_update(expected);
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(*decoded, update);
}

TEST(LeaderUpdates, extreme_values_come_back) {
    const LeaderUpdate update{.node = INT32_MAX,
                              .after = UINT64_MAX,
                              .upto = UINT64_MAX,
                              .states = {{.log = {UINT64_MAX},
                                          .leader = INT32_MAX,
                                          .epoch = INT32_MAX,
                                          .revision = UINT32_MAX,
                                          .in_sync = {INT32_MAX, 0}},
                                         {.log = {0}, .in_sync = {}},
                                         {.log = {uint64_t{1} << 63}, .in_sync = {}}}};
    const auto decoded = decode_leader_update(encode_leader_update(update));
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(*decoded, update);
}

TEST(LeaderUpdates, damage_is_malformed_and_never_crashes) {
    LeaderUpdate update{.node = 1, .after = 3, .upto = 9, .states = {}};
    for (uint64_t log = 1; log < 20; ++log) update.states.push_back(state_of(log * log, 1, 3));
    const auto whole = encode_leader_update(update);
    for (size_t size = 0; size < whole.size(); ++size)
        EXPECT_FALSE(decode_leader_update(Bytes(whole).first(size))) << size;
    auto longer = whole;
    longer.push_back(0);
    EXPECT_EQ(decode_leader_update(longer).error().code, ErrorCode::kMalformed);
    auto later = whole;
    later[0] = 2;
    EXPECT_EQ(decode_leader_update(later).error().code, ErrorCode::kUnsupported);
    Prng prng(1);
    for (int i = 0; i < 100'000; ++i) {
        auto bytes = whole;
        for (uint64_t flips = prng.between(1, 4); flips > 0; --flips)
            bytes[prng.below(bytes.size())] = static_cast<uint8_t>(prng.next());
        if (const auto decoded = decode_leader_update(bytes)) {
            EXPECT_EQ(*decode_leader_update(encode_leader_update(*decoded)), *decoded);
        }
    }
}

TEST(LeaderPublisher, it_says_what_is_new_and_says_it_until_it_is_acknowledged) {
    LeaderPublisher publisher(1);
    EXPECT_FALSE(publisher.next_for(2));
    EXPECT_TRUE(publisher.lead({7}, 3, {1}));
    EXPECT_FALSE(publisher.lead({7}, 3, {1}));
    const auto first = publisher.next_for(2);
    ASSERT_TRUE(first);
    EXPECT_EQ(publisher.next_for(2), first);
    publisher.acknowledged(2, 100, first->after, first->upto);
    EXPECT_FALSE(publisher.next_for(2));
    EXPECT_TRUE(publisher.next_for(3));
    EXPECT_TRUE(publisher.lead({7}, 3, {1, 2}));
    EXPECT_EQ(publisher.next_for(2)->states[0].revision, 1u);
    EXPECT_FALSE(publisher.resign({7}, 2));
    EXPECT_TRUE(publisher.resign({7}, 3));
    EXPECT_EQ(publisher.next_for(2)->states[0].leader, -1);
    EXPECT_EQ(publisher.next_for(2)->states[0].revision, 2u);
    EXPECT_TRUE(publisher.lead({7}, 5, {1}));
    EXPECT_FALSE(publisher.lead({7}, 4, {1}));
    publisher.note_statement({.log = {7}, .leader = 2, .epoch = 4});  // late
    EXPECT_TRUE(publisher.next_for(2));
    publisher.note_statement({.log = {7}, .leader = 2, .epoch = 6});
    EXPECT_FALSE(publisher.next_for(2));
    publisher.lead({8}, 1, {1});
    publisher.forget({8});
    EXPECT_FALSE(publisher.next_for(2));
}

TEST(LeaderPublisher, a_peer_that_started_anew_is_told_everything) {
    LeaderPublisher publisher(1);
    const auto acknowledge = [&](uint64_t incarnation, const LeaderUpdate& update) {
        publisher.acknowledged(2, incarnation, update.after, update.upto);
    };
    publisher.lead({7}, 3, {1});
    acknowledge(100, *publisher.next_for(2));
    publisher.lead({8}, 3, {1});
    const auto second = *publisher.next_for(2);
    EXPECT_EQ(second.states.size(), 1u);
    // It starts again before it takes the second statement, and so missed the first.
    acknowledge(101, second);
    acknowledge(101, second);
    const auto again = publisher.next_for(2);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->states.size(), 2u);
    acknowledge(101, *again);
    EXPECT_FALSE(publisher.next_for(2));
}

TEST(LeaderPublisher, what_a_peer_forgot_unasked_it_is_told_again) {
    LeaderPublisher publisher(1);
    LeaderTable table(10);  // of a node that lacks the record which creates the partition
    const auto tell = [&] {
        while (const auto update = publisher.next_for(2)) {
            for (const LeaderState& state : update->states) table.learn(state);
            publisher.acknowledged(2, 100, update->after, update->upto);
        }
    };
    publisher.lead({7}, 3, {1});
    tell();
    for (int i = 0; i < 2; ++i) table.sweep([](LogId) { return false; });
    EXPECT_EQ(table.find({7}), nullptr);
    tell();
    EXPECT_EQ(table.find({7}), nullptr);
    publisher.forget_peer(2);
    tell();
    ASSERT_NE(table.find({7}), nullptr);
    EXPECT_EQ(table.find({7})->leader, 1);
}

// Nodes that lead by turns, over links that lose, repeat and reorder, and that forget when they
// start anew: once everything that is said arrives, all know the last leader of every partition.
TEST(LeaderPublisher, all_nodes_come_to_know_every_leader) {
    constexpr int32_t kNodes = 3;
    constexpr uint64_t kLogs = 40;
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Prng prng(seed);
        struct Node {
            LeaderPublisher publisher;
            LeaderTable table{kLogs};
            uint64_t incarnation = 1;
        };
        std::vector<Node> nodes;
        for (int32_t id = 0; id < kNodes; ++id) nodes.push_back({LeaderPublisher(id)});
        std::map<uint64_t, LeaderState> truth;
        struct Sent {
            size_t to;
            std::vector<uint8_t> bytes;
        };
        std::vector<Sent> wire;
        struct Reply {
            size_t to;
            int32_t from;
            uint64_t incarnation;
            uint64_t after;
            uint64_t upto;
        };
        std::vector<Reply> replies;
        const auto send = [&] {
            for (size_t from = 0; from < nodes.size(); ++from) {
                for (size_t to = 0; to < nodes.size(); ++to) {
                    if (from == to) continue;
                    if (const auto update = nodes[from].publisher.next_for(static_cast<int32_t>(to),
                                                                           prng.between(1, 10)))
                        wire.push_back({to, encode_leader_update(*update)});
                }
            }
        };
        const auto deliver = [&](size_t at) {
            const auto update = decode_leader_update(wire[at].bytes);
            ASSERT_TRUE(update);
            Node& node = nodes[wire[at].to];
            for (const LeaderState& state : update->states) {
                node.table.learn(state);
                node.publisher.note_statement(state);
            }
            replies.push_back({static_cast<size_t>(update->node), static_cast<int32_t>(wire[at].to),
                               node.incarnation, update->after, update->upto});
        };
        const auto step_leaders = [&] {
            const uint64_t log = prng.below(kLogs);
            LeaderState& now = truth[log];
            Node& node = nodes[prng.below(kNodes)];
            const auto id = static_cast<int32_t>(&node - nodes.data());
            if (now.leader == id && now.epoch > 0 && prng.chance(0.5)) {
                now.in_sync = {id, static_cast<int32_t>(prng.below(kNodes))};
            } else {
                if (now.leader != -1 && prng.chance(0.5))
                    nodes[static_cast<size_t>(now.leader)].publisher.resign({log}, now.epoch);
                now = {.log = {log}, .leader = id, .epoch = now.epoch + 1, .in_sync = {id}};
            }
            node.publisher.lead({log}, now.epoch, now.in_sync);
        };
        for (int step = 0; step < 400; ++step) {
            if (prng.chance(0.4)) step_leaders();
            if (prng.chance(0.3)) send();
            if (prng.chance(0.02)) {
                // What it led it leads no more: others will, at a later epoch.
                const auto id = static_cast<int32_t>(prng.below(kNodes));
                Node& node = nodes[static_cast<size_t>(id)];
                const uint64_t incarnation = node.incarnation + 1;
                std::destroy_at(&node);
                std::construct_at(&node, Node{LeaderPublisher(id)});
                node.incarnation = incarnation;
                for (auto& [log, state] : truth) {
                    if (state.leader != id) continue;
                    const auto heir = (id + 1) % kNodes;
                    state = {
                        .log = {log}, .leader = heir, .epoch = state.epoch + 1, .in_sync = {heir}};
                    nodes[static_cast<size_t>(heir)].publisher.lead({log}, state.epoch,
                                                                    state.in_sync);
                }
            }
            while (!wire.empty() && prng.chance(0.6)) {
                const size_t at = prng.below(wire.size());
                if (!prng.chance(0.3)) deliver(at);
                if (!prng.chance(0.2)) wire.erase(wire.begin() + static_cast<ptrdiff_t>(at));
            }
            while (!replies.empty() && prng.chance(0.6)) {
                const Reply reply = replies[prng.below(replies.size())];
                if (!prng.chance(0.3))
                    nodes[reply.to].publisher.acknowledged(reply.from, reply.incarnation,
                                                           reply.after, reply.upto);
                std::erase_if(replies, [&](const Reply& each) {
                    return each.to == reply.to && each.upto == reply.upto;
                });
            }
        }
        // Links heal: replies that are under way are of connections that are gone.
        wire.clear();
        replies.clear();
        for (Node& node : nodes) {
            for (int32_t peer = 0; peer < kNodes; ++peer) node.publisher.forget_peer(peer);
        }
        for (int round = 0; round < 100; ++round) {
            send();
            for (size_t at = 0; at < wire.size(); ++at) deliver(at);
            wire.clear();
            for (const Reply& reply : replies)
                nodes[reply.to].publisher.acknowledged(reply.from, reply.incarnation, reply.after,
                                                       reply.upto);
            replies.clear();
        }
        for (const auto& [log, state] : truth) {
            if (state.epoch == 0) continue;
            for (size_t i = 0; i < nodes.size(); ++i) {
                if (static_cast<int32_t>(i) == state.leader) continue;
                const LeaderState* known = nodes[i].table.find({log});
                ASSERT_NE(known, nullptr) << "seed " << seed << " log " << log << " node " << i;
                EXPECT_EQ(known->leader, state.leader) << "seed " << seed << " log " << log;
                EXPECT_EQ(known->epoch, state.epoch) << "seed " << seed << " log " << log;
                EXPECT_EQ(known->in_sync, state.in_sync) << "seed " << seed << " log " << log;
            }
        }
    }
}

}  // namespace
}  // namespace weir::cluster

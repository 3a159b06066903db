// What no conversation shows: sizes, and messages that no healthy peer sends.
#include "raft/core.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/prng.h"

namespace weir::raft {
namespace {

constexpr Instant kStart{1'000'000'000};

CoreStart start_of(int32_t self, Configuration configuration) {
    CoreStart start;
    start.self = {self};
    start.configurations = {{{0, 0}, std::move(configuration)}};
    start.seed = 7;
    return start;
}

// A disk that is done at once.
void carry_out(Core& core, Effects& out, Instant now) {
    while (!out.empty()) {
        const Effects asked = out;
        out.clear();
        const auto next = [&](auto call) {
            Effects more;
            call(more);
            if (more.save) out.save = more.save;
        };
        if (asked.truncate_to) next([&](Effects& more) { core.on_truncated(now, more); });
        if (asked.install) next([&](Effects& more) { core.on_installed(now, more); });
        next([&](Effects& more) { core.on_durable(core.end(), now, more); });
        if (asked.save) next([&](Effects& more) { core.on_saved(*asked.save, now, more); });
        for (const SendEntries& work : asked.entries) {
            next([&](Effects& more) { core.on_sent(work, work.until, 100, now, more); });
        }
        core.check_invariants();
    }
}

Core leader_of_three(const Options& options, Instant& now) {
    Core core(options, start_of(1, voters({1, 2, 3})));
    Effects out;
    core.start(now, out);
    carry_out(core, out, now);
    now = core.next_deadline();
    core.tick(now, out);
    carry_out(core, out, now);
    core.step({2}, VoteReply{.term = 1, .granted = true, .pre_vote = true}, now, out);
    carry_out(core, out, now);
    core.step({2}, VoteReply{.term = 1, .granted = true}, now, out);
    carry_out(core, out, now);
    EXPECT_EQ(core.role(), Role::kLeader);
    return core;
}

// 1. The first of the founders hears of the group.  2. The others do, a moment later, and have not
// got its request.  3. It asks again, and leads in the first term.
TEST(RaftCore,
     the_first_leader_of_a_new_group_campaigns_at_once_and_asks_until_founders_are_there) {
    const Options options;
    Instant now = kStart;
    CoreStart start = start_of(1, voters({1, 2, 3}));
    start.leads_first = true;
    Core core(options, start);
    Effects out;
    core.start(now, out);
    EXPECT_EQ(core.role(), Role::kCandidate);
    const auto requests = [&] {
        size_t count = 0;
        for (const Outgoing& each : out.messages) {
            const auto* request = std::get_if<VoteRequest>(&each.message);
            if (request != nullptr && !request->pre_vote && request->term == 1) ++count;
        }
        return count;
    };
    ASSERT_TRUE(out.save.has_value());
    const HardState vote = *out.save;
    EXPECT_EQ(requests(), 0u) << "its own vote is not durable yet";
    out.clear();
    core.on_saved(vote, now, out);
    EXPECT_EQ(requests(), 2u);
    size_t rounds = 0;
    while (core.next_deadline() < kStart + options.election_timeout_min) {
        out.clear();
        now = core.next_deadline();
        core.tick(now, out);
        ASSERT_EQ(core.term(), 1);
        EXPECT_EQ(requests(), 2u);
        ++rounds;
    }
    EXPECT_GE(rounds, 5u);
    EXPECT_LE(rounds, 8u) << "each time it waits twice as long";
    out.clear();
    core.step({3}, VoteReply{.term = 1, .granted = true}, now, out);
    EXPECT_EQ(core.role(), Role::kLeader);
    EXPECT_EQ(core.term(), 1);
}

TEST(RaftCore, who_gets_no_votes_for_its_first_term_goes_on_as_any_candidate) {
    const Options options;
    Instant now = kStart;
    CoreStart start = start_of(1, voters({1, 2, 3}));
    start.leads_first = true;
    Core core(options, start);
    Effects out;
    core.start(now, out);
    carry_out(core, out, now);
    while (core.role() == Role::kCandidate && now < kStart + 2 * options.election_timeout_max) {
        now = core.next_deadline();
        core.tick(now, out);
        carry_out(core, out, now);
    }
    EXPECT_EQ(core.role(), Role::kPreCandidate);
    EXPECT_GE(now, kStart + options.election_timeout_min);
    EXPECT_EQ(core.term(), 1);
}

// It may have voted for another one, or have been deposed.
TEST(RaftCore, a_replica_that_took_part_before_does_not_campaign_as_the_first_leader) {
    const Options options;
    for (const bool voted : {true, false}) {
        CoreStart start = start_of(1, voters({1, 2, 3}));
        start.leads_first = true;
        if (voted)
            start.hard_state = {1, 2};
        else
            start.hard_state = {1, -1};
        Core core(options, start);
        Effects out;
        core.start(kStart, out);
        EXPECT_EQ(core.role(), Role::kFollower);
        EXPECT_GE(core.next_deadline(), kStart + options.election_timeout_min);
    }
}

// A leader that has not heard of the newest decision does not take the group back.
TEST(RaftCore, a_configuration_of_an_older_revision_is_refused) {
    const Options options;
    Instant now = kStart;
    Core core = leader_of_three(options, now);
    Effects out;
    const auto acknowledge = [&] {
        core.step(
            {2},
            AppendReply{.term = 1, .accepted = true, .match = core.end(), .received = core.end()},
            now, out);
        carry_out(core, out, now);
    };
    acknowledge();
    Configuration newer = core.configuration();
    newer.revision = 3;
    ASSERT_EQ(core.change_configuration(newer, now, out), RequestStatus::kStarted);
    carry_out(core, out, now);
    acknowledge();
    EXPECT_EQ(core.configuration(), newer) << "the same members, under a later decision";
    ASSERT_TRUE(core.configuration_settled());
    Configuration older = voters({1, 2});
    older.revision = 2;
    EXPECT_EQ(core.change_configuration(older, now, out), RequestStatus::kInvalid);
    older.revision = 4;
    EXPECT_EQ(core.change_configuration(older, now, out), RequestStatus::kStarted);
    carry_out(core, out, now);
    EXPECT_TRUE(core.configuration().joint());
    EXPECT_EQ(core.configuration().revision, 4u);
    acknowledge();
    acknowledge();
    EXPECT_EQ(core.configuration(), older);
}

// Cluster seed 30223: a replica that was dropped had acknowledged what the one that took its place
// did not have, and the leader counted on it.
TEST(RaftCore, who_joins_again_is_not_taken_for_the_replica_that_it_was) {
    const Options options;
    Instant now = kStart;
    Core core = leader_of_three(options, now);
    Effects out;
    const auto acknowledge = [&](int32_t from) {
        const AppendReply reply{
            .term = 1, .accepted = true, .match = core.end(), .received = core.end()};
        const Verdict verdict = core.step({from}, reply, now, out);
        carry_out(core, out, now);
        return verdict;
    };
    const auto match_of = [&](int32_t node) {
        for (const PeerStatus& peer : core.peers()) {
            if (peer.node == NodeId{node}) return peer.match;
        }
        return Position{-1, 0};
    };
    acknowledge(3);
    ASSERT_EQ(core.change_configuration(voters({1, 2}), now, out), RequestStatus::kStarted);
    carry_out(core, out, now);
    acknowledge(2);
    acknowledge(2);
    acknowledge(2);
    ASSERT_EQ(core.configuration(), voters({1, 2}));
    now = core.next_deadline();
    core.tick(now, out);
    carry_out(core, out, now);
    const int64_t heard_by_the_first = now.ns;
    ASSERT_EQ(core.change_configuration(voters({1, 2, 3}), now, out), RequestStatus::kStarted);
    carry_out(core, out, now);
    acknowledge(2);
    // What the first one said comes late.
    EXPECT_EQ(acknowledge(3), Verdict::kStale);
    core.step({3}, HeartbeatReply{.term = 1, .context = heard_by_the_first, .match = core.end()},
              now, out);
    carry_out(core, out, now);
    EXPECT_EQ(match_of(3), Position{});
    // The second one answers a heartbeat; then it counts.
    now = core.next_deadline();
    core.tick(now, out);
    carry_out(core, out, now);
    core.step({3}, HeartbeatReply{.term = 1, .context = now.ns}, now, out);
    carry_out(core, out, now);
    const Position end = core.end();
    EXPECT_EQ(acknowledge(3), Verdict::kTaken);
    EXPECT_EQ(match_of(3), end);
}

// The follower takes what the leader sends to find where their logs part, is slow to flush it, and
// campaigns meanwhile. What it knows of its log's end then is what it acknowledged before.
TEST(RaftCore, what_a_follower_took_and_does_not_know_to_be_the_leaders_is_sent_again) {
    const Options options;
    Instant now = kStart;
    Core core = leader_of_three(options, now);
    Effects out;
    // Whether something is sent to it then.
    const auto from_2 = [&](Position match, Position received) {
        const AppendReply reply{.term = 1, .accepted = true, .match = match, .received = received};
        EXPECT_EQ(core.step({2}, reply, now, out), Verdict::kTaken);
        const bool is_sent = std::ranges::any_of(
            out.entries, [](const SendEntries& work) { return work.to == NodeId{2}; });
        carry_out(core, out, now);
        return is_sent;
    };
    const Position start = core.end();
    from_2(start, start);
    core.on_connection_lost({2}, now, out);
    carry_out(core, out, now);
    const EntryInfo entry{.kind = EntryKind::kData,
                          .term = 1,
                          .first = core.end(),
                          .next_offset = core.end().offset + 1};
    core.on_proposed(entry, now, out);
    carry_out(core, out, now);
    EXPECT_FALSE(from_2(start, core.end())) << "it waits for the disk";
    EXPECT_TRUE(from_2(start, start)) << "asked again, it knows of less";
    EXPECT_FALSE(from_2(start, core.end()));
    EXPECT_FALSE(from_2(core.end(), core.end()));
}

// Replica 2 founded a group with 1 and 3, was removed with its disk's content, and is to be added
// again. Replica 3 was cut off all the while.
TEST(RaftCore, who_is_to_be_added_gives_no_vote_before_a_leader_told_it_the_members) {
    const Options options;
    Instant now = kStart;
    const auto votes = [&](Core& core, Term term, bool pre_vote) {
        Effects out;
        const VoteRequest request{
            .term = term, .last_term = 1, .end = {9, 1}, .pre_vote = pre_vote};
        EXPECT_EQ(core.step({3}, request, now, out), Verdict::kTaken);
        bool granted = false;
        const auto look = [&] {
            for (const Outgoing& outgoing : out.messages) {
                const auto* reply = std::get_if<VoteReply>(&outgoing.message);
                granted |= reply != nullptr && reply->granted;
            }
        };
        look();
        if (!out.save) return granted;
        const HardState saved = *out.save;
        out.clear();
        core.on_saved(saved, now, out);
        look();
        return granted;
    };
    for (const bool joins : {true, false}) {
        CoreStart start = start_of(2, {});
        start.joins = joins;
        Core core(options, std::move(start));
        Effects out;
        core.start(now, out);
        carry_out(core, out, now);
        EXPECT_EQ(votes(core, 4, true), !joins);
        EXPECT_EQ(votes(core, 4, false), !joins);
    }
    // Told, it is a member like any other.
    CoreStart start = start_of(2, voters({1, 2, 3}));
    start.joins = true;
    Core core(options, std::move(start));
    Effects out;
    core.start(now, out);
    carry_out(core, out, now);
    EXPECT_TRUE(votes(core, 4, true));
    EXPECT_TRUE(votes(core, 4, false));
}

// Cluster seed 43 (of the tree that had the next commit): 1. A replica was the only voter, moved
// away and was deleted.  2. Added again, it has the group's entries up to the one that made it the
// only voter.  3. It starts anew, and must not lead by that.
TEST(RaftCore, who_joins_does_not_lead_by_the_members_of_an_older_decision) {
    const Options options;
    Instant now = kStart;
    for (const uint32_t revision : {3u, 4u}) {
        raft::Configuration alone = voters({2});
        alone.revision = revision;
        CoreStart start = start_of(2, alone);
        start.joins = true;
        start.joined_by = 4;
        Core core(options, std::move(start));
        Effects out;
        core.start(now, out);
        carry_out(core, out, now);
        for (int i = 0; i < 100; ++i) {
            now = now + std::chrono::milliseconds(100);
            core.tick(now, out);
            carry_out(core, out, now);
        }
        EXPECT_EQ(core.role() == Role::kLeader, revision >= 4);
        EXPECT_EQ(core.votes_withheld(), revision < 4);
    }
}

TEST(RaftCore, AGroupOfThreeFitsInAKibibyte) {
    const Options options;
    Instant now = kStart;
    const Core leader = leader_of_three(options, now);
    fmt::print("a leader of three: {} bytes, the core's own {}\n", leader.memory_bytes(),
               sizeof(Core));
    EXPECT_LE(leader.memory_bytes(), 1'344u);
    Core follower(options, start_of(1, voters({1, 2, 3})));
    EXPECT_LE(follower.memory_bytes(), 600u);
}

TEST(RaftCore, TheSteadyPathGivesOneCommitForARound) {
    const Options options;
    Instant now = kStart;
    Core core = leader_of_three(options, now);
    Effects out;
    const Position begin = core.end();
    for (const int32_t node : {2, 3}) {
        core.step({node},
                  AppendReply{.term = 1, .accepted = true, .match = begin, .received = begin}, now,
                  out);
        carry_out(core, out, now);
    }
    EXPECT_EQ(core.commit(), begin);
    core.on_proposed({.term = 1, .first = begin, .next_offset = 5}, now, out);
    ASSERT_EQ(out.entries.size(), 2u);
    EXPECT_EQ(out.entries[0].until, (Position{5, 0}));
    const SendEntries work = out.entries[0];
    out.clear();
    ASSERT_TRUE(core.on_sent(work, work.until, 100, now, out).has_value());
    core.step({2}, AppendReply{.term = 1, .accepted = true, .match = {5, 0}, .received = {5, 0}},
              now, out);
    // The leader's own disk is one of the two that are needed.
    EXPECT_FALSE(out.commit.has_value());
    core.on_durable({5, 0}, now, out);
    ASSERT_TRUE(out.commit.has_value());
    EXPECT_EQ(*out.commit, (Position{5, 0}));
}

// Whatever a broken or hostile peer says, the core neither crashes nor breaks its own rules.
TEST(RaftCore, NonsenseIsIgnored) {
    const Options options;
    for (uint64_t seed = 1; seed <= 300; ++seed) {
        Prng prng(seed);
        Instant now = kStart;
        Core core = leader_of_three(options, now);
        const auto position = [&] {
            if (prng.chance(0.05)) return Position{INT64_MAX - 1, UINT32_MAX};
            if (prng.chance(0.05)) return Position{-5, 0};
            return Position{static_cast<int64_t>(prng.below(6)),
                            static_cast<uint32_t>(prng.below(3))};
        };
        const auto term = [&] {
            if (prng.chance(0.02)) return INT32_MAX;
            if (prng.chance(0.02)) return INT32_MIN;
            if (prng.chance(0.01)) return kTermMax;
            return static_cast<Term>(prng.below(8)) + core.term() / 2 * 2 - 2;
        };
        for (int i = 0; i < 300; ++i) {
            now = now + Duration(prng.below(50'000'000));
            std::vector<EntryView> entries;
            const Configuration members = voters({1, 2, 3, 4});
            Message message;
            switch (prng.below(7)) {
                case 0:
                    message =
                        VoteRequest{term(), term(), position(), prng.chance(0.5), prng.chance(0.5)};
                    break;
                case 1:
                    message = VoteReply{term(), prng.chance(0.5), prng.chance(0.5)};
                    break;
                case 2: {
                    AppendRequest request{term(), term(), position(), position(), {}};
                    Position at = request.prev;
                    Term last = request.prev_term;
                    while (prng.chance(0.6)) {
                        EntryView entry;
                        if (last < INT32_MAX) last += static_cast<Term>(prng.below(2));
                        entry.info.term = prng.chance(0.9) ? last : term();
                        entry.info.first = prng.chance(0.95) ? at : position();
                        if (prng.chance(0.3)) {
                            entry.info.kind = EntryKind::kControl;
                            entry.info.next_offset = entry.info.first.offset;
                            if (prng.chance(0.5)) entry.configuration = &members;
                        } else {
                            // Also beyond the largest offset: a stranger may send anything.
                            entry.info.next_offset = static_cast<int64_t>(
                                static_cast<uint64_t>(entry.info.first.offset) + prng.below(3));
                        }
                        at = entry.info.end();
                        entries.push_back(entry);
                    }
                    request.entries = entries;
                    message = request;
                    break;
                }
                case 3: {
                    AppendReply reply{.term = term(), .accepted = prng.chance(0.5)};
                    reply.match = position();
                    reply.received = position();
                    reply.prev = position();
                    reply.end = position();
                    reply.hint_term = term();
                    reply.hint_end = position();
                    message = reply;
                    break;
                }
                case 4:
                    message = Heartbeat{term(), prng.chance(0.5), static_cast<int64_t>(prng.next()),
                                        position(), position()};
                    break;
                case 5:
                    message = HeartbeatReply{term(), prng.chance(0.5),
                                             static_cast<int64_t>(prng.next()), position()};
                    break;
                default:
                    message = TimeoutNow{term()};
            }
            const NodeId from{static_cast<int32_t>(prng.below(6)) - 1};
            Effects out;
            if (prng.chance(0.05)) {
                SnapshotHead head{position(), {{term(), position()}}, members};
                core.step(from, InstallSnapshot{term(), head}, now, out);
            } else {
                core.step(from, message, now, out);
            }
            carry_out(core, out, now);
            if (now >= core.next_deadline()) {
                core.tick(now, out);
                carry_out(core, out, now);
            }
            if (core.term() >= kTermMax) break;
        }
    }
}

// Every kind of message, of a term above all others.
std::vector<Message> all_kinds(Term term) {
    return {VoteRequest{.term = term, .last_term = 1, .end = {9, 0}, .transfer = true},
            VoteRequest{.term = term, .last_term = 1, .end = {9, 0}, .pre_vote = true},
            VoteReply{.term = term},
            VoteReply{.term = term, .granted = true},
            AppendRequest{.term = term},
            AppendReply{.term = term},
            AppendReply{.term = term, .accepted = true},
            Heartbeat{.term = term},
            HeartbeatReply{.term = term},
            TimeoutNow{.term = term},
            RecoveryRequest{.term = term},
            RecoveryReply{.term = term}};
}

TEST(RaftCore, WhoIsNoMemberChangesNothingNotEvenATerm) {
    const Options options;
    for (const bool leads : {true, false}) {
        Instant now = kStart;
        Core core =
            leads ? leader_of_three(options, now) : Core(options, start_of(1, voters({1, 2, 3})));
        Effects out;
        if (!leads) core.start(now, out);
        const HardState term{core.term(), -1};
        for (const Message& message : all_kinds(core.term() + 1)) {
            EXPECT_EQ(core.step({9}, message, now, out, Vouched::kNo), Verdict::kStranger);
            EXPECT_TRUE(out.empty());
        }
        EXPECT_EQ(core.step({9}, InstallSnapshot{core.term() + 1, {{5, 0}, {{1, {}}}, {}}}, now,
                            out, Vouched::kNo),
                  Verdict::kStranger);
        EXPECT_TRUE(out.empty());
        EXPECT_EQ(core.term(), term.term);
        EXPECT_EQ(core.role(), leads ? Role::kLeader : Role::kFollower);
    }
}

TEST(RaftCore, AnswersCountFromMembersAlone) {
    const Options options;
    Instant now = kStart;
    Core core = leader_of_three(options, now);
    Effects out;
    for (const Message& message :
         {Message(VoteReply{.term = 2}), Message(AppendReply{.term = 2}),
          Message(HeartbeatReply{.term = 2}), Message(RecoveryRequest{.term = 2})}) {
        EXPECT_EQ(core.step({9}, message, now, out, Vouched::kYes), Verdict::kStale);
        EXPECT_TRUE(out.empty());
    }
    EXPECT_EQ(core.role(), Role::kLeader);
}

// The configuration may have changed in entries that this log does not have yet.
TEST(RaftCore, WhoIsVouchedForMayAskForAVoteAndLead) {
    const Options options;
    Core core(options, start_of(1, voters({1, 2, 3})));
    Effects out;
    core.start(kStart, out);
    const VoteRequest request{.term = 1, .end = {4, 0}};
    EXPECT_EQ(core.step({4}, request, kStart, out, Vouched::kYes), Verdict::kTaken);
    ASSERT_TRUE(out.save);
    EXPECT_EQ(*out.save, (HardState{1, 4}));
    carry_out(core, out, kStart);
    EXPECT_EQ(core.step({4}, Heartbeat{.term = 1}, kStart, out, Vouched::kYes), Verdict::kTaken);
    EXPECT_EQ(core.leader(), NodeId{4});
}

TEST(RaftCore, ATermOutOfReachIsRefusedWhateverTheMessage) {
    const Options options;
    Instant now = kStart;
    Core core = leader_of_three(options, now);
    Effects out;
    for (const Term wild : {1 << 30, kTermMax, core.term() + kTermLeapMax + 1, -1, INT32_MAX}) {
        for (const Message& message : all_kinds(wild)) {
            EXPECT_EQ(core.step({2}, message, now, out), Verdict::kInvalid) << wild;
            EXPECT_TRUE(out.empty());
        }
    }
    EXPECT_EQ(core.role(), Role::kLeader);
    // What elections may have brought while this node was away is believed.
    EXPECT_EQ(core.step({2}, Heartbeat{.term = core.term() + kTermLeapMax - 1}, now, out),
              Verdict::kTaken);
    EXPECT_EQ(core.leader(), NodeId{2});
}

TEST(RaftCore, AMemberThatRaisesTermsAsFastAsItCanDoesNotUseThemUp) {
    const Options options;
    Core core(options, start_of(1, voters({1, 2, 3})));
    Effects out;
    Instant now = kStart;
    core.start(now, out);
    for (int second = 0; second < 100; ++second) {
        for (const Term leap : {kTermLeapMax, 10'000, 100, 10, 1, 1}) {
            (void)core.step({2}, Heartbeat{.term = core.term() + leap}, now, out);
            carry_out(core, out, now);
        }
        now = now + 1s;
    }
    EXPECT_LE(core.term(), kTermLeapMax + 100 * (1s / kTermPace));
    // An election is heard of a moment later.
    EXPECT_EQ(core.step({3}, Heartbeat{.term = core.term() + 2}, now, out), Verdict::kTaken);
    EXPECT_EQ(core.leader(), NodeId{3});
}

TEST(RaftCore, AReplicaThatWaitsToBeToldOfItsGroupTakesItsTerm) {
    const Options options;
    CoreStart start;
    start.self = {4};
    start.joins = true;
    Core core(options, start);
    Effects out;
    core.start(kStart, out);
    for (const Term wild : {kTermLeapMax + 1, kTermOldMax - 1, kTermMax})
        EXPECT_EQ(core.step({1}, Heartbeat{.term = wild}, kStart, out), Verdict::kInvalid) << wild;
    for (const Term term : {kTermLeapMax, kTermOldMax + 5}) {
        EXPECT_EQ(core.step({1}, Heartbeat{.term = term}, kStart, out), Verdict::kTaken);
        EXPECT_EQ(core.term(), term);
        out.clear();
    }
}

TEST(RaftCore, ASavedTermThatIsTheLastOneDoesNotEndTheStart) {
    const Options options;
    for (const Configuration& members : {voters({1}), voters({1, 2, 3})}) {
        CoreStart start = start_of(1, members);
        start.hard_state = {kTermMax, -1};
        Core core(options, start);
        Effects out;
        Instant now = kStart;
        core.start(now, out);
        for (int i = 0; i < 5 && core.next_deadline() != Instant::never(); ++i) {
            carry_out(core, out, now);
            now = core.next_deadline();
            core.tick(now, out);
        }
        EXPECT_EQ(core.term(), kTermMax);
        EXPECT_EQ(core.role(), Role::kFollower);
    }
}

// Terms that a version before this one believed, and where it let nobody campaign.
TEST(RaftCore, AGroupWhoseSavedTermsAreWildElectsALeader) {
    const Options options;
    CoreStart start = start_of(1, voters({1}));
    start.hard_state = {1 << 30, -1};
    Core core(options, start);
    Effects out;
    core.start(kStart, out);
    carry_out(core, out, kStart);
    EXPECT_EQ(core.role(), Role::kLeader);
    EXPECT_EQ(core.term(), (1 << 30) + 1);
}

TEST(RaftCore, ATermThatIsTooLargeIsNotBelieved) {
    const Options options;
    Core core(options, start_of(1, voters({1, 2, 3})));
    Effects out;
    core.start(kStart, out);
    EXPECT_EQ(core.step({2}, VoteRequest{.term = kTermMax + 1}, kStart, out), Verdict::kInvalid);
    EXPECT_EQ(core.step({2}, Heartbeat{.term = -1}, kStart, out), Verdict::kInvalid);
    EXPECT_EQ(core.step({1}, Heartbeat{.term = 1}, kStart, out), Verdict::kInvalid);
    EXPECT_EQ(core.term(), 0);
    EXPECT_TRUE(out.empty());
}

// 1. Nodes 0 and 2 were in term 5, where 0 acknowledged what 2 committed.  2. The disk of 0 goes
// back to term 3.  3. Node 1, cut off since, still leads term 3: with 0 it would be a majority.
TEST(Core, a_replica_that_lost_its_term_acknowledges_nothing_to_an_old_leader) {
    const Options options;
    CoreStart start = start_of(0, voters({0, 1, 2}));
    start.hard_state = {3, -1};
    start.recovering = start.terms_lost = true;
    Core core(options, std::move(start));
    Effects out;
    const Instant now = kStart;
    core.start(now, out);
    ASSERT_EQ(out.messages.size(), 2u);
    for (const Outgoing& each : out.messages)
        EXPECT_TRUE(std::get<VoteRequest>(each.message).pre_vote);
    carry_out(core, out, now);

    const Heartbeat beat{.term = 3, .context = 1};
    EXPECT_EQ(core.step({1}, beat, now, out), Verdict::kStale);
    EXPECT_EQ(core.step({1}, AppendRequest{.term = 3, .entries = {}}, now, out), Verdict::kStale);
    EXPECT_TRUE(out.empty());
    // One of two is not enough: the majority of term 5 may have been the other one and this.
    core.step({1}, VoteReply{.term = 3, .pre_vote = true}, now, out);
    EXPECT_TRUE(core.asking_terms());
    EXPECT_TRUE(out.empty());
    core.step({2}, VoteReply{.term = 5, .pre_vote = true}, now, out);
    EXPECT_FALSE(core.asking_terms());
    EXPECT_TRUE(core.recovering());
    EXPECT_EQ(core.term(), 5);
    carry_out(core, out, now);
    // The old leader is told so.
    EXPECT_EQ(core.step({1}, beat, now, out), Verdict::kStale);
    ASSERT_EQ(out.messages.size(), 1u);
    EXPECT_EQ(std::get<HeartbeatReply>(out.messages[0].message).term, 5);
}

TEST(Core, a_replica_that_asks_for_terms_does_not_count_one_that_lost_its_own) {
    const Options options;
    CoreStart start = start_of(0, voters({0, 1, 2}));
    start.recovering = start.terms_lost = true;
    Core core(options, std::move(start));
    Effects out;
    core.start(kStart, out);
    carry_out(core, out, kStart);
    const VoteReply lost{.term = 1, .granted = true, .pre_vote = true, .recovering = true};
    core.step({1}, lost, kStart, out);
    EXPECT_TRUE(core.asking_terms());
    // All that is left has been heard.
    core.step({2}, lost, kStart, out);
    EXPECT_FALSE(core.asking_terms());
}

// It votes for nobody else in the term whose leader it follows, though it gave that one no vote.
TEST(Core, whoever_follows_a_leader_has_no_other_vote_in_its_term) {
    const Options options;
    Core core(options, start_of(0, voters({0, 1, 2})));
    Effects out;
    Instant now = kStart;
    core.start(now, out);
    carry_out(core, out, now);
    core.step({1}, Heartbeat{.term = 4, .context = 1}, now, out);
    ASSERT_TRUE(out.save);
    EXPECT_EQ(out.save->voted_for, 1);
    carry_out(core, out, now);
    now = core.next_deadline();
    core.tick(now, out);  // the leader is silent
    EXPECT_EQ(core.leader(), kNoNode);
    out.clear();
    core.step({2}, VoteRequest{.term = 4, .last_term = 3, .end = {9, 0}}, now, out);
    ASSERT_EQ(out.messages.size(), 1u);
    EXPECT_FALSE(std::get<VoteReply>(out.messages[0].message).granted);
}

// A replica with a damaged log leads where nobody else stands, after all others.
TEST(Core, an_impaired_replica_stands_last_and_an_unable_one_never) {
    const Options options;
    const auto deadline = [&](Fitness fitness) {
        CoreStart start = start_of(0, voters({0, 1, 2}));
        start.fitness = fitness;
        Core core(options, std::move(start));
        Effects out;
        core.start(kStart, out);
        carry_out(core, out, kStart);
        const Instant due = core.next_deadline();
        core.tick(due, out);
        EXPECT_EQ(core.role() == Role::kPreCandidate, fitness != Fitness::kUnable);
        carry_out(core, out, due);
        // Nor does it take over because its leader asks it to.
        core.step({1}, Heartbeat{.term = 2, .context = 1}, due, out);
        carry_out(core, out, due);
        core.step({1}, TimeoutNow{.term = 2}, due, out);
        EXPECT_EQ(core.role() == Role::kCandidate, fitness == Fitness::kWhole);
        return due;
    };
    const Instant whole = deadline(Fitness::kWhole);
    EXPECT_GE(deadline(Fitness::kImpaired) - whole,
              2 * (options.election_timeout_max - options.election_timeout_min));
    (void)deadline(Fitness::kUnable);
}

}  // namespace
}  // namespace weir::raft

#include "replication/wire.h"

#include <gtest/gtest.h>

#include "base/byte_reader.h"
#include "base/prng.h"

namespace weir::replication {
namespace {

using runtime::SharedBytes;
using storage::EntryKind;
using storage::Position;

raft::Configuration joint() {
    raft::Configuration configuration;
    configuration.members = {{.node = {1}, .old_voter = true},
                             {.node = {2}, .voter = true, .old_voter = true, .priority = 3},
                             {.node = {70'000}, .voter = true},
                             {.node = {70'001}, .learner = true}};
    return configuration;
}

TEST(ReplicationWire, every_message_comes_back_as_it_was) {
    const std::vector<raft::Message> all = {
        raft::VoteRequest{7, 6, {100, 2}, true, false},
        raft::VoteRequest{7, 6, {100, 2}, false, true},
        raft::VoteReply{7, true, true},
        raft::AppendRequest{.term = 3, .prev_term = 2, .prev = {10, 1}, .commit = {9, 0}},
        raft::AppendReply{.term = 4,
                          .accepted = true,
                          .match = {5, 0},
                          .received = {6, 1},
                          .prev = {6, 0},
                          .end = {7, 0},
                          .hint_term = 3,
                          .hint_end = {8, 2}},
        raft::Heartbeat{5, true, 77, {1, 0}, {2, 3}},
        raft::HeartbeatReply{5, true, 77, {1, 0}},
        raft::TimeoutNow{9},
        raft::VoteReply{7, true, false, true},
        raft::RecoveryRequest{8, 0xfedcba9876543210, {100, 2}},
        raft::RecoveryReply{8, 0xfedcba9876543210, {120, 0}},
    };
    ByteWriter out;
    for (size_t i = 0; i < all.size(); ++i)
        append_message(out, {.log = {i + 1}, .start_offset = 5, .message = all[i]});
    const auto bytes = out.flatten();
    const auto back = decode_messages(bytes);
    ASSERT_TRUE(back.has_value());
    ASSERT_EQ(back->size(), all.size());
    ByteWriter again;
    for (size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ((*back)[i].log.v, i + 1);
        EXPECT_EQ((*back)[i].start_offset, 5);
        EXPECT_EQ((*back)[i].message.index(), all[i].index());
        append_message(again, (*back)[i]);
    }
    EXPECT_EQ(again.flatten(), bytes);
    for (size_t cut = 1; cut < bytes.size(); ++cut)
        (void)decode_messages(Bytes(bytes).first(cut));  // an error or fewer messages, no crash
}

TEST(ReplicationWire, entries_come_back_with_their_payloads) {
    std::vector<storage::FoundEntry> entries(3);
    Position at{10, 1};
    for (size_t i = 0; i < entries.size(); ++i) {
        entries[i].info = {.kind = i == 1 ? EntryKind::kControl : EntryKind::kData,
                           .term = 4,
                           .first = at,
                           .next_offset = at.offset + (i == 1 ? 0 : 3),
                           .max_timestamp_ms = i == 1 ? -1 : 1'700'000'000'000};
        at = entries[i].info.end();
        entries[i].payload = SharedBytes::copy_of(std::vector<uint8_t>(i * 100 + 1, 7));
    }
    const raft::AppendRequest request{
        .term = 4, .prev_term = 4, .prev = {10, 1}, .commit = {9, 0}, .entries = {}};
    const rpc::Message message = encode_append({5}, 8, request, entries);
    std::vector<uint8_t> body = message.body;
    for (const SharedBytes& part : message.parts)
        body.insert(body.end(), part.bytes().begin(), part.bytes().end());
    EXPECT_EQ(peek_append(body)->v, 5u);
    const auto back = decode_append(SharedBytes::copy_of(body));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->start_offset, 8);
    EXPECT_EQ(back->request.prev, (Position{10, 1}));
    ASSERT_EQ(back->entries.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(back->entries[i].info.first, entries[i].info.first);
        EXPECT_EQ(back->entries[i].info.end(), entries[i].info.end());
        EXPECT_EQ(back->entries[i].info.max_timestamp_ms, entries[i].info.max_timestamp_ms);
        EXPECT_EQ(back->entries[i].payload.size(), entries[i].payload.size());
    }
    for (size_t cut = 1; cut < body.size(); ++cut)
        EXPECT_FALSE(decode_append(SharedBytes::copy_of(Bytes(body).first(cut))).has_value());
    body.push_back(0);
    EXPECT_FALSE(decode_append(SharedBytes::copy_of(body)).has_value());
}

TEST(ReplicationWire, a_configuration_has_its_revision_and_none_is_as_before) {
    raft::Configuration with = joint();
    with.revision = 300;
    ByteWriter before, after;
    append_configuration(before, joint());
    append_configuration(after, with);
    std::vector<uint8_t> plain = before.flatten();
    const std::vector<uint8_t> bytes = after.flatten();
    EXPECT_EQ(bytes.size(), plain.size() + 2);
    ByteReader in(bytes);
    EXPECT_EQ(*read_configuration(in), with);
    // A revision of 0 is not written.
    plain[0] |= 0x80;
    plain.insert(plain.begin() + 1, 0);
    ByteReader zero(plain);
    EXPECT_FALSE(read_configuration(zero).has_value());
    KeptConfig kept;
    kept.configuration = {{{7, 1}, with}};
    EXPECT_EQ(decode_kept(encode_kept(kept))->configuration->configuration, with);
}

TEST(ReplicationWire, control_entries_and_snapshots_come_back) {
    raft::ControlEntry control;
    control.kind = raft::ControlKind::kConfiguration;
    control.configuration = joint();
    const auto payload = encode_control(control);
    EXPECT_LE(payload.size(), storage::kSummaryBytesMax);
    auto back = decode_control(payload);
    ASSERT_TRUE(back.has_value() && back->has_value());
    EXPECT_EQ(**back, joint());
    control.kind = raft::ControlKind::kTermStart;
    back = decode_control(encode_control(control));
    ASSERT_TRUE(back.has_value());
    EXPECT_FALSE(back->has_value());
    EXPECT_FALSE(decode_control(Bytes()).has_value());

    Snapshot snapshot;
    snapshot.log = {9};
    snapshot.install.term = 8;
    snapshot.install.head = {{100, 0}, {{1, {0, 0}}, {5, {50, 1}}}, joint()};
    snapshot.state = {1, 2, 3};
    snapshot.state_end = {120, 1};
    const rpc::Message message = encode_snapshot(snapshot);
    const auto taken = decode_snapshot(message.body);
    ASSERT_TRUE(taken.has_value());
    EXPECT_EQ(taken->install.head.terms, snapshot.install.head.terms);
    EXPECT_EQ(taken->install.head.configuration, joint());
    EXPECT_EQ(taken->state, snapshot.state);
    EXPECT_EQ(taken->state_end, snapshot.state_end);
}

TEST(ReplicationWire, what_is_kept_beside_a_log_comes_back) {
    for (const bool is_known : {true, false}) {
        for (const uint64_t history : {uint64_t{0}, uint64_t{0xfedcba9876543210}}) {
            KeptConfig kept;
            if (is_known) kept.configuration = {{{7, 1}, joint()}};
            kept.memory_history = history;
            const std::vector<uint8_t> bytes = encode_kept(kept);
            const auto back = decode_kept(bytes);
            ASSERT_TRUE(back.has_value());
            EXPECT_EQ(back->memory_history, history);
            ASSERT_EQ(back->configuration.has_value(), is_known);
            if (is_known) EXPECT_EQ(back->configuration->at, (Position{7, 1}));
            if (is_known) EXPECT_EQ(back->configuration->configuration, joint());
            // Without the history it is what older versions wrote.
            if (history != 0)
                EXPECT_EQ(decode_kept(Bytes(bytes).first(bytes.size() - 9))->memory_history, 0u);
        }
    }
    EXPECT_FALSE(decode_kept(Bytes()));
    const std::vector<uint8_t> joined = encode_kept({.joined_by = 7});
    EXPECT_EQ(decode_kept(joined)->joined_by, 7u);
    EXPECT_EQ(decode_kept(joined)->memory_history, 0u);
    EXPECT_FALSE(decode_kept(joined)->configuration.has_value());
    EXPECT_FALSE(decode_kept(Bytes(joined).first(joined.size() - 1))) << "cut short";
}

// The largest configuration fits what recovery keeps of a control entry.
TEST(ReplicationWire, the_largest_configuration_fits_a_summary) {
    raft::ControlEntry control;
    control.kind = raft::ControlKind::kConfiguration;
    for (size_t i = 0; i < raft::kMembersMax; ++i)
        control.configuration.members.push_back(
            {.node = {INT32_MAX - static_cast<int32_t>(raft::kMembersMax - i)}, .voter = true});
    control.configuration.revision = UINT32_MAX;
    EXPECT_LE(encode_control(control).size(), storage::kSummaryBytesMax);
}

TEST(ReplicationWire, random_bytes_are_refused_or_taken_and_never_more) {
    Prng prng(1, "wire");
    for (int round = 0; round < 20'000; ++round) {
        std::vector<uint8_t> bytes(prng.below(80));
        for (uint8_t& byte : bytes)
            byte = static_cast<uint8_t>(prng.below(prng.below(2) ? 8 : 256));
        (void)decode_messages(bytes);
        (void)decode_append(SharedBytes::copy_of(bytes));
        (void)decode_snapshot(bytes);
        (void)decode_control(bytes);
        (void)decode_kept(bytes);
    }
}

}  // namespace
}  // namespace weir::replication

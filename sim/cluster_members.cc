// The members of a simulated consumer group: they join, read, commit, leave and vanish.
#include <fmt/format.h>

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "cluster_session.h"
#include "kafka/protocol/consumer_protocol_assignment.h"
#include "kafka/protocol/consumer_protocol_subscription.h"
#include "kafka/protocol/heartbeat.h"
#include "kafka/protocol/join_group.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/protocol/leave_group.h"
#include "kafka/protocol/offset_commit.h"
#include "kafka/protocol/offset_fetch.h"
#include "kafka/protocol/sync_group.h"

namespace weir::sim {

using kafka::KafkaError;

struct ClusterClients::Member {
    std::string id;
    int32_t generation = -1;
    std::map<std::pair<size_t, int32_t>, int64_t> positions;  // by topic and partition
    Prng prng;
};

namespace {

constexpr const char* kGroup = "group";
constexpr int16_t kOffsetsByName = 9;
constexpr int16_t kOffsetFetchOneGroup = 7;

template <class Message>
std::vector<uint8_t> versioned(const Message& message) {
    ByteWriter out;
    out.write_i16(0);
    CHECK(message.encode(out, 0));
    return out.flatten();
}

}  // namespace

// Joins, works, and returns why it can't any more.
Task<Result<void>> ClusterClients::member_life(ClusterClients* self, Session* session,
                                               Member* member) {
    Client* client = co_await try_(session->client());
    ClientConnection* coordinator = co_await try_(client->to_group_coordinator(kGroup));
    kafka::ConsumerProtocolSubscription subscription;
    for (const Topic& topic : self->topics_) subscription.topics.push_back(topic.name);
    kafka::JoinGroupRequest join;
    join.group_id = kGroup;
    join.session_timeout_ms = 6000;
    join.rebalance_timeout_ms = 4000;
    join.member_id = member->id;
    join.protocol_type = "consumer";
    join.protocols.push_back({"range", versioned(subscription)});
    self->say(session->who(), "joining");
    ++self->counts_.requests;
    auto joined = co_await try_(
        coordinator->call<kafka::JoinGroupResponse>(join, INT16_MAX, std::chrono::seconds(12)));
    if (kafka::kafka_error(joined.message.error_code) == KafkaError::kMemberIdRequired) {
        join.member_id = member->id = joined.message.member_id;
        joined = co_await try_(
            coordinator->call<kafka::JoinGroupResponse>(join, INT16_MAX, std::chrono::seconds(12)));
    }
    if (joined.message.error_code != 0)
        co_return weir::fail(kafka::error_of(joined.message.error_code, "join"));
    ++self->counts_.rebalances;
    member->id = joined.message.member_id;
    member->generation = joined.message.generation_id;

    kafka::SyncGroupRequest sync;
    sync.group_id = kGroup;
    sync.generation_id = member->generation;
    sync.member_id = member->id;
    sync.protocol_type = "consumer";
    sync.protocol_name = "range";
    if (joined.message.leader == member->id) {
        std::vector<kafka::ConsumerProtocolAssignment> assignments(joined.message.members.size());
        size_t next = 0;
        for (const Topic& topic : self->topics_) {
            for (int32_t partition = 0; partition < topic.partitions; ++partition) {
                auto& assigned = assignments[next++ % assignments.size()].assigned_partitions;
                if (assigned.empty() || assigned.back().topic != topic.name)
                    assigned.push_back({topic.name, {}});
                assigned.back().partitions.push_back(partition);
            }
        }
        for (size_t i = 0; i < assignments.size(); ++i)
            sync.assignments.push_back(
                {joined.message.members[i].member_id, versioned(assignments[i])});
    }
    self->say(session->who(), "syncing");
    ++self->counts_.requests;
    const auto synced = co_await try_(coordinator->call<kafka::SyncGroupResponse>(
        std::move(sync), INT16_MAX, std::chrono::seconds(12)));
    if (synced.message.error_code != 0)
        co_return weir::fail(kafka::error_of(synced.message.error_code, "sync"));
    ByteReader in(synced.message.assignment);
    const int16_t version = in.read_i16();
    const auto assignment = co_await try_(kafka::ConsumerProtocolAssignment::decode(in, version));
    member->positions.clear();
    kafka::OffsetFetchRequest ask;
    ask.group_id = kGroup;
    std::map<std::pair<size_t, int32_t>, int64_t> at_least;
    for (const auto& assigned : assignment.assigned_partitions) {
        const auto topic = std::ranges::find(self->topics_, assigned.topic, &Topic::name);
        CHECK(topic != self->topics_.end());
        const auto t = static_cast<size_t>(topic - self->topics_.begin());
        ask.topics->push_back(
            {.name = assigned.topic, .topic_id = {}, .partition_indexes = assigned.partitions});
        for (const int32_t p : assigned.partitions)
            at_least[{t, p}] = self->history_.committed_at_least({kGroup, {topic->id, p}});
    }
    if (!at_least.empty()) {
        self->say(session->who(), "asking for offsets");
        ++self->counts_.requests;
        const auto offsets = co_await try_(
            coordinator->call<kafka::OffsetFetchResponse>(std::move(ask), kOffsetFetchOneGroup));
        if (offsets.message.error_code != 0)
            co_return weir::fail(kafka::error_of(offsets.message.error_code, "offset fetch"));
        for (const auto& topic : offsets.message.topics) {
            const auto known = std::ranges::find(self->topics_, topic.name, &Topic::name);
            CHECK(known != self->topics_.end());
            const auto t = static_cast<size_t>(known - self->topics_.begin());
            for (const auto& p : topic.partitions) {
                if (p.error_code != 0)
                    co_return weir::fail(kafka::error_of(p.error_code, "offset fetch"));
                self->history_.told_committed({kGroup, {known->id, p.partition_index}},
                                              p.committed_offset, at_least[{t, p.partition_index}]);
                member->positions[{t, p.partition_index}] =
                    std::max<int64_t>(0, p.committed_offset);
            }
        }
    }
    co_return co_await work_as_member(self, session, member);
}

Task<Result<void>> ClusterClients::work_as_member(ClusterClients* self, Session* session,
                                                  Member* member) {
    Client* client = co_await try_(session->client());
    // Now and then one goes away without a word, or leaves in good order.
    const uint64_t rounds = member->prng.chance(0.5) ? UINT64_MAX : 5 + member->prng.below(40);
    for (uint64_t round = 0; round < rounds; ++round) {
        kafka::OffsetCommitRequest commit;
        commit.group_id = kGroup;
        commit.generation_id_or_member_epoch = member->generation;
        commit.member_id = member->id;
        for (auto& [which, position] : member->positions) {
            const Topic& topic = self->topics_[which.first];
            int32_t epoch = -1;
            int64_t high_watermark = -1;
            self->say(session->who(),
                      fmt::format("reading {}-{} at {}", topic.name, which.second, position));
            const auto next = co_await fetch(self, session, &topic, which.second, position, &epoch,
                                             &high_watermark);
            if (!next) session->doubt();
            // Where the end of the log is lost, what it stands at may lie beyond.
            if (!next && !self->history_.may_have_lost({topic.id, which.second})) continue;
            position = next.value_or(position);
            // Also what it stands at already: nobody may have said so yet.
            auto& to = commit.topics.emplace_back();
            to.name = topic.name;
            to.partitions.push_back({which.second, position});
        }
        // Anew each time: reading may have replaced the connection.
        ClientConnection* coordinator = co_await try_(client->to_group_coordinator(kGroup));
        if (!commit.topics.empty()) {
            for (const auto& [which, position] : member->positions)
                self->history_.commit_sent({kGroup, {self->topics_[which.first].id, which.second}},
                                           position);
            self->say(session->who(), "committing");
            ++self->counts_.requests;
            const auto answer = co_await coordinator->call<kafka::OffsetCommitResponse>(
                std::move(commit), kOffsetsByName);
            if (!answer) {
                // It may still come to the coordinator, after later ones of this member: so there
                // are none.
                member->id.clear();
                co_return weir::fail(answer.error());
            }
            for (const auto& topic : answer->message.topics) {
                const auto known = std::ranges::find(self->topics_, topic.name, &Topic::name);
                CHECK(known != self->topics_.end());
                const auto t = static_cast<size_t>(known - self->topics_.begin());
                for (const auto& p : topic.partitions) {
                    const KafkaError error = kafka::kafka_error(p.error_code);
                    if (error == KafkaError::kNone) {
                        const PartitionKey key{known->id, p.partition_index};
                        const int64_t position = member->positions[{t, p.partition_index}];
                        self->history_.commit_acknowledged({kGroup, key}, position);
                        int64_t& confirmed = self->committed_[key];
                        confirmed = std::max(confirmed, position);
                    } else {
                        // A time-out is one of those that may have happened.
                        member->id.clear();
                        co_return weir::fail(kafka::error_of(p.error_code, "commit"));
                    }
                }
            }
        }
        if (self->all_read_) {
            bool all = true;
            for (const auto& [key, end] : self->ends_) all &= self->committed_[key] >= end;
            if (all) break;
        }
        kafka::HeartbeatRequest beat;
        beat.group_id = kGroup;
        beat.generation_id = member->generation;
        beat.member_id = member->id;
        self->say(session->who(), "heartbeat");
        ++self->counts_.requests;
        const auto alive =
            co_await try_(coordinator->call<kafka::HeartbeatResponse>(std::move(beat)));
        if (alive.message.error_code != 0)
            co_return weir::fail(kafka::error_of(alive.message.error_code, "heartbeat"));
        self->say(session->who(), "waiting");
        (void)co_await runtime::sleep_for(
            std::chrono::milliseconds(50 + static_cast<int64_t>(member->prng.below(300))));
    }
    if (member->prng.chance(0.5)) {
        kafka::LeaveGroupRequest leave;
        leave.group_id = kGroup;
        leave.member_id = member->id;
        leave.members.push_back({member->id, std::nullopt, std::nullopt});
        ClientConnection* coordinator = co_await try_(client->to_group_coordinator(kGroup));
        (void)co_await coordinator->call<kafka::LeaveGroupResponse>(std::move(leave));
    }
    member->id.clear();
    co_return Result<void>{};
}

Task<void> ClusterClients::member(ClusterClients* self, uint32_t number) {
    Session session(*self, fmt::format("member {}", number));
    Member member{{}, -1, {}, self->prng("member", number)};
    while (true) {
        if (self->all_read_) {
            bool all = true;
            for (const auto& [key, end] : self->ends_) all &= self->committed_[key] >= end;
            if (all) break;
        }
        const Result<void> life = co_await member_life(self, &session, &member);
        if (life) continue;
        const bool unknown = life.error().message.find("UNKNOWN_MEMBER_ID") != std::string::npos ||
                             life.error().message.find("FENCED") != std::string::npos;
        if (unknown) member.id.clear();
        co_await session.recover("member: " + life.error().to_string());
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

}  // namespace weir::sim

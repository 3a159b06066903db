#include "kafka/groups/coordinator.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <variant>

#include "base/check.h"
#include "base/prng.h"
#include "base/uuid.h"
#include "kafka/groups/group.h"
#include "kafka/groups/offsets_table.h"

namespace weir::kafka {
namespace {

constexpr std::string_view kGroupType = "classic";
constexpr std::string_view kStateOfNoGroup = "Dead";
// What a group costs beside its members and offsets: nodes of maps, fields.
constexpr size_t kGroupOverheadBytes = 1024;
// When too much is outstanding, expiry looks again after this.
constexpr Duration kExpiryRetry = 1s;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::ranges::equal(a, b, {}, lower, lower);
}

bool passes(const std::vector<std::string>& filter, std::string_view value) {
    return filter.empty() || std::ranges::any_of(filter, [value](const std::string& wanted) {
               return equal_ignoring_case(wanted, value);
           });
}

// The longest prefix of at most `bytes_max` bytes that does not cut a UTF-8 sequence.
std::string_view prefix_of(std::string_view text, size_t bytes_max) {
    if (text.size() <= bytes_max) return text;
    while (bytes_max > 0 && (static_cast<uint8_t>(text[bytes_max]) & 0xc0) == 0x80) --bytes_max;
    return text.substr(0, bytes_max);
}

// The reply to a commit, with `error` for every partition that was not refused before.
CommitReply commit_reply(const CommitInput& request, KafkaError error) {
    CommitReply reply;
    reply.topics.reserve(request.topics.size());
    for (const CommitTopic& topic : request.topics) {
        TopicErrors& errors = reply.topics.emplace_back();
        errors.name = topic.name;
        errors.partitions.reserve(topic.partitions.size());
        for (const CommitPartition& partition : topic.partitions) {
            errors.partitions.push_back({partition.index, partition.refused == KafkaError::kNone
                                                              ? error
                                                              : partition.refused});
        }
    }
    return reply;
}

GroupEffects answer(RequestId request, auto body) {
    GroupEffects effects;
    effects.replies.push_back({request, std::move(body)});
    return effects;
}

}  // namespace

struct GroupCoordinator::Entry {
    Entry(std::string id, const GroupConfig& config) : group(std::move(id), config) {}

    Group group;
    OffsetsTable offsets;
    // The value of the group's last durable record, as it lies in the log.
    std::optional<std::vector<uint8_t>> durable_value;
    size_t outstanding = 0;  // appends of this group
    // Its offsets were deleted by somebody who may ask for the group next: it is there until the
    // next look for expired offsets, as in Kafka.
    bool lingers = false;
    Instant scheduled = Instant::never();  // as it stands in deadlines_
    size_t bytes = 0;                      // as it is counted in state_bytes_

    size_t bytes_now() const {
        return kGroupOverheadBytes + 2 * group.id().size() + group.bytes() + offsets.bytes() +
               (durable_value ? durable_value->size() : 0);
    }
    // Nothing of it is durable, or will be, and nobody counts on it.
    bool can_be_forgotten() const {
        return (group.state() == GroupState::kDead || (group.deserted() && !lingers)) &&
               offsets.empty() && !durable_value && outstanding == 0;
    }
};

// A client's wish to delete offsets, which may take several appends.
struct GroupCoordinator::OffsetDeletion {
    RequestId request;
    OffsetDeleteReply reply;
    size_t appends_left = 0;
    bool failed = false;
};

struct GroupCoordinator::OpenAppend {
    struct Commit {
        struct Accepted {
            size_t topic;  // indexes into the reply
            size_t partition;
            CommittedOffset offset;
        };
        RequestId request;
        CommitReply reply;
        std::vector<Accepted> accepted;
    };
    struct Tombstones {
        std::vector<TopicPartition> offsets;
        std::shared_ptr<OffsetDeletion> deletion;  // null: nobody waits
    };
    struct GroupDeletion {
        std::vector<TopicPartition> offsets;
        bool whole = false;  // the group's own tombstone is in it
        std::optional<RequestId> request;
    };

    explicit OpenAppend(std::variant<GroupWrite, Commit, Tombstones, GroupDeletion> what)
        : what(std::move(what)) {}

    AppendToken token;
    std::string group;
    size_t bytes = 0;
    std::optional<bool> ok;  // set when the driver has told
    std::variant<GroupWrite, Commit, Tombstones, GroupDeletion> what;
};

GroupCoordinator::GroupCoordinator(GroupConfig config, Prng& entropy)
    : config_(config), entropy_(entropy) {
    static_assert(kGroupNameBytesMax + kMemberIdPrefixBytesMax <= kRecordStringBytesMax);
}

GroupCoordinator::~GroupCoordinator() = default;

// ---- Life

void GroupCoordinator::begin_load() {
    CHECK(life_ == Life::kClosed);
    CHECK(groups_.empty());
    life_ = Life::kLoading;
}

Result<> GroupCoordinator::replay(Bytes key, std::optional<Bytes> value) {
    CHECK(life_ == Life::kLoading);
    TRY_ASSIGN(DecodedRecord record, decode_record(key, value));
    if (auto* offset = std::get_if<OffsetRecord>(&record)) {
        // What was acknowledged once is taken, whatever the bounds are today.
        std::unique_ptr<Entry>& entry = groups_[offset->group];
        if (!entry) entry = std::make_unique<Entry>(offset->group, config_);
        if (offset->value)
            entry->offsets.set(offset->topic, offset->partition, std::move(*offset->value));
        else
            entry->offsets.erase(offset->topic, offset->partition);
    } else if (auto* group = std::get_if<GroupRecord>(&record)) {
        std::unique_ptr<Entry>& entry = groups_[group->group];
        if (!entry) entry = std::make_unique<Entry>(group->group, config_);
        if (group->value)
            entry->durable_value.emplace(value->begin(), value->end());
        else
            entry->durable_value.reset();
    }
    return {};
}

GroupEffects GroupCoordinator::finish_load(Moment now) {
    CHECK(life_ == Life::kLoading);
    life_ = Life::kServing;
    expiry_at_ = now.instant + config_.offsets_retention_check_interval;
    GroupEffects effects;
    for (auto at = groups_.begin(); at != groups_.end();) {
        Entry& entry = *(at++)->second;
        GroupOutput output = group_output();
        if (entry.durable_value) {
            auto record = decode_record(encode_group_tombstone(entry.group.id()).key,
                                        Bytes(*entry.durable_value));
            CHECK(record.has_value());  // replay() has seen that it parses
            entry.group.restore(*std::get<GroupRecord>(*record).value, now, output);
        }
        settle(entry, std::move(output), effects);
    }
    effects.notes.push_back(fmt::format("loaded {} groups", groups_.size()));
    return effects;
}

GroupEffects GroupCoordinator::close() {
    GroupEffects effects;
    constexpr KafkaError kGone = KafkaError::kNotCoordinator;
    for (const auto& open : appends_) {
        if (auto* commit = std::get_if<OpenAppend::Commit>(&open->what)) {
            for (const auto& accepted : commit->accepted)
                commit->reply.topics[accepted.topic].partitions[accepted.partition].error = kGone;
            effects.replies.push_back({commit->request, std::move(commit->reply)});
        } else if (auto* tombstones = std::get_if<OpenAppend::Tombstones>(&open->what)) {
            // Of several appends of one deletion, the last answers.
            if (tombstones->deletion && --tombstones->deletion->appends_left == 0)
                effects.replies.push_back(
                    {tombstones->deletion->request, OffsetDeleteReply{kGone, {}}});
        } else if (auto* deletion = std::get_if<OpenAppend::GroupDeletion>(&open->what)) {
            if (deletion->request)
                effects.replies.push_back({*deletion->request, DeleteGroupReply{kGone}});
        }
    }
    GroupOutput output;
    for (auto& [id, entry] : groups_) entry->group.fail_waiting(kGone, output);
    std::ranges::move(output.replies, std::back_inserter(effects.replies));

    deadlines_.clear();
    groups_.clear();
    appends_.clear();
    append_bytes_outstanding_ = 0;
    state_bytes_ = 0;
    expiry_at_ = Instant::never();
    expiry_cursor_.clear();
    life_ = Life::kClosed;
    return effects;
}

// ---- Members

GroupEffects GroupCoordinator::join(RequestId id, JoinInput request, Moment now) {
    auto refuse = [&](KafkaError error) {
        JoinReply body;
        body.error = error;
        body.member_id = std::move(request.member_id);
        return answer(id, std::move(body));
    };
    if (const auto error = refusal(request.group, false)) return refuse(*error);
    if (const KafkaError error = validate_join(request); error != KafkaError::kNone)
        return refuse(error);
    Entry* entry = find(request.group);
    if (entry == nullptr && !request.member_id.empty()) return refuse(KafkaError::kUnknownMemberId);
    size_t metadata_bytes = 0;
    for (const JoinProtocol& protocol : request.protocols)
        metadata_bytes += protocol.metadata.size();
    if (state_bytes_ + metadata_bytes >= config_.state_bytes_max)
        return refuse(KafkaError::kGroupMaxSizeReached);
    if (entry == nullptr) entry = find_or_make(request.group);
    if (entry == nullptr) return refuse(KafkaError::kGroupMaxSizeReached);

    std::string fresh_member_id = request.member_id.empty() ? make_member_id(request) : "";
    GroupEffects effects;
    GroupOutput output = group_output();
    entry->group.join(id, std::move(request), std::move(fresh_member_id), now, output);
    settle(*entry, std::move(output), effects);
    return effects;
}

KafkaError GroupCoordinator::validate_join(JoinInput& request) const {
    if (request.session_timeout < config_.session_timeout_min ||
        request.session_timeout > config_.session_timeout_max) {
        return KafkaError::kInvalidSessionTimeout;
    }
    bool fits = request.protocols.size() <= kProtocolsPerMemberMax &&
                request.protocol_type.size() <= kGroupNameBytesMax &&
                request.client_id.size() <= kGroupNameBytesMax &&
                request.client_host.size() <= kGroupNameBytesMax;
    if (request.instance_id) fits = fits && request.instance_id->size() <= kGroupNameBytesMax;
    for (const JoinProtocol& protocol : request.protocols)
        fits = fits && protocol.name.size() <= kGroupNameBytesMax;
    if (!fits) return KafkaError::kInvalidRequest;

    // A protocol that is named twice counts once, as first named.
    std::vector<JoinProtocol> distinct;
    for (JoinProtocol& protocol : request.protocols) {
        if (std::ranges::find(distinct, protocol.name, &JoinProtocol::name) == distinct.end())
            distinct.push_back(std::move(protocol));
    }
    request.protocols = std::move(distinct);
    request.reason = prefix_of(request.reason, kReasonBytesMax);
    return KafkaError::kNone;
}

std::string GroupCoordinator::make_member_id(const JoinInput& request) {
    const std::string_view name = request.instance_id ? *request.instance_id : request.client_id;
    const uint64_t high = entropy_.next();
    const uint64_t low = entropy_.next();
    return fmt::format("{}-{}", prefix_of(name, kMemberIdPrefixBytesMax),
                       Uuid::random(high, low).to_string());
}

GroupEffects GroupCoordinator::sync(RequestId id, SyncInput request, Moment now) {
    auto refuse = [&](KafkaError error) {
        SyncReply body;
        body.error = error;
        return answer(id, std::move(body));
    };
    // The rebalance that this belongs to is forgotten: a new join is what helps.
    if (life_ == Life::kLoading) return refuse(KafkaError::kRebalanceInProgress);
    if (const auto error = refusal(request.group, false)) return refuse(*error);
    Entry* entry = find(request.group);
    if (entry == nullptr) return refuse(KafkaError::kUnknownMemberId);
    GroupEffects effects;
    GroupOutput output = group_output();
    entry->group.sync(id, std::move(request), now, output);
    settle(*entry, std::move(output), effects);
    return effects;
}

GroupEffects GroupCoordinator::heartbeat(RequestId id, const HeartbeatInput& request, Moment now) {
    if (life_ == Life::kLoading) return answer(id, HeartbeatReply{KafkaError::kNone});
    if (const auto error = refusal(request.group, false)) return answer(id, HeartbeatReply{*error});
    Entry* entry = find(request.group);
    if (entry == nullptr) return answer(id, HeartbeatReply{KafkaError::kUnknownMemberId});
    const KafkaError error = entry->group.heartbeat(request, now);
    settle(*entry);
    return answer(id, HeartbeatReply{error});
}

GroupEffects GroupCoordinator::leave(RequestId id, const LeaveInput& request, Moment now) {
    if (const auto error = refusal(request.group, false)) return answer(id, LeaveReply{*error, {}});
    Entry* entry = find(request.group);
    GroupEffects effects;
    LeaveReply body;
    body.members.reserve(request.members.size());
    GroupOutput output = group_output();
    for (const LeavingMember& leaving : request.members) {
        KafkaError error = KafkaError::kUnknownMemberId;
        if (entry != nullptr) {
            LeavingMember brief = leaving;
            brief.reason = prefix_of(leaving.reason, kReasonBytesMax);
            error = entry->group.leave(brief, now, output);
        }
        body.members.push_back({leaving.member_id, leaving.instance_id, error});
    }
    effects.replies.push_back({id, std::move(body)});
    if (entry != nullptr) settle(*entry, std::move(output), effects);
    return effects;
}

// ---- Offsets

GroupEffects GroupCoordinator::commit_offsets(RequestId id, CommitInput request, Moment now) {
    auto refuse = [&](KafkaError error) { return answer(id, commit_reply(request, error)); };
    if (const auto error = refusal(request.group, true)) return refuse(*error);
    Entry* entry = find(request.group);
    if (entry == nullptr) {
        if (request.generation >= 0) {
            return refuse(request.knows_group_not_found ? KafkaError::kGroupIdNotFound
                                                        : KafkaError::kIllegalGeneration);
        }
    } else if (const KafkaError error = entry->group.validate_commit(request, now);
               error != KafkaError::kNone) {
        return refuse(error);
    }
    if (overloaded()) return refuse(KafkaError::kCoordinatorLoadInProgress);
    if (entry == nullptr) entry = find_or_make(request.group);
    if (entry == nullptr) return refuse(KafkaError::kInvalidCommitOffsetSize);

    OpenAppend::Commit commit{id, commit_reply(request, KafkaError::kNone), {}};
    std::vector<LogRecord> records;
    size_t record_bytes = 0;
    size_t offsets_added = 0;
    for (size_t t = 0; t < request.topics.size(); ++t) {
        CommitTopic& topic = request.topics[t];
        for (size_t p = 0; p < topic.partitions.size(); ++p) {
            CommitPartition& partition = topic.partitions[p];
            KafkaError& verdict = commit.reply.topics[t].partitions[p].error;
            if (verdict != KafkaError::kNone) continue;
            if (topic.name.empty() || topic.name.size() > kTopicNameBytesMax ||
                partition.index < 0) {
                verdict = KafkaError::kUnknownTopicOrPartition;
                continue;
            }
            if (partition.metadata.size() >
                std::min(config_.offset_metadata_bytes_max, kRecordStringBytesMax)) {
                verdict = KafkaError::kOffsetMetadataTooLarge;
                continue;
            }
            if (entry->offsets.find(topic.name, partition.index) == nullptr) {
                if (entry->offsets.size() + offsets_added >= config_.offsets_per_group_max ||
                    state_bytes_ >= config_.state_bytes_max) {
                    verdict = KafkaError::kInvalidCommitOffsetSize;
                    continue;
                }
                ++offsets_added;
            }
            CommittedOffset offset{partition.offset, partition.leader_epoch,
                                   std::move(partition.metadata), now.wall, std::nullopt};
            if (request.retention) {
                const auto keep =
                    std::chrono::duration_cast<std::chrono::milliseconds>(*request.retention);
                offset.expires_at = WallTime{now.wall.ms + keep.count()};
                offset.leader_epoch = -1;  // the value version that holds an expiry holds no epoch
            }
            records.push_back(encode_offset(request.group, topic.name, partition.index, offset));
            record_bytes += records.back().bytes();
            commit.accepted.push_back({t, p, std::move(offset)});
        }
    }
    if (record_bytes > config_.append_bytes_max) {
        for (const auto& accepted : commit.accepted) {
            commit.reply.topics[accepted.topic].partitions[accepted.partition].error =
                KafkaError::kInvalidCommitOffsetSize;
        }
        commit.accepted.clear();
    }
    GroupEffects effects;
    if (commit.accepted.empty()) {
        effects.replies.push_back({id, std::move(commit.reply)});
    } else {
        append(*entry, std::move(records), std::make_unique<OpenAppend>(std::move(commit)),
               effects);
    }
    settle(*entry);
    return effects;
}

GroupEffects GroupCoordinator::delete_offsets(RequestId id, const OffsetDeleteInput& request,
                                              Moment) {
    auto refuse = [&](KafkaError error) { return answer(id, OffsetDeleteReply{error, {}}); };
    if (const auto error = refusal(request.group, true)) return refuse(*error);
    Entry* entry = find(request.group);
    if (entry == nullptr || entry->group.state() == GroupState::kDead)
        return refuse(KafkaError::kGroupIdNotFound);
    const auto subscribed = entry->group.subscribed_topics();
    const bool occupied = entry->group.state() != GroupState::kEmpty;
    if (occupied && entry->group.protocol_type() != "consumer")
        return refuse(KafkaError::kNonEmptyGroup);
    if (overloaded()) return refuse(KafkaError::kCoordinatorLoadInProgress);

    auto deletion = std::make_shared<OffsetDeletion>();
    deletion->request = id;
    std::vector<TopicPartition> offsets;
    for (const TopicPartitions& topic : request.topics) {
        // Where a subscription can't be read, it may be to anything.
        const bool in_use = occupied && (!subscribed || subscribed->contains(topic.name));
        TopicErrors& errors = deletion->reply.topics.emplace_back();
        errors.name = topic.name;
        for (const int32_t partition : topic.partitions) {
            errors.partitions.push_back(
                {partition, in_use ? KafkaError::kGroupSubscribedToTopic : KafkaError::kNone});
            // A commit of it may be on its way to the log.
            if (!in_use && topic.name.size() <= kTopicNameBytesMax &&
                (entry->offsets.find(topic.name, partition) != nullptr || entry->outstanding > 0))
                offsets.emplace_back(topic.name, partition);
        }
    }
    if (offsets.empty()) return answer(id, std::move(deletion->reply));
    GroupEffects effects;
    append_tombstones(*entry, offsets, std::move(deletion), effects);
    settle(*entry);
    return effects;
}

OffsetFetchReply GroupCoordinator::fetch_offsets(
    std::string_view group, const std::optional<std::vector<TopicPartitions>>& topics) const {
    OffsetFetchReply reply;
    if (const auto error = refusal(group, true)) {
        reply.error = *error;
        return reply;
    }
    auto fetched = [](int32_t index, const CommittedOffset& offset) {
        return FetchedOffset{index, offset.offset, offset.leader_epoch, offset.metadata};
    };
    const Entry* entry = find(group);
    if (!topics) {
        if (entry == nullptr) return reply;
        for (const auto& [name, partitions] : entry->offsets.topics()) {
            auto& topic = reply.topics.emplace_back();
            topic.name = name;
            for (const auto& [index, offset] : partitions)
                topic.partitions.push_back(fetched(index, offset));
        }
        return reply;
    }
    for (const TopicPartitions& wanted : *topics) {
        auto& topic = reply.topics.emplace_back();
        topic.name = wanted.name;
        topic.partitions.reserve(wanted.partitions.size());
        for (const int32_t index : wanted.partitions) {
            const CommittedOffset* offset =
                entry == nullptr ? nullptr : entry->offsets.find(wanted.name, index);
            topic.partitions.push_back(offset == nullptr ? FetchedOffset{.index = index}
                                                         : fetched(index, *offset));
        }
    }
    return reply;
}

// ---- Groups

GroupEffects GroupCoordinator::delete_group(RequestId id, std::string_view group, Moment) {
    auto refuse = [&](KafkaError error) { return answer(id, DeleteGroupReply{error}); };
    if (const auto error = refusal(group, true)) return refuse(*error);
    Entry* entry = find(group);
    if (entry == nullptr || entry->group.state() == GroupState::kDead)
        return refuse(KafkaError::kGroupIdNotFound);
    if (entry->group.state() != GroupState::kEmpty) return refuse(KafkaError::kNonEmptyGroup);
    if (overloaded()) return refuse(KafkaError::kCoordinatorLoadInProgress);
    GroupEffects effects;
    entry->group.set_dead();
    append_group_deletion(*entry, id, effects);
    settle(*entry);
    return effects;
}

ListGroupsReply GroupCoordinator::list_groups(const std::vector<std::string>& states,
                                              const std::vector<std::string>& types) const {
    ListGroupsReply reply;
    if (life_ != Life::kServing) {
        reply.error = life_ == Life::kLoading ? KafkaError::kCoordinatorLoadInProgress
                                              : KafkaError::kNotCoordinator;
        return reply;
    }
    if (!passes(types, kGroupType)) return reply;
    for (const auto& [id, entry] : groups_) {
        const std::string_view state = to_string(entry->group.state());
        if (!passes(states, state)) continue;
        reply.groups.push_back(
            {id, entry->group.protocol_type(), std::string(state), std::string(kGroupType)});
    }
    return reply;
}

DescribeGroupReply GroupCoordinator::describe_group(std::string_view group) const {
    DescribeGroupReply reply;
    if (const auto error = refusal(group, true)) {
        reply.error = *error;
        return reply;
    }
    const Entry* entry = find(group);
    if (entry != nullptr && entry->group.state() != GroupState::kDead)
        return entry->group.describe();
    reply.error = KafkaError::kGroupIdNotFound;
    reply.state = kStateOfNoGroup;
    return reply;
}

// ---- Appends

GroupEffects GroupCoordinator::on_append_done(AppendToken token, bool ok, Moment now) {
    GroupEffects effects;
    CHECK(token.v < next_append_);
    // Of a life before the last close().
    if (appends_.empty() || token < appends_.front()->token) return effects;
    OpenAppend& open = *appends_[token.v - appends_.front()->token.v];
    CHECK(open.token == token);
    CHECK(!open.ok);
    open.ok = ok;
    while (!appends_.empty() && appends_.front()->ok) {
        const std::unique_ptr<OpenAppend> next = std::move(appends_.front());
        appends_.pop_front();
        append_bytes_outstanding_ -= next->bytes;
        apply(*next, now, effects);
    }
    return effects;
}

void GroupCoordinator::append(Entry& entry, std::vector<LogRecord> records,
                              std::unique_ptr<OpenAppend> open, GroupEffects& effects) {
    CHECK(!records.empty());
    open->token = {next_append_++};
    open->group = entry.group.id();
    for (const LogRecord& record : records) open->bytes += record.bytes();
    append_bytes_outstanding_ += open->bytes;
    ++entry.outstanding;
    effects.appends.push_back({open->token, std::move(records)});
    appends_.push_back(std::move(open));
}

void GroupCoordinator::apply(OpenAppend& open, Moment now, GroupEffects& effects) {
    Entry* entry = find(open.group);
    CHECK(entry != nullptr);  // not forgotten while an append of it is outstanding
    CHECK(entry->outstanding > 0);
    --entry->outstanding;
    const bool ok = *open.ok;
    GroupOutput output = group_output();

    if (auto* write = std::get_if<GroupWrite>(&open.what)) {
        if (ok) entry->durable_value = std::move(write->record.value);
        entry->group.on_written(*write, ok, now, output);
    } else if (auto* commit = std::get_if<OpenAppend::Commit>(&open.what)) {
        for (OpenAppend::Commit::Accepted& accepted : commit->accepted) {
            TopicErrors& topic = commit->reply.topics[accepted.topic];
            PartitionError& partition = topic.partitions[accepted.partition];
            if (ok)
                entry->offsets.set(topic.name, partition.index, std::move(accepted.offset));
            else
                partition.error = KafkaError::kCoordinatorNotAvailable;
        }
        effects.replies.push_back({commit->request, std::move(commit->reply)});
    } else if (auto* tombstones = std::get_if<OpenAppend::Tombstones>(&open.what)) {
        if (ok) {
            for (const auto& [topic, partition] : tombstones->offsets)
                entry->offsets.erase(topic, partition);
        }
        if (OffsetDeletion* deletion = tombstones->deletion.get()) {
            entry->lingers = true;
            deletion->failed = deletion->failed || !ok;
            if (--deletion->appends_left == 0) {
                if (deletion->failed) deletion->reply = {KafkaError::kCoordinatorNotAvailable, {}};
                effects.replies.push_back({deletion->request, std::move(deletion->reply)});
            }
        }
    } else {
        auto& deletion = std::get<OpenAppend::GroupDeletion>(open.what);
        if (ok) {
            for (const auto& [topic, partition] : deletion.offsets)
                entry->offsets.erase(topic, partition);
            if (deletion.whole) entry->durable_value.reset();
            append_group_deletion(*entry, deletion.request, effects);
        } else {
            entry->group.revive();
            if (deletion.request) {
                effects.replies.push_back(
                    {*deletion.request, DeleteGroupReply{KafkaError::kCoordinatorNotAvailable}});
            }
        }
    }
    settle(*entry, std::move(output), effects);
}

void GroupCoordinator::append_tombstones(Entry& entry, const std::vector<TopicPartition>& offsets,
                                         std::shared_ptr<OffsetDeletion> deletion,
                                         GroupEffects& effects) {
    size_t next = 0;
    while (next < offsets.size()) {
        std::vector<LogRecord> records;
        OpenAppend::Tombstones tombstones{{}, deletion};
        size_t bytes = 0;
        for (; next < offsets.size(); ++next) {
            const auto& [topic, partition] = offsets[next];
            LogRecord record = encode_offset_tombstone(entry.group.id(), topic, partition);
            bytes += record.bytes();
            if (bytes > config_.append_bytes_max && !records.empty()) break;
            records.push_back(std::move(record));
            tombstones.offsets.push_back(offsets[next]);
        }
        if (deletion) ++deletion->appends_left;
        append(entry, std::move(records), std::make_unique<OpenAppend>(std::move(tombstones)),
               effects);
    }
}

// The next step of deleting a group that is Dead: as many of its offsets as fit one append, and the
// group itself when these are the last. Commits that were on their way before turn up in the table
// meanwhile, so the end is reached only when nothing is left.
void GroupCoordinator::append_group_deletion(Entry& entry, std::optional<RequestId> request,
                                             GroupEffects& effects) {
    CHECK(entry.group.state() == GroupState::kDead);
    std::vector<LogRecord> records;
    OpenAppend::GroupDeletion deletion{{}, true, request};
    size_t bytes = 0;
    for (const auto& [topic, partitions] : entry.offsets.topics()) {
        for (const auto& [partition, offset] : partitions) {
            LogRecord record = encode_offset_tombstone(entry.group.id(), topic, partition);
            bytes += record.bytes();
            if (bytes > config_.append_bytes_max && !records.empty()) {
                deletion.whole = false;
                break;
            }
            records.push_back(std::move(record));
            deletion.offsets.emplace_back(topic, partition);
        }
        if (!deletion.whole) break;
    }
    if (deletion.whole && (entry.durable_value || entry.outstanding > 0))
        records.push_back(encode_group_tombstone(entry.group.id()));
    if (records.empty()) {
        effects.notes.push_back(fmt::format("group {}: deleted", entry.group.id()));
        if (request) effects.replies.push_back({*request, DeleteGroupReply{}});
        return;  // settle() forgets it
    }
    append(entry, std::move(records), std::make_unique<OpenAppend>(std::move(deletion)), effects);
}

// ---- Time and events

GroupEffects GroupCoordinator::on_topics_deleted(const std::vector<std::string>& topics, Moment) {
    GroupEffects effects;
    if (life_ != Life::kServing) return effects;
    const std::set<std::string, std::less<>> deleted(topics.begin(), topics.end());
    std::map<std::string, std::set<TopicPartition>, std::less<>> found;  // by group
    for (const auto& [id, entry] : groups_) {
        for (const auto& name : deleted) {
            const auto topic = entry->offsets.topics().find(name);
            if (topic == entry->offsets.topics().end()) continue;
            for (const auto& [partition, offset] : topic->second)
                found[id].emplace(name, partition);
        }
    }
    // Commits on their way to the log lie before the tombstones.
    for (const auto& open : appends_) {
        const auto* commit = std::get_if<OpenAppend::Commit>(&open->what);
        if (commit == nullptr) continue;
        for (const auto& accepted : commit->accepted) {
            const TopicErrors& topic = commit->reply.topics[accepted.topic];
            if (deleted.contains(topic.name))
                found[open->group].emplace(topic.name, topic.partitions[accepted.partition].index);
        }
    }
    for (const auto& [id, offsets] : found) {
        Entry& entry = *find(id);
        append_tombstones(entry, {offsets.begin(), offsets.end()}, nullptr, effects);
        settle(entry);
    }
    return effects;
}

Instant GroupCoordinator::next_deadline() const {
    return deadlines_.empty() ? expiry_at_ : std::min(expiry_at_, deadlines_.begin()->first);
}

GroupEffects GroupCoordinator::tick(Moment now) {
    GroupEffects effects;
    if (life_ != Life::kServing) return effects;
    for (size_t i = 0; i < kGroupsPerTickMax; ++i) {
        if (deadlines_.empty() || deadlines_.begin()->first > now.instant) break;
        Entry& entry = *find(deadlines_.begin()->second);
        GroupOutput output = group_output();
        entry.group.tick(now, output);
        settle(entry, std::move(output), effects);
    }
    if (expiry_at_ <= now.instant) step_expiry(now, effects);
    return effects;
}

void GroupCoordinator::step_expiry(Moment now, GroupEffects& effects) {
    auto at = groups_.lower_bound(expiry_cursor_);
    for (size_t i = 0; i < kGroupsPerExpiryStepMax && at != groups_.end(); ++i) {
        if (overloaded()) {
            expiry_cursor_ = at->first;
            expiry_at_ = now.instant + kExpiryRetry;
            return;
        }
        Entry& entry = *(at++)->second;
        expire_offsets(entry, now.wall, effects);
        settle(entry);
    }
    if (at == groups_.end()) {
        expiry_cursor_.clear();
        expiry_at_ = now.instant + config_.offsets_retention_check_interval;
    } else {
        expiry_cursor_ = at->first;
    }
}

// KIP-211. A group's offsets live as long as it has members, and for the retention time after it
// became empty; those of a topic that its consumers are no longer subscribed to, and those of a
// group that never had members, from their commit on.
void GroupCoordinator::expire_offsets(Entry& entry, WallTime now, GroupEffects& effects) {
    const Group& group = entry.group;
    // With an append on its way, what is seen here is not the last word; the next pass comes.
    if (group.state() == GroupState::kDead || entry.outstanding > 0) return;
    const int64_t retention_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(config_.offsets_retention).count();
    const bool simple = group.protocol_type().empty();
    const bool empty = group.state() == GroupState::kEmpty;
    std::optional<std::set<std::string>> subscribed;
    if (group.state() == GroupState::kStable) subscribed = group.subscribed_topics();
    if (!empty && !simple && !subscribed) return;

    std::vector<TopicPartition> expired;
    for (const auto& [topic, partitions] : entry.offsets.topics()) {
        if (subscribed && subscribed->contains(topic)) continue;
        for (const auto& [partition, offset] : partitions) {
            WallTime since = offset.committed_at;
            if (empty && !simple && group.state_since())
                since = std::max(since, *group.state_since());
            const WallTime until = offset.expires_at.value_or(WallTime{since.ms + retention_ms});
            if (until <= now) expired.emplace_back(topic, partition);
        }
    }
    if (expired.size() == entry.offsets.size() && group.deserted()) {
        entry.group.set_dead();
        append_group_deletion(entry, std::nullopt, effects);
    } else if (!expired.empty()) {
        append_tombstones(entry, expired, nullptr, effects);
    }
}

// ---- Books

GroupCoordinator::Entry* GroupCoordinator::find(std::string_view group) const {
    const auto found = groups_.find(group);
    return found == groups_.end() ? nullptr : found->second.get();
}

GroupCoordinator::Entry* GroupCoordinator::find_or_make(std::string_view group) {
    if (Entry* entry = find(group)) return entry;
    if (groups_.size() >= config_.groups_max) return nullptr;
    std::string id(group);
    auto entry = std::make_unique<Entry>(id, config_);
    return groups_.emplace(std::move(id), std::move(entry)).first->second.get();
}

std::optional<KafkaError> GroupCoordinator::refusal(std::string_view group,
                                                    bool may_be_nameless) const {
    if (life_ == Life::kClosed) return KafkaError::kNotCoordinator;
    if (life_ == Life::kLoading) return KafkaError::kCoordinatorLoadInProgress;
    if (group.size() > kGroupNameBytesMax || (group.empty() && !may_be_nameless))
        return KafkaError::kInvalidGroupId;
    return std::nullopt;
}

bool GroupCoordinator::overloaded() const {
    return appends_.size() >= config_.appends_outstanding_max ||
           append_bytes_outstanding_ >= config_.append_bytes_outstanding_max;
}

GroupOutput GroupCoordinator::group_output() const {
    GroupOutput output;
    output.can_write = !overloaded();
    return output;
}

void GroupCoordinator::settle(Entry& entry, GroupOutput output, GroupEffects& effects) {
    std::ranges::move(output.replies, std::back_inserter(effects.replies));
    std::ranges::move(output.notes, std::back_inserter(effects.notes));
    for (GroupWrite& write : output.writes) {
        // That a group is empty of which the log knows nothing need not be stored.
        if (write.purpose == GroupWrite::Purpose::kEmptied && !entry.durable_value &&
            entry.outstanding == 0)
            continue;
        std::vector<LogRecord> records{write.record};
        append(entry, std::move(records), std::make_unique<OpenAppend>(std::move(write)), effects);
    }
    settle(entry);
}

void GroupCoordinator::settle(Entry& entry) {
    const auto at = groups_.find(entry.group.id());
    CHECK(at != groups_.end());
    if (entry.can_be_forgotten()) {
        deadlines_.erase({entry.scheduled, at->first});
        state_bytes_ -= entry.bytes;
        groups_.erase(at);
        return;
    }
    if (const Instant deadline = entry.group.next_deadline(); deadline != entry.scheduled) {
        deadlines_.erase({entry.scheduled, at->first});
        if (deadline != Instant::never()) deadlines_.emplace(deadline, at->first);
        entry.scheduled = deadline;
    }
    const size_t bytes = entry.bytes_now();
    state_bytes_ += bytes - entry.bytes;
    entry.bytes = bytes;
}

void GroupCoordinator::for_each_live_record(const std::function<void(LogRecord)>& visit) const {
    CHECK(life_ == Life::kServing);
    CHECK(appends_.empty());
    for (const auto& [id, entry] : groups_) {
        if (entry->durable_value) {
            LogRecord record = encode_group_tombstone(id);
            record.value = entry->durable_value;
            visit(std::move(record));
        }
        for (const auto& [topic, partitions] : entry->offsets.topics()) {
            for (const auto& [partition, offset] : partitions)
                visit(encode_offset(id, topic, partition, offset));
        }
    }
}

void GroupCoordinator::check_invariants() const {
    if (life_ == Life::kLoading) return;  // the books are made when the load ends
    size_t bytes = 0;
    size_t outstanding = 0;
    for (const auto& [id, entry] : groups_) {
        entry->group.check_invariants();
        CHECK(id == entry->group.id());
        CHECK(!entry->can_be_forgotten());
        CHECK(entry->bytes == entry->bytes_now());
        CHECK(entry->scheduled == entry->group.next_deadline());
        CHECK(deadlines_.contains({entry->scheduled, id}) ==
              (entry->scheduled != Instant::never()));
        bytes += entry->bytes;
        outstanding += entry->outstanding;
    }
    CHECK(bytes == state_bytes_);
    CHECK(outstanding == appends_.size());
    size_t append_bytes = 0;
    for (const auto& open : appends_) append_bytes += open->bytes;
    CHECK(append_bytes == append_bytes_outstanding_);
    if (life_ == Life::kClosed) CHECK(groups_.empty());
}

}  // namespace weir::kafka

#include "replication/wire.h"

#include "base/byte_reader.h"
#include "base/check.h"

namespace weir::replication {
namespace {

using raft::Configuration;
using storage::Position;

constexpr uint8_t kHasRevision = 0x80;   // in a configuration's count
constexpr size_t kMessagesMax = 65'536;  // of one frame
constexpr size_t kStateBytesMax = size_t{128} << 20;

enum class Tag : uint8_t {
    kVoteRequest = 1,
    kVoteReply = 2,
    kProbe = 3,
    kAppendReply = 4,
    kHeartbeat = 5,
    kHeartbeatReply = 6,
    kTimeoutNow = 7,
    kRecoveryRequest = 8,
    kRecoveryReply = 9,
};

std::unexpected<Error> malformed(std::string_view what) {
    return fail(ErrorCode::kMalformed, "replication: " + std::string(what));
}

void write_term(ByteWriter& to, raft::Term term) { to.write_varint(term); }
raft::Term read_term(ByteReader& from) {
    const raft::Term term = from.read_varint();
    if (term < 0 || term > raft::kTermMax) from.set_failed();
    return term;
}
bool read_flag(ByteReader& from) {
    const uint8_t flag = from.read_u8();
    if (flag > 1) from.set_failed();
    return flag == 1;
}
int64_t read_offset(ByteReader& from) {
    const int64_t offset = from.read_varlong();
    if (offset < 0 || offset > raft::kOffsetMax) from.set_failed();
    return offset;
}

struct Writer {
    ByteWriter& to;

    void tag(Tag tag, storage::LogId log, int64_t start_offset) {
        to.write_u8(static_cast<uint8_t>(tag));
        to.write_unsigned_varlong(log.v);
        to.write_varlong(start_offset);
    }
    void flags(bool first, bool second = false) {
        to.write_u8(first ? 1 : 0);
        to.write_u8(second ? 1 : 0);
    }
};

void write_append_fields(ByteWriter& to, const raft::AppendRequest& request) {
    write_term(to, request.term);
    write_term(to, request.prev_term);
    append_position(to, request.prev);
    append_position(to, request.commit);
}
raft::AppendRequest read_append_fields(ByteReader& from) {
    raft::AppendRequest request;
    request.term = read_term(from);
    request.prev_term = read_term(from);
    request.prev = read_position(from);
    request.commit = read_position(from);
    return request;
}

raft::Message read_message(ByteReader& from, Tag tag) {
    switch (tag) {
        case Tag::kVoteRequest: {
            raft::VoteRequest m;
            m.term = read_term(from);
            m.last_term = read_term(from);
            m.end = read_position(from);
            m.pre_vote = read_flag(from);
            m.transfer = read_flag(from);
            return m;
        }
        case Tag::kVoteReply: {
            raft::VoteReply m;
            m.term = read_term(from);
            const uint8_t granted = from.read_u8();
            if (granted > 2) from.set_failed();
            m.granted = granted != 0;
            m.recovering = granted == 2;
            m.pre_vote = read_flag(from);
            return m;
        }
        case Tag::kProbe:
            return read_append_fields(from);
        case Tag::kAppendReply: {
            raft::AppendReply m;
            m.term = read_term(from);
            m.accepted = read_flag(from);
            m.match = read_position(from);
            m.received = read_position(from);
            m.prev = read_position(from);
            m.end = read_position(from);
            m.hint_term = read_term(from);
            m.hint_end = read_position(from);
            return m;
        }
        case Tag::kHeartbeat: {
            raft::Heartbeat m;
            m.term = read_term(from);
            m.quiet = read_flag(from);
            m.context = from.read_varlong();
            m.commit = read_position(from);
            m.end = read_position(from);
            return m;
        }
        case Tag::kHeartbeatReply: {
            raft::HeartbeatReply m;
            m.term = read_term(from);
            m.quiet = read_flag(from);
            m.context = from.read_varlong();
            m.match = read_position(from);
            return m;
        }
        case Tag::kTimeoutNow:
            return raft::TimeoutNow{.term = read_term(from)};
        case Tag::kRecoveryRequest: {
            raft::RecoveryRequest m;
            m.term = read_term(from);
            m.id = static_cast<uint64_t>(from.read_i64());
            m.end = read_position(from);
            return m;
        }
        case Tag::kRecoveryReply: {
            raft::RecoveryReply m;
            m.term = read_term(from);
            m.id = static_cast<uint64_t>(from.read_i64());
            m.end = read_position(from);
            return m;
        }
    }
    from.set_failed();
    return raft::TimeoutNow{};
}

}  // namespace

void append_position(ByteWriter& to, Position position) {
    to.write_varlong(position.offset);
    to.write_unsigned_varint(position.ordinal);
}
Position read_position(ByteReader& from) {
    Position position;
    position.offset = read_offset(from);
    position.ordinal = from.read_unsigned_varint();
    return position;
}

void append_configuration(ByteWriter& to, const Configuration& configuration) {
    const auto count = static_cast<uint8_t>(configuration.members.size());
    if (configuration.revision == 0) {
        to.write_u8(count);
    } else {
        to.write_u8(count | kHasRevision);
        to.write_unsigned_varint(configuration.revision);
    }
    for (const raft::Member& member : configuration.members) {
        to.write_unsigned_varint(static_cast<uint32_t>(member.node.v));
        to.write_u8(static_cast<uint8_t>((member.voter ? 1 : 0) | (member.old_voter ? 2 : 0) |
                                         (member.learner ? 4 : 0)));
        to.write_u8(member.priority);
    }
}
Result<Configuration> read_configuration(ByteReader& from) {
    Configuration configuration;
    uint8_t count = from.read_u8();
    if ((count & kHasRevision) != 0) {
        count &= ~kHasRevision;
        configuration.revision = from.read_unsigned_varint();
        if (configuration.revision == 0) from.set_failed();
    }
    if (count > raft::kMembersMax) return malformed("too many members");
    for (uint8_t i = 0; i < count && from.ok(); ++i) {
        raft::Member member;
        member.node = {static_cast<int32_t>(from.read_unsigned_varint())};
        const uint8_t flags = from.read_u8();
        member.voter = (flags & 1) != 0;
        member.old_voter = (flags & 2) != 0;
        member.learner = (flags & 4) != 0;
        member.priority = from.read_u8();
        if (flags > 7 || member.node.v < 0) from.set_failed();
        configuration.members.push_back(member);
    }
    if (!from.ok() || !configuration.valid()) return malformed("configuration");
    return configuration;
}

std::vector<uint8_t> encode_kept(const KeptConfig& kept) {
    ByteWriter out;
    const raft::ConfigurationAt none{{0, 0}, {}};
    const raft::ConfigurationAt& row = kept.configuration ? *kept.configuration : none;
    append_position(out, row.at);
    append_configuration(out, row.configuration);
    if (kept.memory_history != 0 || kept.joined_by != 0) {
        out.write_u8(1);
        out.write_i64(static_cast<int64_t>(kept.memory_history));
    }
    if (kept.joined_by != 0) out.write_u32(kept.joined_by);
    return out.flatten();
}

Result<KeptConfig> decode_kept(Bytes bytes) {
    KeptConfig kept;
    ByteReader in(bytes);
    const Position at = read_position(in);
    ByteReader ahead = in;
    if (ahead.read_u8() == 0 && ahead.ok()) {
        in = ahead;
    } else {
        TRY_ASSIGN(Configuration configuration, read_configuration(in));
        kept.configuration = raft::ConfigurationAt{at, std::move(configuration)};
    }
    if (in.ok() && in.remaining() > 0 && in.read_u8() == 1)
        kept.memory_history = static_cast<uint64_t>(in.read_i64());
    if (in.ok() && in.remaining() > 0) kept.joined_by = in.read_u32();
    if (!in.ok()) return malformed("what a group keeps beside its log");
    return kept;
}

void append_message(ByteWriter& to, const GroupMessage& message) {
    Writer out{to};
    const auto begin = [&](Tag tag) { out.tag(tag, message.log, message.start_offset); };
    if (const auto* vote = std::get_if<raft::VoteRequest>(&message.message)) {
        begin(Tag::kVoteRequest);
        write_term(to, vote->term);
        write_term(to, vote->last_term);
        append_position(to, vote->end);
        out.flags(vote->pre_vote, vote->transfer);
    } else if (const auto* reply = std::get_if<raft::VoteReply>(&message.message)) {
        begin(Tag::kVoteReply);
        write_term(to, reply->term);
        to.write_u8(reply->granted ? reply->recovering ? 2 : 1 : 0);
        to.write_u8(reply->pre_vote ? 1 : 0);
    } else if (const auto* probe = std::get_if<raft::AppendRequest>(&message.message)) {
        CHECK(probe->entries.empty());
        begin(Tag::kProbe);
        write_append_fields(to, *probe);
    } else if (const auto* append = std::get_if<raft::AppendReply>(&message.message)) {
        begin(Tag::kAppendReply);
        write_term(to, append->term);
        to.write_u8(append->accepted ? 1 : 0);
        append_position(to, append->match);
        append_position(to, append->received);
        append_position(to, append->prev);
        append_position(to, append->end);
        write_term(to, append->hint_term);
        append_position(to, append->hint_end);
    } else if (const auto* heartbeat = std::get_if<raft::Heartbeat>(&message.message)) {
        begin(Tag::kHeartbeat);
        write_term(to, heartbeat->term);
        to.write_u8(heartbeat->quiet ? 1 : 0);
        to.write_varlong(heartbeat->context);
        append_position(to, heartbeat->commit);
        append_position(to, heartbeat->end);
    } else if (const auto* beat = std::get_if<raft::HeartbeatReply>(&message.message)) {
        begin(Tag::kHeartbeatReply);
        write_term(to, beat->term);
        to.write_u8(beat->quiet ? 1 : 0);
        to.write_varlong(beat->context);
        append_position(to, beat->match);
    } else if (const auto* recovery = std::get_if<raft::RecoveryRequest>(&message.message)) {
        begin(Tag::kRecoveryRequest);
        write_term(to, recovery->term);
        to.write_i64(static_cast<int64_t>(recovery->id));
        append_position(to, recovery->end);
    } else if (const auto* answer = std::get_if<raft::RecoveryReply>(&message.message)) {
        begin(Tag::kRecoveryReply);
        write_term(to, answer->term);
        to.write_i64(static_cast<int64_t>(answer->id));
        append_position(to, answer->end);
    } else {
        begin(Tag::kTimeoutNow);
        write_term(to, std::get<raft::TimeoutNow>(message.message).term);
    }
}

Result<std::vector<GroupMessage>> decode_messages(Bytes body) {
    std::vector<GroupMessage> messages;
    ByteReader in(body);
    while (in.remaining() > 0) {
        if (messages.size() == kMessagesMax) return malformed("too many messages in a frame");
        GroupMessage& message = messages.emplace_back();
        const auto tag = static_cast<Tag>(in.read_u8());
        message.log = {in.read_unsigned_varlong()};
        message.start_offset = read_offset(in);
        message.message = read_message(in, tag);
        if (!in.ok()) return malformed("a message of a group");
    }
    return messages;
}

rpc::Message encode_append(storage::LogId log, int64_t start_offset,
                           const raft::AppendRequest& request,
                           std::span<const storage::FoundEntry> entries) {
    ByteWriter out;
    out.reserve(64 + entries.size() * 24);
    out.write_unsigned_varlong(log.v);
    out.write_varlong(start_offset);
    write_append_fields(out, request);
    out.write_unsigned_varint(static_cast<uint32_t>(entries.size()));
    rpc::Message message;
    message.kind = kGroupAppend;
    message.lane = rpc::Lane::kData;
    for (size_t i = 0; i < entries.size(); ++i) {
        const storage::EntryInfo& info = entries[i].info;
        out.write_u8(static_cast<uint8_t>(info.kind));
        write_term(out, info.term);
        out.write_unsigned_varlong(static_cast<uint64_t>(info.next_offset - info.first.offset));
        out.write_varlong(info.max_timestamp_ms);
        out.write_unsigned_varint(static_cast<uint32_t>(entries[i].payload.size()));
        message.parts.push_back(entries[i].payload);
    }
    message.body = out.flatten();
    return message;
}

Result<storage::LogId> peek_append(Bytes body) {
    ByteReader in(body);
    const storage::LogId log{in.read_unsigned_varlong()};
    if (!in.ok()) return malformed("an append");
    return log;
}

Result<DecodedAppend> decode_append(const runtime::SharedBytes& body) {
    DecodedAppend append;
    ByteReader in(body.bytes());
    append.log = {in.read_unsigned_varlong()};
    append.start_offset = read_offset(in);
    append.request = read_append_fields(in);
    const uint32_t count = in.read_unsigned_varint();
    if (!in.ok() || count > raft::kEntriesPerAppendMax) return malformed("an append");
    append.entries.reserve(count);
    std::vector<uint32_t> sizes;
    sizes.reserve(count);
    Position at = append.request.prev;
    for (uint32_t i = 0; i < count; ++i) {
        storage::Entry& entry = append.entries.emplace_back();
        const uint8_t kind = in.read_u8();
        entry.info.kind = static_cast<storage::EntryKind>(kind);
        entry.info.term = read_term(in);
        const uint64_t width = in.read_unsigned_varlong();
        entry.info.max_timestamp_ms = in.read_varlong();
        sizes.push_back(in.read_unsigned_varint());
        if (!in.ok() || kind > 1 || (kind == 1) != (width == 0) ||
            width > static_cast<uint64_t>(raft::kEntryOffsetsMax) ||
            width > static_cast<uint64_t>(raft::kOffsetMax - at.offset) ||
            sizes.back() > storage::kEntryBytesMax)
            return malformed("an entry");
        entry.info.first = at;
        entry.info.next_offset = at.offset + static_cast<int64_t>(width);
        at = entry.info.end();
    }
    size_t payload_at = body.size() - in.remaining();
    for (uint32_t i = 0; i < count; ++i) {
        if (sizes[i] > body.size() - payload_at) return malformed("an entry's payload");
        append.entries[i].payload = body.slice(payload_at, sizes[i]);
        payload_at += sizes[i];
    }
    if (payload_at != body.size()) return malformed("bytes after an append");
    return append;
}

std::vector<uint8_t> encode_control(const raft::ControlEntry& entry) {
    ByteWriter out;
    out.write_u8(static_cast<uint8_t>(entry.kind));
    if (entry.kind == raft::ControlKind::kConfiguration)
        append_configuration(out, entry.configuration);
    return out.flatten();
}

Result<std::optional<Configuration>> decode_control(Bytes payload) {
    ByteReader in(payload);
    switch (static_cast<raft::ControlKind>(in.read_u8())) {
        case raft::ControlKind::kTermStart:
            if (!in.ok() || in.remaining() > 0) return malformed("a control entry");
            return std::nullopt;
        case raft::ControlKind::kConfiguration: {
            TRY_ASSIGN(Configuration configuration, read_configuration(in));
            if (in.remaining() > 0) return malformed("a control entry");
            return configuration;
        }
    }
    return malformed("a control entry of an unknown kind");
}

rpc::Message encode_snapshot(const Snapshot& snapshot) {
    ByteWriter out;
    out.write_unsigned_varlong(snapshot.log.v);
    write_term(out, snapshot.install.term);
    const raft::SnapshotHead& head = snapshot.install.head;
    append_position(out, head.start);
    out.write_unsigned_varint(static_cast<uint32_t>(head.terms.size()));
    for (const raft::TermStart& row : head.terms) {
        write_term(out, row.term);
        append_position(out, row.first);
    }
    append_configuration(out, head.configuration);
    append_position(out, snapshot.state_end);
    out.write_bytes(snapshot.state);
    rpc::Message message;
    message.kind = kGroupSnapshot;
    message.lane = rpc::Lane::kData;
    message.body = out.flatten();
    return message;
}

Result<Snapshot> decode_snapshot(Bytes body) {
    Snapshot snapshot;
    ByteReader in(body);
    snapshot.log = {in.read_unsigned_varlong()};
    snapshot.install.term = read_term(in);
    raft::SnapshotHead& head = snapshot.install.head;
    head.start = read_position(in);
    const uint32_t rows = in.read_unsigned_varint();
    if (!in.ok() || rows > raft::kTermRowsMax) return malformed("a snapshot");
    for (uint32_t i = 0; i < rows && in.ok(); ++i) {
        raft::TermStart& row = head.terms.emplace_back();
        row.term = read_term(in);
        row.first = read_position(in);
    }
    TRY_ASSIGN(head.configuration, read_configuration(in));
    snapshot.state_end = read_position(in);
    if (!in.ok() || in.remaining() > kStateBytesMax) return malformed("a snapshot");
    const Bytes state = in.read_bytes(in.remaining());
    snapshot.state.assign(state.begin(), state.end());
    return snapshot;
}

rpc::Message encode_repair(const RepairRequest& request) {
    ByteWriter out;
    out.write_u8(static_cast<uint8_t>(request.question));
    out.write_unsigned_varlong(request.log.v);
    return rpc::control_message(kGroupRepair, out.flatten());
}

Result<RepairRequest> decode_repair(Bytes body) {
    ByteReader in(body);
    RepairRequest request;
    const uint8_t question = in.read_u8();
    request.question = static_cast<RepairQuestion>(question);
    request.log = {in.read_unsigned_varlong()};
    if (!in.ok() || in.remaining() > 0 || question < 1 || question > 2)
        return malformed("a question about a damaged log");
    return request;
}

}  // namespace weir::replication

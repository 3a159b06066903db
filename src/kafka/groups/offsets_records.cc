#include "kafka/groups/offsets_records.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"

namespace weir::kafka {
namespace {

constexpr int16_t kOffsetKeyVersion = 1;
constexpr int16_t kGroupKeyVersion = 2;
constexpr int16_t kOffsetValueVersion = 3;
constexpr int16_t kOffsetValueVersionWithExpiry = 1;
constexpr int16_t kGroupValueVersion = 3;
constexpr int16_t kValueVersionFlexible = 4;  // of both kinds; also the newest that is read
constexpr int64_t kNoTimestamp = -1;

void write_string(ByteWriter& out, std::string_view text) {
    CHECK(text.size() <= kRecordStringBytesMax);
    out.write_i16(static_cast<int16_t>(text.size()));
    out.write_text(text);
}

void write_nullable_string(ByteWriter& out, const std::optional<std::string>& text) {
    if (text)
        write_string(out, *text);
    else
        out.write_i16(-1);
}

void write_blob(ByteWriter& out, Bytes bytes) {
    CHECK(bytes.size() <= INT32_MAX);
    out.write_i32(static_cast<int32_t>(bytes.size()));
    out.write_bytes(bytes);
}

int32_t to_ms(Duration duration) {
    const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
    return static_cast<int32_t>(std::clamp<int64_t>(ms, INT32_MIN, INT32_MAX));
}

std::vector<uint8_t> offset_key(std::string_view group, std::string_view topic, int32_t partition) {
    ByteWriter out;
    out.write_i16(kOffsetKeyVersion);
    write_string(out, group);
    write_string(out, topic);
    out.write_i32(partition);
    return out.flatten();
}

std::vector<uint8_t> group_key(std::string_view group) {
    ByteWriter out;
    out.write_i16(kGroupKeyVersion);
    write_string(out, group);
    return out.flatten();
}

// Reads the field types of a value in its version's encoding: 16- and 32-bit lengths, or the
// compact ones of flexible versions.
class ValueReader {
  public:
    ValueReader(Bytes bytes, int16_t flexible_version)
        : in_(bytes), version_(in_.read_i16()), flexible_(version_ >= flexible_version) {}

    int16_t version() const { return version_; }
    ByteReader& fixed() { return in_; }

    std::string read_string() {
        const int64_t size = read_string_size();
        if (size < 0) in_.set_failed();
        return text_of(size);
    }
    std::optional<std::string> read_nullable_string() {
        const int64_t size = read_string_size();
        if (size < 0) return std::nullopt;
        return text_of(size);
    }
    std::vector<uint8_t> read_blob() {
        const int64_t size = read_size();
        if (size < 0) in_.set_failed();
        const Bytes bytes = in_.read_bytes(static_cast<size_t>(std::max<int64_t>(size, 0)));
        return {bytes.begin(), bytes.end()};
    }
    int64_t read_count() {
        const int64_t count = read_size();
        if (count < 0) in_.set_failed();
        return count;
    }
    // The tagged fields that close every struct of a flexible version: none is needed here.
    void skip_tags() {
        if (!flexible_) return;
        const uint32_t count = in_.read_unsigned_varint();
        for (uint32_t i = 0; i < count && in_.ok(); ++i) {
            in_.read_unsigned_varint();
            in_.skip(in_.read_unsigned_varint());
        }
    }
    bool ended() const { return in_.ok() && in_.remaining() == 0; }

  private:
    int64_t read_compact_size() { return static_cast<int64_t>(in_.read_unsigned_varint()) - 1; }
    int64_t read_string_size() { return flexible_ ? read_compact_size() : in_.read_i16(); }
    int64_t read_size() { return flexible_ ? read_compact_size() : in_.read_i32(); }
    std::string text_of(int64_t size) {
        return std::string(
            as_text(in_.read_bytes(static_cast<size_t>(std::max<int64_t>(size, 0)))));
    }

    ByteReader in_;
    int16_t version_;
    bool flexible_;
};

std::unexpected<Error> malformed(std::string_view what) {
    return fail(ErrorCode::kMalformed, std::string(what) + " does not parse");
}

std::unexpected<Error> unsupported(std::string_view what, int16_t version) {
    return fail(ErrorCode::kUnsupported,
                std::string(what) + " has version " + std::to_string(version));
}

Result<CommittedOffset> decode_offset_value(Bytes bytes) {
    ValueReader in(bytes, kValueVersionFlexible);
    const int16_t version = in.version();
    if (version < 0 || version > kValueVersionFlexible) return unsupported("an offset", version);
    CommittedOffset offset;
    offset.offset = in.fixed().read_i64();
    if (version >= 3) offset.leader_epoch = in.fixed().read_i32();
    offset.metadata = in.read_string();
    offset.committed_at = {in.fixed().read_i64()};
    if (version == kOffsetValueVersionWithExpiry) {
        const int64_t expires_at = in.fixed().read_i64();
        if (expires_at != kNoTimestamp) offset.expires_at = WallTime{expires_at};
    }
    in.skip_tags();
    if (!in.ended()) return malformed("an offset");
    return offset;
}

Result<GroupMetadata> decode_group_value(Bytes bytes) {
    ValueReader in(bytes, kValueVersionFlexible);
    const int16_t version = in.version();
    if (version < 0 || version > kValueVersionFlexible) return unsupported("a group", version);
    GroupMetadata group;
    group.protocol_type = in.read_string();
    group.generation = in.fixed().read_i32();
    group.protocol = in.read_nullable_string();
    group.leader = in.read_nullable_string();
    if (version >= 2) {
        const int64_t since = in.fixed().read_i64();
        if (since != kNoTimestamp) group.state_since = WallTime{since};
    }
    const int64_t count = in.read_count();
    for (int64_t i = 0; i < count && in.fixed().ok(); ++i) {
        MemberMetadata member;
        member.member_id = in.read_string();
        if (version >= 3) member.instance_id = in.read_nullable_string();
        member.client_id = in.read_string();
        member.client_host = in.read_string();
        const int32_t rebalance_timeout_ms = version >= 1 ? in.fixed().read_i32() : 0;
        const int32_t session_timeout_ms = in.fixed().read_i32();
        member.session_timeout = std::chrono::milliseconds(session_timeout_ms);
        member.rebalance_timeout =
            std::chrono::milliseconds(version >= 1 ? rebalance_timeout_ms : session_timeout_ms);
        member.subscription = in.read_blob();
        member.assignment = in.read_blob();
        in.skip_tags();
        group.members.push_back(std::move(member));
    }
    in.skip_tags();
    if (!in.ended()) return malformed("a group");
    return group;
}

// Calls emit(unit) for each UTF-16 code unit of a UTF-8 text. What is not UTF-8 becomes U+FFFD, as
// Java's decoder does; exactly how many of them a broken sequence yields is of no matter, since
// such a name never reached a Java client intact.
template <class Emit>
void for_each_utf16_unit(std::string_view text, Emit emit) {
    const Bytes bytes = as_bytes(text);
    size_t at = 0;
    while (at < bytes.size()) {
        const uint8_t first = bytes[at];
        const size_t size = first < 0x80           ? 1
                            : (first >> 5) == 0x06 ? 2
                            : (first >> 4) == 0x0e ? 3
                            : (first >> 3) == 0x1e ? 4
                                                   : 0;
        uint32_t point = size == 1 ? first : first & (0x7fu >> size);
        bool valid = size > 0 && size <= bytes.size() - at;
        for (size_t i = 1; valid && i < size; ++i) {
            valid = (bytes[at + i] & 0xc0) == 0x80;
            point = (point << 6) | (bytes[at + i] & 0x3f);
        }
        if (!valid || point > 0x10ffff) {
            emit(uint16_t{0xfffd});
            ++at;
            continue;
        }
        if (point < 0x10000) {
            emit(static_cast<uint16_t>(point));
        } else {
            emit(static_cast<uint16_t>(0xd800 + ((point - 0x10000) >> 10)));
            emit(static_cast<uint16_t>(0xdc00 + ((point - 0x10000) & 0x3ff)));
        }
        at += size;
    }
}

}  // namespace

LogRecord encode_offset(std::string_view group, std::string_view topic, int32_t partition,
                        const CommittedOffset& offset) {
    ByteWriter out;
    const int16_t version = offset.expires_at ? kOffsetValueVersionWithExpiry : kOffsetValueVersion;
    out.write_i16(version);
    out.write_i64(offset.offset);
    if (version >= 3) out.write_i32(offset.leader_epoch);
    write_string(out, offset.metadata);
    out.write_i64(offset.committed_at.ms);
    if (offset.expires_at) out.write_i64(offset.expires_at->ms);
    return {offset_key(group, topic, partition), out.flatten()};
}

LogRecord encode_offset_tombstone(std::string_view group, std::string_view topic,
                                  int32_t partition) {
    return {offset_key(group, topic, partition), std::nullopt};
}

LogRecord encode_group(std::string_view group, const GroupMetadata& metadata) {
    ByteWriter out;
    out.write_i16(kGroupValueVersion);
    write_string(out, metadata.protocol_type);
    out.write_i32(metadata.generation);
    write_nullable_string(out, metadata.protocol);
    write_nullable_string(out, metadata.leader);
    out.write_i64(metadata.state_since ? metadata.state_since->ms : kNoTimestamp);
    CHECK(metadata.members.size() <= INT32_MAX);
    out.write_i32(static_cast<int32_t>(metadata.members.size()));
    for (const MemberMetadata& member : metadata.members) {
        write_string(out, member.member_id);
        write_nullable_string(out, member.instance_id);
        write_string(out, member.client_id);
        write_string(out, member.client_host);
        out.write_i32(to_ms(member.rebalance_timeout));
        out.write_i32(to_ms(member.session_timeout));
        write_blob(out, member.subscription);
        write_blob(out, member.assignment);
    }
    return {group_key(group), out.flatten()};
}

LogRecord encode_group_tombstone(std::string_view group) {
    return {group_key(group), std::nullopt};
}

Result<DecodedRecord> decode_record(Bytes key, std::optional<Bytes> value) {
    ByteReader in(key);
    const int16_t version = in.read_i16();
    if (!in.ok() || version < 0) return malformed("a key");
    if (version > kGroupKeyVersion) return ForeignRecord{version};

    auto read_string = [&in] {
        const int16_t size = in.read_i16();
        if (size < 0) in.set_failed();
        return std::string(as_text(in.read_bytes(static_cast<size_t>(std::max<int16_t>(size, 0)))));
    };
    if (version == kGroupKeyVersion) {
        GroupRecord record;
        record.group = read_string();
        if (!in.ok() || in.remaining() != 0) return malformed("a group's key");
        if (value) {
            TRY_ASSIGN(record.value, decode_group_value(*value));
        }
        return record;
    }
    OffsetRecord record;
    record.group = read_string();
    record.topic = read_string();
    record.partition = in.read_i32();
    if (!in.ok() || in.remaining() != 0) return malformed("an offset's key");
    if (value) {
        TRY_ASSIGN(record.value, decode_offset_value(*value));
    }
    return record;
}

int32_t partition_for(std::string_view group, int32_t partition_count) {
    CHECK(partition_count > 0);
    uint32_t hash = 0;
    for_each_utf16_unit(group, [&hash](uint16_t unit) { hash = 31 * hash + unit; });
    const int32_t signed_hash = static_cast<int32_t>(hash);
    const int32_t magnitude = signed_hash == INT32_MIN ? 0 : std::abs(signed_hash);
    return magnitude % partition_count;
}

}  // namespace weir::kafka

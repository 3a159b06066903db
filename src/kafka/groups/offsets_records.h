// The records of the topic __consumer_offsets in Kafka's own format, so that Kafka's tools read
// what Weir writes and the other way round. Keys: version 1 (0 is read too) names (group, topic,
// partition), version 2 names a group. Values: a committed offset, or a group's generation with its
// members; none at all is a tombstone. Written versions: offsets 3 (1 where the client gave its own
// retention, the one version that can hold it), groups 3. Read: 0 to 4. Format:
// docs/formats/consumer-offsets.md. Bytes from a log are not trusted: what does not parse is an
// error, never a crash.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/coordination/machine/machine.h"

namespace weir::kafka {

// The longest string that the written versions can hold (a signed 16-bit length).
inline constexpr size_t kRecordStringBytesMax = 32767;

struct CommittedOffset {
    int64_t offset = -1;
    int32_t leader_epoch = -1;
    std::string metadata;
    WallTime committed_at;
    std::optional<WallTime>
        expires_at;  // set where the commit carried its own retention (v2 to v4)
    bool operator==(const CommittedOffset&) const = default;
};

struct MemberMetadata {
    std::string member_id;
    std::optional<std::string> instance_id;
    std::string client_id;
    std::string client_host;
    Duration rebalance_timeout{};
    Duration session_timeout{};
    std::vector<uint8_t> subscription;
    std::vector<uint8_t> assignment;
    bool operator==(const MemberMetadata&) const = default;
};

// One generation of a group, as it is stored when its assignment is known or when the group became
// empty.
struct GroupMetadata {
    std::string protocol_type;
    int32_t generation = 0;
    std::optional<std::string> protocol;
    std::optional<std::string> leader;
    std::optional<WallTime> state_since;
    std::vector<MemberMetadata> members;
    bool operator==(const GroupMetadata&) const = default;
};

LogRecord encode_offset(std::string_view group, std::string_view topic, int32_t partition,
                        const CommittedOffset& offset);
LogRecord encode_offset_tombstone(std::string_view group, std::string_view topic,
                                  int32_t partition);
LogRecord encode_group(std::string_view group, const GroupMetadata& metadata);
LogRecord encode_group_tombstone(std::string_view group);

struct OffsetRecord {
    std::string group;
    std::string topic;
    int32_t partition = 0;
    std::optional<CommittedOffset> value;
    bool operator==(const OffsetRecord&) const = default;
};
struct GroupRecord {
    std::string group;
    std::optional<GroupMetadata> value;
    bool operator==(const GroupRecord&) const = default;
};
// A key of a version that this coordinator does not keep (KIP-848's, share groups'): skipped at
// replay.
struct ForeignRecord {
    int16_t key_version = 0;
    bool operator==(const ForeignRecord&) const = default;
};
using DecodedRecord = std::variant<OffsetRecord, GroupRecord, ForeignRecord>;

Result<DecodedRecord> decode_record(Bytes key, std::optional<Bytes> value);

// The partition of __consumer_offsets that holds a group: the absolute value of Java's
// String.hashCode (over UTF-16 code units, INT_MIN counting as 0) modulo the number of partitions.
// Tools compute it, so it is part of the protocol in practice.
int32_t partition_for(std::string_view group, int32_t partition_count);

}  // namespace weir::kafka

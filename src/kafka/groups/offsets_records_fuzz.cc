// Records of __consumer_offsets: whatever the bytes are, reading them breaks nothing; what is read
// is written and read again as the same; and a coordinator that replays it serves, survives a few
// timeouts, and yields records from which the same state comes back.
#include <algorithm>
#include <vector>

#include "base/byte_reader.h"
#include "base/check.h"
#include "base/prng.h"
#include "kafka/groups/coordinator.h"
#include "kafka/groups/subscription.h"

namespace weir::kafka {
namespace {

// Longer strings can be read (version 4 has compact lengths) than written.
bool fits(const std::string& text) { return text.size() <= kRecordStringBytesMax; }

bool can_be_written(const GroupMetadata& group) {
    return fits(group.protocol_type) && fits(group.protocol.value_or("")) &&
           fits(group.leader.value_or("")) &&
           std::ranges::all_of(group.members, [](const MemberMetadata& member) {
               return fits(member.member_id) && fits(member.instance_id.value_or("")) &&
                      fits(member.client_id) && fits(member.client_host);
           });
}

DecodedRecord read_again(const LogRecord& record) {
    const auto decoded = decode_record(
        record.key, record.value ? std::optional<Bytes>(*record.value) : std::nullopt);
    CHECK(decoded.has_value());
    return *decoded;
}

void check_round_trip(const DecodedRecord& record) {
    if (const auto* offset = std::get_if<OffsetRecord>(&record)) {
        const bool is_tombstone = !offset->value;
        if (!is_tombstone && !fits(offset->value->metadata)) return;
        CHECK(read_again(
                  is_tombstone
                      ? encode_offset_tombstone(offset->group, offset->topic, offset->partition)
                      : encode_offset(offset->group, offset->topic, offset->partition,
                                      *offset->value)) == record);
    } else if (const auto* group = std::get_if<GroupRecord>(&record)) {
        if (group->value) {
            for (const MemberMetadata& member : group->value->members)
                (void)topics_of_subscription(member.subscription);
            if (!can_be_written(*group->value)) return;
        }
        CHECK(read_again(group->value ? encode_group(group->group, *group->value)
                                      : encode_group_tombstone(group->group)) == record);
    }
}

std::vector<LogRecord> live_records(const GroupCoordinator& coordinator) {
    std::vector<LogRecord> records;
    coordinator.for_each_live_record(
        [&records](LogRecord record) { records.push_back(std::move(record)); });
    return records;
}

void check_replay(const std::vector<LogRecord>& records) {
    Prng entropy(1);
    Moment now{Instant{}, WallTime{1'000'000}};
    GroupCoordinator coordinator({}, entropy);
    coordinator.begin_load();
    for (const LogRecord& record : records)
        (void)coordinator.replay(record.key,
                                 record.value ? std::optional<Bytes>(*record.value) : std::nullopt);
    GroupEffects effects = coordinator.finish_load(now);
    coordinator.check_invariants();
    CHECK(effects.appends.empty());

    const std::vector<LogRecord> live = live_records(coordinator);
    GroupCoordinator again({}, entropy);
    again.begin_load();
    for (const LogRecord& record : live)
        (void)again.replay(record.key,
                           record.value ? std::optional<Bytes>(*record.value) : std::nullopt);
    (void)again.finish_load(now);
    CHECK(live_records(again) == live);

    for (int i = 0; i < 8 && coordinator.next_deadline() != Instant::never(); ++i) {
        now.instant = std::max(now.instant, coordinator.next_deadline());
        now.wall = {now.instant.ns / 1'000'000};
        for (const GroupAppend& append : coordinator.tick(now).appends)
            (void)coordinator.on_append_done(append.token, true, now);
        coordinator.check_invariants();
    }
    (void)coordinator.close();
}

}  // namespace
}  // namespace weir::kafka

// Input: records, each a 16-bit length and that many bytes of key, and the same of a value; the
// length 0xffff is no value.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace weir;
    using namespace weir::kafka;
    ByteReader in(Bytes{data, size});
    std::vector<LogRecord> records;
    while (in.remaining() > 0 && records.size() < 64) {
        LogRecord record;
        const Bytes key = in.read_bytes(std::min<size_t>(in.read_u16(), in.remaining()));
        record.key.assign(key.begin(), key.end());
        const uint16_t value_size = in.read_u16();
        if (value_size != 0xffff) {
            const Bytes value = in.read_bytes(std::min<size_t>(value_size, in.remaining()));
            record.value.emplace(value.begin(), value.end());
        }
        const auto decoded = decode_record(
            record.key, record.value ? std::optional<Bytes>(*record.value) : std::nullopt);
        if (decoded) check_round_trip(*decoded);
        records.push_back(std::move(record));
    }
    check_replay(records);
    return 0;
}

#include "kafka/groups/offsets_records.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/prng.h"

namespace weir::kafka {
namespace {

std::string hex(Bytes bytes) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (const uint8_t byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

// Spaces part the fields.
std::vector<uint8_t> unhex(std::string_view text) {
    std::vector<uint8_t> bytes;
    int high = -1;
    for (const char c : text) {
        if (c == ' ') continue;
        const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
        if (high < 0) {
            high = digit;
        } else {
            bytes.push_back(static_cast<uint8_t>(high * 16 + digit));
            high = -1;
        }
    }
    return bytes;
}

std::string packed(std::string_view text) { return hex(unhex(text)); }

CommittedOffset offset_of(int64_t offset) {
    return {offset, 7, "meta", WallTime{0x0102030405060708}, std::nullopt};
}

GroupMetadata two_members() {
    GroupMetadata group;
    group.protocol_type = "consumer";
    group.generation = 5;
    group.protocol = "range";
    group.leader = "m1";
    group.state_since = WallTime{1000};
    group.members.push_back({"m1", std::nullopt, "c", "/h", 60s, 10s, {1, 2}, {3}});
    group.members.push_back({"m2", "i2", "c", "/h", 60s, 10s, {4}, {}});
    return group;
}

constexpr std::string_view kOffsetKey = "0001 000167 000174 00000003";
constexpr std::string_view kOffsetValue3 =
    "0003 000000000000002a 00000007 00046d657461 0102030405060708";
constexpr std::string_view kGroupKey = "0002 000167";
constexpr std::string_view kGroupValue3 =
    "0003 0008636f6e73756d6572 00000005 000572616e6765 00026d31 00000000000003e8 00000002"
    " 00026d31 ffff 000163 00022f68 0000ea60 00002710 000000020102 0000000103"
    " 00026d32 00026932 000163 00022f68 0000ea60 00002710 0000000104 00000000";

Result<DecodedRecord> decode(std::string_view key, std::string_view value) {
    const std::vector<uint8_t> key_bytes = unhex(key);
    const std::vector<uint8_t> value_bytes = unhex(value);
    return decode_record(key_bytes, Bytes(value_bytes));
}

TEST(offsets_records, an_offset_is_written_in_the_bytes_of_kafkas_key_1_and_value_3) {
    const LogRecord record = encode_offset("g", "t", 3, offset_of(42));
    EXPECT_EQ(hex(record.key), packed(kOffsetKey));
    ASSERT_TRUE(record.value.has_value());
    EXPECT_EQ(hex(*record.value), packed(kOffsetValue3));
}

TEST(offsets_records, an_offset_with_its_own_retention_is_written_in_value_1) {
    CommittedOffset offset = offset_of(42);
    offset.leader_epoch = -1;
    offset.expires_at = WallTime{0x1112131415161718};
    const LogRecord record = encode_offset("g", "t", 3, offset);
    EXPECT_EQ(hex(*record.value),
              packed("0001 000000000000002a 00046d657461 0102030405060708 1112131415161718"));
    const auto decoded = decode_record(record.key, Bytes(*record.value));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(*decoded, DecodedRecord(OffsetRecord{"g", "t", 3, offset}));
}

TEST(offsets_records, a_group_is_written_in_the_bytes_of_kafkas_key_2_and_value_3) {
    const LogRecord record = encode_group("g", two_members());
    EXPECT_EQ(hex(record.key), packed(kGroupKey));
    ASSERT_TRUE(record.value.has_value());
    EXPECT_EQ(hex(*record.value), packed(kGroupValue3));
}

TEST(offsets_records, an_empty_group_has_no_protocol_and_no_leader) {
    GroupMetadata group;
    group.protocol_type = "consumer";
    group.generation = 6;
    group.state_since = WallTime{1};
    const LogRecord record = encode_group("g", group);
    EXPECT_EQ(hex(*record.value),
              packed("0003 0008636f6e73756d6572 00000006 ffff ffff 0000000000000001 00000000"));
    EXPECT_EQ(*decode_record(record.key, Bytes(*record.value)),
              DecodedRecord(GroupRecord{"g", group}));
}

TEST(offsets_records, tombstones_have_the_key_and_no_value) {
    EXPECT_EQ(hex(encode_offset_tombstone("g", "t", 3).key), packed(kOffsetKey));
    EXPECT_FALSE(encode_offset_tombstone("g", "t", 3).value.has_value());
    EXPECT_EQ(hex(encode_group_tombstone("g").key), packed(kGroupKey));
    EXPECT_EQ(*decode_record(unhex(kOffsetKey), std::nullopt),
              DecodedRecord(OffsetRecord{"g", "t", 3, std::nullopt}));
    EXPECT_EQ(*decode_record(unhex(kGroupKey), std::nullopt),
              DecodedRecord(GroupRecord{"g", std::nullopt}));
}

TEST(offsets_records, every_value_version_of_an_offset_is_read) {
    CommittedOffset plain = offset_of(42);
    plain.leader_epoch = -1;
    CommittedOffset expiring = plain;
    expiring.expires_at = WallTime{9};
    auto read = [](std::string_view value) {
        return std::get<OffsetRecord>(*decode(kOffsetKey, value)).value;
    };
    EXPECT_EQ(read("0000 000000000000002a 00046d657461 0102030405060708"), plain);
    EXPECT_EQ(read("0001 000000000000002a 00046d657461 0102030405060708 0000000000000009"),
              expiring);
    EXPECT_EQ(read("0001 000000000000002a 00046d657461 0102030405060708 ffffffffffffffff"), plain);
    EXPECT_EQ(read("0002 000000000000002a 00046d657461 0102030405060708"), plain);
    EXPECT_EQ(read(kOffsetValue3), offset_of(42));
    // Flexible: compact string, then tagged fields, of which one is unknown here and skipped.
    EXPECT_EQ(read("0004 000000000000002a 00000007 056d657461 0102030405060708 00"), offset_of(42));
    EXPECT_EQ(read("0004 000000000000002a 00000007 056d657461 0102030405060708 01 00 02 abcd"),
              offset_of(42));
}

TEST(offsets_records, every_value_version_of_a_group_is_read) {
    GroupMetadata group = two_members();
    group.members.pop_back();
    auto read = [](std::string_view value) {
        return std::get<GroupRecord>(*decode(kGroupKey, value)).value;
    };
    GroupMetadata old = group;
    old.state_since.reset();
    EXPECT_EQ(read("0001 0008636f6e73756d6572 00000005 000572616e6765 00026d31 00000001"
                   " 00026d31 000163 00022f68 0000ea60 00002710 000000020102 0000000103"),
              old);
    // Version 0 has no rebalance timeout: the session's is taken.
    old.members[0].rebalance_timeout = 10s;
    EXPECT_EQ(read("0000 0008636f6e73756d6572 00000005 000572616e6765 00026d31 00000001"
                   " 00026d31 000163 00022f68 00002710 000000020102 0000000103"),
              old);
    EXPECT_EQ(read("0002 0008636f6e73756d6572 00000005 000572616e6765 00026d31 00000000000003e8"
                   " 00000001 00026d31 000163 00022f68 0000ea60 00002710 000000020102 0000000103"),
              group);
    EXPECT_EQ(read("0004 09636f6e73756d6572 00000005 0672616e6765 036d31 00000000000003e8 02"
                   " 036d31 00 0263 032f68 0000ea60 00002710 030102 0203 00 00"),
              group);
}

TEST(offsets_records, key_version_0_is_an_offset_too) {
    EXPECT_EQ(*decode("0000 000167 000174 00000003", kOffsetValue3),
              DecodedRecord(OffsetRecord{"g", "t", 3, offset_of(42)}));
}

TEST(offsets_records, keys_of_newer_group_kinds_are_told_apart_and_not_parsed) {
    EXPECT_EQ(*decode("0003 0167", "00"), DecodedRecord(ForeignRecord{3}));
    EXPECT_EQ(*decode("7fff", ""), DecodedRecord(ForeignRecord{0x7fff}));
}

TEST(offsets_records, what_is_cut_short_or_too_long_does_not_parse) {
    for (const auto& [key, value] :
         {std::pair(kOffsetKey, kOffsetValue3), std::pair(kGroupKey, kGroupValue3)}) {
        const std::vector<uint8_t> key_bytes = unhex(key);
        std::vector<uint8_t> value_bytes = unhex(value);
        for (size_t size = 0; size < key_bytes.size(); ++size)
            EXPECT_FALSE(decode_record(Bytes(key_bytes).first(size), Bytes(value_bytes)));
        for (size_t size = 0; size < value_bytes.size(); ++size)
            EXPECT_FALSE(decode_record(key_bytes, Bytes(value_bytes).first(size)));
        EXPECT_TRUE(decode_record(key_bytes, Bytes(value_bytes)));
        value_bytes.push_back(0);
        EXPECT_FALSE(decode_record(key_bytes, Bytes(value_bytes)));
    }
    EXPECT_FALSE(decode("ffff 000167", ""));
    EXPECT_FALSE(decode(kOffsetKey, "0005 000000000000002a"));
    EXPECT_FALSE(decode(kOffsetKey, "ffff 000000000000002a"));
    // A count of members that the bytes can't hold, and a negative one.
    EXPECT_FALSE(decode(kGroupKey, "0000 0000 00000001 ffff ffff 7fffffff"));
    EXPECT_FALSE(decode(kGroupKey, "0000 0000 00000001 ffff ffff ffffffff"));
    // A string that may not be null is.
    EXPECT_FALSE(decode(kOffsetKey, "0003 000000000000002a 00000007 ffff 0102030405060708"));
}

TEST(offsets_records, random_changes_to_the_bytes_never_crash_the_reader) {
    Prng prng(1, "offsets_records");
    const LogRecord records[] = {encode_offset("group", "topic", 3, offset_of(42)),
                                 encode_group("group", two_members())};
    size_t parsed = 0;
    for (int i = 0; i < 20000; ++i) {
        LogRecord record = records[i % 2];
        for (uint64_t change = prng.between(1, 3); change > 0; --change) {
            std::vector<uint8_t>& bytes = prng.chance(0.2) ? record.key : *record.value;
            bytes[prng.below(bytes.size())] = static_cast<uint8_t>(prng.next());
        }
        if (decode_record(record.key, Bytes(*record.value))) ++parsed;
    }
    EXPECT_GT(parsed, 0u);
    EXPECT_LT(parsed, 20000u);
}

TEST(offsets_records, item_91_a_groups_partition_is_javas_string_hash_modulo_their_number) {
    EXPECT_EQ(partition_for("", 50), 0);
    EXPECT_EQ(partition_for("a", 50), 97 % 50);
    EXPECT_EQ(partition_for("hello", 50), 99162322 % 50);
    EXPECT_EQ(partition_for("my-group", 50), 12);
    EXPECT_EQ(partition_for("polygenelubricants", 50), 0);  // hashes to INT_MIN
    EXPECT_EQ(partition_for("\xc3\xa9", 50), 0xe9 % 50);
    // Beyond the basic plane Java counts two units.
    EXPECT_EQ(partition_for("\xf0\x9f\x98\x80", 50), (0xd83d * 31 + 0xde00) % 50);
    EXPECT_EQ(partition_for("\xff", 50), 0xfffd % 50);
    EXPECT_EQ(partition_for("anything", 1), 0);
}

}  // namespace
}  // namespace weir::kafka

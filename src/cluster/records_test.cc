#include "cluster/records.h"

#include <gtest/gtest.h>

#include "base/byte_writer.h"
#include "base/prng.h"

namespace weir::cluster {
namespace {

Uuid id_of(uint8_t n) {
    Uuid id;
    id.bytes[15] = n;
    return id;
}

std::vector<MetadataRecord> one_of_each() {
    return {
        ClusterCreated{id_of(1)},
        LogIdsReserved{1026},
        ProducerIdsReserved{int64_t{1} << 40},
        TopicCreated{"a", id_of(2), {{{7}, {0}}, {{8}, {0, 1, 2}}}, {{"retention.ms", "-1"}}},
        TopicDeleted{id_of(2)},
        PartitionsAdded{id_of(2), {{{9}, {0}}}},
        TopicConfigChanged{id_of(2), "retention.ms", std::nullopt},
        ResourceConfigChanged{ConfigResource::kBroker, "", "num.partitions", "3"},
    };
}

TEST(MetadataRecords, every_kind_comes_back_as_it_was) {
    const auto records = one_of_each();
    const auto decoded = decode_metadata(encode_metadata(records));
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(*decoded, records);
}

TEST(MetadataRecords, entries_back_to_back_are_read_as_one_list) {
    std::vector<uint8_t> bytes = encode_metadata({LogIdsReserved{5}});
    const auto more = encode_metadata({LogIdsReserved{6}, LogIdsReserved{7}});
    bytes.insert(bytes.end(), more.begin(), more.end());
    const auto decoded = decode_metadata(bytes);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->size(), 3u);
    EXPECT_EQ(decoded->back(), MetadataRecord(LogIdsReserved{7}));
}

TEST(MetadataRecords, the_format_is_the_one_in_the_docs) {
    // docs/formats/metadata-log.md, the worked example.
    const std::vector<uint8_t> expected = {
        0x01, 0x00, 0x00, 0x00, 0x28,  // format 1, 40 bytes follow
        0x01,                          // one record
        0x04, 0x25,                    // kind 4 (TopicCreated), 37 bytes
        0x01, 'a',                     // name
        0,    0,    0,    0,    0,    0,   0,   0,   0,   0,   0,   0,   0, 0, 0, 2,  // id
        0x01, 0x07, 0x01, 0x00,  // one partition: log 7 on one replica, node 0
        0x01, 0x0a, 'p',  'r',  'e',  'a', 'l', 'l', 'o', 'c', 'a', 't',  // one option
        0x02, 'o',  'n'};
    const auto encoded =
        encode_metadata({TopicCreated{"a", id_of(2), {{{7}, {0}}}, {{"preallocat", "on"}}}});
    EXPECT_EQ(encoded, expected);
}

TEST(MetadataRecords, no_prefix_of_an_entry_parses) {
    const auto bytes = encode_metadata(one_of_each());
    for (size_t size = 1; size < bytes.size(); ++size) {
        EXPECT_FALSE(decode_metadata(Bytes(bytes).first(size))) << size;
    }
}

TEST(MetadataRecords, a_later_format_or_kind_is_refused_by_name) {
    auto bytes = encode_metadata({LogIdsReserved{5}});
    bytes[0] = 2;
    EXPECT_EQ(decode_metadata(bytes).error().code, ErrorCode::kUnsupported);
    bytes[0] = 1;
    bytes[6] = 99;
    EXPECT_EQ(decode_metadata(bytes).error().code, ErrorCode::kUnsupported);
}

TEST(MetadataRecords, damaged_bytes_never_crash_the_reader) {
    const auto whole = encode_metadata(one_of_each());
    Prng prng(1);
    for (int i = 0; i < 100'000; ++i) {
        auto bytes = whole;
        for (uint64_t flips = prng.between(1, 4); flips > 0; --flips) {
            bytes[prng.below(bytes.size())] = static_cast<uint8_t>(prng.next());
        }
        (void)decode_metadata(bytes);
    }
}

}  // namespace
}  // namespace weir::cluster

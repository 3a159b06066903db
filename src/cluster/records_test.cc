#include "cluster/records.h"

#include <gtest/gtest.h>

#include "base/byte_writer.h"
#include "base/prng.h"
#include "cluster/image.h"

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
        FeatureFinalized{"weir.version", 1},
        NodeIdsReserved{7},
        NodeRegistered{.id = 3,
                       .uuid = id_of(5),
                       .epoch = 9,
                       .rpc = {"10.0.0.3", 9700},
                       .kafka = {"broker-3.example", 9092},
                       .rack = "a",
                       .shards = 4,
                       .features = {{"weir.version", {0, 1}}}},
        NodeRegistered{
            .id = 4, .uuid = id_of(6), .epoch = 1, .rpc = {"::1", 1}, .kafka = {"h", 65535}},
        NodeRemoved{4},
        NodeStateChanged{3, NodeState::kDecommissioning},
        PartitionReassigned{id_of(2), 1, {3, 4, 5}, 8},
        PartitionReassigned{id_of(2), 1, {}, 9},
        PartitionReplicasChanged{id_of(2), 0, {3, 4}, 10},
        PartitionReassigned{id_of(2), 1, {3, 4}, 11, true},
        PartitionReplicasChanged{id_of(2), 1, {4, 3}, 12, true},
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

TEST(MetadataRecords, a_node_is_written_as_in_the_docs) {
    // docs/formats/metadata-log.md, the second example.
    const std::vector<uint8_t> expected = {
        0x01, 0x00, 0x00, 0x00, 0x33,  // format 1, 51 bytes follow
        0x01,                          // one record
        0x0b, 0x30,                    // kind 11 (NodeRegistered), 48 bytes
        0x06,                          // node 3 (zigzag)
        0,    0,    0,    0,    0,    0,   0,   0,   0,   0,   0,   0,   0,   0,
        0,    5,                                                                    // its uuid
        0x09,                                                                       // epoch
        0x02, 'n',  '3',  0xe4, 0x4b,                                               // rpc n3:9700
        0x02, 'k',  '3',  0x84, 0x47,                                               // kafka k3:9092
        0x01, 0x01, 'a',                                                            // rack "a"
        0x04,                                                                       // shards
        0x01, 0x0c, 'w',  'e',  'i',  'r', '.', 'v', 'e', 'r', 's', 'i', 'o', 'n',  // one feature
        0x00, 0x02,  // levels 0 to 1 (zigzag)
    };
    const auto encoded = encode_metadata({NodeRegistered{.id = 3,
                                                         .uuid = id_of(5),
                                                         .epoch = 9,
                                                         .rpc = {"n3", 9700},
                                                         .kafka = {"k3", 9092},
                                                         .rack = "a",
                                                         .shards = 4,
                                                         .features = {{"weir.version", {0, 1}}}}});
    EXPECT_EQ(encoded, expected);
}

// Written by the version before clusters, when kinds 1 to 8 were all there were: eleven entries,
// and the snapshot of what they make.
constexpr std::string_view kLogBeforeClusters =
    "0100000013010110000000000000000000000000000000010100000005010202820801000000090103068080"
    "808080400100000049010446066f72646572730000000000000000000000000000000202020100030100020e"
    "636c65616e75702e706f6c69637907636f6d706163740c726574656e74696f6e2e6d73022d31010000001d01"
    "041a04676f6e6500000000000000000000000000000003010401000001000000170106140000000000000000"
    "000000000000000201050100010000002101071e000000000000000000000000000000020c726574656e7469"
    "6f6e2e6d7300010000002a010727000000000000000000000000000000020d7365676d656e742e6279746573"
    "010731303438353736010000001301051000000000000000000000000000000003010000001701081404000e"
    "6e756d2e706172746974696f6e73010133010000001d01081a040130106c6f672e726574656e74696f6e2e6d"
    "73010431303030";
constexpr std::string_view kSnapshotBeforeClusters =
    "01000000a206011000000000000000000000000000000001020282080306808080808040044f066f72646572"
    "730000000000000000000000000000000203020100030100050100020e636c65616e75702e706f6c69637907"
    "636f6d706163740d7365676d656e742e62797465730731303438353736081404000e6e756d2e706172746974"
    "696f6e73010133081a040130106c6f672e726574656e74696f6e2e6d73010431303030";

std::vector<uint8_t> from_hex(std::string_view hex) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes.push_back(static_cast<uint8_t>(digit(hex[i]) * 16 + digit(hex[i + 1])));
    return bytes;
}

Result<MetadataImage> image_of(Bytes bytes) {
    TRY_ASSIGN(const auto records, decode_metadata(bytes));
    MetadataImage image;
    for (const MetadataRecord& record : records) TRY(image.apply(record));
    return image;
}

TEST(MetadataRecords, the_log_and_the_snapshot_of_the_version_before_clusters_are_read) {
    const auto log = image_of(from_hex(kLogBeforeClusters));
    ASSERT_TRUE(log) << log.error().to_string();
    const auto snapshot = image_of(from_hex(kSnapshotBeforeClusters));
    ASSERT_TRUE(snapshot) << snapshot.error().to_string();
    EXPECT_EQ(*log, *snapshot);
    EXPECT_EQ(log->cluster_id(), id_of(1));
    EXPECT_EQ(log->log_ids_end(), 1026u);
    EXPECT_EQ(log->producer_ids_end(), int64_t{1} << 40);
    ASSERT_EQ(log->topics().size(), 1u);
    const TopicImage& orders = *log->find("orders");
    EXPECT_EQ(orders.configs,
              (ConfigMap{{"cleanup.policy", "compact"}, {"segment.bytes", "1048576"}}));
    ASSERT_EQ(orders.partitions.size(), 3u);
    EXPECT_EQ(orders.partitions[2], (PartitionAssignment{{5}, {0}}));
    EXPECT_EQ(log->configs(ConfigResource::kBroker, "0").at("log.retention.ms"), "1000");
    EXPECT_EQ(log->feature_level("weir.version"), 0);
}

TEST(MetadataRecords, until_a_level_is_finalized_the_version_before_clusters_reads_the_snapshot) {
    const auto image = image_of(from_hex(kLogBeforeClusters));
    ASSERT_TRUE(image);
    EXPECT_EQ(encode_metadata(image->to_records()), from_hex(kSnapshotBeforeClusters));
}

TEST(MetadataRecords, fields_at_the_end_that_a_later_version_added_are_skipped) {
    auto bytes = encode_metadata({NodeRemoved{4}});
    bytes.push_back(0x55);
    bytes[4] += 1;  // the entry's size
    bytes[7] += 1;  // the body's
    const auto decoded = decode_metadata(bytes);
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(decoded->front(), MetadataRecord(NodeRemoved{4}));
}

TEST(MetadataRecords, numbers_and_states_that_do_not_fit_are_malformed) {
    const auto with_body = [](uint8_t kind, std::vector<uint8_t> body) {
        std::vector<uint8_t> bytes = {1,
                                      0,
                                      0,
                                      0,
                                      static_cast<uint8_t>(body.size() + 3),
                                      1,
                                      kind,
                                      static_cast<uint8_t>(body.size())};
        bytes.insert(bytes.end(), body.begin(), body.end());
        return decode_metadata(bytes);
    };
    EXPECT_TRUE(with_body(13, {0x06, 2}));
    EXPECT_EQ(with_body(13, {0x06, 3}).error().code, ErrorCode::kMalformed);  // an unknown state
    EXPECT_EQ(with_body(12, {0x01}).error().code, ErrorCode::kMalformed);     // node -1
    EXPECT_EQ(with_body(12, {0x80, 0x80, 0x80, 0x80, 0x10}).error().code,
              ErrorCode::kMalformed);  // node 2^31
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

// Messages beside their bytes, written out by hand from the protocol's rules
// (docs/formats/protocol-schema.md): these do not change when the generator does.
#include <gtest/gtest.h>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "kafka/protocol/api_versions.h"
#include "kafka/protocol/codec.h"
#include "kafka/protocol/consumer_group_heartbeat.h"
#include "kafka/protocol/consumer_protocol_subscription.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/delete_topics.h"
#include "kafka/protocol/fetch.h"
#include "kafka/protocol/find_coordinator.h"
#include "kafka/protocol/incremental_alter_configs.h"
#include "kafka/protocol/init_producer_id.h"
#include "kafka/protocol/join_group.h"
#include "kafka/protocol/list_offsets.h"
#include "kafka/protocol/metadata.h"
#include "kafka/protocol/offset_commit.h"
#include "kafka/protocol/offset_fetch.h"
#include "kafka/protocol/produce.h"

namespace weir::kafka {
namespace {

// Hex digits, with spaces anywhere.
std::vector<uint8_t> from_hex(std::string_view text) {
    std::vector<uint8_t> bytes;
    int high = -1;
    for (const char c : text) {
        if (c == ' ') continue;
        const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
        if (high < 0) {
            high = digit;
        } else {
            bytes.push_back(static_cast<uint8_t>(high << 4 | digit));
            high = -1;
        }
    }
    EXPECT_EQ(high, -1);
    return bytes;
}

std::string to_hex(Bytes bytes) {
    std::string text;
    for (const uint8_t byte : bytes) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

template <class T>
void expect_bytes(const T& message, int16_t version, std::string_view hex) {
    SCOPED_TRACE(hex);
    const std::vector<uint8_t> bytes = from_hex(hex);
    ByteWriter out;
    const Result<void> encoded = message.encode(out, version);
    ASSERT_TRUE(encoded) << encoded.error().message;
    EXPECT_EQ(to_hex(out.flatten()), to_hex(bytes));
    ByteReader in(bytes);
    const Result<T> decoded = T::decode(in, version);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_TRUE(*decoded == message);
    EXPECT_EQ(in.remaining(), 0u);
}

const Uuid kTopicId{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
constexpr uint8_t kBatch[] = {0xca, 0xfe, 0xba};

TEST(GoldenBytes, ApiVersions) {
    expect_bytes(ApiVersionsRequest{}, 0, "");
    expect_bytes(
        ApiVersionsRequest{.client_software_name = "weir", .client_software_version = "0.1"}, 3,
        "05 77656972  04 302e31  00");

    ApiVersionsResponse response{.api_keys = {{.api_key = 18, .min_version = 0, .max_version = 3}}};
    expect_bytes(response, 0, "0000  00000001 0012 0000 0003");
    expect_bytes(response, 1, "0000  00000001 0012 0000 0003  00000000");
    // Flexible: no tagged field differs from its default.
    expect_bytes(response, 3, "0000  02 0012 0000 0003 00  00000000  00");
    response.supported_features = {{.name = "group.version", .min_version = 0, .max_version = 1}};
    response.finalized_features_epoch = 7;
    response.finalized_features = {
        {.name = "group.version", .max_version_level = 1, .min_version_level = 1}};
    // Three tagged fields, with sizes 0x14, 8 and 0x14.
    expect_bytes(response, 3,
                 "0000  02 0012 0000 0003 00  00000000  03"
                 " 00 14 02 0e 67726f75702e76657273696f6e 0000 0001 00"
                 " 01 08 0000000000000007"
                 " 02 14 02 0e 67726f75702e76657273696f6e 0001 0001 00");
}

TEST(GoldenBytes, Metadata) {
    // Version 0 says "all topics" with an empty array, later ones with null.
    expect_bytes(MetadataRequest{.topics = std::vector<MetadataRequest::Topic>()}, 0, "00000000");
    expect_bytes(MetadataRequest{.topics = std::nullopt}, 1, "ffffffff");
    expect_bytes(MetadataRequest{.topics = {{{.name = "t"}}}, .allow_auto_topic_creation = false},
                 4, "00000001 0001 74  00");
    expect_bytes(MetadataRequest{.topics = std::nullopt}, 12, "00  01  00  00");
    expect_bytes(MetadataRequest{.topics = {{{.topic_id = kTopicId, .name = std::nullopt}}}}, 12,
                 "02 000102030405060708090a0b0c0d0e0f 00 00  01  00  00");

    MetadataResponse response{
        .brokers = {{.node_id = 1, .host = "h", .port = 9092}},
        .controller_id = 1,
        .topics = {{.error_code = 0,
                    .name = "t",
                    .partitions = {{.partition_index = 0,
                                    .leader_id = 1,
                                    .replica_nodes = {1, 2},
                                    .isr_nodes = {1}}}}},
    };
    expect_bytes(response, 1,
                 "00000001  00000001 0001 68 00002384 ffff"  // one broker, rack null
                 " 00000001"                                 // controller
                 " 00000001  0000 0001 74 00"                // one topic, not internal
                 " 00000001  0000 00000000 00000001 00000002 00000001 00000002 00000001 00000001");
    response.cluster_id = "c";
    response.topics[0].topic_id = kTopicId;
    response.topics[0].partitions[0].leader_epoch = 5;
    expect_bytes(response, 12,
                 "00000000  02 00000001 02 68 00002384 00 00"
                 " 02 63  00000001"
                 " 02  0000 02 74 000102030405060708090a0b0c0d0e0f 00"
                 " 02  0000 00000000 00000001 00000005 03 00000001 00000002 02 00000001 01 00"
                 " 80000000 00  00");
}

TEST(GoldenBytes, Produce) {
    ProduceRequest request{.acks = -1, .timeout_ms = 1000};
    request.topic_data = {
        {.name = "t", .partition_data = {{.index = 2, .records = {.parts = {kBatch}}}}}};
    expect_bytes(request, 0, "ffff 000003e8  00000001 0001 74  00000001 00000002 00000003 cafeba");
    expect_bytes(request, 3,
                 "ffff  ffff 000003e8  00000001 0001 74  00000001 00000002 00000003 cafeba");
    expect_bytes(request, 9, "00  ffff 000003e8  02 02 74  02 00000002 04 cafeba 00  00  00");
    request.topic_data[0].name.clear();
    request.topic_data[0].topic_id = kTopicId;
    expect_bytes(
        request, 13,
        "00  ffff 000003e8  02 000102030405060708090a0b0c0d0e0f  02 00000002 04 cafeba 00  00  00");

    ProduceResponse response;
    response.responses = {
        {.name = "t", .partition_responses = {{.index = 2, .error_code = 6, .base_offset = -1}}}};
    expect_bytes(
        response, 2,
        "00000001 0001 74  00000001 00000002 0006 ffffffffffffffff ffffffffffffffff  00000000");
    // The new leader (KIP-951): tag 0 of the partition, and tag 0 of the message says where it is.
    response.responses[0].partition_responses[0].current_leader = {.leader_id = 3,
                                                                   .leader_epoch = 9};
    response.node_endpoints = {{.node_id = 3, .host = "h", .port = 1}};
    expect_bytes(
        response, 10,
        "02 02 74  02 00000002 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff 01 00"
        " 01 00 09 00000003 00000009 00"
        "  00  00000000"
        " 01 00 0d 02 00000003 02 68 00000001 00 00");
}

TEST(GoldenBytes, Fetch) {
    FetchRequest request{
        .max_wait_ms = 500, .min_bytes = 1, .max_bytes = 0x100, .session_epoch = 0};
    request.topics = {
        {.topic = "t",
         .partitions = {{.partition = 1, .fetch_offset = 5, .partition_max_bytes = 0x10}}}};
    expect_bytes(
        FetchRequest{
            .max_wait_ms = 500, .min_bytes = 1, .max_bytes = 0x100, .topics = request.topics},
        4,
        "ffffffff 000001f4 00000001 00000100 00"
        " 00000001 0001 74  00000001 00000001 0000000000000005 00000010");
    expect_bytes(
        request, 11,
        "ffffffff 000001f4 00000001 00000100 00  00000000 00000000"
        " 00000001 0001 74  00000001 00000001 ffffffff 0000000000000005 ffffffffffffffff 00000010"
        " 00000000  0000");
    request.topics[0].topic.clear();
    request.topics[0].topic_id = kTopicId;
    request.cluster_id = "c";
    expect_bytes(request, 13,
                 "ffffffff 000001f4 00000001 00000100 00  00000000 00000000"
                 " 02 000102030405060708090a0b0c0d0e0f"
                 " 02 00000001 ffffffff 0000000000000005 ffffffff ffffffffffffffff 00000010 00  00"
                 " 01  01  01 00 02 0263");

    FetchResponse response{.session_id = 4};
    response.responses = {{.topic = "t",
                           .partitions = {{.partition_index = 1,
                                           .high_watermark = 8,
                                           .last_stable_offset = 8,
                                           .log_start_offset = 2,
                                           .aborted_transactions = std::nullopt,
                                           .records = {.parts = {kBatch, kBatch}}}}}};
    expect_bytes(response, 11,
                 "00000000 0000 00000004  00000001 0001 74"
                 " 00000001 00000001 0000 0000000000000008 0000000000000008 0000000000000002 "
                 "ffffffff ffffffff"
                 " 00000006 cafebacafeba");
    // Truncation detection (KIP-595): tag 0 of the partition.
    response.responses[0].partitions[0].diverging_epoch = {.epoch = 3, .end_offset = 6};
    expect_bytes(response, 12,
                 "00000000 0000 00000004  02 02 74"
                 " 02 00000001 0000 0000000000000008 0000000000000008 0000000000000002 00 ffffffff"
                 " 07 cafebacafeba  01 00 0d 00000003 0000000000000006 00  00  00");
}

TEST(GoldenBytes, ListOffsets) {
    // Version 0 asked for a number of segment offsets, and was answered with a list.
    ListOffsetsRequest request{.replica_id = -1};
    request.topics = {
        {.name = "t",
         .partitions = {{.partition_index = 0, .timestamp = -1, .max_num_offsets = 2}}}};
    expect_bytes(request, 0,
                 "ffffffff  00000001 0001 74  00000001 00000000 ffffffffffffffff 00000002");
    request.topics[0].partitions[0].max_num_offsets = 1;
    expect_bytes(request, 1, "ffffffff  00000001 0001 74  00000001 00000000 ffffffffffffffff");

    ListOffsetsResponse response;
    response.topics = {
        {.name = "t", .partitions = {{.partition_index = 0, .old_style_offsets = {7, 0}}}}};
    expect_bytes(
        response, 0,
        "00000001 0001 74  00000001 00000000 0000 00000002 0000000000000007 0000000000000000");
}

TEST(GoldenBytes, Offsets) {
    OffsetCommitRequest commit{.group_id = "g"};
    commit.topics = {
        {.name = "t",
         .partitions = {{.partition_index = 1, .committed_offset = 9, .committed_metadata = "m"}}}};
    expect_bytes(commit, 0,
                 "0001 67  00000001 0001 74  00000001 00000001 0000000000000009 0001 6d");
    // Version 1 alone has a timestamp for each offset; versions 2 to 4 a retention for all.
    commit.topics[0].partitions[0].commit_timestamp = 3;
    commit.generation_id_or_member_epoch = 2;
    commit.member_id = "m";
    expect_bytes(commit, 1,
                 "0001 67 00000002 0001 6d  00000001 0001 74  00000001 00000001 0000000000000009 "
                 "0000000000000003 0001 6d");
    commit.topics[0].partitions[0].commit_timestamp = -1;
    commit.retention_time_ms = 4;
    expect_bytes(commit, 2,
                 "0001 67 00000002 0001 6d 0000000000000004  00000001 0001 74  00000001 00000001 "
                 "0000000000000009 0001 6d");

    OffsetFetchRequest fetch{.group_id = "g"};
    fetch.topics = {{{.name = "t", .partition_indexes = {0, 1}}}};
    expect_bytes(fetch, 1, "0001 67  00000001 0001 74  00000002 00000000 00000001");
    fetch.require_stable = true;
    expect_bytes(fetch, 7, "02 67  02 02 74 03 00000000 00000001 00  01  00");
    OffsetFetchRequest groups{.groups = {{.group_id = "g", .topics = std::nullopt}}};
    expect_bytes(groups, 8, "02 02 67 00 00  00  00");
    expect_bytes(groups, 9, "02 02 67 00 ffffffff 00 00  00  00");
}

TEST(GoldenBytes, Groups) {
    expect_bytes(FindCoordinatorRequest{.key = "g"}, 0, "0001 67");
    expect_bytes(FindCoordinatorRequest{.key_type = 1, .coordinator_keys = {"a", "b"}}, 4,
                 "01  03 02 61 02 62  00");

    JoinGroupRequest join{.group_id = "g",
                          .session_timeout_ms = 0x1000,
                          .rebalance_timeout_ms = 0x2000,
                          .protocol_type = "consumer",
                          .protocols = {{.name = "range", .metadata = {1, 2}}}};
    expect_bytes(join, 1,
                 "0001 67 00001000 00002000 0000 0008 636f6e73756d6572  00000001 0005 72616e6765 "
                 "00000002 0102");
    join.group_instance_id = "i";
    join.reason = "r";
    expect_bytes(join, 9,
                 "02 67 00001000 00002000 01 02 69 09 636f6e73756d6572  02 06 72616e6765 03 0102 "
                 "00  02 72  00");

    ConsumerGroupHeartbeatResponse heartbeat{
        .member_id = "m", .member_epoch = 1, .heartbeat_interval_ms = 5000};
    expect_bytes(heartbeat, 0, "00000000 0000 00 02 6d 00000001 00001388  ff  00");
    heartbeat.assignment = ConsumerGroupHeartbeatResponse::Assignment{
        .topic_partitions = {{.topic_id = kTopicId, .partitions = {3}}}};
    expect_bytes(heartbeat, 0,
                 "00000000 0000 00 02 6d 00000001 00001388"
                 "  01 02 000102030405060708090a0b0c0d0e0f 02 00000003 00 00  00");

    expect_bytes(
        ConsumerProtocolSubscription{.topics = {"t"},
                                     .owned_partitions = {{.topic = "t", .partitions = {0}}}},
        1, "00000001 0001 74  ffffffff  00000001 0001 74 00000001 00000000");
}

TEST(GoldenBytes, Topics) {
    CreateTopicsRequest create{.timeout_ms = 0x100, .validate_only = true};
    create.topics = {{.name = "t",
                      .num_partitions = 3,
                      .replication_factor = -1,
                      .configs = {{.name = "a", .value = "b"}}}};
    expect_bytes(create, 4,
                 "00000001 0001 74 00000003 ffff 00000000 00000001 0001 61 0001 62  00000100 01");
    expect_bytes(create, 7, "02 02 74 00000003 ffff 01 02 02 61 02 62 00 00  00000100 01 00");

    expect_bytes(DeleteTopicsRequest{.topic_names = {"a", "b"}, .timeout_ms = 1}, 3,
                 "00000002 0001 61 0001 62  00000001");
    expect_bytes(DeleteTopicsRequest{.topics = {{.topic_id = kTopicId}}, .timeout_ms = 1}, 6,
                 "02 00 000102030405060708090a0b0c0d0e0f 00  00000001 00");
}

TEST(GoldenBytes, InitProducerId) {
    expect_bytes(
        InitProducerIdRequest{.transactional_id = std::nullopt, .transaction_timeout_ms = 0x10}, 0,
        "ffff 00000010");
    expect_bytes(
        InitProducerIdRequest{.transactional_id = std::nullopt, .transaction_timeout_ms = 0x10}, 3,
        "00 00000010 ffffffffffffffff ffff 00");
    expect_bytes(InitProducerIdResponse{.producer_id = 0x100000, .producer_epoch = 2}, 2,
                 "00000000 0000 0000000000100000 0002 00");
}

TEST(TaggedFields, that_are_not_known_are_skipped) {
    // Tags 9 and 300 of an ApiVersionsRequest 3.
    const std::vector<uint8_t> bytes = from_hex("01 01  02  09 02 aabb  ac02 01 cc");
    ByteReader in(bytes);
    const Result<ApiVersionsRequest> request = ApiVersionsRequest::decode(in, 3);
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_TRUE(*request == ApiVersionsRequest{});
}

TEST(TaggedFields, must_keep_their_order_and_their_size) {
    for (const std::string_view hex : {
             "0000 01 00000000  02  01 08 0000000000000007  01 08 0000000000000007",  // twice
             "0000 01 00000000  02  05 00  03 01 01",                                 // backwards
             "0000 01 00000000  01  01 07 00000000000007",      // shorter than an int64
             "0000 01 00000000  01  01 09 000000000000000700",  // longer
             "0000 01 00000000  01  01 7f 0000000000000007",    // beyond the message
             "0000 01 00000000  ffffffff0f",                    // four thousand million of them
         }) {
        const std::vector<uint8_t> bytes = from_hex(hex);
        ByteReader in(bytes);
        EXPECT_FALSE(ApiVersionsResponse::decode(in, 3)) << hex;
    }
}

// As librdkafka 2.12.1 asks for all topics.
TEST(Decoding, lets_bytes_after_a_request_pass) {
    const std::vector<uint8_t> bytes = from_hex("00 00 00 00 000000");
    ByteReader in(bytes);
    const Result<MetadataRequest> request = MetadataRequest::decode(in, 13);
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_FALSE(request->topics.has_value());
}

TEST(Decoding, refuses_what_a_version_forbids) {
    struct Case {
        int16_t version;
        std::string_view hex;
        std::string_view why;
    };
    for (const Case& c : std::initializer_list<Case>{
             {0, "ffffffff", "null where the version forbids it"},
             {1, "fffffffe", "negative length"},
             {1, "7fffffff 0001 74", "length beyond its end"},
             {1, "00000003 0001 74", "counts more elements"},
             {1, "00000001 ffff", "null where the version forbids it"},
             {1, "00000001 0005 74", "length beyond its end"},
             {9, "8180808010", "ends early"},  // a varint of more than 32 bits
         }) {
        const std::vector<uint8_t> bytes = from_hex(c.hex);
        ByteReader in(bytes);
        const Result<MetadataRequest> request = MetadataRequest::decode(in, c.version);
        ASSERT_FALSE(request) << c.hex;
        EXPECT_NE(request.error().message.find(c.why), std::string::npos)
            << c.hex << ": " << request.error().message;
        EXPECT_EQ(request.error().code, ErrorCode::kMalformed);
    }
}

TEST(Encoding, refuses_what_a_version_has_no_place_for) {
    struct Case {
        MetadataRequest request;
        int16_t version;
        std::string_view why;
    };
    MetadataRequest by_id{.topics = {{{.topic_id = kTopicId, .name = std::nullopt}}}};
    for (const Case& c : std::initializer_list<Case>{
             {{.topics = std::nullopt}, 0, "MetadataRequest.topics can't be null in version 0"},
             {{.allow_auto_topic_creation = false},
              3,
              "MetadataRequest.allow_auto_topic_creation has no place in version 3"},
             {by_id, 9, "MetadataRequest.topics.name can't be null in version 9"},
             {{.topics = {{{.name = std::string(40000, 'x')}}}},
              9,
              "MetadataRequest.topics.name is too long in version 9"},
         }) {
        ByteWriter out;
        const Result<void> encoded = c.request.encode(out, c.version);
        ASSERT_FALSE(encoded) << c.why;
        EXPECT_EQ(encoded.error().message, c.why);
    }
    // An error's text is cut, between two characters of UTF-8.
    for (const size_t before : {size_t{0}, kErrorTextMax - 1, kErrorTextMax - 2}) {
        IncrementalAlterConfigsResponse response;
        std::string text(before, 'x');
        for (int i = 0; i < 20'000; ++i) text += "\u00e9";
        response.responses.push_back(
            {.error_message = text, .resource_name = text.substr(0, 30'000)});
        ByteWriter encoded;
        ASSERT_TRUE(response.encode(encoded, 1));
        const std::vector<uint8_t> bytes = encoded.flatten();
        ByteReader in(bytes);
        const auto decoded = IncrementalAlterConfigsResponse::decode(in, 1);
        ASSERT_TRUE(decoded);
        const std::string& cut = *decoded->responses.at(0).error_message;
        EXPECT_GE(cut.size(), kErrorTextMax - 1);
        EXPECT_LE(cut.size(), kErrorTextMax);
        EXPECT_EQ((cut.size() - std::min(before, cut.size())) % 2, 0u);
        EXPECT_EQ(decoded->responses.at(0).resource_name.size(), 30'000u) << "names are not";
    }
    // But what the schema calls ignorable is left out.
    ByteWriter out;
    EXPECT_TRUE(MetadataResponse{.throttle_time_ms = 5}.encode(out, 0));
}

TEST(Records, are_views_when_decoded_and_external_when_encoded) {
    ProduceRequest request;
    request.topic_data = {
        {.name = "t", .partition_data = {{.index = 0, .records = {.parts = {kBatch}}}}}};
    ByteWriter out;
    ASSERT_TRUE(request.encode(out, 9));
    ASSERT_EQ(out.externals().size(), 1u);
    EXPECT_EQ(out.externals()[0].bytes.data(), kBatch);

    const std::vector<uint8_t> frame = out.flatten();
    ByteReader in(frame);
    const Result<ProduceRequest> back = ProduceRequest::decode(in, 9);
    ASSERT_TRUE(back);
    const Records& records = back->topic_data[0].partition_data[0].records;
    ASSERT_EQ(records.parts.size(), 1u);
    EXPECT_GE(records.parts[0].data(), frame.data());
    EXPECT_LE(records.parts[0].data() + records.parts[0].size(), frame.data() + frame.size());
}

TEST(Records, are_equal_however_they_are_cut) {
    const Records whole{.parts = {kBatch}};
    const Records cut{.parts = {Bytes(kBatch).first(1), {}, Bytes(kBatch).subspan(1)}};
    EXPECT_TRUE(whole == cut);
    EXPECT_TRUE(cut == whole);
    EXPECT_FALSE(whole == Records{});
    EXPECT_FALSE(Records{} == Records{.null = true});
    constexpr uint8_t kOther[] = {0xca, 0xfe, 0xbb};
    EXPECT_FALSE(whole == Records{.parts = {kOther}});
}

}  // namespace
}  // namespace weir::kafka

#include "cluster/wire.h"

#include <gtest/gtest.h>

#include "cluster/features.h"

namespace weir::cluster {
namespace {

template <class T, class Decode>
void comes_back(const T& value, Decode decode) {
    const std::vector<uint8_t> bytes = encode(value);
    const auto decoded = decode(Bytes(bytes));
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(*decoded, value);
    for (size_t size = 0; size < bytes.size(); ++size) {
        const auto cut = decode(Bytes(bytes).first(size));
        EXPECT_FALSE(cut) << size << " of " << bytes.size();
    }
}

TEST(ClusterWire, everything_comes_back_as_it_was_and_every_cut_is_told) {
    comes_back(RegisterRequest{.passed_on = true,
                               .is_member = true,
                               .node = {.id = 3,
                                        .uuid = Uuid::random(1, 2),
                                        .epoch = 4,
                                        .rpc = {"h", 9700},
                                        .kafka = {"k", 9092},
                                        .rack = "a",
                                        .shards = 2,
                                        .features = supported_features()}},
               decode_register_request);
    RegisterRequest joining;
    joining.node = {.id = -1, .uuid = Uuid::random(1, 2), .epoch = 1, .rpc = {"h", 1}};
    joining.node.kafka = {"k", 0};
    comes_back(joining, decode_register_request);
    comes_back(RegisterReply{.cluster_id = Uuid::random(3, 4),
                             .node_id = 7,
                             .committed_end = 1'000'000'000'000,
                             .members = {{1, {"h1", 9700}}, {7, {"h7", 9701}}}},
               decode_register_reply);
    comes_back(LeaderUpdateReply{.incarnation = UINT64_MAX, .after = 1, .upto = 2},
               decode_leader_update_reply);
    comes_back(TransferRequest{.log = {77}, .target = 3}, decode_transfer_request);
    comes_back(AdminCall{"POST", "/v1/cluster/decommission/4", "a=b"}, decode_admin_call);
    comes_back(AdminReply{404, R"({"error": "no"})"}, decode_admin_reply);
    comes_back(ProgressMap{{{5}, {.high_watermark = 10, .lag = {{1, 0}, {2, 400}}}},
                           {{6}, {.high_watermark = -1, .lag = {}}}},
               decode_progress);
    const MetadataShard::ReplicasReport report{Uuid::random(5, 6), 2, 9};
    const auto decoded = decode_replicas_report(encode(report));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->topic, report.topic);
    EXPECT_EQ(decoded->partition, 2u);
    EXPECT_EQ(decoded->revision, 9u);
    EXPECT_EQ(*decode_i64(encode_i64(-5)), -5);
    EXPECT_FALSE(decode_i64(Bytes{}));
}

}  // namespace
}  // namespace weir::cluster

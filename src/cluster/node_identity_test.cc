#include "cluster/node_identity.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace weir::cluster {
namespace {

using Stage = NodeIdentity::Stage;

Uuid uuid_of(uint64_t n) { return Uuid::random(n, n * 31); }

NodeIdentity founder_identity() {
    NodeIdentity identity{.uuid = uuid_of(2), .stage = Stage::kPromised, .node_id = 2};
    identity.founding = {{"h1:9700", uuid_of(1), 1}, {"h2:9700", uuid_of(2), 2}};
    identity.cluster_id = cluster_id_of(identity.founding);
    return identity;
}

TEST(NodeIdentity, each_stage_comes_back_as_it_was) {
    NodeIdentity member = founder_identity();
    member.stage = Stage::kMember;
    const NodeIdentity joined{
        .uuid = uuid_of(3), .stage = Stage::kMember, .cluster_id = member.cluster_id, .node_id = 7};
    NodeIdentity own = joined;
    own.own = true;
    for (const NodeIdentity& identity :
         {NodeIdentity{.uuid = uuid_of(9)}, founder_identity(), member, joined, own}) {
        const std::string text = encode_node_identity(identity);
        EXPECT_LE(text.size(), kNodeIdentityBytesMax);
        const auto decoded = decode_node_identity(text);
        ASSERT_TRUE(decoded) << decoded.error().to_string() << "\n" << text;
        EXPECT_EQ(*decoded, identity);
    }
}

TEST(NodeIdentity, the_file_is_the_one_in_the_docs) {
    // docs/formats/node-identity.md, the worked example.
    const std::string expected =
        "weir-node 1\n"
        "uuid AAAAAAAAQAKAAAAAAAAAPg\n"
        "stage member\n"
        "cluster B-q-ZAMQScaT99cZTA6lZw\n"
        "node 2\n"
        "founder 1 AAAAAAAAQAGAAAAAAAAAHw h1:9700\n"
        "founder 2 AAAAAAAAQAKAAAAAAAAAPg h2:9700\n"
        "crc 2584ef19\n";
    NodeIdentity member = founder_identity();
    member.stage = Stage::kMember;
    EXPECT_EQ(encode_node_identity(member), expected);
}

TEST(NodeIdentity, every_changed_byte_and_every_cut_is_told) {
    const std::string whole = encode_node_identity(founder_identity());
    for (size_t size = 0; size < whole.size(); ++size)
        EXPECT_FALSE(decode_node_identity(whole.substr(0, size))) << size;
    EXPECT_FALSE(decode_node_identity(whole + "\n"));
    EXPECT_FALSE(decode_node_identity(whole + whole));
    Prng prng(1);
    for (size_t at = 0; at < whole.size(); ++at) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ (1 << prng.below(7)));
        // Upper-case hex is the same checksum.
        if (const auto decoded = decode_node_identity(changed))
            EXPECT_EQ(*decoded, founder_identity()) << at;
    }
}

TEST(NodeIdentity, what_has_a_good_checksum_and_can_not_be_is_refused) {
    const auto refused = [](auto change) {
        NodeIdentity identity = founder_identity();
        change(identity);
        return !decode_node_identity(encode_node_identity(identity));
    };
    EXPECT_FALSE(refused([](auto&) {}));
    EXPECT_TRUE(refused([](auto& identity) { identity.founding.clear(); }));  // promised what?
    EXPECT_TRUE(refused([](auto& identity) { identity.node_id = 1; }));
    EXPECT_TRUE(refused([](auto& identity) { identity.uuid = uuid_of(8); }));
    EXPECT_TRUE(refused([](auto& identity) { identity.cluster_id = uuid_of(8); }));
    EXPECT_TRUE(refused([](auto& identity) {
        std::swap(identity.founding[0], identity.founding[1]);
        identity.cluster_id = cluster_id_of(identity.founding);
    }));
    EXPECT_TRUE(refused([](auto& identity) {
        identity.founding[0].node_id = 2;
        identity.cluster_id = cluster_id_of(identity.founding);
    }));
    EXPECT_TRUE(refused([](auto& identity) {
        identity.founding[0].uuid = uuid_of(2);
        identity.cluster_id = cluster_id_of(identity.founding);
    }));
    EXPECT_TRUE(refused([](auto& identity) {
        identity.founding[0].rpc = "h1 9700";
        identity.cluster_id = cluster_id_of(identity.founding);
    }));
    EXPECT_TRUE(refused([](auto& identity) {
        while (identity.founding.size() <= kSeedsMax) {
            const auto next = static_cast<int32_t>(identity.founding.size()) + 1;
            identity.founding.push_back(
                {"h3:" + std::to_string(100 + next), uuid_of(static_cast<uint64_t>(next)), next});
        }
        identity.cluster_id = cluster_id_of(identity.founding);
    }));
}

TEST(NodeIdentity, any_difference_of_the_founders_is_another_cluster) {
    const Founding founding = founder_identity().founding;
    const Uuid id = cluster_id_of(founding);
    EXPECT_EQ(cluster_id_of(founding), id);
    const auto differs = [&](auto change) {
        Founding other = founding;
        change(other);
        return cluster_id_of(other) != id;
    };
    EXPECT_TRUE(differs([](Founding& other) { other[0].uuid = uuid_of(3); }));
    EXPECT_TRUE(differs([](Founding& other) { other[0].node_id = 3; }));
    EXPECT_TRUE(differs([](Founding& other) { other[1].rpc = "h2:9701"; }));
    EXPECT_TRUE(differs([](Founding& other) { other.pop_back(); }));
}

}  // namespace
}  // namespace weir::cluster

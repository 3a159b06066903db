// The admin API over a controller that is a cluster of its own, of nodes 0 (itself) and 1 to 3,
// which are what the metadata says of them.
#include "broker/admin_api.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cluster/features.h"
#include "cluster/test_controller.h"

namespace weir::broker {
namespace {

using cluster::MetadataRecord;
using cluster::TestController;
using runtime::Task;

class AdminApiTest : public testing::Test {
  protected:
    AdminApiTest() {
        EXPECT_TRUE(loop.run(node.start()));
        std::vector<MetadataRecord> records;
        records.emplace_back(cluster::FeatureFinalized{std::string(cluster::kWeirVersion), 1});
        for (int32_t id = 0; id <= 3; ++id) {
            records.emplace_back(
                cluster::NodeRegistered{.id = id,
                                        .uuid = Uuid::random(static_cast<uint64_t>(id), 7),
                                        .epoch = 1,
                                        .rpc = {"h", 9700},
                                        .kafka = {"h", 9092},
                                        .features = cluster::supported_features()});
        }
        records.emplace_back(
            cluster::TopicCreated{"t", Uuid::random(9, 9), {{{701}, {0, 1}}, {{702}, {1, 2}}}, {}});
        EXPECT_TRUE(loop.run(commit(node.controller.get(), std::move(records))));
        ClusterLink::Options options;
        options.identity.node_id = 0;
        for (uint32_t i = 0; i < TestController::kShards; ++i) {
            options.shards.push_back({.endpoint = nullptr,
                                      .metadata = node.shards[i].get(),
                                      .replicator = i == 0 ? node.replicator.get() : nullptr});
        }
        options.controller = node.controller.get();
        link = std::make_unique<ClusterLink>(std::move(options));
        loop.run(link->start());
        api = std::make_unique<AdminApi>(*node.controller, *link, cluster::NodeHealth{},
                                         std::vector<std::string>{"node-0"});
    }
    ~AdminApiTest() override {
        loop.run(link->close());
        loop.run(node.stop());
    }
    static Task<Result<void>> commit(cluster::Controller* controller,
                                     std::vector<MetadataRecord> records) {
        const auto lock = co_await runtime::try_(controller->lock({}));
        co_return co_await controller->commit(std::move(records));
    }
    // Status, and the answer.
    std::pair<int, nlohmann::json> call(std::string method, std::string path,
                                        std::string query = "") {
        http::Request request;
        request.method = std::move(method);
        request.path = std::move(path);
        request.query = std::move(query);
        request.from = from;
        const http::Response response = loop.run(api->answer(std::move(request)));
        return {response.status, nlohmann::json::parse(response.body)};
    }
    // Status, and whether a sentence says why.
    int refused(std::string path, std::string query = "") {
        const auto [status, body] = call("POST", std::move(path), std::move(query));
        EXPECT_TRUE(body.contains("error") && !body["error"].get<std::string>().empty()) << body;
        return status;
    }
    const cluster::MetadataImage& image() { return node.controller->image(); }

    runtime::TestLoop loop{TestController::kShards};
    storage::MemoryStoreSet stores{TestController::kShards};
    TestController node{stores};
    std::unique_ptr<ClusterLink> link;
    std::unique_ptr<AdminApi> api;
    http::Provenance from{
        .host = "127.0.0.1:9644", .origin = "", .content_type = "application/json"};
};

// A page of another site, or one whose name was made to point here, may have a browser send it.
TEST_F(AdminApiTest, nothing_is_changed_or_told_for_a_page_of_another_origin) {
    const std::string path = "/v1/cluster/maintenance/1/on";
    from.origin = "http://evil.example";
    EXPECT_EQ(call("POST", path).first, 403);
    EXPECT_EQ(call("GET", "/v1/cluster/members").first, 403);
    from.host = "evil.example";
    EXPECT_EQ(call("POST", path).first, 403);
    from.origin = "";
    EXPECT_EQ(call("POST", path).first, 403);
    EXPECT_EQ(call("GET", "/v1/cluster/members").first, 403);
    from.host = "127.0.0.1:9644";
    from.content_type = "text/plain";
    EXPECT_EQ(call("POST", path).first, 415);
    EXPECT_EQ(image().find_node(1)->state, cluster::NodeState::kActive);
    EXPECT_EQ(call("GET", "/v1/cluster/members").first, 200);
    from = {
        .host = "node-0:9644", .origin = "http://node-0:9644", .content_type = "application/json"};
    EXPECT_EQ(call("POST", path).first, 200);
    EXPECT_EQ(image().find_node(1)->state, cluster::NodeState::kDraining);
}

TEST_F(AdminApiTest, paths_that_are_none_are_not_found) {
    for (const char* path :
         {"/", "/v1/", "/v1/cluster", "/v1/cluster/decommission", "/v1/cluster/decommission/",
          "/v1/cluster/decommission/x", "/v1/cluster/decommission/-1",
          "/v1/cluster/decommission/1/2", "/v1/cluster/decommission/99999999999",
          "/v1/cluster/maintenance/1", "/v1/cluster/maintenance/1/perhaps",
          "/v1/cluster/maintenance/1x/on", "/v1/cluster/features/weir.version",
          "/v1/cluster/features/weir.version/x", "/v1/partitions/t/0", "/v1/partitions/t/x/move",
          "/v1/partitions/t/-1/move", "/v1/partitions/t/0/move/on", "/v1/cluster/health"})
        EXPECT_EQ(refused(path, "replicas=1"), 404) << path;
    EXPECT_EQ(call("GET", "/v1/cluster/nothing").first, 404);
    EXPECT_EQ(call("PUT", "/v1/cluster/decommission/1").first, 404);
    EXPECT_EQ(call("GET", "/v1/partitions", "topic=nowhere").first, 404);
}

TEST_F(AdminApiTest, bytes_that_are_no_text_are_answered_too) {
    EXPECT_EQ(call("GET", "/v1/partitions", "topic=\xff\xfe").first, 404);
    EXPECT_EQ(refused("/v1/partitions/\xff/0/move", "replicas=1"), 404);
    EXPECT_EQ(refused("/v1/cluster/features/\xff/1"), 400);
    std::vector<MetadataRecord> records;
    cluster::NodeRegistered again = image().find_node(1)->info;
    ++again.epoch;
    again.rack = "\xff";
    records.emplace_back(std::move(again));
    ASSERT_TRUE(loop.run(commit(node.controller.get(), std::move(records))));
    EXPECT_EQ(call("GET", "/v1/cluster/members").first, 200);
    EXPECT_EQ(call("GET", "/v1/cluster/health").first, 200);
}

TEST_F(AdminApiTest, what_is_there_is_told) {
    EXPECT_EQ(call("GET", "/v1/cluster/members").second["members"].size(), 4u);
    EXPECT_EQ(call("GET", "/v1/cluster/health").second["nodes"].size(), 4u);
    EXPECT_EQ(call("GET", "/v1/partitions").second.size(), 2u);
    EXPECT_EQ(call("GET", "/v1/partitions", "a=b&topic=t&c").second.size(), 2u);
    const auto [status, features] = call("GET", "/v1/cluster/features");
    EXPECT_EQ(status, 200);
    EXPECT_EQ(features[0]["feature"], "weir.version");
    EXPECT_EQ(features[0]["finalized"], 1);
    EXPECT_GE(features[0]["levels"].size(), 2u);
}

TEST_F(AdminApiTest, a_move_needs_a_list_of_nodes) {
    const std::string path = "/v1/partitions/t/0/move";
    for (const char* query :
         {"", "replicas", "replicas=", "replicas=,", "replicas=a", "replicas=1,b", "replicas=1;2",
          "replicas=-1", "other=1", "replicas=4711", "replicas=1,1", "replicas=99999999999"})
        EXPECT_EQ(refused(path, query), 400) << query;
    EXPECT_EQ(refused("/v1/partitions/nowhere/0/move", "replicas=1"), 404);
    EXPECT_EQ(refused("/v1/partitions/t/2/move", "replicas=1"), 404);
    EXPECT_TRUE(image().find("t")->partitions[0].target.empty());
    EXPECT_EQ(call("POST", path, "replicas=2,3").first, 200);
    EXPECT_EQ(image().find("t")->partitions[0].target, (std::vector<int32_t>{2, 3}));
    EXPECT_EQ(call("POST", path, "replicas=2,3").first, 200);  // again
}

TEST_F(AdminApiTest, a_transfer_needs_a_leader_and_a_replica) {
    const std::string path = "/v1/partitions/t/0/transfer-leader";
    for (const char* query : {"", "to=", "to=x", "to=3"}) EXPECT_EQ(refused(path, query), 400);
    EXPECT_EQ(refused("/v1/partitions/t/9/transfer-leader", "to=1"), 404);
    EXPECT_EQ(refused(path, "to=1"), 409);  // nobody leads
    node.shards[0]->leaders().learn({.log = {701}, .leader = 1, .epoch = 3, .in_sync = {0, 1}});
    EXPECT_EQ(call("POST", path, "to=1").first, 200);
    EXPECT_EQ(refused(path, "to=0"), 409);  // it can't be asked
}

TEST_F(AdminApiTest, nodes_and_features_change_where_the_rules_allow_it) {
    EXPECT_EQ(refused("/v1/cluster/maintenance/7/on"), 404);
    EXPECT_EQ(call("POST", "/v1/cluster/maintenance/1/on").first, 200);
    EXPECT_EQ(image().find_node(1)->state, cluster::NodeState::kDraining);
    EXPECT_EQ(call("POST", "/v1/cluster/maintenance/1/off").first, 200);
    EXPECT_EQ(image().find_node(1)->state, cluster::NodeState::kActive);
    EXPECT_EQ(refused("/v1/cluster/decommission/7"), 404);
    // All but the node itself are dead, as it sees them: nobody can take a replica.
    EXPECT_EQ(refused("/v1/cluster/decommission/1"), 400);
    EXPECT_EQ(call("POST", "/v1/cluster/features/weir.version/1").first, 200);  // it is so already
    EXPECT_EQ(refused("/v1/cluster/features/weir.version/0"), 400);
    EXPECT_EQ(refused("/v1/cluster/features/weir.version/99"), 400);
    EXPECT_EQ(refused("/v1/cluster/features/other/1"), 400);
}

}  // namespace
}  // namespace weir::broker

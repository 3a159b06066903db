// The controller as the state machine of the metadata log; what it decides has tests of its own
// (topic_admin_test.cc and others).
#include "cluster/controller.h"

#include <gtest/gtest.h>

#include "cluster/test_controller.h"
#include "cluster/topic_admin.h"

namespace weir::cluster {
namespace {

struct ControllerTest : testing::Test {
    ControllerTest() {
        EXPECT_TRUE(loop.run(node.start()));
        EXPECT_TRUE(loop.run(create_topics(
            *node.controller, {{.name = "a", .partitions = 4, .replication_factor = 1}}, false,
            {}))[0]
                        .error.ok());
    }
    ~ControllerTest() override { loop.run(node.stop()); }

    runtime::TestLoop loop{TestController::kShards};
    storage::MemoryStoreSet stores{TestController::kShards};
    TestController node{stores};
};

// Cluster seed 33000130: a replica whose metadata log was damaged fetched it again. Its image began
// with nothing, and the logs of all its partitions were removed until it named them once more.
TEST_F(ControllerTest, a_metadata_log_that_begins_anew_takes_no_partition_away) {
    int logs_removed = 0;
    for (uint32_t i = 0; i < TestController::kShards; ++i) {
        node.shards[i]->set_hooks(
            {.create_logs = [](std::vector<NewLog>) -> runtime::Task<Result<void>> {
                 co_return Result<void>{};
             },
             .remove_logs = [&](std::vector<storage::LogId> ids) -> runtime::Task<void> {
                 logs_removed += static_cast<int>(ids.size());
                 co_return;
             },
             .changed = {}});
    }
    const MetadataImage before = node.shards[1]->image();
    const int64_t applied = node.controller->applied();
    // As the group does with a log that it fetches again. The base is the group's alone.
    auto& machine = (replication::StateMachine&)*node.controller;
    ASSERT_TRUE(machine.recover({}, {0, 0}, {}));
    EXPECT_EQ(machine.capture().floor_offset, 0);
    EXPECT_NE(node.controller->image().find("a"), nullptr) << "what others are asked about";
    loop.run([](replication::StateMachine* log, int64_t end) -> runtime::Task<void> {
        while (log->capture().floor_offset < end) co_await runtime::yield();
        for (int i = 0; i < 100; ++i) co_await runtime::yield();
    }(&machine, applied));
    EXPECT_EQ(logs_removed, 0);
    EXPECT_EQ(node.shards[1]->image().to_records(), before.to_records());
    // And it goes on from there.
    EXPECT_TRUE(loop.run(create_topics(
        *node.controller, {{.name = "b", .partitions = 1, .replication_factor = 1}}, false, {}))[0]
                    .error.ok());
    EXPECT_NE(node.shards[2]->image().find("b"), nullptr);
}

}  // namespace
}  // namespace weir::cluster

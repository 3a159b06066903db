// What a node makes of its data directory, on the simulated disk.
#include "broker/membership.h"

#include <gtest/gtest.h>

#include "replication/wire.h"
#include "runtime/sim/world.h"
#include "storage/memory/memory_store.h"

namespace weir::broker {
namespace {

using runtime::Shard;
using runtime::Task;

class MembershipTest : public testing::Test {
  protected:
    // What load() says of a directory that lacks the file, and whose metadata log holds `entries`
    // of term 1 and has `voters` for its first members.
    Result<void> load(std::vector<int32_t> voters, int entries, Membership::Options options) {
        Result<void> result;
        sim::World world{{.plan = {.seed = 3}}};
        sim::Node& node = world.add_node({.name = "n", .shards = 1});
        bool done = false;
        world.start(node, [&](Shard&) -> Task<void> {
            return run(this, std::move(voters), entries, std::move(options), &result, &done);
        });
        EXPECT_EQ(world.run_until([&] { return done; }, 10s), sim::World::Outcome::kDone);
        world.kill(node, sim::Kill::kProcess);
        return result;
    }
    static Task<void> run(MembershipTest* test, std::vector<int32_t> voters, int entries,
                          Membership::Options options, Result<void>* result, bool* done) {
        storage::MemoryStore store;
        storage::Log* log = *co_await store.create_log(storage::kMetadataLog, {});
        if (!voters.empty()) {
            replication::KeptConfig kept;
            raft::Configuration members;
            for (const int32_t voter : voters)
                members.members.push_back({.node = NodeId{voter}, .voter = true});
            kept.configuration.emplace(raft::ConfigurationAt{{0, 0}, std::move(members)});
            EXPECT_TRUE(co_await log->save_group_config(replication::encode_kept(kept)));
        }
        for (int i = 0; i < entries; ++i) {
            storage::Entry entry;
            entry.info.first = log->end();
            entry.info.next_offset = log->end().offset + 1;
            entry.info.term = 1;
            entry.payload = runtime::SharedBytes::copy_of(as_bytes("entry"));
            EXPECT_TRUE(log->append(std::move(entry)));
        }
        Membership membership(std::move(options));
        *result = co_await membership.load(log);
        test->is_new_own = membership.is_new_own();
        test->node_id = membership.identity().node_id;
        *done = true;
    }

    bool is_new_own = false;
    int32_t node_id = -1;
};

// The only voter is on stable storage first, the cluster's id in the log next, the file last.
TEST_F(MembershipTest, a_first_start_that_a_power_cut_ended_goes_on) {
    const Membership::Options options{.data = "/data", .rpc = {}, .seeds = {}, .node_id = {}};
    for (const int entries : {0, 1}) {
        const auto loaded = load({0}, entries, options);
        EXPECT_TRUE(loaded) << loaded.error().to_string();
        EXPECT_TRUE(is_new_own);
    }
    EXPECT_TRUE(load({}, 0, options)) << "nothing was there";
    // The id is the one that the first start was given.
    EXPECT_TRUE(load({7}, 1, options));
    EXPECT_EQ(node_id, 7);
    Membership::Options another = options;
    another.node_id = 8;
    EXPECT_EQ(load({7}, 1, another).error().message,
              "--node-id 8: this data directory is node 7's");
}

TEST_F(MembershipTest, a_node_that_lost_its_file_does_not_found_a_cluster) {
    const Membership::Options options{.data = "/data", .rpc = {}, .seeds = {}, .node_id = {}};
    EXPECT_EQ(load({0}, 2, options).error().code, ErrorCode::kCorrupt) << "it made a topic";
    EXPECT_EQ(load({1, 2, 3}, 1, options).error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(load({1, 2, 3}, 5, options).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace weir::broker

#include "storage/history.h"

#include "storage/test_store.h"

namespace weir::storage {
namespace {

TEST(History, the_bytes_of_the_documentation) {
    const std::string text = encode_history({.id = 0x1234abcd5678ef90, .stopped = true});
    EXPECT_EQ(text, "weir-history 1\nid 1234abcd5678ef90\nstopped yes\ncrc 52a2d5b3\n");
    const History history = must(parse_history(text));
    EXPECT_EQ(history.id, 0x1234abcd5678ef90u);
    EXPECT_TRUE(history.stopped);
    EXPECT_FALSE(must(parse_history(encode_history({.id = 1, .stopped = false}))).stopped);
}

TEST(History, what_is_damaged_is_refused) {
    const std::string text = encode_history({.id = 0x1234abcd5678ef90, .stopped = true});
    for (size_t i = 0; i < text.size(); ++i) {
        std::string damaged = text;
        damaged[i] = static_cast<char>(damaged[i] ^ 1);
        EXPECT_FALSE(parse_history(damaged)) << i;
        EXPECT_FALSE(parse_history(text.substr(0, i))) << i;
    }
    EXPECT_FALSE(parse_history(text + "\n"));
    EXPECT_FALSE(parse_history(encode_history({.id = 0, .stopped = true})));
}

class HistoryTest : public testing::Test {
  protected:
    // What the store says in one life, which ends in that way.
    enum class End : uint8_t { kOrderly, kKilled, kPowerCut, kFailed };
    uint64_t live(End end) {
        uint64_t history = 0;
        bool done = false;
        world.start(node, [&](Shard&) -> Task<void> {
            StoreOptions options{.directory = "/data", .memory = &memory};
            options.on_fatal = [](const Error&) {};
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
            Store& store = set->local();
            history = store.history();
            Log* log = store.find({7});
            if (log == nullptr) log = must(co_await store.create_log({7}, {.retention_ms = -1}));
            if (end == End::kFailed) node.disk_faults().sync_error_chance = 1;
            const auto durable = co_await append_durably(log, make_entry(*log, 100));
            EXPECT_EQ(durable.has_value(), end != End::kFailed);
            node.disk_faults().sync_error_chance = 0;
            if (end == End::kOrderly || end == End::kFailed) co_await set->close();
            done = true;
            if (end == End::kKilled || end == End::kPowerCut) (void)co_await runtime::sleep_for(1h);
        });
        CHECK(world.run_until([&] { return done; }, 10min) == sim::World::Outcome::kDone);
        if (end == End::kKilled) {
            world.kill(node, sim::Kill::kProcess);
        } else if (end == End::kPowerCut) {
            world.kill(node, sim::Kill::kPower);
        } else {
            CHECK(world.run_until([&] { return node.finished(); }, 1min) ==
                  sim::World::Outcome::kDone);
            world.reap(node);
        }
        return history;
    }

    sim::World world{{.plan = sim::Plan{.seed = 1}}};
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory{64_MiB};
};

TEST_F(HistoryTest, goes_on_over_orderly_stops_alone) {
    const uint64_t first = live(End::kOrderly);
    EXPECT_NE(first, 0u);
    EXPECT_EQ(live(End::kOrderly), first);
    EXPECT_EQ(live(End::kKilled), first);
    const uint64_t second = live(End::kPowerCut);
    EXPECT_NE(second, first);
    const uint64_t third = live(End::kOrderly);
    EXPECT_NE(third, second);
    EXPECT_EQ(live(End::kFailed), third) << "it closed, but a flush had failed";
    EXPECT_NE(live(End::kOrderly), third);
}

}  // namespace
}  // namespace weir::storage

#include "storage/losses.h"

#include "storage/test_store.h"

namespace weir::storage {
namespace {

TEST(Losses, the_bytes_of_the_documentation) {
    const LossMap logs{{LogId{7}, false}, {LogId{0x1f}, false}};
    const std::string text = encode_losses(logs);
    EXPECT_EQ(text, "weir-losses 1\nlog 0000000000000007\nlog 000000000000001f\ncrc a660d1c4\n");
    EXPECT_EQ(must(parse_losses(text)), logs);
}

TEST(Losses, what_is_damaged_is_refused) {
    const std::string text = encode_losses({{LogId{7}, false}, {LogId{0x1f}, true}});
    EXPECT_EQ(must(parse_losses(text)), (LossMap{{LogId{7}, false}, {LogId{0x1f}, true}}));
    for (size_t i = 0; i < text.size(); ++i) {
        std::string damaged = text;
        damaged[i] = static_cast<char>(damaged[i] ^ 1);
        EXPECT_FALSE(parse_losses(damaged)) << i;
        EXPECT_FALSE(parse_losses(text.substr(0, i))) << i;
    }
}

TEST(Losses, a_log_says_that_it_may_lack_entries_until_it_was_confirmed_over_restarts) {
    sim::World world({.log_sink = Logger::Sink(), .log_level = LogLevel::kTrace});
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory(64_MiB);
    for (int life = 0; life < 3; ++life) {
        bool done = false;
        world.start(node, [&](Shard&) -> Task<void> {
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(small_options(&memory)));
            Store& store = set->local();
            if (life == 0) {
                must(co_await store.create_log({7}, {.retention_ms = -1}));
                must(co_await store.create_log({8}, {.retention_ms = -1}));
                EXPECT_FALSE(store.find({7})->may_have_lost());
                must(co_await Losses::store("/data/shards-1/0",
                                            {{LogId{7}, false}, {LogId{9}, false}}));
            } else {
                EXPECT_EQ(store.find({7})->may_have_lost(), life == 1);
                EXPECT_FALSE(store.find({8})->may_have_lost());
                EXPECT_EQ(store.metrics().logs_with_loss, life == 1 ? 1u : 0u);
                must(co_await store.find({7})->confirm_whole());
                EXPECT_EQ(store.metrics().logs_with_loss, 0u);
            }
            done = true;
            (void)co_await runtime::sleep_for(1h);
        });
        CHECK(world.run_until([&] { return done; }, 10min) == sim::World::Outcome::kDone);
        world.kill(node, sim::Kill::kPower);
    }
}

}  // namespace
}  // namespace weir::storage

#include "storage/mend.h"

#include <fmt/format.h>

#include "storage/shard_store.h"
#include "storage/test_store.h"

namespace weir::storage {
namespace {

constexpr char kShard[] = "/data/shards-1/0";

struct Life {
    sim::World world{{.log_sink = Logger::Sink(), .log_level = LogLevel::kTrace}};
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory{64_MiB};
    std::vector<std::unique_ptr<StoreSet>>* left = nullptr;  // what runs until the node is killed

    template <class F>
    void run(F body) {
        bool done = false;
        world.start(node, [&](Shard&) -> Task<void> {
            std::vector<std::unique_ptr<StoreSet>> running;
            left = &running;
            co_await body();
            done = true;
            (void)co_await runtime::sleep_for(1h);
        });
        CHECK(world.run_until([&] { return done; }, 10min) == sim::World::Outcome::kDone);
        world.kill(node, sim::Kill::kProcess);
    }
    StoreOptions options(bool go_on) {
        StoreOptions options = small_options(&memory);
        options.journal_file_bytes = options.journal_first_file_bytes = 64_KiB;
        options.go_on = go_on;
        return options;
    }
    std::vector<std::string> journal() {
        std::vector<std::string> names;
        std::vector<std::string> files;
        CHECK(node.disk().list(kShard, &names) == 0);
        uint64_t sequence = 0;
        for (const std::string& name : names) {
            if (parse_journal_name(name, &sequence))
                files.push_back(std::string(kShard) + "/" + name);
        }
        std::ranges::sort(files);
        return files;
    }
    void flip(const std::string& file, uint64_t at) {
        const auto inode = node.disk().find(file);
        CHECK(inode != nullptr);
        uint8_t byte = 0;
        CHECK(node.disk().read(*inode, at, {&byte, 1}) == 1);
        byte = static_cast<uint8_t>(byte ^ 4);
        CHECK(node.disk().write(*inode, at, {&byte, 1}) == 1);
    }
    // 40 commits of two logs, the larger one handed over to its segment now and then.
    Task<void> fill(bool with_checkpoint) {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options(false)));
        Store& store = set->local();
        Log* small = must(co_await store.create_log({7}, {.retention_ms = -1}));
        Log* large = must(co_await store.create_log({8}, {.retention_ms = -1}));
        for (int i = 0; i < 40; ++i) {
            must(small->append(make_entry(*small, 100)));
            must(co_await append_durably(large, make_entry(*large, 3'000)));
            if (with_checkpoint && i == 25) must(co_await store.checkpoint());
        }
        must(co_await small->save_hard_state({.term = 5, .voted_for = 2}));
        left->push_back(std::move(set));
    }
};

// Whatever page of the journal is damaged: the shard does not start; mended it has a prefix of each
// log, says that they may lack entries, takes more, and all that is still so after another start.
int check_mended(Life& life, std::string_view what) {
    SCOPED_TRACE(what);
    bool damaged = false;
    life.run([&]() -> Task<void> {
        auto refused = co_await StoreSet::open(life.options(false));
        damaged = !refused;
        if (refused) co_await (*refused)->close();
    });
    if (!damaged) return 0;
    life.run([&]() -> Task<void> {
        OfflineData data = must(co_await OfflineData::open("/data"));
        const ShardDamage damage = must(co_await find_damage(data.shard(0)));
        EXPECT_TRUE(damage.can_be_mended());
        co_await data.close();
    });
    int64_t ends[2] = {};
    life.run([&]() -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(true)));
        for (const LogId id : {LogId{7}, LogId{8}}) {
            Log* log = set->local().find(id);
            if (log == nullptr) log = must(co_await set->local().create_log(id, {}));
            EXPECT_TRUE(log->may_have_lost());
            EXPECT_FALSE(log->loss_accepted());
            EXPECT_LE(log->end().offset, 40);
            must(co_await read_and_check(log, log->start_offset(), log->end().offset));
            for (int i = 0; i < 5; ++i) must(co_await append_durably(log, make_entry(*log, 500)));
            ends[id.v - 7] = log->end().offset;
        }
        life.left->push_back(std::move(set));
    });
    life.run([&]() -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(false)));
        for (const LogId id : {LogId{7}, LogId{8}}) {
            Log* log = set->local().find(id);
            EXPECT_TRUE(log->may_have_lost());
            EXPECT_EQ(log->end().offset, ends[id.v - 7]);
            must(co_await read_and_check(log, log->start_offset(), log->end().offset));
        }
        std::vector<std::string> copies;
        EXPECT_EQ(life.node.disk().list("/data/damaged/shards-1/0", &copies), 0);
        EXPECT_FALSE(copies.empty());
        co_await set->close();
    });
    return 1;
}

TEST(Mend, a_damaged_page_anywhere_in_a_journal_leaves_what_comes_before_it) {
    int damages = 0;
    for (const bool with_checkpoint : {false, true}) {
        for (uint64_t page = 0; page < 48; page += 3) {
            Life life;
            life.run([&] { return life.fill(with_checkpoint); });
            const auto files = life.journal();
            if (page / 16 >= files.size()) continue;
            life.flip(files[page / 16], page % 16 * kPage + 70);
            damages +=
                check_mended(life, fmt::format("page {} checkpoint {}", page, with_checkpoint));
        }
    }
    EXPECT_GE(damages, 10);
}

TEST(Mend, a_journal_file_that_was_cut_short_or_deleted_leaves_what_comes_before_it) {
    int damages = 0;
    for (const bool with_checkpoint : {false, true}) {
        for (size_t file = 0; file < 3; ++file) {
            for (const uint64_t left : {0, 4096, 24'576, 40'001}) {
                Life life;
                life.run([&] { return life.fill(with_checkpoint); });
                const auto files = life.journal();
                if (file >= files.size()) continue;
                if (left == 0) {
                    ASSERT_EQ(life.node.disk().unlink(files[file]), 0);
                } else {
                    const auto inode = life.node.disk().find(files[file]);
                    ASSERT_EQ(life.node.disk().truncate(*inode, left), 0);
                }
                damages += check_mended(life, fmt::format("file {} left {} checkpoint {}", file,
                                                          left, with_checkpoint));
            }
        }
    }
    EXPECT_GE(damages, 10);
}

TEST(Mend, it_may_be_broken_off_anywhere_and_run_again) {
    for (int steps = 1; steps < 60; steps += 4) {
        Life life;
        life.run([&] { return life.fill(true); });
        life.flip(life.journal()[0], 9 * kPage + 70);
        // Ends with the process after so many simulated steps.
        bool started = false;
        life.world.start(life.node, [&](Shard&) -> Task<void> {
            OfflineData data = must(co_await OfflineData::open("/data"));
            ShardDamage damage = must(co_await find_damage(data.shard(0)));
            started = true;
            if (damage.can_be_mended())
                (void)co_await mend(data.shard(0), std::move(damage), {.accepted = true});
            (void)co_await runtime::sleep_for(1h);
        });
        CHECK(life.world.run_until([&] { return started; }, 10min) == sim::World::Outcome::kDone);
        (void)life.world.run_until([] { return false; }, steps * 200us);
        life.world.kill(life.node, sim::Kill::kPower);
        life.run([&]() -> Task<void> {
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(true)));
            for (const LogId id : {LogId{7}, LogId{8}}) {
                Log* log = set->local().find(id);
                EXPECT_TRUE(log->may_have_lost());
                must(co_await read_and_check(log, log->start_offset(), log->end().offset));
            }
            co_await set->close();
        });
    }
}

TEST(Mend, a_directory_in_use_and_one_that_is_none_are_refused) {
    Life life;
    life.run([&]() -> Task<void> {
        EXPECT_FALSE(co_await OfflineData::open("/nothing"));
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(false)));
        const auto used = co_await OfflineData::open("/data");
        EXPECT_FALSE(used);
        if (!used) EXPECT_EQ(used.error().code, ErrorCode::kUnavailable);
        co_await set->close();
    });
}

// The last block is gone, and the checkpoint has what it held. Were its number given out again, the
// next recovery would take the new block for older than the checkpoint.
TEST(Mend, a_journal_that_ends_before_what_its_checkpoint_holds_is_damaged) {
    Life life;
    std::map<std::string, std::vector<uint8_t>> before;
    life.run([&]() -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(false)));
        Log* log = must(co_await set->local().create_log({7}, {.retention_ms = -1}));
        must(co_await set->local().create_log({8}, {.retention_ms = -1}));
        for (int i = 0; i < 3; ++i) must(co_await append_durably(log, make_entry(*log, 100)));
        for (const std::string& file : life.journal()) {
            std::vector<uint8_t> bytes(64_KiB);
            const auto inode = life.node.disk().find(file);
            CHECK(inode != nullptr);
            CHECK(life.node.disk().read(*inode, 0, bytes) == static_cast<int64_t>(bytes.size()));
            before.emplace(file, std::move(bytes));
        }
        must(co_await log->save_hard_state({.term = 5, .voted_for = 2}));
        must(co_await set->local().checkpoint());
        life.left->push_back(std::move(set));
    });
    for (const auto& [file, bytes] : before) {
        CHECK(life.node.disk().write(*life.node.disk().find(file), 0, bytes) ==
              static_cast<int64_t>(bytes.size()));
    }
    life.run([&]() -> Task<void> {
        const auto refused = co_await StoreSet::open(life.options(false));
        CHECK(!refused.has_value());
        EXPECT_NE(refused.error().to_string().find("blocks that were flushed are missing"),
                  std::string::npos)
            << refused.error().to_string();
    });
    EXPECT_EQ(check_mended(life, "the last block"), 1);
}

// The start of the log lies beyond what is whole of it, so that nothing is left; and the journal
// still has what is given up, before what is appended in its place (storage seeds 80000177 and
// 80003234).
TEST(Mend, what_a_log_gave_up_does_not_come_back_in_the_place_of_what_followed) {
    Life life;
    life.run([&]() -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(false)));
        Log* log = must(co_await set->local().create_log({7}, {.retention_ms = -1}));
        // Whose entry keeps the first block needed.
        Log* other = must(co_await set->local().create_log({8}, {.retention_ms = -1}));
        must(co_await append_durably(other, make_entry(*other, 100)));
        Log* third = must(co_await set->local().create_log({9}, {.retention_ms = -1}));
        must(co_await append_durably(third, make_entry(*third, 100)));
        for (int i = 0; i < 15; ++i)
            must(co_await append_durably(log, make_entry(*log, 100, 1, i < 10 ? 1 : 3)));
        must(co_await log->truncate_prefix(12));
        must(co_await append_durably(third, make_entry(*third, 20'000)));
        must(co_await set->local().checkpoint());
        life.left->push_back(std::move(set));
    });
    life.flip(life.journal()[0], 13 * kPage + 70);
    life.run([&]() -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(true)));
        Log* log = set->local().find({7});
        EXPECT_TRUE(log->may_have_lost());
        EXPECT_EQ(log->end(), (Position{0, 0}));
        EXPECT_EQ(log->start_offset(), 0);
        for (int i = 0; i < 8; ++i) must(co_await append_durably(log, make_entry(*log, 200, 4)));
        must(co_await set->local().checkpoint());
        // A log that is gone is in no checkpoint: a replay would see its whole life (81004097).
        Log* third = set->local().find({9});
        must(co_await append_durably(third, make_entry(*third, 200, 4)));
        must(co_await set->local().remove_log({9}));
        must(co_await set->local().checkpoint());
        life.left->push_back(std::move(set));
    });
    life.run([&]() -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(life.options(false)));
        Log* log = set->local().find({7});
        EXPECT_EQ(log->end().offset, 32);
        EXPECT_EQ(must(co_await read_and_check(log, 0, 32)), 8);
        EXPECT_EQ(set->local().find({8})->end().offset, 1);
        co_await set->close();
    });
}

}  // namespace
}  // namespace weir::storage

// What no crash leaves of a shard's files is told at the start, with the place; what a crash leaves
// is not taken for it (store_crash_test.cc, and the simulator). With go_on the shard opens, and its
// logs say that they may lack entries.
#include <fmt/format.h>

#include <functional>

#include "base/crc32c.h"
#include "storage/journal_format.h"
#include "storage/layout.h"
#include "storage/mend.h"
#include "storage/test_store.h"

namespace weir::storage {
namespace {

constexpr char kShard[] = "/data/shards-1/0";
constexpr uint64_t kFileBytes = 64_KiB;

std::string place(const std::string& path, uint64_t at) {
    return fmt::format("{} offset {}", path, at);
}

struct StoreDamage : testing::Test {
    sim::World world{{.log_sink = Logger::Sink(), .log_level = LogLevel::kTrace}};
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory{64_MiB};
    StoreOptions options = small_options(&memory);

    StoreDamage() {
        options.journal_file_bytes = options.journal_first_file_bytes = kFileBytes;
        options.journal_mark_ms = 50;
    }

    // A life that appends so many entries, each a commit of one page, and is killed `pause` later.
    void live(int entries, Duration pause) {
        bool done = false;
        world.start(node, [&](Shard&) -> Task<void> {
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
            Log* log = set->local().find({7});
            if (log == nullptr) log = must(co_await set->local().create_log({7}, {}));
            for (int i = 0; i < entries; ++i)
                must(co_await append_durably(log, make_entry(*log, 100)));
            (void)co_await runtime::sleep_for(pause);
            done = true;
            (void)co_await runtime::sleep_for(1h);
        });
        CHECK(world.run_until([&] { return done; }, 10min) == sim::World::Outcome::kDone);
        world.kill(node, sim::Kill::kPower);
    }
    // The error with which the store does not open; empty if it does.
    std::string open_error() {
        std::string error;
        sim::run_on(world, node, [&](Shard&) -> Task<void> {
            auto set = co_await StoreSet::open(options);
            if (!set) {
                EXPECT_EQ(set.error().code, ErrorCode::kCorrupt);
                error = set.error().to_string();
            } else {
                co_await (*set)->close();
            }
        });
        return error;
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
    std::vector<uint8_t> bytes_of(const std::string& path) {
        const auto inode = node.disk().find(path);
        CHECK(inode != nullptr);
        std::vector<uint8_t> bytes(inode->size);
        CHECK(node.disk().read(*inode, 0, bytes) == static_cast<int64_t>(bytes.size()));
        return bytes;
    }
    std::optional<FileMark> mark_at(const std::string& path, uint32_t slot) {
        const std::vector<uint8_t> bytes = bytes_of(path);
        return decode_file_mark(Bytes(bytes).subspan(mark_offset(bytes.size(), slot), kPage));
    }
    void write(const std::string& path, uint64_t at, Bytes bytes) {
        const auto inode = node.disk().find(path);
        CHECK(inode != nullptr);
        CHECK(node.disk().write(*inode, at, bytes) == static_cast<int64_t>(bytes.size()));
    }
    void flip(const std::string& path, uint64_t at) {
        const uint8_t byte = bytes_of(path)[at] ^ 4;
        write(path, at, {&byte, 1});
    }
    void zero(const std::string& path, uint64_t from, uint64_t to) {
        write(path, from, std::vector<uint8_t>(to - from));
    }
    void replace(const std::string& path, const std::vector<uint8_t>& bytes) {
        CHECK(node.disk().truncate(*node.disk().find(path), 0) == 0);
        write(path, 0, bytes);
    }
    // The last file with blocks, and where its last block is.
    std::pair<std::string, uint64_t> last_block() {
        std::pair<std::string, uint64_t> last;
        for (const std::string& file : journal()) {
            const std::vector<uint8_t> bytes = bytes_of(file);
            for (uint64_t at = 0; at < bytes.size(); at += kPage) {
                if (load_le<uint32_t>(bytes.data() + at) == kBlockMagic) last = {file, at};
            }
        }
        return last;
    }
    // It is refused for `why`; with go_on it opens with a prefix, says so, and takes more.
    void expect_told(const std::string& why) {
        const std::string error = open_error();
        EXPECT_NE(error.find(why), std::string::npos) << why << "\n" << error;
        if (error.empty()) return;
        for (const bool go_on : {true, false}) {
            options.go_on = go_on;
            sim::run_on(world, node, [&](Shard&) -> Task<void> {
                auto set = must(co_await StoreSet::open(options));
                Log* log = set->local().find({7});
                if (log == nullptr) log = must(co_await set->local().create_log({7}, {}));
                EXPECT_TRUE(log->may_have_lost());
                must(co_await read_and_check(log, 0, log->end().offset));
                must(co_await append_durably(log, make_entry(*log, 100)));
                co_await set->close();
            });
        }
    }
};

TEST_F(StoreDamage, a_journal_file_that_is_gone_or_empty_is_told_whichever_it_is) {
    for (const bool is_deleted : {true, false}) {
        for (size_t which = 0; which < 3; ++which) {
            node.disk().wipe();
            live(35, 40ms);
            const auto files = journal();
            ASSERT_EQ(files.size(), 4u);
            ASSERT_EQ(last_block().first, files[2]);  // the fourth is made ready, without a block
            if (is_deleted) {
                ASSERT_EQ(node.disk().unlink(files[which]), 0);
                expect_told(files[which] + " is missing");
            } else {
                ASSERT_EQ(node.disk().truncate(*node.disk().find(files[which]), 0), 0);
                expect_told(files[which] + " has 0 bytes");
            }
        }
    }
}

TEST_F(StoreDamage, the_only_journal_file_is_missed_too) {
    live(3, 0s);
    ASSERT_EQ(node.disk().unlink(journal()[0]), 0);
    EXPECT_NE(open_error().find(" is missing, and the checkpoint has it"), std::string::npos);
}

TEST_F(StoreDamage, a_fresh_file_in_the_place_of_one_with_blocks_is_told) {
    live(35, 0s);
    const auto files = journal();
    replace(files[2], std::vector<uint8_t>(kFileBytes));
    expect_told(files[2] + " has 65536 bytes and not its mark");
}

TEST_F(StoreDamage, another_file_of_the_same_journal_in_its_place_is_told) {
    live(35, 0s);
    const auto files = journal();
    replace(files[2], bytes_of(files[1]));
    expect_told(files[2] + " has 65536 bytes and not its mark");
}

TEST_F(StoreDamage, a_journal_that_is_zeros_from_some_block_on_is_told) {
    live(35, 0s);
    const auto files = journal();
    zero(files[2], 2 * kPage, kFileBytes);
    expect_told(files[2] + " has 65536 bytes and not its mark");
}

TEST_F(StoreDamage, blocks_that_a_mark_tells_of_are_missed) {
    live(35, 200ms);
    const auto [file, at] = last_block();
    zero(file, at, block_room(kFileBytes));
    expect_told("its marks tell of block");
}

TEST_F(StoreDamage, a_block_that_a_mark_tells_of_is_missed_although_blocks_come_without_a_pause) {
    options.journal_mark_ms = 0;  // with each commit, of the one before
    live(35, 0s);
    const auto [file, at] = last_block();
    zero(file, at - kPage, block_room(kFileBytes));
    expect_told("its marks tell of block");
}

// A last block whose run is not whole was never acknowledged, unless something tells that it was:
// then the segment is damaged, which concerns its log alone (storage seed 81001472).
TEST_F(StoreDamage, a_segment_that_lacks_a_run_of_a_block_that_was_flushed_is_no_torn_commit) {
    bool done = false;
    world.start(node, [&](Shard&) -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
        Log* large = must(co_await set->local().create_log({7}, {}));
        Log* small = must(co_await set->local().create_log({8}, {}));
        must(small->append(make_entry(*small, 100)));
        must(co_await append_durably(large, make_entry(*large, 40'000)));
        (void)co_await runtime::sleep_for(200ms);
        done = true;
        (void)co_await runtime::sleep_for(1h);
    });
    CHECK(world.run_until([&] { return done; }, 10min) == sim::World::Outcome::kDone);
    world.kill(node, sim::Kill::kPower);
    ASSERT_EQ(node.disk().unlink(segment_path("/data", {7}, 0, 1)), 0);
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        auto set = must(co_await StoreSet::open(options));
        EXPECT_EQ(set->local().torn_end(), "");
        Log* large = set->local().find({7});
        EXPECT_EQ(large->end().offset, 1);
        EXPECT_FALSE(co_await large->read(0, {.end_offset = 1, .bytes_max = 100}, {}));
        EXPECT_TRUE(large->damage().has_value());
        EXPECT_EQ(must(co_await read_and_check(set->local().find({8}), 0, 1)), 1);
        co_await set->close();
    });
}

// What can't be told from a crash: nothing says yet that the last block was whole.
TEST_F(StoreDamage, a_last_block_that_is_not_whole_is_reported) {
    live(5, 0s);
    const auto [file, at] = last_block();
    flip(file, at + 100);
    std::string torn;
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        auto set = must(co_await StoreSet::open(options));
        torn = set->local().torn_end();
        EXPECT_EQ(set->local().metrics().torn_ends, 1u);
        Log* log = set->local().find({7});
        EXPECT_EQ(log->end().offset, 4);
        must(co_await append_durably(log, make_entry(*log, 100)));
        co_await set->close();
    });
    EXPECT_EQ(torn, place(file, at));
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        auto set = must(co_await StoreSet::open(options));
        EXPECT_EQ(set->local().torn_end(), "");
        co_await set->close();
    });
}

TEST_F(StoreDamage, a_last_block_that_was_whole_when_its_mark_was_written_is_damaged) {
    live(5, 200ms);
    const auto [file, at] = last_block();
    flip(file, at + 100);
    expect_told("its marks tell of block");
}

TEST_F(StoreDamage, a_stop_or_a_power_cut_at_any_moment_is_no_damage) {
    for (int life = 0; life < 40; ++life) {
        options.journal_mark_ms = life % 3 * 20;
        live(life % 23, life % 5 * 1ms);
        if (life % 4 == 0) EXPECT_EQ(open_error(), "") << life;
    }
    EXPECT_EQ(open_error(), "");
    const auto files = journal();
    uint64_t first = 0;
    ASSERT_TRUE(parse_journal_name(files[0].substr(sizeof kShard), &first));
    for (size_t i = 0; i < files.size(); ++i) EXPECT_EQ(files[i], journal_path(kShard, first + i));
}

// A sector that is being written when the power goes may hold anything afterwards (seed 70001601).
TEST_F(StoreDamage, a_power_cut_in_the_middle_of_a_mark_leaves_the_mark_before) {
    live(35, 200ms);
    for (const std::string& file : journal()) {
        for (uint32_t slot = 0; slot < kMarkSlots; ++slot) {
            if (!mark_at(file, slot)) continue;
            const std::vector<uint8_t> whole = bytes_of(file);
            const bool is_only = !mark_at(file, 1 - slot);
            zero(file, mark_offset(kFileBytes, slot), mark_offset(kFileBytes, slot) + 512);
            const bool is_told = open_error().find("not its mark") != std::string::npos;
            EXPECT_EQ(is_told, is_only) << file << " " << slot;
            // Nothing is in the file that is only made ready: it has the mark of its making.
            EXPECT_EQ(is_only, file == journal().back()) << file;
            replace(file, whole);
        }
    }
}

// shards-1 of another data directory, whole: all in it fits together.
TEST_F(StoreDamage, the_shards_of_another_data_directory_are_refused) {
    live(5, 0s);
    std::map<std::string, std::vector<uint8_t>> others;
    for (const std::string& file : journal()) others[file] = bytes_of(file);
    const std::string checkpoint = std::string(kShard) + "/checkpoint";
    others[checkpoint] = bytes_of(checkpoint);
    node.disk().wipe();
    live(5, 0s);
    const std::vector<uint8_t> own = bytes_of(checkpoint);
    for (const auto& [file, bytes] : others) replace(file, bytes);
    EXPECT_NE(open_error().find("is another data directory's"), std::string::npos) << open_error();
    replace(checkpoint, own);
    EXPECT_NE(open_error().find("not its mark"), std::string::npos) << open_error();
}

// As the release before wrote it: no marks, gaps in the numbers, a layout without journals.
TEST_F(StoreDamage, files_of_the_release_before_are_read_and_marked_from_then_on) {
    live(35, 0s);
    for (const std::string& file : journal()) zero(file, block_room(kFileBytes), kFileBytes);
    const std::string checkpoint = std::string(kShard) + "/checkpoint";
    std::vector<uint8_t> bytes = bytes_of(checkpoint);
    store_le<uint16_t>(bytes.data() + 10, 0);
    const uint64_t length = load_le<uint64_t>(bytes.data() + 16);
    store_le<uint32_t>(bytes.data() + 4, crc32c(Bytes(bytes).subspan(8, length - 8)));
    replace(checkpoint, bytes);
    sim::run_on(world, node, [](Shard&) -> Task<void> {
        must(co_await runtime::replace_small_file(
            "/data/layout", encode_layout({.generation = 1, .shards = 1, .journals = {}})));
    });
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        auto set = must(co_await StoreSet::open(options));
        EXPECT_EQ(must(co_await read_and_check(set->local().find({7}), 0, 35)), 35);
        co_await set->close();
    });
    const std::vector<uint8_t> layout = bytes_of("/data/layout");
    const Layout named = must(parse_layout({layout.begin(), layout.end()}));
    EXPECT_EQ(named.journals.size(), 1u);
    EXPECT_EQ(open_error(), "");
    const std::string newest = journal().back();
    EXPECT_TRUE(mark_at(newest, 0).has_value());
}

TEST(FileMark, the_bytes_of_the_documentation) {
    const uint8_t expected[48] = {
        0x57, 0x4a, 0x4d, 0x31, 0,    0,    0,    0,    0x01, 0, 0x01, 0, 0x01, 0, 0, 0,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x03, 0, 0,    0, 0,    0, 0, 0,
        0,    0,    0x20, 0,    0,    0,    0,    0,    0x2a, 0, 0,    0, 0,    0, 0, 0};
    std::vector<uint8_t> page(kPage, 0xff);
    const FileMark mark{.journal_id = 0x1122334455667788,
                        .file_sequence = 3,
                        .shard = 1,
                        .has_successor = true,
                        .file_bytes = 2_MiB,
                        .durable_block = 42};
    encode_file_mark(page, mark);
    for (size_t i = 0; i < sizeof expected; ++i) {
        if (i < 4 || i >= 8) EXPECT_EQ(page[i], expected[i]) << i;
    }
    EXPECT_EQ(fmt::format("{:08x}", load_le<uint32_t>(page.data() + 4)), "2803c43c");
    EXPECT_EQ(decode_file_mark(page), mark);
    for (size_t i = 0; i < sizeof expected; ++i) {
        std::vector<uint8_t> damaged = page;
        damaged[i] ^= 1;
        EXPECT_FALSE(decode_file_mark(damaged).has_value()) << i;
        EXPECT_FALSE(decode_file_mark(Bytes(page).first(i)).has_value());
    }
}

TEST(Layout, the_bytes_of_the_documentation) {
    const Layout layout{.generation = 2, .shards = 2, .journals = {0x1122334455667788, 0xabc}};
    const std::string text = encode_layout(layout);
    EXPECT_EQ(text,
              "weir-data 1\ngeneration 2\nshards 2\ncrc 1a0ab399\n"
              "journals 1122334455667788 0000000000000abc\ncrc 7fbb5785\n");
    EXPECT_EQ(must(parse_layout(text)).journals, layout.journals);
    EXPECT_TRUE(must(parse_layout(text.substr(0, text.find("journals")))).journals.empty());
    for (size_t i = 0; i < text.size(); ++i) {
        std::string damaged = text;
        damaged[i] ^= 1;
        EXPECT_FALSE(parse_layout(damaged).has_value()) << i;
    }
}

}  // namespace
}  // namespace weir::storage

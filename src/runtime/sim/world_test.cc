#include "runtime/sim/world.h"

#include <gtest/gtest.h>

#include <string>

#include "runtime/buffer.h"
#include "runtime/file.h"
#include "runtime/remote.h"
#include "runtime/sim/test_node.h"
#include "runtime/wait.h"

namespace weir::sim {
namespace {

constexpr uint32_t kCreate = kOpenRead | kOpenWrite | kOpenCreate;

World::Options quiet(uint64_t seed = 1) {
    Plan plan;
    plan.seed = seed;
    return {.plan = plan};
}

Task<Result<void>> write_pages(File* file, uint64_t first, uint64_t count, uint8_t value) {
    IoBuffer buffer = IoBuffer::allocate(count * kPageBytes);
    std::fill_n(buffer.data(), buffer.capacity(), value);
    buffer.set_size(buffer.capacity());
    co_return co_await file->write(first * kPageBytes, buffer.filled());
}

TEST(World, time_passes_only_by_waiting) {
    World world(quiet());
    Node& node = world.add_node({.name = "n1"});
    Duration waited{};
    run_on(
        world, node,
        [&](Shard& shard) -> Task<void> {
            const Instant before = shard.now();
            (void)co_await sleep_for(3600s);
            waited = shard.now() - before;
        },
        2h);
    EXPECT_GE(waited, 3600s);
    EXPECT_LT(waited, 3601s);
}

TEST(World, a_shard_that_yields_as_the_clock_jumps_goes_on) {
    Plan plan{.seed = 1};
    plan.clock.jump_mean = 1ms;
    plan.clock.jump_max = 1ms;
    plan.schedule.clock_read_cost = 1us;
    World world({.plan = plan});
    Node& node = world.add_node({.name = "n1"});
    run_on(world, node, [](Shard& shard) -> Task<void> {
        const Instant end = shard.now() + 50ms;
        while (shard.now() < end) {
            if (shard.need_preempt()) co_await yield();
        }
    });
}

TEST(World, a_file_survives_the_end_of_its_process_and_a_power_cut_after_sync) {
    World world(quiet());
    Node& node = world.add_node({.name = "n1"});
    run_on(world, node, [](Shard&) -> Task<void> {
        CHECK((co_await make_directories("/data/x")).has_value());
        auto file = co_await File::open("/data/x/f", {.flags = kCreate});
        CHECK(file.has_value());
        CHECK((co_await write_pages(&*file, 0, 4, 7)).has_value());
        CHECK((co_await file->sync()).has_value());
        CHECK((co_await sync_directory("/data/x")).has_value());
        CHECK((co_await file->close()).has_value());
    });
    world.start(node, [](Shard&) -> Task<void> { co_return; });
    world.kill(node, Kill::kPower);
    run_on(world, node, [](Shard&) -> Task<void> {
        auto file = co_await File::open("/data/x/f", {.flags = kOpenRead});
        CHECK(file.has_value());
        IoBuffer buffer = IoBuffer::allocate(5 * kPageBytes);
        const auto got = co_await file->read(0, buffer.all());
        CHECK(got.has_value() && *got == 4 * kPageBytes);
        CHECK(buffer.data()[0] == 7 && buffer.data()[4 * kPageBytes - 1] == 7);
        (void)co_await file->close();
    });
}

TEST(World, misaligned_operations_are_refused) {
    World world(quiet());
    Node& node = world.add_node({.name = "n1"});
    run_on(world, node, [](Shard&) -> Task<void> {
        auto file = co_await File::open("f", {.flags = kCreate});
        CHECK(file.has_value());
        IoBuffer buffer = IoBuffer::allocate(2 * kPageBytes);
        std::fill_n(buffer.data(), buffer.capacity(), uint8_t{0});
        const Bytes bytes(buffer.data(), 2 * kPageBytes);
        const auto memory = co_await file->write(0, bytes.subspan(1, kPageBytes));
        const auto offset = co_await file->write(512, bytes.first(kPageBytes));
        const auto size = co_await file->write(0, bytes.first(1000));
        const auto read = co_await file->read(512, {buffer.data(), kPageBytes});
        CHECK(!memory && memory.error().os_errno == EINVAL);
        CHECK(!offset && offset.error().os_errno == EINVAL);
        CHECK(!size && size.error().os_errno == EINVAL);
        CHECK(!read && read.error().os_errno == EINVAL);
        (void)co_await file->close();
        auto buffered = co_await File::open("f", {.flags = kCreate | kOpenBuffered});
        CHECK((co_await buffered->write(3, bytes.subspan(1, 5))).has_value());
        (void)co_await buffered->close();
    });
}

// A writer that appends numbered pages and says which of them were synced; then power goes at every
// step that there is.
struct Appended {
    uint64_t synced = 0;
};

Task<void> append_pages(Appended* appended) {
    auto file = co_await File::open("log", {.flags = kCreate});
    CHECK(file.has_value());
    CHECK((co_await sync_directory("")).has_value());
    for (uint64_t page = 0; page < 6; ++page) {
        CHECK((co_await write_pages(&*file, page, 1, static_cast<uint8_t>(page + 1))).has_value());
        CHECK((co_await file->sync()).has_value());
        appended->synced = page + 1;
    }
    (void)co_await file->close();
}

TEST(World, what_was_synced_is_there_after_a_power_cut_at_any_step) {
    bool lost_unsynced = false;
    for (uint64_t steps = 1; steps < 120; ++steps) {
        World world(quiet(steps));
        Node& node = world.add_node({.name = "n1"});
        Appended appended;
        run_and_kill(
            world, node, [&](Shard&) { return append_pages(&appended); }, steps, Kill::kPower);
        const InodeRef file = node.disk().find("log");
        if (appended.synced == 0) {
            lost_unsynced |= file == nullptr;
            continue;
        }
        ASSERT_NE(file, nullptr);
        ASSERT_GE(file->size, appended.synced * kPageBytes);
        std::vector<uint8_t> bytes(appended.synced * kPageBytes);
        node.disk().read(*file, 0, bytes);
        for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], i / kPageBytes + 1);
    }
    EXPECT_TRUE(lost_unsynced);
}

TEST(World, a_killed_process_keeps_completed_writes_without_sync) {
    World world(quiet());
    Node& node = world.add_node({.name = "n1"});
    bool written = false;
    world.start(node, [&](Shard&) -> Task<void> {
        auto file = co_await File::open("log", {.flags = kCreate});
        CHECK((co_await file->lock()).has_value());
        CHECK((co_await write_pages(&*file, 0, 1, 9)).has_value());
        written = true;
        (void)co_await sleep_for(1h);
    });
    (void)world.run_until([&] { return written; }, 10s);
    world.kill(node, Kill::kProcess);
    ASSERT_NE(node.disk().find("log"), nullptr);
    EXPECT_EQ(node.disk().find("log")->size, kPageBytes);
    // The lock went with the process.
    run_on(world, node, [](Shard&) -> Task<void> {
        auto file = co_await File::open("log", {.flags = kCreate});
        CHECK((co_await file->lock()).has_value());
        auto second = co_await File::open("log", {.flags = kCreate});
        const auto again = co_await second->lock();
        CHECK(!again && again.error().code == ErrorCode::kUnavailable);
        (void)co_await file->close();
        (void)co_await second->close();
    });
}

Task<void> chatter(Shard& shard, uint32_t rounds) {
    for (uint32_t i = 0; i < rounds; ++i) {
        const ShardId to = static_cast<ShardId>(shard.prng().below(shard.count()));
        const uint64_t got = co_await on(to, [i]() -> Task<uint64_t> {
            (void)co_await sleep_for(
                Duration(static_cast<int64_t>(Shard::current().prng().below(1'000'000))));
            co_return i;
        });
        CHECK(got == i);
        File file;
        auto opened = co_await File::open("f" + std::to_string(shard.id()), {.flags = kCreate});
        if (!opened) continue;
        file = std::move(*opened);
        (void)co_await write_pages(&file, i % 7, 2, static_cast<uint8_t>(i));
        (void)co_await file.sync();
        (void)co_await file.close();
    }
}

uint64_t hash_of_run(uint64_t seed, std::vector<std::string>* trace = nullptr) {
    World::Options options{.plan = draw_plan(seed)};
    if (trace != nullptr)
        options.trace_sink = [trace](const std::string& line) { trace->push_back(line); };
    World world(std::move(options));
    Node& node = world.add_node({.name = "n1", .shards = 3});
    for (int life = 0; life < 3; ++life) {
        run_and_kill(
            world, node, [](Shard& shard) { return chatter(shard, 30); }, 300,
            life == 1 ? Kill::kProcess : Kill::kPower);
    }
    return world.trace_hash() ^ node.disk().content_hash();
}

TEST(World, the_same_seed_gives_the_same_trace_and_another_seed_another) {
    std::set<uint64_t> hashes;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        std::vector<std::string> first;
        std::vector<std::string> second;
        const uint64_t hash = hash_of_run(seed, &first);
        EXPECT_EQ(hash, hash_of_run(seed, &second)) << seed;
        EXPECT_EQ(first, second) << seed;
        hashes.insert(hash);
    }
    EXPECT_EQ(hashes.size(), 40u);
}

TEST(World, kills_with_calls_between_shards_in_flight_leave_nothing_behind) {
    for (uint64_t steps = 1; steps < 400; steps += 3) {
        World world(quiet(steps));
        Node& node = world.add_node({.name = "n1", .shards = 4});
        run_and_kill(
            world, node, [](Shard& shard) { return chatter(shard, 20); }, steps, Kill::kProcess);
        world.restart(node, 2);
        (void)world.run_until([&] { return node.finished(); }, 1h);
        EXPECT_TRUE(node.finished());
        world.reap(node);
    }
}

TEST(World, a_paused_node_stands_still_and_goes_on) {
    World world(quiet());
    Node& node = world.add_node({.name = "n1"});
    int ticks = 0;
    world.start(node, [&](Shard&) -> Task<void> {
        for (; ticks < 100; ++ticks) (void)co_await sleep_for(10ms);
    });
    (void)world.run_for(105ms);
    const int before = ticks;
    EXPECT_GE(before, 9);
    world.pause(node);
    (void)world.run_for(10s);
    EXPECT_EQ(ticks, before);
    world.resume(node);
    (void)world.run_until([&] { return node.finished(); }, 10s);
    EXPECT_EQ(ticks, 100);
    world.reap(node);
}

TEST(World, clocks_drift_and_jump_but_the_monotonic_one_never_goes_back) {
    Plan plan;
    plan.seed = 3;
    plan.clock = {.drift_max = 0.05, .jump_mean = 100ms, .jump_max = 1h};
    World world({.plan = plan});
    Node& node = world.add_node({.name = "n1"});
    bool back = false;
    run_on(world, node, [&](Shard& shard) -> Task<void> {
        Instant last = shard.now();
        WallTime wall = shard.wall_now();
        for (int i = 0; i < 200; ++i) {
            (void)co_await sleep_for(10ms);
            CHECK(shard.now() > last);
            last = shard.now();
            back |= shard.wall_now() < wall;
            wall = shard.wall_now();
        }
    });
    EXPECT_TRUE(back);
}

TEST(World, faults_of_the_disk_come_at_their_rates) {
    Plan plan;
    plan.disk.sync_error_chance = 0.2;
    plan.disk.write_error_chance = 0.2;
    plan.disk.short_write_chance = 0.3;
    plan.disk.short_read_chance = 0.3;
    World world({.plan = plan});
    Node& node = world.add_node({.name = "n1"});
    int write_errors = 0;
    int sync_errors = 0;
    run_on(world, node, [&](Shard&) -> Task<void> {
        auto file = co_await File::open("f", {.flags = kCreate});
        for (int i = 0; i < 300; ++i) {
            if (!(co_await write_pages(&*file, 0, 8, static_cast<uint8_t>(i)))) {
                ++write_errors;
                continue;
            }
            IoBuffer buffer = IoBuffer::allocate(8 * kPageBytes);
            const auto got = co_await file->read(0, buffer.all());
            CHECK(got && *got == 8 * kPageBytes);
            for (size_t at = 0; at < *got; ++at)
                CHECK(buffer.data()[at] == static_cast<uint8_t>(i));
            if (!(co_await file->sync())) ++sync_errors;
        }
        (void)co_await file->close();
    });
    EXPECT_GT(write_errors, 30);
    EXPECT_GT(sync_errors, 20);
}

TEST(World, nothing_left_to_do_is_idle) {
    World world(quiet());
    Node& node = world.add_node({.name = "n1"});
    WaitQueue never;
    world.start(node, [&](Shard&) -> Task<void> { (void)co_await never.wait(); });
    EXPECT_EQ(world.run_until([&] { return node.finished(); }, 1h), World::Outcome::kIdle);
    world.kill(node, Kill::kProcess);
}

}  // namespace
}  // namespace weir::sim

#include <gtest/gtest.h>

#include <string>

#include "runtime/sim/test_node.h"
#include "runtime/socket.h"
#include "runtime/wait.h"

namespace weir::sim {
namespace {

constexpr size_t kEchoBytes = 100'000;

Bytes pattern() {
    static const std::vector<uint8_t> bytes = [] {
        std::vector<uint8_t> made(kEchoBytes);
        for (size_t i = 0; i < made.size(); ++i) made[i] = static_cast<uint8_t>(i * 31 + i / 251);
        return made;
    }();
    return bytes;
}

// Sends back what it receives, one connection after the other, `count` in all.
Task<void> echo_server(uint32_t count, std::string address) {
    auto listener = co_await TcpListener::listen(address);
    CHECK(listener.has_value());
    for (uint32_t i = 0; i < count; ++i) {
        auto stream = co_await listener->accept({});
        CHECK(stream.has_value());
        std::vector<uint8_t> buffer(4096);
        while (true) {
            const auto got = co_await (*stream)->read_some(buffer, {});
            if (!got) break;
            std::vector<Bytes> parts{Bytes(buffer).first(*got)};
            if (!(co_await (*stream)->write_all(std::move(parts), {}))) break;
        }
        co_await (*stream)->close();
    }
    co_await listener->close();
}

Task<void> send_pattern(ByteStream* stream, bool* ok) {
    std::vector<Bytes> parts{pattern().first(10), pattern().subspan(10, 0), pattern().subspan(10)};
    *ok = (co_await stream->write_all(std::move(parts), {})).has_value();
}

// True when all came back.
Task<void> echo_client(std::string address, bool* all_back) {
    *all_back = false;
    std::unique_ptr<TcpStream> stream;
    for (int attempt = 0; attempt < 50 && stream == nullptr; ++attempt) {
        auto connected = co_await TcpStream::connect(address);
        if (connected)
            stream = std::move(*connected);
        else
            (void)co_await sleep_for(10ms);
    }
    if (stream == nullptr) co_return;
    Scope scope;
    bool sent = false;
    scope.spawn(send_pattern(stream.get(), &sent));
    std::vector<uint8_t> back(kEchoBytes);
    const auto read = co_await read_exactly(*stream, back);
    // A failed read ends the other direction too, or the sender might wait for a peer that reads no
    // more.
    if (!read) co_await stream->shutdown();
    co_await scope.join();
    *all_back = read && sent && std::ranges::equal(back, pattern());
    co_await stream->shutdown();
    co_await stream->close();
}

TEST(Network, bytes_arrive_in_order_whatever_the_sizes_of_chunks_and_windows) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
        Plan plan;
        plan.seed = seed;
        Prng prng(seed);
        plan.net.buffer_bytes_max = prng.between(16, 10'000);
        plan.net.chunk_bytes_max = prng.between(16, 10'000);
        plan.net.slow_chance = 0.001;
        World world({.plan = plan});
        Node& server = world.add_node({.name = "n1"});
        Node& client = world.add_node({.name = "n2"});
        bool ok = false;
        world.start(server, [](Shard&) { return echo_server(1, "n1:9092"); });
        world.start(client, [&](Shard&) { return echo_client("n1:9092", &ok); });
        EXPECT_EQ(world.run_until([&] { return client.finished() && server.finished(); }, 1h),
                  World::Outcome::kDone);
        EXPECT_TRUE(ok) << seed;
        world.reap(server);
        world.reap(client);
    }
}

TEST(Network, a_node_reaches_itself_on_a_port_that_it_picked) {
    World world({});
    Node& node = world.add_node({.name = "n1"});
    run_on(world, node, [](Shard&) -> Task<void> {
        auto listener = co_await TcpListener::listen("127.0.0.1:0");
        CHECK(listener.has_value());
        auto client = co_await TcpStream::connect(listener->address());
        CHECK(client.has_value());
        auto server = co_await listener->accept({});
        CHECK(server.has_value());
        CHECK((*server)->peer().starts_with("127.0.0.1:"));
        std::vector<Bytes> parts{as_bytes("hello")};
        CHECK((co_await (*client)->write_all(std::move(parts), {})).has_value());
        std::vector<uint8_t> got(5);
        CHECK((co_await read_exactly(**server, got)).has_value());
        CHECK(as_text(got) == "hello");
        co_await (*client)->close();
        const auto end = co_await (*server)->read_some(got, {});
        CHECK(!end && end.error().code == ErrorCode::kEndOfStream);
        co_await (*server)->close();
        const std::string address = listener->address();
        co_await listener->close();
        const auto refused = co_await TcpStream::connect(address);
        CHECK(!refused && refused.error().os_errno == ECONNREFUSED);
    });
}

TEST(Network, waits_for_peers_are_cancelled_by_their_stop_token) {
    World world({});
    Node& node = world.add_node({.name = "n1"});
    run_on(world, node, [](Shard&) -> Task<void> {
        auto listener = co_await TcpListener::listen("n1:1000");
        StopSource stop;
        Scope scope;
        bool cancelled = false;
        scope.spawn([](TcpListener* l, StopToken token, bool* done) -> Task<void> {
            auto stream = co_await l->accept(token);
            *done = !stream && stream.error().code == ErrorCode::kCancelled;
        }(&*listener, stop.token(), &cancelled));
        (void)co_await sleep_for(10ms);
        stop.request_stop();
        co_await scope.join();
        CHECK(cancelled);
        co_await listener->close();
    });
}

TEST(Network, resets_refusals_and_stalls_end_in_errors_and_never_in_wrong_bytes) {
    int failed = 0;
    int succeeded = 0;
    for (uint64_t seed = 1; seed <= 60; ++seed) {
        Plan plan;
        plan.seed = seed;
        plan.net.reset_chance = 0.5;
        plan.net.reset_bytes_max = 2 * kEchoBytes;
        plan.net.connect_refused_chance = 0.2;
        plan.net.connect_timeout_chance = 0.1;
        plan.net.stall_chance = 0.0005;
        World world({.plan = plan});
        Node& server = world.add_node({.name = "n1"});
        Node& client = world.add_node({.name = "n2"});
        bool ok = false;
        world.start(server, [](Shard&) { return echo_server(1, "n1:9092"); });
        world.start(client, [&](Shard&) { return echo_client("n1:9092", &ok); });
        EXPECT_EQ(world.run_until([&] { return client.finished(); }, 1h), World::Outcome::kDone)
            << seed;
        ++(ok ? succeeded : failed);
    }
    EXPECT_GT(failed, 10);
    EXPECT_GT(succeeded, 10);
}

TEST(Network, a_killed_peer_resets_and_one_without_power_is_silent) {
    for (const Kill how : {Kill::kProcess, Kill::kPower}) {
        World world({});
        Node& server = world.add_node({.name = "n1"});
        Node& client = world.add_node({.name = "n2"});
        bool connected = false;
        bool ended = false;
        world.start(server, [](Shard&) -> Task<void> {
            auto listener = co_await TcpListener::listen("n1:9092");
            auto stream = co_await listener->accept({});
            (void)co_await sleep_for(10h);
        });
        world.start(client, [&](Shard&) -> Task<void> {
            auto stream = co_await TcpStream::connect("n1:9092");
            while (!stream) stream = co_await TcpStream::connect("n1:9092");
            connected = true;
            std::vector<uint8_t> got(5);
            (void)co_await (*stream)->read_some(got, {});
            ended = true;
            co_await (*stream)->close();
        });
        (void)world.run_until([&] { return connected; }, 1min);
        ASSERT_TRUE(connected);
        (void)world.run_for(1s);
        world.kill(server, how);
        (void)world.run_for(1min);
        EXPECT_EQ(ended, how == Kill::kProcess);
    }
}

TEST(Network, a_cut_link_holds_bytes_until_it_heals) {
    Plan plan;
    plan.net.unacknowledged_max = 10min;
    plan.net.buffer_bytes_max = 1000;
    World world({.plan = plan});
    Node& server = world.add_node({.name = "n1"});
    Node& client = world.add_node({.name = "n2"});
    bool ok = false;
    world.start(server, [](Shard&) { return echo_server(1, "n1:9092"); });
    world.start(client, [&](Shard&) { return echo_client("n1:9092", &ok); });
    (void)world.run_for(1ms);
    world.cut_link(server, client);
    (void)world.run_for(2s);
    EXPECT_FALSE(client.finished());
    world.heal_link(server, client);
    (void)world.run_for(1min);
    EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace weir::sim

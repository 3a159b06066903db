// Sockets: what every driver does the same way.
#include <algorithm>
#include <cerrno>

#include "runtime/buffer.h"
#include "runtime/conformance/conformance.h"
#include "runtime/conformance/must.h"
#include "runtime/op_awaiter.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/socket.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

using Stream = std::unique_ptr<TcpStream>;

uint8_t pattern_at(uint64_t offset) {
    return static_cast<uint8_t>(mix64(offset / 8) >> (8 * (offset % 8)));
}

void fill_pattern(MutableBytes bytes, uint64_t offset) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = pattern_at(offset + i);
}

bool has_pattern(Bytes bytes, uint64_t offset) {
    for (size_t i = 0; i < bytes.size(); ++i) {
        if (bytes[i] != pattern_at(offset + i)) return false;
    }
    return true;
}

struct Pair {
    Stream client;
    Stream server;

    Task<void> close() {
        co_await client->close();
        co_await server->close();
    }
};

Task<void> accept_into(TcpListener* listener, Stream* stream) {
    *stream = must(co_await listener->accept({}));
}

Task<Pair> connected(std::string address) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    Pair pair;
    Scope scope;
    scope.spawn(accept_into(&listener, &pair.server));
    pair.client = must(co_await TcpStream::connect(listener.address()));
    co_await scope.join();
    co_await listener.close();
    co_return pair;
}

Task<void> send_text(TcpStream* stream, std::string text) {
    must(co_await stream->write_all({as_bytes(text)}, {}));
}

Task<std::string> receive_text(TcpStream* stream, size_t size) {
    std::string text(size, '\0');
    must(co_await read_exactly(*stream, {reinterpret_cast<uint8_t*>(text.data()), size}));
    co_return text;
}

Task<void> echo(std::string address) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    EXPECT_FALSE(listener.address().ends_with(":0")) << listener.address();
    Stream server;
    Scope scope;
    scope.spawn(accept_into(&listener, &server));
    Stream client = must(co_await TcpStream::connect(listener.address()));
    co_await scope.join();
    EXPECT_FALSE(server->peer().empty());
    EXPECT_EQ(client->peer(), listener.address());
    co_await send_text(client.get(), "ping");
    EXPECT_EQ(co_await receive_text(server.get(), 4), "ping");
    co_await send_text(server.get(), "pong");
    EXPECT_EQ(co_await receive_text(client.get(), 4), "pong");
    co_await client->close();
    co_await server->close();
    co_await listener.close();
}

TEST_P(Conformance, bytes_go_there_and_back) {
    run([&](Shard&) { return echo(driver_->any_address()); });
}

TEST_P(Conformance, bytes_go_there_and_back_over_ipv6) {
    const auto address = driver_->any_address_v6();
    if (!address) GTEST_SKIP() << "no IPv6 here";
    run([&](Shard&) { return echo(*address); });
}

Task<void> send_in_parts(TcpStream* stream, uint64_t total, uint64_t seed) {
    Prng prng(seed);
    uint64_t sent = 0;
    while (sent < total) {
        // Lists of parts, longer than what one operation takes now and then; empty parts too.
        std::vector<std::vector<uint8_t>> parts;
        std::vector<Bytes> views;
        const uint64_t count = prng.chance(0.1) ? prng.between(300, 600) : prng.between(1, 12);
        for (uint64_t i = 0; i < count && sent < total; ++i) {
            const uint64_t size =
                prng.chance(0.1) ? 0 : prng.between(1, prng.chance(0.2) ? 300'000 : 2'000);
            std::vector<uint8_t> part(std::min(size, total - sent));
            fill_pattern(part, sent);
            sent += part.size();
            parts.push_back(std::move(part));
        }
        for (const auto& part : parts) views.emplace_back(part);
        must(co_await stream->write_all(std::move(views), {}));
    }
}

Task<void> receive_in_parts(TcpStream* stream, uint64_t total, uint64_t seed) {
    Prng prng(seed);
    std::vector<uint8_t> buffer(1 << 18);
    uint64_t received = 0;
    while (received < total) {
        if (prng.chance(0.01)) (void)co_await sleep_for(1ms);
        const size_t size = prng.between(1, prng.chance(0.5) ? 100 : buffer.size());
        const size_t got = must(co_await stream->read_some(MutableBytes(buffer).first(size), {}));
        CHECK(got > 0);
        CHECK(got <= size);
        EXPECT_TRUE(has_pattern(Bytes(buffer).first(got), received));
        received += got;
    }
    EXPECT_EQ(received, total);
}

Task<void> both_ways(std::string address, uint64_t bytes) {
    Pair pair = co_await connected(address);
    Scope scope;
    scope.spawn(send_in_parts(pair.client.get(), bytes, 1));
    scope.spawn(send_in_parts(pair.server.get(), bytes, 2));
    scope.spawn(receive_in_parts(pair.client.get(), bytes, 3));
    scope.spawn(receive_in_parts(pair.server.get(), bytes, 4));
    co_await scope.join();
    co_await pair.close();
}

TEST_P(Conformance, large_transfers_in_random_parts_arrive_in_order_both_ways_at_once) {
    run([&](Shard&) { return both_ways(driver_->any_address(), 8 << 20); });
}

Task<void> end_of_stream(std::string address) {
    Pair pair = co_await connected(address);
    co_await send_text(pair.client.get(), "last words");
    co_await pair.client->shutdown();
    co_await pair.client->close();
    EXPECT_EQ(co_await receive_text(pair.server.get(), 10), "last words");
    uint8_t byte = 0;
    EXPECT_EQ((co_await pair.server->read_some({&byte, 1}, {})).error().code,
              ErrorCode::kEndOfStream);
    EXPECT_EQ((co_await pair.server->read_some({&byte, 1}, {})).error().code,
              ErrorCode::kEndOfStream);
    co_await pair.server->close();
}

TEST_P(Conformance, what_was_sent_before_the_end_is_received_and_then_the_end) {
    run([&](Shard&) { return end_of_stream(driver_->any_address()); });
}

Task<void> expect_read_ends(TcpStream* stream, bool* ended) {
    uint8_t byte = 0;
    EXPECT_FALSE((co_await stream->read_some({&byte, 1}, {})).has_value());
    *ended = true;
}

Task<void> shut_down_while_reading(std::string address) {
    Pair pair = co_await connected(address);
    bool ended = false;
    Scope scope;
    scope.spawn(expect_read_ends(pair.server.get(), &ended));
    (void)co_await sleep_for(20ms);
    EXPECT_FALSE(ended);
    co_await pair.server->shutdown();
    co_await pair.server->shutdown();
    co_await scope.join();
    EXPECT_TRUE(ended);
    co_await pair.close();
}

TEST_P(Conformance, shutdown_completes_a_pending_receive) {
    run([&](Shard&) { return shut_down_while_reading(driver_->any_address()); });
}

Task<void> expect_write_ends(TcpStream* stream) {
    const std::vector<uint8_t> block(1 << 20);
    Result<void> written;
    for (int i = 0; i < 1000 && written; ++i) written = co_await stream->write_all({block}, {});
    EXPECT_FALSE(written.has_value());
}

Task<void> shut_down_while_writing(std::string address) {
    Pair pair = co_await connected(address);
    Scope scope;
    scope.spawn(
        expect_write_ends(pair.server.get()));  // nobody reads: it fills the buffers and waits
    (void)co_await sleep_for(50ms);
    EXPECT_EQ(scope.size(), 1u);
    co_await pair.server->shutdown();
    co_await scope.join();
    co_await pair.close();
}

TEST_P(Conformance, shutdown_completes_a_pending_send) {
    run([&](Shard&) { return shut_down_while_writing(driver_->any_address()); });
}

Task<void> peer_goes_away(std::string address) {
    Pair pair = co_await connected(address);
    co_await send_text(pair.client.get(), "never read");
    (void)co_await sleep_for(5ms);
    co_await pair.server->close();  // with bytes unread: a reset
    Result<void> written;
    const std::vector<uint8_t> block(1 << 16);
    for (int i = 0; i < 1000 && written; ++i) {
        written = co_await pair.client->write_all({block}, {});
        (void)co_await sleep_for(1ms);
    }
    EXPECT_FALSE(written.has_value());
    uint8_t byte = 0;
    EXPECT_FALSE((co_await pair.client->read_some({&byte, 1}, {})).has_value());
    co_await pair.client->close();
}

TEST_P(Conformance, a_peer_that_goes_away_is_an_error_of_the_stream) {
    run([&](Shard&) { return peer_goes_away(driver_->any_address()); });
}

Task<void> stop_after(StopSource* stop, Duration delay) {
    (void)co_await sleep_for(delay);
    stop->request_stop();
}

Task<void> cancel_receive(std::string address) {
    Pair pair = co_await connected(address);
    StopSource stop;
    Scope scope;
    scope.spawn(stop_after(&stop, 10ms));
    uint8_t byte = 0;
    EXPECT_EQ((co_await pair.server->read_some({&byte, 1}, stop.token())).error().code,
              ErrorCode::kCancelled);
    EXPECT_EQ((co_await pair.server->read_some({&byte, 1}, stop.token())).error().code,
              ErrorCode::kCancelled);
    co_await scope.join();
    // The stream lives on.
    co_await send_text(pair.client.get(), "x");
    EXPECT_EQ(co_await receive_text(pair.server.get(), 1), "x");
    co_await pair.close();
}

TEST_P(Conformance, a_receive_is_cancelled_and_the_stream_lives_on) {
    run([&](Shard&) { return cancel_receive(driver_->any_address()); });
}

// A cancellation that meets the byte: either the read has it, or the next read does.
Task<void> cancel_races_with_data(std::string address) {
    Pair pair = co_await connected(address);
    Prng prng(7);
    for (uint32_t round = 0; round < 300; ++round) {
        StopSource stop;
        Scope scope;
        scope.spawn(stop_after(&stop, Duration(prng.below(100'000))));
        const auto sent = static_cast<uint8_t>(round);
        must(co_await pair.client->write_all({Bytes(&sent, 1)}, {}));
        uint8_t byte = 0;
        Result<size_t> got = co_await pair.server->read_some({&byte, 1}, stop.token());
        if (!got) {
            EXPECT_EQ(got.error().code, ErrorCode::kCancelled);
            must(co_await pair.server->read_some({&byte, 1}, {}));
        }
        EXPECT_EQ(byte, sent);
        co_await scope.join();
    }
    co_await pair.close();
}

TEST_P(Conformance, a_cancelled_receive_loses_no_byte) {
    run([&](Shard&) { return cancel_races_with_data(driver_->any_address()); });
}

Task<void> cancel_accept(std::string address) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    StopSource stop;
    Scope scope;
    scope.spawn(stop_after(&stop, 10ms));
    EXPECT_EQ((co_await listener.accept(stop.token())).error().code, ErrorCode::kCancelled);
    co_await scope.join();
    // It still listens.
    Stream server;
    scope.spawn(accept_into(&listener, &server));
    Stream client = must(co_await TcpStream::connect(listener.address()));
    co_await scope.join();
    co_await client->close();
    co_await server->close();
    co_await listener.close();
}

TEST_P(Conformance, an_accept_is_cancelled_and_the_listener_lives_on) {
    run([&](Shard&) { return cancel_accept(driver_->any_address()); });
}

Task<void> cancel_send(std::string address) {
    Pair pair = co_await connected(address);
    StopSource stop;
    Scope scope;
    scope.spawn(stop_after(&stop, 30ms));
    const std::vector<uint8_t> block(1 << 20);
    Result<void> written;
    for (int i = 0; i < 1000 && written; ++i)
        written = co_await pair.client->write_all({block}, stop.token());
    EXPECT_EQ(written.error().code, ErrorCode::kCancelled);
    co_await scope.join();
    co_await pair.close();
}

TEST_P(Conformance, a_send_that_nobody_reads_is_cancelled) {
    run([&](Shard&) { return cancel_send(driver_->any_address()); });
}

Task<void> read_until_stopped(TcpStream* stream, StopToken stop, size_t* cancelled) {
    uint8_t byte = 0;
    const auto got = co_await stream->read_some({&byte, 1}, stop);
    if (!got && got.error().code == ErrorCode::kCancelled) ++*cancelled;
}

// One request cancels more receives than fit a driver's queue.
Task<void> cancel_many(std::string address, size_t count) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    std::vector<Stream> streams;
    for (size_t i = 0; i < count; ++i) {
        Stream server;
        Scope scope;
        scope.spawn(accept_into(&listener, &server));
        streams.push_back(must(co_await TcpStream::connect(listener.address())));
        co_await scope.join();
        streams.push_back(std::move(server));
    }
    StopSource stop;
    Scope scope;
    size_t cancelled = 0;
    for (const Stream& stream : streams)
        scope.spawn(read_until_stopped(stream.get(), stop.token(), &cancelled));
    (void)co_await sleep_for(20ms);
    stop.request_stop();
    co_await scope.join();
    EXPECT_EQ(cancelled, streams.size());
    for (const Stream& stream : streams) co_await stream->close();
    co_await listener.close();
}

TEST_P(Conformance, a_stop_request_cancels_more_receives_than_a_queue_holds) {
    run([&](Shard&) { return cancel_many(driver_->any_address(), 700); });
}

// Nobody accepts, so at some point a connect waits for the listener's queue.
Task<void> cancel_connects(std::string address) {
    TcpListener listener = must(co_await TcpListener::listen(address, 1));
    std::vector<Stream> streams;
    for (int i = 0; i < 5; ++i) {
        StopSource stop;
        Scope scope;
        scope.spawn(stop_after(&stop, 30ms));
        Result<Stream> stream = co_await TcpStream::connect(listener.address(), stop.token());
        if (stream) {
            streams.push_back(std::move(*stream));
        } else {
            EXPECT_EQ(stream.error().code, ErrorCode::kCancelled) << stream.error().to_string();
        }
        co_await scope.join();
    }
    for (const Stream& stream : streams) co_await stream->close();
    co_await listener.close();
}

TEST_P(Conformance, a_connect_that_nobody_answers_is_cancelled) {
    run([&](Shard&) { return cancel_connects(driver_->any_address()); });
}

Task<void> connect_by_name(std::string address) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    const std::string port = listener.address().substr(listener.address().rfind(':'));
    Stream server;
    Scope scope;
    scope.spawn(accept_into(&listener, &server));
    // The name may have an IPv6 address too, where nobody listens: the next address is tried.
    Stream client = must(co_await TcpStream::connect("localhost" + port));
    co_await scope.join();
    co_await send_text(client.get(), "by name");
    EXPECT_EQ(co_await receive_text(server.get(), 7), "by name");
    co_await client->close();
    co_await server->close();
    co_await listener.close();
    const auto nobody = co_await TcpStream::connect("no-such-host.invalid:9092");
    EXPECT_FALSE(nobody.has_value());
}

TEST_P(Conformance, a_name_is_looked_up) {
    if (!driver_->real_time()) GTEST_SKIP() << "a simulated network has no resolver";
    run([&](Shard&) { return connect_by_name(driver_->any_address()); });
}

Task<void> refused(std::string address) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    const std::string was = listener.address();
    co_await listener.close();
    const auto stream = co_await TcpStream::connect(was);
    EXPECT_FALSE(stream.has_value());
    EXPECT_EQ(stream.error().os_errno, ECONNREFUSED);
    const auto nonsense = co_await TcpStream::connect("no port here");
    EXPECT_EQ(nonsense.error().code, ErrorCode::kInvalidArgument);
}

TEST_P(Conformance, a_connect_to_nobody_is_refused) {
    run([&](Shard&) { return refused(driver_->any_address()); });
}

Task<void> listen_twice(std::string address) {
    TcpListener first = must(co_await TcpListener::listen(address));
    const auto second = co_await TcpListener::listen(first.address());
    EXPECT_FALSE(second.has_value());
    EXPECT_EQ(second.error().os_errno, EADDRINUSE);
    const std::string was = first.address();
    // An address is free again as soon as its listener is closed, connections of the past
    // notwithstanding.
    Stream server;
    Scope scope;
    scope.spawn(accept_into(&first, &server));
    Stream client = must(co_await TcpStream::connect(was));
    co_await scope.join();
    co_await server->close();
    co_await first.close();
    TcpListener again = must(co_await TcpListener::listen(was));
    co_await again.close();
    co_await client->close();
}

TEST_P(Conformance, an_address_has_one_listener_at_a_time) {
    run([&](Shard&) { return listen_twice(driver_->any_address()); });
}

Task<void> serve_echo(Stream stream) {
    uint8_t buffer[256];
    while (true) {
        const Result<size_t> got = co_await stream->read_some(buffer, {});
        if (!got) break;
        must(co_await stream->write_all({Bytes(buffer).first(*got)}, {}));
    }
    co_await stream->close();
}

Task<void> accept_all(TcpListener* listener, Scope* scope) {
    while (true) {
        Result<Stream> stream = co_await listener->accept(scope->stop_token());
        if (!stream) co_return;
        scope->spawn(serve_echo(std::move(*stream)));
    }
}

Task<void> echo_client(std::string address, int id, int* done) {
    Stream stream = must(co_await TcpStream::connect(address));
    for (int round = 0; round < 3; ++round) {
        const std::string text = std::to_string(id) + " says " + std::to_string(round);
        co_await send_text(stream.get(), text);
        EXPECT_EQ(co_await receive_text(stream.get(), text.size()), text);
        (void)co_await sleep_for(1ms);
    }
    co_await stream->close();
    ++*done;
}

Task<void> many_connections(std::string address, int count) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    Scope servers;
    Scope clients;
    servers.spawn(accept_all(&listener, &servers));
    int done = 0;
    for (int i = 0; i < count; ++i) clients.spawn(echo_client(listener.address(), i, &done));
    co_await clients.join();
    EXPECT_EQ(done, count);
    co_await servers.close();
    co_await listener.close();
}

TEST_P(Conformance, a_thousand_connections_are_served_at_once) {
    run([&](Shard&) { return many_connections(driver_->any_address(), 1000); });
}

// The one listener's connections are told apart by their peers.
Task<void> peers(std::string address) {
    TcpListener listener = must(co_await TcpListener::listen(address));
    Stream a_server, b_server;
    Scope scope;
    scope.spawn(accept_into(&listener, &a_server));
    Stream a = must(co_await TcpStream::connect(listener.address()));
    co_await scope.join();
    scope.spawn(accept_into(&listener, &b_server));
    Stream b = must(co_await TcpStream::connect(listener.address()));
    co_await scope.join();
    EXPECT_NE(a_server->peer(), b_server->peer());
    for (TcpStream* stream : {a.get(), b.get(), a_server.get(), b_server.get()})
        co_await stream->close();
    co_await listener.close();
}

TEST_P(Conformance, connections_have_different_peers) {
    run([&](Shard&) { return peers(driver_->any_address()); });
}

Task<void> echo_once(TcpStream::Detached detached) {
    Stream stream = TcpStream::attach(std::move(detached));
    const std::string text = co_await receive_text(stream.get(), 4);
    co_await send_text(stream.get(), text);
    co_await stream->close();
}

// Used on this shard first, so that the driver has seen it; then served on another one, and closed
// there.
Task<void> move_between_shards(std::string address, ShardId to) {
    Pair pair = co_await connected(address);
    co_await send_text(pair.client.get(), "here");
    EXPECT_EQ(co_await receive_text(pair.server.get(), 4), "here");
    TcpStream::Detached detached = pair.server->detach();
    pair.server.reset();
    co_await send_text(pair.client.get(), "over");
    co_await on(to, [&] { return echo_once(std::move(detached)); });
    EXPECT_EQ(co_await receive_text(pair.client.get(), 4), "over");
    co_await pair.client->close();
}

TEST_P(Conformance, an_open_stream_moves_to_another_shard) {
    run_on(2, [this](Shard&) -> Task<void> {
        // Descriptors are used again: neither driver may take one for its former self.
        for (int i = 0; i < 20; ++i) co_await move_between_shards(driver_->any_address(), i % 2);
    });
}

}  // namespace
}  // namespace weir::runtime

#include "http/server.h"

#include <gtest/gtest.h>

#include "http/client.h"
#include "runtime/real/real_node.h"

namespace weir::http {
namespace {

using runtime::Task;

Task<Response> echo(const Request& request) {
    co_return Response{.body = request.method + " " + request.path + " " + request.query + " " +
                               request.body};
}

// Sends each part in turn, then reads until the server closes.
Task<Result<std::string>> exchange(std::vector<std::string> parts) {
    Server server({.header_bytes_max = 1024, .body_bytes_max = 100});
    server.handle("GET", "/echo", echo);
    server.handle("POST", "/echo", echo);
    co_await runtime::try_(server.start("127.0.0.1:0"));
    auto stream = co_await runtime::try_(runtime::TcpStream::connect(server.address()));
    for (const std::string& part : parts) {
        // A server that has seen enough may close before it was told everything.
        if (!co_await stream->write_all({as_bytes(part)}, {})) break;
        (void)co_await runtime::sleep_for(std::chrono::milliseconds(5));
    }
    std::string answer;
    uint8_t chunk[1024];
    while (true) {
        const auto got = co_await stream->read_some(chunk, {});
        if (!got) break;
        answer.append(reinterpret_cast<const char*>(chunk), *got);
    }
    co_await stream->close();
    co_await server.stop();
    co_return answer;
}

std::string run(std::vector<std::string> parts) {
    return runtime::run_on_one_shard([&](runtime::RealNode&) { return exchange(parts); })
        .value()
        .value();
}

TEST(HttpServer, requests_that_follow_one_another_on_a_connection_are_answered_in_order) {
    const std::string answer =
        run({"GET /echo?a=1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: "
             "x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"});
    EXPECT_NE(answer.find("GET /echo a=1 "), std::string::npos) << answer;
    EXPECT_NE(answer.find("POST /echo  hi"), std::string::npos) << answer;
    EXPECT_LT(answer.find("GET /echo"), answer.find("POST /echo"));
}

TEST(HttpServer, a_request_may_come_byte_by_byte) {
    std::vector<std::string> bytes;
    for (const char c : std::string("GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        bytes.emplace_back(1, c);
    EXPECT_NE(run(bytes).find("200 OK"), std::string::npos);
}

TEST(HttpServer, unknown_paths_and_methods_are_refused) {
    EXPECT_NE(run({"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"}).find(" 404 "),
              std::string::npos);
    EXPECT_NE(run({"DELETE /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"}).find(" 405 "),
              std::string::npos);
}

TEST(HttpServer, what_is_no_request_gets_400_and_the_connection_ends) {
    EXPECT_NE(run({"\x01\x02 garbage\r\n\r\n"}).find(" 400 "), std::string::npos);
    EXPECT_NE(
        run({"GET /echo HTTP/1.1\r\nHost: " + std::string(4000, 'x') + "\r\n\r\n"}).find(" 400 "),
        std::string::npos);
}

TEST(HttpServer, a_body_beyond_the_bound_gets_413) {
    EXPECT_NE(
        run({"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"}).find(" 413 "),
        std::string::npos);
}

using Stream = std::unique_ptr<runtime::TcpStream>;

// Until the answer has `what`, or the server closes.
Task<std::string> read_until(runtime::TcpStream* stream, std::string what) {
    std::string answer;
    uint8_t chunk[1024];
    while (answer.find(what) == std::string::npos) {
        const auto got = co_await stream->read_some(chunk, {});
        if (!got) break;
        answer.append(reinterpret_cast<const char*>(chunk), *got);
    }
    co_return answer;
}

Task<Result<Stream>> connect_and_send(std::string address, std::string text) {
    auto stream = co_await runtime::try_(runtime::TcpStream::connect(address));
    if (!text.empty()) co_await runtime::try_(stream->write_all({as_bytes(text)}, {}));
    co_return stream;
}

const std::string kReady = "GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

Task<Response> ready(const Request&) { co_return Response{.body = "ready\n"}; }

struct Ends {
    std::string ready;                // what /ready answered
    std::vector<std::string> others;  // ... and the other connections
};

// So many connections that send `text` and stay, then one that asks for /ready.
Task<Result<Ends>> ask_beside(size_t count, std::string text) {
    Server server({.connections_max = 6, .reserved = 2, .running_max = 1});
    runtime::StopSource let_go;
    server.handle("GET", "/ready", ready);
    server.handle_under("/v1/", [&let_go](const Request&) -> Task<Response> {
        (void)co_await runtime::sleep_until(Instant::never(), let_go.token());
        co_return Response{.body = "slow\n"};
    });
    co_await runtime::try_(server.start("127.0.0.1:0"));
    std::vector<Stream> others;
    for (size_t i = 0; i < count; ++i)
        others.push_back(co_await runtime::try_(connect_and_send(server.address(), text)));
    Ends ends;
    const Stream asking = co_await runtime::try_(connect_and_send(server.address(), kReady));
    ends.ready = co_await read_until(asking.get(), "ready\n");
    co_await asking->close();
    let_go.request_stop();
    if (text.ends_with("\r\n\r\n")) {
        for (const Stream& each : others)
            ends.others.push_back(co_await read_until(each.get(), "\n\n"));
    }
    for (const Stream& each : others) co_await each->close();
    co_await server.stop();
    co_return ends;
}

TEST(HttpServer, idle_connections_make_room_for_whoever_asks_whether_the_node_is_ready) {
    const Ends ends =
        runtime::run_on_one_shard([](runtime::RealNode&) { return ask_beside(40, ""); })
            .value()
            .value();
    EXPECT_NE(ends.ready.find("200 OK"), std::string::npos) << ends.ready;
}

TEST(HttpServer, half_a_request_is_no_reason_to_stay) {
    const Ends ends = runtime::run_on_one_shard([](runtime::RealNode&) {
                          return ask_beside(40, "GET /v1/x HTTP/1.1\r\nHo");
                      })
                          .value()
                          .value();
    EXPECT_NE(ends.ready.find("200 OK"), std::string::npos) << ends.ready;
}

TEST(HttpServer, slow_requests_leave_places_for_ready) {
    const Ends ends =
        runtime::run_on_one_shard([](runtime::RealNode&) {
            return ask_beside(6, "GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        })
            .value()
            .value();
    EXPECT_NE(ends.ready.find("200 OK"), std::string::npos) << ends.ready;
    size_t answered = 0;
    size_t refused = 0;
    for (const std::string& each : ends.others) {
        answered += each.find("slow") != std::string::npos ? 1 : 0;
        refused += each.find(" 503 ") != std::string::npos ? 1 : 0;
    }
    EXPECT_EQ(answered, 4u) << "all but the reserve, in turn";
    EXPECT_EQ(refused, 2u);
}

Task<Result<std::pair<std::string, std::string>>> ask_before_sending() {
    Server server;
    server.handle("POST", "/echo", echo);
    co_await runtime::try_(server.start("127.0.0.1:0"));
    const Stream stream = co_await runtime::try_(connect_and_send(
        server.address(),
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
        "Connection: close\r\n\r\n"));
    std::pair<std::string, std::string> said;
    said.first = co_await read_until(stream.get(), "\r\n\r\n");
    co_await runtime::try_(stream->write_all({as_bytes(std::string_view("body"))}, {}));
    said.second = co_await read_until(stream.get(), "body");
    co_await stream->close();
    co_await server.stop();
    co_return said;
}

TEST(HttpServer, who_asks_before_it_sends_its_body_is_told_to_go_on) {
    const auto said =
        runtime::run_on_one_shard([](runtime::RealNode&) { return ask_before_sending(); })
            .value()
            .value();
    EXPECT_EQ(said.first, "HTTP/1.1 100 Continue\r\n\r\n");
    EXPECT_NE(said.second.find("200 OK"), std::string::npos) << said.second;
    EXPECT_NE(said.second.find("POST /echo  body"), std::string::npos) << said.second;
}

Task<Result<bool>> never_read() {
    Server server({.answer_timeout = 20ms});
    server.handle("GET", "/large", [](const Request&) -> Task<Response> {
        co_return Response{.body = std::string(64 << 20, 'x')};
    });
    co_await runtime::try_(server.start("127.0.0.1:0"));
    const Stream stream = co_await runtime::try_(
        connect_and_send(server.address(), "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
    while (server.connection_count() == 0) (void)co_await runtime::sleep_for(1ms);
    while (server.connection_count() > 0) (void)co_await runtime::sleep_for(1ms);
    co_await stream->close();
    co_await server.stop();
    co_return true;
}

TEST(HttpServer, a_client_that_does_not_read_its_answer_is_dropped) {
    EXPECT_TRUE(
        runtime::run_on_one_shard([](runtime::RealNode&) { return never_read(); }).value().value());
}

Task<Result<void>> close_first(runtime::TcpListener* listener) {
    auto stream = co_await runtime::try_(co_await listener->accept({}));
    uint8_t request[512];
    (void)co_await stream->read_some(request, {});
    co_await stream->close();
    co_return Result<void>{};
}

Task<Result<ClientAnswer>> ask_one_that_closes() {
    runtime::TcpListener listener =
        co_await runtime::try_(runtime::TcpListener::listen("127.0.0.1:0"));
    runtime::Scope scope;
    scope.spawn(
        [](runtime::TcpListener* at) -> Task<void> { (void)co_await close_first(at); }(&listener));
    auto answer = co_await ask({.address = listener.address(), .target = "/"});
    co_await scope.join();
    co_await listener.close();
    co_return answer;
}

TEST(HttpClient, a_connection_that_is_closed_without_an_answer_is_an_error) {
    const auto answer =
        runtime::run_on_one_shard([](runtime::RealNode&) { return ask_one_that_closes(); }).value();
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace weir::http

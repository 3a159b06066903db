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

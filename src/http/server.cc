#include "http/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "runtime/deadline_stop.h"

namespace weir::http {

namespace beast = boost::beast::http;
using runtime::Task;
using runtime::try_;

namespace {

// Answers up to this size are not counted: connections_max bounds them. Large ones are of a few
// paths.
constexpr size_t kSmallAnswerBytes = size_t{16} << 10;
constexpr size_t kPathsMax = 64;

std::string serialize(const Response& response, bool keep_alive, bool with_body) {
    const std::string_view reason =
        beast::obsolete_reason(static_cast<beast::status>(response.status));
    std::string text = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n",
        response.status, reason, response.content_type, response.body.size(),
        keep_alive ? "keep-alive" : "close");
    if (with_body) text += response.body;
    return text;
}

// Ends the stream when its time is over; whoever reads from it then fails.
Task<void> end_at(runtime::TcpStream* stream, Instant deadline, runtime::StopToken stop) {
    if (co_await runtime::sleep_until(deadline, stop)) co_await stream->shutdown();
}

Request to_request(const beast::request<beast::string_body>& message) {
    Request request;
    request.method = std::string(message.method_string());
    const std::string_view target(message.target().data(), message.target().size());
    const size_t question = target.find('?');
    request.path = target.substr(0, question);
    if (question != std::string_view::npos) request.query = target.substr(question + 1);
    request.body = message.body();
    return request;
}

}  // namespace

void Server::handle(std::string method, std::string path, Handler handler) {
    handlers_[std::move(path)][std::move(method)] = std::move(handler);
}

void Server::handle_under(std::string prefix, Handler handler) {
    prefix_ = std::move(prefix);
    under_prefix_ = std::move(handler);
}

Task<Result<void>> Server::start(std::string address) {
    listener_ =
        co_await try_(runtime::TcpListener::listen(std::move(address), options_.connections_max));
    scope_.spawn(accept_all());
    co_return Result<void>{};
}

Task<void> Server::accept_all() {
    while (!scope_.stop_requested()) {
        auto stream = co_await listener_.accept(scope_.stop_token());
        if (!stream) {
            // Out of file descriptors, perhaps: give others time to close theirs.
            if (!co_await runtime::sleep_for(std::chrono::milliseconds(100), scope_.stop_token()))
                break;
            continue;
        }
        if (connections_ >= options_.connections_max) {
            co_await (*stream)->close();
            continue;
        }
        ++connections_;
        if (!scope_.spawn(serve(std::move(*stream)))) --connections_;
    }
}

Task<void> Server::serve(std::unique_ptr<runtime::TcpStream> stream) {
    (void)co_await serve_requests(stream.get());
    co_await stream->close();
    --connections_;
}

Task<Result<void>> Server::serve_requests(runtime::TcpStream* stream) {
    std::string received;
    bool keep_alive = true;
    while (keep_alive) {
        beast::request_parser<beast::string_body> parser;
        parser.header_limit(options_.header_bytes_max);
        parser.body_limit(options_.body_bytes_max);
        parser.eager(true);

        runtime::Scope timeout;
        timeout.spawn(end_at(stream, runtime::Shard::current().now() + options_.request_timeout,
                             timeout.stop_token()));
        boost::system::error_code problem;
        Result<void> read{};
        while (!parser.is_done() && !problem && read) {
            if (!received.empty()) {
                const size_t used = parser.put(boost::asio::buffer(received), problem);
                received.erase(0, used);
                if (problem == beast::error::need_more) problem = {};
                if (parser.is_done() || problem) break;
            }
            uint8_t chunk[4096];
            const auto got = co_await stream->read_some(chunk, scope_.stop_token());
            if (got) {
                received.append(reinterpret_cast<const char*>(chunk), *got);
            } else {
                read = fail(got.error());
            }
        }
        co_await timeout.close();
        co_await try_(std::move(read));
        if (problem) {
            const Response refusal{.status = problem == beast::error::body_limit ? 413 : 400,
                                   .body = problem.message() + "\n"};
            const std::string text = serialize(refusal, false, true);
            co_return co_await stream->write_all({as_bytes(text)}, scope_.stop_token());
        }
        const Request request = to_request(parser.get());
        keep_alive = parser.get().keep_alive() && !scope_.stop_requested();
        runtime::Reservation memory = co_await try_(reserve_answer(&request.path));
        std::string text;
        {
            const Response response = co_await answer(&request);
            text = serialize(response, keep_alive, request.method != "HEAD");
        }
        memory = {};
        if (options_.answers_memory != nullptr && text.size() > kSmallAnswerBytes) {
            if (answer_bytes_.size() < kPathsMax || answer_bytes_.contains(request.path))
                answer_bytes_[request.path] = text.size();
            memory = options_.answers_memory->charge(text.size());
        }
        co_await try_(stream->write_all({as_bytes(text)}, scope_.stop_token()));
    }
    co_return Result<void>{};
}

Task<Result<runtime::Reservation>> Server::reserve_answer(const std::string* path) {
    const auto usual = answer_bytes_.find(*path);
    if (options_.answers_memory == nullptr || usual == answer_bytes_.end())
        co_return runtime::Reservation();
    runtime::MemoryBudget& memory = *options_.answers_memory;
    runtime::DeadlineStop limit(runtime::Shard::current().now() + options_.request_timeout,
                                scope_.stop_token());
    co_return co_await memory.reserve(std::min(usual->second, memory.total() / 2), limit.token());
}

Task<Response> Server::answer(const Request* request) {
    const auto path = handlers_.find(request->path);
    if (path == handlers_.end() && under_prefix_ && request->path.starts_with(prefix_))
        co_return co_await under_prefix_(*request);
    if (path == handlers_.end()) co_return Response{.status = 404, .body = "not found\n"};
    const auto method = path->second.find(request->method == "HEAD" ? "GET" : request->method);
    if (method == path->second.end())
        co_return Response{.status = 405, .body = "method not allowed\n"};
    co_return co_await method->second(*request);
}

Task<void> Server::stop() {
    co_await scope_.close();
    co_await listener_.close();
}

}  // namespace weir::http

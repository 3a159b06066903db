#include "http/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
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

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

Request to_request(const beast::request<beast::string_body>& message) {
    Request request;
    request.method = std::string(message.method_string());
    const std::string_view target(message.target().data(), message.target().size());
    const size_t question = target.find('?');
    request.path = target.substr(0, question);
    if (question != std::string_view::npos) request.query = target.substr(question + 1);
    request.body = message.body();
    const auto header = [&](beast::field field) {
        const auto value = message[field];
        return std::string(value.data(), value.size());
    };
    request.from = {.host = header(beast::field::host),
                    .origin = header(beast::field::origin),
                    .content_type = header(beast::field::content_type)};
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
        // It came in the turn in which the server was told to stop, and nobody would serve it.
        if (scope_.stop_requested()) {
            co_await (*stream)->close();
            break;
        }
        if (connections_ >= options_.connections_max) {
            if (waiting_.empty()) {
                co_await (*stream)->close();
                continue;
            }
            waiting_.pop_front().evicted.request_stop();
        }
        ++connections_;
        if (!scope_.spawn(serve(std::move(*stream)))) --connections_;
    }
}

Task<void> Server::serve(std::unique_ptr<runtime::TcpStream> stream) {
    Connection connection;
    connection.stream = std::move(stream);
    (void)co_await serve_requests(&connection);
    connection.unlink();
    co_await connection.stream->close();
    --connections_;
}

// What the client does not receive in time is dropped, and the connection with it.
Task<Result<void>> Server::send(Connection* connection, std::string text) {
    runtime::DeadlineStop until(runtime::Shard::current().now() + options_.answer_timeout,
                                scope_.stop_token(), connection->evicted.token());
    co_return co_await connection->stream->write_all({as_bytes(text)}, until.token());
}

Task<Result<void>> Server::serve_requests(Connection* connection) {
    std::string received;
    bool keep_alive = true;
    while (keep_alive) {
        beast::request_parser<beast::string_body> parser;
        parser.header_limit(options_.header_bytes_max);
        parser.body_limit(options_.body_bytes_max);
        parser.eager(true);

        waiting_.push_back(*connection);
        runtime::DeadlineStop until(runtime::Shard::current().now() + options_.request_timeout,
                                    scope_.stop_token(), connection->evicted.token());
        boost::system::error_code problem;
        bool continued = false;
        while (!parser.is_done() && !problem) {
            if (!received.empty()) {
                const size_t used = parser.put(boost::asio::buffer(received), problem);
                received.erase(0, used);
                if (problem == beast::error::need_more) problem = {};
                if (parser.is_done() || problem) break;
            }
            // A client that asks first sends no body before it is told to.
            if (parser.is_header_done() && !std::exchange(continued, true) &&
                boost::beast::iequals(parser.get()[beast::field::expect], "100-continue"))
                co_await try_(connection->stream->write_all({as_bytes(kContinue)}, until.token()));
            uint8_t chunk[4096];
            const size_t got = co_await try_(connection->stream->read_some(chunk, until.token()));
            received.append(reinterpret_cast<const char*>(chunk), got);
        }
        if (problem) {
            const Response refusal{.status = problem == beast::error::body_limit ? 413 : 400,
                                   .body = problem.message() + "\n"};
            co_return co_await send(connection, serialize(refusal, false, true));
        }
        const Request request = to_request(parser.get());
        // Whoever took this one's place was let in.
        keep_alive = parser.get().keep_alive() && connection->linked() && !scope_.stop_requested();
        connection->unlink();
        Answer made;
        if (is_under_prefix(request)) {
            made = co_await try_(make_in_turn(&request, keep_alive));
        } else {
            made = co_await try_(make_answer(&request, keep_alive));
        }
        keep_alive = keep_alive && !scope_.stop_requested();
        waiting_.push_back(*connection);
        co_await try_(send(connection, std::move(made.text)));
        connection->unlink();
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

bool Server::is_under_prefix(const Request& request) const {
    return under_prefix_ && request.path.starts_with(prefix_) && !handlers_.contains(request.path);
}

Task<Response> Server::answer(const Request* request) {
    if (is_under_prefix(*request)) co_return co_await under_prefix_(*request);
    const auto path = handlers_.find(request->path);
    if (path == handlers_.end()) co_return Response{.status = 404, .body = "not found\n"};
    const auto method = path->second.find(request->method == "HEAD" ? "GET" : request->method);
    if (method == path->second.end())
        co_return Response{.status = 405, .body = "method not allowed\n"};
    co_return co_await method->second(*request);
}

Task<Result<Server::Answer>> Server::make_answer(const Request* request, bool keep_alive) {
    Answer made;
    made.memory = co_await try_(reserve_answer(&request->path));
    {
        const Response response = co_await answer(request);
        made.text = serialize(response, keep_alive, request->method != "HEAD");
    }
    made.memory = {};
    if (options_.answers_memory != nullptr && made.text.size() > kSmallAnswerBytes) {
        if (answer_bytes_.size() < kPathsMax || answer_bytes_.contains(request->path))
            answer_bytes_[request->path] = made.text.size();
        made.memory = options_.answers_memory->charge(made.text.size());
    }
    co_return made;
}

Task<Result<Server::Answer>> Server::make_in_turn(const Request* request, bool keep_alive) {
    if (under_prefix_count_ + options_.reserved >= options_.connections_max) {
        const Response busy{.status = 503, .body = "too many requests at the same time\n"};
        co_return Answer{.text = serialize(busy, keep_alive, request->method != "HEAD"),
                         .memory = {}};
    }
    ++under_prefix_count_;
    Result<Answer> made = fail(ErrorCode::kCancelled);
    {
        const auto turn = co_await running_.acquire(1, {.stop = scope_.stop_token()});
        if (turn) made = co_await make_answer(request, keep_alive);
    }
    --under_prefix_count_;
    co_return made;
}

Task<void> Server::stop() {
    co_await scope_.close();
    co_await listener_.close();
}

}  // namespace weir::http

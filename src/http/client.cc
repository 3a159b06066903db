#include "http/client.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "runtime/deadline_stop.h"
#include "runtime/socket.h"

namespace weir::http {

namespace beast = boost::beast::http;
using runtime::Task;
using runtime::try_;

namespace {

Task<Result<ClientAnswer>> exchange(runtime::TcpStream* stream, const ClientRequest* request,
                                    runtime::StopToken stop) {
    // What changes something is refused without it (http/same_origin.h).
    const std::string_view type =
        request->method == "GET" ? "" : "Content-Type: application/json\r\n";
    const std::string head = fmt::format(
        "{} {} HTTP/1.1\r\nHost: {}\r\n{}Connection: close\r\nContent-Length: 0\r\n\r\n",
        request->method, request->target, request->address, type);
    co_await try_(stream->write_all({as_bytes(head)}, stop));
    beast::response_parser<beast::string_body> parser;
    parser.body_limit(request->answer_bytes_max);
    parser.eager(true);
    std::string received;
    boost::system::error_code problem;
    while (!parser.is_done()) {
        uint8_t chunk[16384];
        const auto got = co_await stream->read_some(chunk, stop);
        if (!got && got.error().code == ErrorCode::kEndOfStream) {
            // A node that stops closes connections that it owes an answer.
            if (!parser.got_some())
                co_return fail(
                    ErrorCode::kUnavailable,
                    fmt::format("{} closed the connection without an answer", request->address));
            parser.put_eof(problem);
            break;
        }
        if (!got) co_return fail(got.error());
        received.append(reinterpret_cast<const char*>(chunk), *got);
        received.erase(0, parser.put(boost::asio::buffer(received), problem));
        if (problem == beast::error::need_more) problem = {};
        if (problem) break;
    }
    if (problem || !parser.is_done()) {
        co_return fail(ErrorCode::kMalformed,
                       fmt::format("{}: the answer is no HTTP ({})", request->address,
                                   problem ? problem.message() : "it ends too early"));
    }
    co_return ClientAnswer{static_cast<int>(parser.get().result_int()), parser.get().body()};
}

}  // namespace

Task<Result<ClientAnswer>> ask(ClientRequest request) {
    runtime::DeadlineStop deadline(runtime::Shard::current().now() + request.timeout);
    auto stream = co_await runtime::TcpStream::connect(request.address, deadline.token());
    Result<ClientAnswer> answer = fail(ErrorCode::kUnavailable);
    if (stream) {
        answer = co_await exchange(stream->get(), &request, deadline.token());
        co_await (*stream)->close();
    } else {
        answer = fail(std::move(stream).error());
    }
    if (!answer && answer.error().code == ErrorCode::kCancelled)
        answer =
            fail(ErrorCode::kTimedOut, fmt::format("{} did not answer in time", request.address));
    co_return answer;
}

}  // namespace weir::http

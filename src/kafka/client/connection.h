// ClientConnection: one TCP connection of a Kafka client, with pipelining: calls are sent in the
// order in which they are made, and may wait for their answers at the same time. Works with any
// broker: it asks ApiVersions first and uses the newest version that both sides have. Used by the
// `weir` command, the benchmarks and the simulator's clients. Owned by the code that connected it;
// one shard.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/result.h"
#include "kafka/protocol/api.h"
#include "runtime/buffer.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::kafka {

// A decoded answer and the frame that its Records point into.
template <class Response>
struct Answer {
    Response message;
    runtime::SharedBytes frame;
};

class ClientConnection {
  public:
    struct Options {
        std::string client_id = "weir";
        Duration timeout = std::chrono::seconds(
            30);  // of one call, beside what the call itself asks the broker to wait
        uint64_t answer_bytes_max = 256u << 20;
    };

    // "host:port". Connects and negotiates versions.
    static runtime::Task<Result<std::unique_ptr<ClientConnection>>> connect(std::string address,
                                                                            Options options);
    ~ClientConnection();

    // The newest version that this library and the broker share, at most `version_max`;
    // kUnsupported if there is none.
    Result<int16_t> version_of(ApiKey key, int16_t version_max = INT16_MAX) const;

    // Sends the request and waits for its answer. `version_max` limits the version.
    template <class Response, class Request>
    runtime::Task<Result<Answer<Response>>> call(Request request, int16_t version_max = INT16_MAX,
                                                 Duration extra_wait = Duration::zero());
    // As call(), for requests that are not answered (Produce with acks 0).
    template <class Request>
    runtime::Task<Result<void>> send_only(Request request);

    // Sends a frame that begin_request() and encode() made. A load generator may send it
    // repeatedly; each time it gets a new correlation id. Returns the answer's frame, without the
    // size prefix. `frame` and what it refers to stay alive until the call ends; one call of a
    // frame at a time.
    runtime::Task<Result<runtime::SharedBytes>> call_encoded(ByteWriter* frame);

    // False once the stream failed or ended; calls then fail with kUnavailable.
    bool is_open() const { return !broken_; }
    const std::string& address() const { return address_; }
    runtime::Task<void> close();

  private:
    struct Pending;

    ClientConnection(std::unique_ptr<runtime::TcpStream> stream, std::string address,
                     Options options);
    runtime::Task<Result<void>> negotiate();
    runtime::Task<void> read_answers();
    runtime::Task<Result<void>> read_one_answer();
    runtime::Task<Result<void>> send(ByteWriter* frame);
    runtime::Task<Result<runtime::SharedBytes>> exchange(ByteWriter* frame, Duration timeout);
    void fail_pending();

    std::unique_ptr<runtime::TcpStream> stream_;
    std::string address_;
    Options options_;
    int32_t next_correlation_id_ = 0;
    bool broken_ = false;
    struct Range {
        int16_t key;
        int16_t version_min;
        int16_t version_max;
    };
    std::vector<Range> ranges_;
    IntrusiveList<Pending> pending_;
    runtime::Semaphore sending_{1};
    runtime::Scope scope_;
};

// The part of call() that does not depend on types: skips and checks the answer's header.
Result<void> skip_response_header(ByteReader& in, ApiKey key, int16_t version);
// The size prefix, the request header and room for the correlation id; encode() of the body
// follows.
Result<ByteWriter> begin_request(ApiKey key, int16_t version, const std::string& client_id);

template <class Response, class Request>
runtime::Task<Result<Answer<Response>>> ClientConnection::call(Request request, int16_t version_max,
                                                               Duration extra_wait) {
    const int16_t version = co_await runtime::try_(version_of(Request::kApiKey, version_max));
    ByteWriter frame =
        co_await runtime::try_(begin_request(Request::kApiKey, version, options_.client_id));
    co_await runtime::try_(request.encode(frame, version));
    runtime::SharedBytes answer =
        co_await runtime::try_(exchange(&frame, options_.timeout + extra_wait));
    ByteReader in(answer.bytes());
    co_await runtime::try_(skip_response_header(in, Request::kApiKey, version));
    Response response = co_await runtime::try_(Response::decode(in, version));
    co_return Answer<Response>{std::move(response), std::move(answer)};
}

template <class Request>
runtime::Task<Result<void>> ClientConnection::send_only(Request request) {
    const int16_t version = co_await runtime::try_(version_of(Request::kApiKey));
    ByteWriter frame =
        co_await runtime::try_(begin_request(Request::kApiKey, version, options_.client_id));
    co_await runtime::try_(request.encode(frame, version));
    co_return co_await send(&frame);
}

}  // namespace weir::kafka

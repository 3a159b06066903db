#include "kafka/client/connection.h"

#include <fmt/format.h>

#include "kafka/protocol/api_versions.h"
#include "kafka/protocol/header.h"
#include "runtime/deadline_stop.h"

namespace weir::kafka {

using runtime::Task;
using runtime::try_;

namespace {

constexpr size_t kSizePrefix = 4;
constexpr size_t kCorrelationIdAt = kSizePrefix + 4;  // after the API key and version
constexpr int16_t kApiVersionsVersion = 3;

// The frame in the order in which it goes out: inline bytes cut where external ones belong.
std::vector<Bytes> parts_of(const ByteWriter& frame) {
    std::vector<Bytes> parts;
    parts.reserve(2 * frame.externals().size() + 1);
    const Bytes own = frame.inline_bytes();
    size_t from = 0;
    for (const ByteWriter::External& external : frame.externals()) {
        if (external.at > from) parts.push_back(own.subspan(from, external.at - from));
        parts.push_back(external.bytes);
        from = external.at;
    }
    if (from < own.size()) parts.push_back(own.subspan(from));
    return parts;
}

}  // namespace

// A call that waits for its answer; lies in the caller's frame.
struct ClientConnection::Pending : ListHook {
    int32_t correlation_id = 0;
    bool done = false;
    runtime::SharedBytes answer;  // empty with done: the connection broke
    runtime::WaitQueue waiter;
};

Result<ByteWriter> begin_request(ApiKey key, int16_t version, const std::string& client_id) {
    ByteWriter frame;
    frame.write_i32(0);
    const RequestHeader header{static_cast<int16_t>(key), version, 0, client_id};
    TRY(header.encode(frame));
    return frame;
}

Result<void> skip_response_header(ByteReader& in, ApiKey key, int16_t version) {
    TRY(ResponseHeader::decode(in, api_info(key).response_header_version(version)));
    return {};
}

ClientConnection::ClientConnection(std::unique_ptr<runtime::TcpStream> stream, std::string address,
                                   Options options)
    : stream_(std::move(stream)), address_(std::move(address)), options_(std::move(options)) {}

ClientConnection::~ClientConnection() = default;

Task<Result<std::unique_ptr<ClientConnection>>> ClientConnection::connect(std::string address,
                                                                          Options options) {
    auto stream = co_await try_(runtime::TcpStream::connect(address));
    std::unique_ptr<ClientConnection> connection(
        new ClientConnection(std::move(stream), std::move(address), std::move(options)));
    connection->scope_.spawn(connection->read_answers());
    Result<void> negotiated = co_await connection->negotiate();
    if (!negotiated) {
        co_await connection->close();
        co_return fail(std::move(negotiated).error());
    }
    co_return connection;
}

Task<Result<void>> ClientConnection::negotiate() {
    // Old brokers answer a version that they do not know with version 0 and UNSUPPORTED_VERSION,
    // and close or not; version 0 is then asked.
    for (const int16_t version : {kApiVersionsVersion, int16_t{0}}) {
        ByteWriter frame =
            co_await try_(begin_request(ApiKey::kApiVersions, version, options_.client_id));
        ApiVersionsRequest request;
        request.client_software_name = "weir";
        request.client_software_version = "0.1.0";
        co_await try_(request.encode(frame, version));
        runtime::SharedBytes answer = co_await try_(exchange(&frame, options_.timeout));
        ByteReader peek(answer.bytes());
        peek.skip(4);
        const bool unsupported = peek.read_i16() == 35;
        ByteReader in(answer.bytes());
        co_await try_(skip_response_header(in, ApiKey::kApiVersions, version));
        if (unsupported && version != 0) continue;
        const ApiVersionsResponse response =
            co_await try_(ApiVersionsResponse::decode(in, version));
        if (response.error_code != 0) {
            co_return fail(
                ErrorCode::kUnsupported,
                fmt::format("{}: ApiVersions failed with code {}", address_, response.error_code));
        }
        for (const auto& api : response.api_keys)
            ranges_.push_back({api.api_key, api.min_version, api.max_version});
        co_return Result<void>{};
    }
    co_return fail(ErrorCode::kUnsupported,
                   fmt::format("{}: no common version of ApiVersions", address_));
}

Result<int16_t> ClientConnection::version_of(ApiKey key, int16_t version_max) const {
    const ApiInfo& info = api_info(key);
    for (const Range& range : ranges_) {
        if (range.key != static_cast<int16_t>(key)) continue;
        const int16_t newest = std::min({range.version_max, info.version_max, version_max});
        if (newest >= range.version_min && newest >= info.version_min) return newest;
        break;
    }
    return fail(ErrorCode::kUnsupported,
                fmt::format("{} serves no usable version of {}", address_, info.name));
}

Task<Result<void>> ClientConnection::send(ByteWriter* frame) {
    const size_t size = frame->size() - kSizePrefix;
    if (size > INT32_MAX) co_return fail(ErrorCode::kInvalidArgument, "a request is at most 2 GiB");
    frame->patch_i32(0, static_cast<int32_t>(size));
    runtime::Units turn = co_await try_(co_await sending_.acquire(1));
    if (broken_)
        co_return fail(ErrorCode::kUnavailable, fmt::format("{}: connection lost", address_));
    // A peer that lost its power, or reads no more, would hold this up for ever.
    runtime::DeadlineStop deadline(runtime::Shard::current().now() + options_.timeout);
    Result<void> sent = co_await stream_->write_all(parts_of(*frame), deadline.token());
    if (!sent) {
        broken_ = true;
        co_await stream_->shutdown();
        if (sent.error().code == ErrorCode::kCancelled)
            sent = fail(ErrorCode::kTimedOut, fmt::format("{} takes no more", address_));
    }
    co_return sent;
}

Task<Result<runtime::SharedBytes>> ClientConnection::exchange(ByteWriter* frame, Duration timeout) {
    Pending pending;
    pending.correlation_id = next_correlation_id_++;
    frame->patch_i32(kCorrelationIdAt, pending.correlation_id);
    if (broken_)
        co_return fail(ErrorCode::kUnavailable, fmt::format("{}: connection lost", address_));
    pending_.push_back(pending);
    const Instant deadline = runtime::Shard::current().now() + timeout;
    co_await try_(send(frame));
    while (!pending.done) {
        Result<void> woken = co_await pending.waiter.wait({.deadline = deadline});
        if (woken || pending.done) continue;
        // The order of answers is the order of calls: one that does not come makes the connection
        // useless.
        broken_ = true;
        co_await stream_->shutdown();
        co_return fail(ErrorCode::kTimedOut, fmt::format("{} did not answer in time", address_));
    }
    if (pending.answer.empty())
        co_return fail(ErrorCode::kUnavailable, fmt::format("{}: connection lost", address_));
    co_return std::move(pending.answer);
}

Task<Result<runtime::SharedBytes>> ClientConnection::call_encoded(ByteWriter* frame) {
    return exchange(frame, options_.timeout);
}

Task<Result<void>> ClientConnection::read_one_answer() {
    uint8_t prefix[kSizePrefix];
    co_await try_(runtime::read_exactly(*stream_, prefix));
    const int32_t size = load_be<int32_t>(prefix);
    if (size < 4 || static_cast<uint64_t>(size) > options_.answer_bytes_max) {
        co_return fail(ErrorCode::kMalformed,
                       fmt::format("{}: an answer of {} bytes", address_, size));
    }
    auto buffer = runtime::IoBuffer::allocate(static_cast<size_t>(size), {}, 64);
    buffer.set_size(static_cast<size_t>(size));
    co_await try_(runtime::read_exactly(*stream_, buffer.all()));
    const int32_t correlation_id = load_be<int32_t>(buffer.data());
    if (pending_.empty() || pending_.front().correlation_id != correlation_id) {
        co_return fail(ErrorCode::kMalformed,
                       fmt::format("{}: an answer out of order ({})", address_, correlation_id));
    }
    Pending& pending = pending_.pop_front();
    pending.answer = std::move(buffer).share();
    pending.done = true;
    pending.waiter.notify_all();
    co_return Result<void>{};
}

Task<void> ClientConnection::read_answers() {
    while (true) {
        if (!co_await read_one_answer()) break;
    }
    broken_ = true;
    fail_pending();
}

void ClientConnection::fail_pending() {
    while (!pending_.empty()) {
        Pending& pending = pending_.pop_front();
        pending.done = true;
        pending.waiter.notify_all();
    }
}

Task<void> ClientConnection::close() {
    broken_ = true;
    co_await stream_->shutdown();
    co_await scope_.close();
    co_await stream_->close();
}

}  // namespace weir::kafka

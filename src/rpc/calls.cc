#include "rpc/calls.h"

#include <algorithm>

#include "runtime/shard.h"

namespace weir::rpc {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;

namespace {

// 0: for ever.
uint32_t timeout_ms(Instant deadline, Instant now) {
    if (deadline == Instant::never()) return 0;
    const int64_t ms = (deadline - now + 1ms - 1ns) / 1ms;
    return static_cast<uint32_t>(std::clamp<int64_t>(ms, 1, UINT32_MAX));
}

}  // namespace

Error lost(const Error& why) {
    return {.code = ErrorCode::kUnavailable,
            .message = "the connection is lost: " + why.to_string()};
}

Task<Result<SharedBytes>> Calls::exchange(Connection& connection, Message message,
                                          CallOptions options, size_t in_flight_max) {
    const Instant now = Shard::current().now();
    if (options.stop.stop_requested()) co_return fail(ErrorCode::kCancelled);
    if (options.deadline <= now) co_return fail(ErrorCode::kTimedOut);
    if (waiting_.size() >= in_flight_max)
        co_return fail(ErrorCode::kResourceExhausted, "too many calls to one shard");
    if (!connection.fits(message.lane, message.size()))
        co_return fail(ErrorCode::kResourceExhausted, "the connection's queue is full");
    const uint64_t call = next_++;
    Waiting waiting;
    waiting_.emplace(call, &waiting);
    connection.push({.type = FrameType::kRequest,
                     .timeout_ms = timeout_ms(options.deadline, now),
                     .call = call,
                     .message = std::move(message)});
    const Result<void> woken =
        co_await waiting.done.wait({.deadline = options.deadline, .stop = options.stop});
    if (options.unanswered != nullptr) *options.unanswered = !waiting.answered;
    // With a result, *this may be gone.
    if (waiting.result) co_return std::move(*waiting.result);
    CHECK(!woken);
    waiting_.erase(call);
    co_return fail(woken.error());
}

Result<void> Calls::receive(Incoming incoming, EndpointMetrics& metrics) {
    if (incoming.type != FrameType::kResponse && incoming.type != FrameType::kFailure)
        return fail(ErrorCode::kMalformed, "not a response");
    const auto found = waiting_.find(incoming.call);
    if (found == waiting_.end()) {
        if (incoming.call >= next_) return fail(ErrorCode::kMalformed, "a response to no request");
        ++metrics.responses_late;
        return {};
    }
    Waiting& waiting = *found->second;
    waiting_.erase(found);
    waiting.answered = true;
    if (incoming.dropped) {
        ++metrics.messages_dropped;
        waiting.result.emplace(
            fail(ErrorCode::kResourceExhausted, "there is no memory for the response"));
    } else if (incoming.type == FrameType::kResponse) {
        waiting.result.emplace(std::move(incoming.body));
    } else {
        waiting.result.emplace(fail(decode_error(incoming.body.bytes())));
    }
    waiting.done.notify_all();
    return {};
}

void Calls::fail_all(const Error& error) {
    for (const auto& [call, waiting] : waiting_) {
        waiting->result.emplace(fail(error));
        waiting->done.notify_all();
    }
    waiting_.clear();
}

}  // namespace weir::rpc

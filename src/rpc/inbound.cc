#include "rpc/inbound.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/shard.h"

namespace weir::rpc {

using runtime::Shard;
using runtime::Task;

namespace {

// What nodes ask before they are members is small.
constexpr size_t kStrangerBytesMax = size_t{64} << 10;
constexpr Duration kStrangerPatience = 1s;

}  // namespace

Inbound::Inbound(Endpoint& endpoint, runtime::ByteStream& stream, const Accepted& accepted)
    : endpoint_(endpoint),
      stream_(stream),
      accepted_(accepted),
      connection_(stream, *this, endpoint.options_, endpoint.metrics_,
                  endpoint.scope_.stop_token()) {}

Origin Inbound::origin() const {
    return {.node = hello().from.node,
            .uuid = hello().from.uuid,
            .shard = hello().from_shard,
            .member = is_member()};
}

Task<void> Inbound::run() {
    Shard::current().log().debug("rpc", "accepted", "peer={} address={} remote_shard={}",
                                 hello().from.node.v, stream_.peer(), hello().from_shard);
    co_await connection_.run();
    co_await requests_.close();
    Shard::current().log().debug("rpc", "an accepted connection has ended",
                                 "peer={} address={} remote_shard={} error=\"{}\"",
                                 hello().from.node.v, stream_.peer(), hello().from_shard,
                                 connection_.error().to_string());
}

size_t Inbound::message_bytes_max(size_t options_max) {
    return is_member() ? options_max : std::min(options_max, kStrangerBytesMax);
}

Result<void> Inbound::receive(Incoming incoming) {
    if (incoming.type == FrameType::kRequest) return start(std::move(incoming));
    if (incoming.type != FrameType::kMessage)
        return fail(ErrorCode::kMalformed, "a response where requests come");
    if (!is_member() && !endpoint_.options_.bugs.trust_hello) {
        ++endpoint_.metrics_.messages_of_strangers;
        endpoint_.ask_who_it_is(hello().from.node);
        // A member that this node has not heard of yet dials again, and is asked about again.
        if (Shard::current().now() < connection_.since() + kStrangerPatience) return {};
        return fail(ErrorCode::kCancelled, "messages of a node that is not known");
    }
    if (incoming.dropped) {
        ++endpoint_.metrics_.messages_dropped;
        return {};
    }
    const auto handler = endpoint_.message_handlers_.find(incoming.kind);
    if (handler == endpoint_.message_handlers_.end()) {
        ++endpoint_.metrics_.messages_unknown;
        return {};
    }
    handler->second({.from = origin(), .body = std::move(incoming.body)});
    return {};
}

Outgoing Inbound::refusal(const Incoming& incoming, const Error& error) const {
    return {.type = FrameType::kFailure,
            .call = incoming.call,
            .message = {.kind = incoming.kind, .lane = incoming.lane, .body = encode_error(error)}};
}

Result<void> Inbound::start(Incoming incoming) {
    if (incoming.dropped) ++endpoint_.metrics_.messages_dropped;
    const auto found = endpoint_.request_handlers_.find(incoming.kind);
    if (found == endpoint_.request_handlers_.end()) {
        return refuse(incoming, {.code = ErrorCode::kUnsupported,
                                 .message = fmt::format("nobody handles requests of kind {}",
                                                        static_cast<uint16_t>(incoming.kind))});
    }
    const Endpoint::Handler& handler = found->second;
    if (handler.from == From::kMembers && !is_member() && !endpoint_.options_.bugs.trust_hello) {
        ++endpoint_.metrics_.messages_of_strangers;
        endpoint_.ask_who_it_is(hello().from.node);
        // It may be one that this node has not heard of yet.
        return refuse(incoming, {.code = ErrorCode::kUnavailable,
                                 .message = "only members of the cluster may ask for that"});
    }
    if (incoming.dropped) {
        return refuse(incoming, {.code = ErrorCode::kResourceExhausted,
                                 .message = "there is no memory for the request"});
    }
    if (endpoint_.requests_running_ >= endpoint_.options_.requests_running_max) {
        return refuse(incoming,
                      {.code = ErrorCode::kResourceExhausted, .message = "too many requests run"});
    }
    ++endpoint_.requests_running_;
    requests_.spawn(work(&handler.handle, std::move(incoming)));
    return {};
}

Result<void> Inbound::refuse(const Incoming& incoming, const Error& error) {
    ++endpoint_.metrics_.requests_refused;
    Outgoing no = refusal(incoming, error);
    // It sends more than it may, and does not read what it is told.
    if (!connection_.fits(no.message.lane, no.message.size()))
        return fail(ErrorCode::kResourceExhausted, "too many requests, and no room for refusals");
    connection_.push(std::move(no));
    return {};
}

Task<void> Inbound::work(const RequestHandler* handler, Incoming incoming) {
    const Instant deadline =
        incoming.timeout_ms == 0
            ? Instant::never()
            : Shard::current().now() + std::chrono::milliseconds(incoming.timeout_ms);
    auto answer = co_await (*handler)({.from = origin(),
                                       .body = std::move(incoming.body),
                                       .deadline = deadline,
                                       .stop = connection_.stop_token()});
    if (answer && answer->size() > endpoint_.options_.message_bytes_max)
        answer =
            fail(ErrorCode::kResourceExhausted, "the response is larger than a message may be");
    Outgoing out = answer ? Outgoing{.type = FrameType::kResponse,
                                     .call = incoming.call,
                                     .message = std::move(*answer)}
                          : refusal(incoming, answer.error());
    out.message.kind = incoming.kind;
    if (co_await connection_.wait_for_room(out.message.lane, out.message.size()))
        connection_.push(std::move(out));
    --endpoint_.requests_running_;
}

}  // namespace weir::rpc

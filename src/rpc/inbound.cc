#include "rpc/inbound.h"

#include <fmt/format.h>

#include "runtime/shard.h"

namespace weir::rpc {

using runtime::Shard;
using runtime::Task;

Inbound::Inbound(Endpoint& endpoint, runtime::ByteStream& stream, const Hello& hello)
    : endpoint_(endpoint),
      stream_(stream),
      hello_(hello),
      connection_(stream, *this, endpoint.options_, endpoint.metrics_,
                  endpoint.scope_.stop_token()) {}

Origin Inbound::origin() const {
    return {.node = hello_.from.node, .uuid = hello_.from.uuid, .shard = hello_.from_shard};
}

Task<void> Inbound::run() {
    Shard::current().log().debug("rpc", "accepted", "peer={} address={} remote_shard={}",
                                 hello_.from.node.v, stream_.peer(), hello_.from_shard);
    co_await connection_.run();
    co_await requests_.close();
    Shard::current().log().debug("rpc", "an accepted connection has ended",
                                 "peer={} address={} remote_shard={} error=\"{}\"",
                                 hello_.from.node.v, stream_.peer(), hello_.from_shard,
                                 connection_.error().to_string());
}

Result<void> Inbound::receive(Incoming incoming) {
    if (incoming.type == FrameType::kRequest) return start(std::move(incoming));
    if (incoming.type != FrameType::kMessage)
        return fail(ErrorCode::kMalformed, "a response where requests come");
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
    const auto handler = endpoint_.request_handlers_.find(incoming.kind);
    const bool known = handler != endpoint_.request_handlers_.end();
    const bool has_room = endpoint_.requests_running_ < endpoint_.options_.requests_running_max;
    if (incoming.dropped) ++endpoint_.metrics_.messages_dropped;
    if (known && has_room && !incoming.dropped) {
        ++endpoint_.requests_running_;
        requests_.spawn(work(&handler->second, std::move(incoming)));
        return {};
    }
    ++endpoint_.metrics_.requests_refused;
    Outgoing no = refusal(
        incoming, known ? Error{.code = ErrorCode::kResourceExhausted,
                                .message = incoming.dropped ? "there is no memory for the request"
                                                            : "too many requests run"}
                        : Error{.code = ErrorCode::kUnsupported,
                                .message = fmt::format("nobody handles requests of kind {}",
                                                       static_cast<uint16_t>(incoming.kind))});
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

#include "kafka/server/net/forward.h"

#include "base/byte_reader.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/deadline_stop.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;
using runtime::try_;

// For a controller, between two, as long as a client waits by default.
constexpr Duration kPatience = 20s;
constexpr Duration kRetryPause = 30ms;
// Until this node's image has what the controller had: clients that ask at once see what they did.
constexpr Duration kCatchUp = 1s;

// Bits of the head's flags.
constexpr uint8_t kHasClientId = 1;
constexpr uint8_t kHasPrincipal = 2;

Task<bool> leads_here(Server& server) {
    co_return co_await runtime::on(0, [server0 = &server.peer(0)]() -> Task<bool> {
        co_return server0->controller().leads();
    });
}

// Nothing: it is to be done here. kEndOfStream: it may be done once, and whether it was is not
// known.
Task<Result<std::optional<SharedBytes>>> forward(Server& server, ForwardHead head, bool once,
                                                 SharedBytes body, Instant deadline,
                                                 runtime::StopToken stop,
                                                 runtime::StopToken drain) {
    rpc::Endpoint* const endpoint = server.endpoint();
    if (endpoint == nullptr) co_return std::nullopt;
    while (!stop.stop_requested() && !drain.stop_requested() && Shard::current().now() < deadline) {
        const int32_t controller = server.metadata().status().controller;
        if (controller == server.node().id) {
            if (co_await leads_here(server)) co_return std::nullopt;
        } else if (controller >= 0) {
            bool unanswered = false;
            const auto answer = co_await endpoint->call(
                NodeId{controller}, 0,
                {.kind = kForwardCall,
                 .lane = rpc::Lane::kData,
                 .body = encode(head),
                 .parts = {body}},
                {.deadline = deadline, .stop = stop, .unanswered = &unanswered});
            if (answer) {
                ByteReader in(answer->bytes());
                const int64_t end = in.read_i64();
                if (!in.ok()) co_return fail(ErrorCode::kMalformed, "the controller's answer");
                (void)co_await server.metadata().wait_end(
                    end, {.deadline = Shard::current().now() + kCatchUp, .stop = stop});
                co_return answer->slice(sizeof end, answer->size() - sizeof end);
            }
            if (unanswered && once)
                co_return fail(ErrorCode::kEndOfStream, "the controller went away over a request");
            // Another node leads by now, or none; where the connection was lost the request may be
            // done twice.
            if (answer.error().code != ErrorCode::kUnavailable) co_return fail(answer.error());
        }
        (void)co_await server.metadata().status_changed(
            {.deadline = Shard::current().now() + kRetryPause, .stop = stop});
    }
    co_return fail(ErrorCode::kUnavailable, "no controller answered");
}

}  // namespace

std::vector<uint8_t> encode(const ForwardHead& head) {
    ByteWriter out;
    out.write_i16(head.api_key);
    out.write_i16(head.api_version);
    const bool has_principal = !head.principal.is_anonymous();
    out.write_u8((head.client_id ? kHasClientId : 0) | (has_principal ? kHasPrincipal : 0));
    std::vector<std::string> texts{head.client_id.value_or(""), head.client_host};
    if (has_principal) texts.push_back(head.principal.to_string());
    for (const std::string& text : texts) {
        out.write_unsigned_varlong(text.size());
        out.write_text(text);
    }
    return out.flatten();
}

Result<ForwardHead> read_forward_head(ByteReader& in) {
    const auto read_text = [&in] {
        return std::string(as_text(in.read_bytes(in.read_unsigned_varlong())));
    };
    ForwardHead head;
    head.api_key = in.read_i16();
    head.api_version = in.read_i16();
    const uint8_t flags = in.read_u8();
    std::string client_id = read_text();
    if (flags & kHasClientId) head.client_id = std::move(client_id);
    head.client_host = read_text();
    if (flags & kHasPrincipal) head.principal = Principal::parse(read_text());
    if ((flags & ~(kHasClientId | kHasPrincipal)) != 0) in.set_failed();
    if (!in.ok()) return fail(ErrorCode::kMalformed, "a request that was passed on");
    return head;
}

Task<Result<void>> run_at_controller(Request& request) {
    ForwardHead head{.api_key = request.header.api_key,
                     .api_version = request.header.api_version,
                     .client_id = request.header.client_id,
                     .client_host = request.client_host,
                     .principal = request.principal};
    auto answer = co_await forward(request.server, std::move(head), request.handler->once,
                                   request.frame.slice(request.body),
                                   Shard::current().now() + kPatience, request.stop, request.drain);
    if (!answer && answer.error().code != ErrorCode::kUnavailable &&
        answer.error().code != ErrorCode::kTimedOut)
        co_return fail(answer.error());
    if (!answer || !*answer) co_return co_await request.handler->run(request);
    if (request.handler->settle != nullptr)
        co_await request.handler->settle(request, (*answer)->bytes());
    request.out.write_bytes((*answer)->bytes());
    co_return Result<void>{};
}

Task<Result<std::optional<SharedBytes>>> ask_controller(Server& server, ApiKey key, int16_t version,
                                                        SharedBytes body, Instant deadline) {
    ForwardHead head;
    head.api_key = static_cast<int16_t>(key);
    head.api_version = version;
    co_return co_await forward(server, std::move(head), false, std::move(body), deadline,
                               server.background().stop_token(), {});
}

Task<Result<rpc::Message>> answer_forwarded(Server& server, rpc::Request call) {
    const auto inside = server.passed_on().try_enter();
    if (!inside || server.draining() || !server.controller().leads())
        co_return fail(ErrorCode::kUnavailable, "this node is not the controller");
    ByteReader in(call.body.bytes());
    ForwardHead head = co_await try_(read_forward_head(in));
    const std::string client_host = std::move(head.client_host);
    Request request(server, client_host);
    request.header.api_key = head.api_key;
    request.header.api_version = head.api_version;
    request.header.client_id = std::move(head.client_id);
    request.principal = std::move(head.principal);
    request.handler = find_handler(request.header.api_key);
    if (request.handler == nullptr || !request.handler->at_controller ||
        request.version() < request.handler->version_min ||
        request.version() > request.handler->version_max)
        co_return fail(ErrorCode::kUnsupported, "the controller does not serve this");
    request.arrived = Shard::current().now();
    request.passed_on = true;
    runtime::DeadlineStop stop(Instant::never(), call.stop, server.waits());
    request.stop = stop.token();
    request.gone = stop.token();
    request.hurry = stop.token();
    request.drain = stop.token();
    request.body = call.body.bytes().last(in.remaining());
    request.frame = call.body;
    if (const auto run = co_await request.handler->run(request); !run)
        co_return fail(ErrorCode::kMalformed, run.error().message);
    ByteWriter out;
    out.write_i64(server.controller().applied());
    out.write_bytes(request.out.flatten());
    co_return rpc::Message{
        .kind = {}, .lane = rpc::Lane::kData, .body = out.flatten(), .parts = {}};
}

}  // namespace weir::kafka

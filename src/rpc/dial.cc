#include "rpc/dial.h"

#include <fmt/format.h>

#include "runtime/deadline_stop.h"
#include "runtime/shard.h"

namespace weir::rpc {

using runtime::DeadlineStop;
using runtime::Shard;
using runtime::StopToken;
using runtime::Task;
using runtime::TcpStream;

namespace {

Task<Result<HelloReply>> greet(TcpStream* stream, const Hello* hello, StopToken stop) {
    const std::vector<uint8_t> bytes = encode(*hello);
    co_await runtime::try_(stream->write_all({Bytes(bytes)}, stop));
    co_return co_await read_hello_reply(*stream, stop);
}

// What this side holds against the other.
Result<void> judge(const Hello& hello, const HelloReply& reply) {
    if (reply.refusal != Refusal::kNone) return fail(to_error(reply));
    if (reply.version < hello.version_min || reply.version > hello.version_max)
        return fail(ErrorCode::kUnsupported,
                    fmt::format("the peer speaks version {}", reply.version));
    const bool both = !reply.from.cluster.is_zero() && !hello.from.cluster.is_zero();
    if (both && reply.from.cluster != hello.from.cluster)
        return fail(ErrorCode::kInvalidArgument,
                    "the peer belongs to cluster " + reply.from.cluster.to_string());
    if (hello.to.valid() && hello.to != reply.from.node)
        return fail(ErrorCode::kNotFound, fmt::format("node {} answers there", reply.from.node.v));
    return {};
}

Error name_timeout(Error error, StopToken stop, std::string_view what) {
    if (error.code != ErrorCode::kCancelled || stop.stop_requested()) return error;
    return {.code = ErrorCode::kTimedOut, .message = std::string(what) + " took too long"};
}

}  // namespace

Task<Result<Dialled>> dial(std::string address, Hello hello, EndpointOptions options,
                           StopToken stop) {
    Dialled dialled;
    {
        DeadlineStop limit(Shard::current().now() + options.connect_timeout, stop);
        auto connected = co_await TcpStream::connect(address, limit.token());
        if (!connected) co_return fail(name_timeout(std::move(connected).error(), stop, "connect"));
        dialled.stream = std::move(*connected);
    }
    Result<void> judged;
    {
        DeadlineStop limit(Shard::current().now() + options.hello_timeout, stop);
        auto reply = co_await greet(dialled.stream.get(), &hello, limit.token());
        if (reply) {
            judged = judge(hello, *reply);
            dialled.reply = std::move(*reply);
        } else {
            judged = fail(name_timeout(std::move(reply).error(), stop, "the hello"));
        }
    }
    if (!judged) {
        co_await dialled.stream->close();
        co_return fail(std::move(judged).error());
    }
    co_return dialled;
}

}  // namespace weir::rpc

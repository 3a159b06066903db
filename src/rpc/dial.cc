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

// What this side holds against the other.
Result<void> judge(const Hello& hello, const Uuid& uuid, const HelloReply& reply) {
    if (reply.refusal != Refusal::kNone) return fail(to_error(reply.refusal, reply.reason));
    if (reply.version < hello.version_min || reply.version > hello.version_max)
        return fail(ErrorCode::kUnsupported,
                    fmt::format("the peer speaks version {}", reply.version));
    const bool both = !reply.from.cluster.is_zero() && !hello.from.cluster.is_zero();
    if (both && reply.from.cluster != hello.from.cluster)
        return fail(ErrorCode::kInvalidArgument,
                    "the peer belongs to cluster " + reply.from.cluster.to_string());
    if (hello.to.valid() && hello.to != reply.from.node)
        return fail(ErrorCode::kNotFound, fmt::format("node {} answers there", reply.from.node.v));
    if (!uuid.is_zero() && uuid != reply.from.uuid)
        return fail(
            ErrorCode::kNotFound,
            fmt::format("node {} answers there with another data directory", reply.from.node.v));
    return {};
}

// The peer's proof is looked at before its answer is believed, and before this side shows its own.
Task<Result<HelloReply>> greet(TcpStream* stream, const Hello* hello, const Uuid* uuid,
                               const Credentials* credentials, StopToken stop) {
    std::vector<uint8_t> exchange = encode(*hello);
    co_await runtime::try_(stream->write_all({Bytes(exchange)}, stop));
    std::vector<uint8_t> sent;
    HelloReply reply = co_await runtime::try_(read_hello_reply(*stream, stop, &sent));
    const bool asked = credentials != nullptr && reply.proof && reply.refusal == Refusal::kNone;
    const bool proven =
        asked &&
        credentials->check(Side::kAccepting, exchange_before_reply(exchange, reply), *reply.proof);
    if (credentials != nullptr && credentials->required() && !proven &&
        reply.refusal == Refusal::kNone) {
        co_return fail(ErrorCode::kUnsupported,
                       asked ? "the peer has another cluster secret"
                             : "the peer does not prove that it belongs to the cluster: it has no "
                               "cluster secret, or an older version");
    }
    co_await runtime::try_(judge(*hello, *uuid, reply));
    if (!asked) co_return reply;
    exchange.insert(exchange.end(), sent.begin(), sent.end());
    const std::vector<uint8_t> proof = encode_proof(credentials->prove(Side::kDialling, exchange));
    co_await runtime::try_(stream->write_all({Bytes(proof)}, stop));
    const Verdict verdict = co_await runtime::try_(read_verdict(*stream, stop));
    if (verdict.refusal != Refusal::kNone)
        co_return fail(to_error(verdict.refusal, verdict.reason));
    co_return reply;
}

Error name_timeout(Error error, StopToken stop, std::string_view what) {
    if (error.code != ErrorCode::kCancelled || stop.stop_requested()) return error;
    return {.code = ErrorCode::kTimedOut, .message = std::string(what) + " took too long"};
}

}  // namespace

Task<Result<Dialled>> dial(std::string address, Hello hello, Uuid uuid, EndpointOptions options,
                           StopToken stop) {
    const Credentials* credentials = options.credentials;
    Shard::current().driver().fill_entropy(hello.nonce);
    hello.proves = credentials != nullptr;
    Dialled dialled;
    {
        DeadlineStop limit(Shard::current().now() + options.connect_timeout, stop);
        auto connected = co_await TcpStream::connect(address, limit.token());
        if (!connected) co_return fail(name_timeout(std::move(connected).error(), stop, "connect"));
        dialled.stream = std::move(*connected);
    }
    Result<void> greeted;
    {
        DeadlineStop limit(Shard::current().now() + options.hello_timeout, stop);
        auto reply =
            co_await greet(dialled.stream.get(), &hello, &uuid, credentials, limit.token());
        if (reply) {
            dialled.reply = std::move(*reply);
        } else {
            greeted = fail(name_timeout(std::move(reply).error(), stop, "the hello"));
        }
    }
    if (!greeted) {
        co_await dialled.stream->close();
        co_return fail(std::move(greeted).error());
    }
    co_return dialled;
}

}  // namespace weir::rpc

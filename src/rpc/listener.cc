#include "rpc/listener.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/deadline_stop.h"
#include "runtime/remote.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::rpc {

using runtime::Shard;
using runtime::ShardId;
using runtime::Task;
using runtime::TcpStream;

namespace {

// After an error of accept(2), such as too many open files: not at once again.
constexpr Duration kAcceptPause = 100ms;

}  // namespace

Listener::Listener(std::vector<Endpoint*> endpoints, ListenerOptions options)
    : endpoints_(std::move(endpoints)), options_(std::move(options)) {
    CHECK(!endpoints_.empty());
}

Task<Result<void>> Listener::open(std::string address) {
    listener_ = co_await runtime::try_(runtime::TcpListener::listen(std::move(address)));
    co_return Result<void>{};
}

void Listener::start() { scope_.spawn(accept_all(), runtime::WorkClass::kReplication); }

Task<void> Listener::close() {
    co_await scope_.close();
    co_await listener_.close();
}

Task<void> Listener::accept_all() {
    const runtime::StopToken stop = scope_.stop_token();
    while (!stop.stop_requested()) {
        auto accepted = co_await listener_.accept(stop);
        if (!accepted) {
            if (stop.stop_requested()) break;
            Shard::current().log().warn("rpc", "a connection can't be accepted", "error=\"{}\"",
                                        accepted.error().to_string());
            (void)co_await runtime::sleep_for(kAcceptPause, stop);
            continue;
        }
        if (connections_ >= options_.connections_max || stop.stop_requested()) {
            Shard::current().log().warn("rpc", "too many connections", "address={} connections={}",
                                        (*accepted)->peer(), connections_);
            co_await (*accepted)->close();
            continue;
        }
        ++connections_;
        scope_.spawn(welcome(std::move(*accepted)));
    }
}

Task<void> Listener::welcome(std::unique_ptr<TcpStream> stream) {
    runtime::DeadlineStop limit(Shard::current().now() + options_.hello_timeout,
                                scope_.stop_token());
    auto hello = co_await read_hello(*stream, limit.token());
    if (hello) {
        HelloReply reply;
        judge(*hello, &reply);
        const std::vector<uint8_t> bytes = encode(reply);
        const auto sent = co_await stream->write_all({Bytes(bytes)}, limit.token());
        if (reply.refusal != Refusal::kNone) {
            Shard::current().log().warn("rpc", "a connection is refused",
                                        "address={} node={} reason=\"{}\"", stream->peer(),
                                        hello->from.node.v, reply.reason);
        } else if (sent) {
            co_return co_await hand_over(std::move(stream), *hello);
        }
    } else if (!scope_.stop_requested()) {
        const Error error = hello.error().code == ErrorCode::kCancelled
                                ? Error{.code = ErrorCode::kTimedOut, .message = "no hello came"}
                                : hello.error();
        Shard::current().log().warn("rpc", "a connection is closed before its hello",
                                    "address={} error=\"{}\"", stream->peer(), error.to_string());
    }
    co_await stream->close();
    --connections_;
}

void Listener::judge(const Hello& hello, HelloReply* reply) const {
    const Identity& self = endpoints_[0]->identity();
    reply->from = self;
    reply->shards = static_cast<uint32_t>(endpoints_.size());
    const auto refuse = [reply](Refusal refusal, std::string reason) {
        reply->refusal = refusal;
        reply->reason = std::move(reason);
    };
    if (hello.version_max < kVersionMin || hello.version_min > kVersionMax)
        return refuse(Refusal::kVersion,
                      fmt::format("versions {} to {} are spoken here", kVersionMin, kVersionMax));
    reply->version = std::min(hello.version_max, kVersionMax);
    const bool both = !self.cluster.is_zero() && !hello.from.cluster.is_zero();
    if (both && self.cluster != hello.from.cluster)
        return refuse(Refusal::kOtherCluster,
                      "this node belongs to cluster " + self.cluster.to_string());
    if (hello.to.valid() && hello.to != self.node)
        return refuse(Refusal::kOtherNode, self.node.valid()
                                               ? fmt::format("this is node {}", self.node.v)
                                               : "this node has no id yet");
    if (!options_.admit) return;
    std::string reason;
    const Refusal refusal = options_.admit(hello, &reason);
    if (refusal != Refusal::kNone) refuse(refusal, std::move(reason));
}

Task<void> Listener::hand_over(std::unique_ptr<TcpStream> stream, Hello hello) {
    const auto to = static_cast<ShardId>(hello.to_shard % endpoints_.size());
    co_await runtime::on(to,
                         [this, endpoint = endpoints_[to], detached = stream->detach(),
                          hello]() mutable -> Task<void> {
                             // Called on the connection's shard; the count is on this one.
                             std::function<Task<void>()> ended = [this]() -> Task<void> {
                                 co_await runtime::on(0, [this]() -> Task<void> {
                                     --connections_;
                                     co_return;
                                 });
                             };
                             co_await endpoint->serve(TcpStream::attach(std::move(detached)), hello,
                                                      std::move(ended));
                         });
}

}  // namespace weir::rpc

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
            ++metrics_.too_many;
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
    Accepted accepted;
    Verdict verdict;
    const auto greeted = co_await greet(stream.get(), &accepted, &verdict, limit.token());
    if (greeted && verdict.refusal == Refusal::kNone)
        co_return co_await hand_over(std::move(stream), std::move(accepted));
    if (greeted || verdict.refusal != Refusal::kNone) {
        count_refusal(verdict.refusal);
        log_refusal(stream->peer(), accepted.hello, verdict);
    } else if (!scope_.stop_requested()) {
        ++metrics_.no_hello;
        const Error error = greeted.error().code == ErrorCode::kCancelled
                                ? Error{.code = ErrorCode::kTimedOut, .message = "no hello came"}
                                : greeted.error();
        Shard::current().log().warn("rpc", "a connection is closed before its hello",
                                    "address={} error=\"{}\"", stream->peer(), error.to_string());
    }
    co_await stream->close();
    --connections_;
}

void Listener::count_refusal(Refusal refusal) {
    switch (refusal) {
        case Refusal::kNone:
            break;
        case Refusal::kOtherCluster:
            ++metrics_.other_cluster;
            break;
        case Refusal::kVersion:
            ++metrics_.other_version;
            break;
        case Refusal::kUnknownNode:
            ++metrics_.unknown_node;
            break;
        case Refusal::kOtherNode:
            ++metrics_.other_node;
            break;
        case Refusal::kNotProven:
            ++metrics_.not_proven;
            break;
    }
}

// A stranger that dials again and again is one line now and then.
void Listener::log_refusal(const std::string& address, const Hello& hello, const Verdict& verdict) {
    const Instant now = Shard::current().now();
    const bool is_news = verdict.reason != refusal_logged_ || now >= refusal_logged_at_ + 10s;
    if (is_news) {
        refusal_logged_ = verdict.reason;
        refusal_logged_at_ = now;
    }
    Shard::current().log().event(is_news ? LogLevel::kWarn : LogLevel::kDebug, "rpc",
                                 "a connection is refused", "address={} node={} reason=\"{}\"",
                                 address, hello.from.node.v, verdict.reason);
}

// The hello, its reply and, where both have something to prove with, their proofs.
Task<Result<void>> Listener::greet(TcpStream* stream, Accepted* accepted, Verdict* verdict,
                                   runtime::StopToken stop) {
    const Credentials* credentials = endpoints_[0]->options().credentials;
    Hello& hello = accepted->hello;
    std::vector<uint8_t> exchange;
    hello = co_await runtime::try_(read_hello(*stream, stop, &exchange));
    HelloReply reply;
    judge(hello, &reply);
    const bool proves = credentials != nullptr && hello.proves && reply.version >= kVersionProofs &&
                        reply.refusal == Refusal::kNone;
    if (!proves && reply.refusal == Refusal::kNone) {
        if (credentials != nullptr && credentials->required()) {
            reply.refusal = Refusal::kNotProven;
            reply.reason = "this cluster asks for its secret (--cluster-secret)";
        } else {
            reply.refusal = admit(hello, &reply.reason);
        }
    }
    if (proves) {
        Shard::current().driver().fill_entropy(reply.nonce);
        reply.proof.emplace();
        *reply.proof = credentials->prove(Side::kAccepting, exchange_before_reply(exchange, reply));
    }
    *verdict = {.refusal = reply.refusal, .reason = reply.reason};
    const std::vector<uint8_t> bytes = encode(reply);
    co_await runtime::try_(stream->write_all({Bytes(bytes)}, stop));
    if (!proves) co_return Result<void>{};

    exchange.insert(exchange.end(), bytes.begin(), bytes.end());
    const Proof proof = co_await runtime::try_(read_proof(*stream, stop));
    accepted->proven = credentials->check(Side::kDialling, exchange, proof);
    if (!accepted->proven && credentials->required()) {
        verdict->refusal = Refusal::kNotProven;
        verdict->reason = "the node has another cluster secret";
    } else {
        verdict->refusal = admit(hello, &verdict->reason);
    }
    const std::vector<uint8_t> said = encode(*verdict);
    co_await runtime::try_(stream->write_all({Bytes(said)}, stop));
    co_return Result<void>{};
}

Refusal Listener::admit(const Hello& hello, std::string* reason) const {
    return options_.admit ? options_.admit(hello, reason) : Refusal::kNone;
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
}

Task<void> Listener::hand_over(std::unique_ptr<TcpStream> stream, Accepted accepted) {
    const auto to = static_cast<ShardId>(accepted.hello.to_shard % endpoints_.size());
    co_await runtime::on(to,
                         [this, endpoint = endpoints_[to], detached = stream->detach(),
                          accepted]() mutable -> Task<void> {
                             // Called on the connection's shard; the count is on this one.
                             std::function<Task<void>()> ended = [this]() -> Task<void> {
                                 co_await runtime::on(0, [this]() -> Task<void> {
                                     --connections_;
                                     co_return;
                                 });
                             };
                             co_await endpoint->serve(TcpStream::attach(std::move(detached)),
                                                      accepted, std::move(ended));
                         });
}

}  // namespace weir::rpc

// What rpc/ costs over a bare socket: one process, shard 0 dials, shard 1 answers, over loopback,
// in turns so that the machine's moods meet both.
//
//   weir_bench_rpc [ROUNDS]
//
// Round trips of 100 bytes, one at a time and 64 at a time (rpc: on one connection; bare: on 64),
// and a stream of 1 MiB messages (rpc: calls with empty responses, 8 in flight; bare: writes that
// the other side discards).
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rpc/endpoint.h"
#include "rpc/listener.h"
#include "runtime/real/real_node.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::rpc {
namespace {

using runtime::on;
using runtime::Scope;
using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;
using runtime::TcpListener;
using runtime::TcpStream;

constexpr Duration kRun = 1s;
constexpr size_t kLarge = 1 << 20;
constexpr NodeId kServer{1};
constexpr Kind kEcho{1};
constexpr Kind kDiscard{2};

template <class T>
T must(Result<T> result) {
    if (!result) {
        fmt::print(stderr, "{}\n", result.error().to_string());
        std::exit(1);
    }
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

uint16_t port_of(const std::string& address) {
    return static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
}

struct Case {
    std::string_view name;
    size_t size;
    size_t outstanding;
    bool discard;
};
constexpr Case kCases[] = {{"round trip, 1 x 100 B", 100, 1, false},
                           {"round trip, 64 x 100 B", 100, 64, false},
                           {"stream, 1 MiB messages", kLarge, 8, true}};

struct Figure {
    uint64_t count = 0;
    double seconds = 0;
    double processor = 0;  // of the whole process
    double per_second() const { return static_cast<double>(count) / seconds; }
};

double processor_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// --- rpc
Task<void> call_loop(Endpoint* endpoint, const Case* what, SharedBytes body, Instant end,
                     uint64_t* count) {
    while (Shard::current().now() < end) {
        must(co_await endpoint->call(kServer, 1,
                                     {.kind = what->discard ? kDiscard : kEcho, .parts = {body}}));
        ++*count;
    }
}

Task<void> calls(Endpoint* endpoint, const Case* what, uint64_t* count) {
    const SharedBytes body = SharedBytes::copy_of(std::vector<uint8_t>(what->size, 7));
    Scope scope;
    const Instant end = Shard::current().now() + kRun;
    for (size_t i = 0; i < what->outstanding; ++i)
        scope.spawn(call_loop(endpoint, what, body, end, count));
    co_await scope.join();
}

// --- bare
Task<void> answer(std::unique_ptr<TcpStream> stream, bool discard) {
    std::vector<uint8_t> buffer(256 << 10);
    while (const Result<size_t> got = co_await stream->read_some(buffer, {})) {
        if (!discard) must(co_await stream->write_all({Bytes(buffer).first(*got)}, {}));
    }
    co_await stream->close();
}

Task<void> answer_all(TcpListener* listener, Scope* scope, bool discard) {
    while (auto stream = co_await listener->accept(scope->stop_token()))
        scope->spawn(answer(std::move(*stream), discard));
}

Task<void> bare_loop(std::string address, const Case* what, Instant end, uint64_t* count) {
    auto stream = must(co_await TcpStream::connect(address));
    std::vector<uint8_t> bytes(what->size, 7);
    while (Shard::current().now() < end) {
        must(co_await stream->write_all({bytes}, {}));
        if (!what->discard) must(co_await runtime::read_exactly(*stream, bytes));
        ++*count;
    }
    co_await stream->close();
}

Task<void> bare(const Case* what, uint64_t* count) {
    std::string address;
    TcpListener listener;
    std::unique_ptr<Scope> scope;
    co_await on(1, [&]() -> Task<void> {
        scope = std::make_unique<Scope>();
        listener = must(co_await TcpListener::listen("127.0.0.1:0"));
        address = listener.address();
        scope->spawn(answer_all(&listener, scope.get(), what->discard));
    });
    {
        Scope clients;
        const Instant end = Shard::current().now() + kRun;
        const size_t connections = what->discard ? 1 : what->outstanding;
        for (size_t i = 0; i < connections; ++i)
            clients.spawn(bare_loop(address, what, end, count));
        co_await clients.join();
    }
    co_await on(1, [&]() -> Task<void> {
        co_await scope->close();
        scope.reset();
        co_await listener.close();
    });
}

rpc::Identity identity_of(NodeId node) {
    rpc::Identity identity{.node = node};
    identity.cluster.bytes.fill(1);
    identity.uuid.bytes.fill(static_cast<uint8_t>(10 + node.v));
    return identity;
}

Task<int> run(int rounds, std::string driver) {
    runtime::MemoryBudget memory(1 << 30);
    Endpoint client(identity_of(NodeId{0}), {.memory = &memory});
    std::vector<std::unique_ptr<Endpoint>> servers(2);
    for (runtime::ShardId shard = 0; shard < 2; ++shard) {
        co_await on(shard, [&]() -> Task<void> {
            servers[shard] = std::make_unique<Endpoint>(identity_of(kServer),
                                                        EndpointOptions{.memory = &memory});
            // A member, to whom calls are answered; nobody dials it.
            servers[shard]->set_address(NodeId{0}, "127.0.0.1", 1, identity_of(NodeId{0}).uuid);
            servers[shard]->handle(kEcho, [](Request request) -> Task<Result<Message>> {
                co_return Message{.parts = {request.body}};
            });
            servers[shard]->handle(kDiscard,
                                   [](Request) -> Task<Result<Message>> { co_return Message{}; });
            co_return;
        });
    }
    Listener listener({servers[0].get(), servers[1].get()}, {});
    must(co_await listener.open("127.0.0.1:0"));
    listener.start();
    client.set_address(kServer, "127.0.0.1", port_of(listener.address()));

    for (const Case& what : kCases) {
        std::map<std::string_view, Figure> figures;
        for (int round = 0; round < rounds; ++round) {
            for (const std::string_view who : {"rpc", "bare"}) {
                Figure& figure = figures[who];
                const Instant began = Shard::current().now();
                const double processor = processor_seconds();
                if (who == "rpc") {
                    co_await calls(&client, &what, &figure.count);
                } else {
                    co_await bare(&what, &figure.count);
                }
                figure.seconds +=
                    std::chrono::duration<double>(Shard::current().now() - began).count();
                figure.processor += processor_seconds() - processor;
            }
        }
        const auto cpu_us = [](const Figure& figure) {
            return figure.processor * 1e6 / static_cast<double>(figure.count);
        };
        const Figure& rpc = figures["rpc"];
        const Figure& floor = figures["bare"];
        fmt::print(
            "{:<6} {:<24} rpc {:>9.0f}/s {:>7.1f} us of processor   bare {:>9.0f}/s {:>7.1f} us"
            "   rate {:.2f} x, processor {:.2f} x\n",
            driver, what.name, rpc.per_second(), cpu_us(rpc), floor.per_second(), cpu_us(floor),
            rpc.per_second() / floor.per_second(), cpu_us(rpc) / cpu_us(floor));
    }
    co_await listener.close();
    co_await client.close();
    for (runtime::ShardId shard = 0; shard < 2; ++shard) {
        co_await on(shard, [&]() -> Task<void> {
            co_await servers[shard]->close();
            servers[shard].reset();
        });
    }
    co_return 0;
}

}  // namespace
}  // namespace weir::rpc

int main(int argc, char** argv) {
    using namespace weir;
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 3;
    for (const auto driver : {runtime::DriverChoice::kUring, runtime::DriverChoice::kAio}) {
        runtime::RealNodeOptions options = runtime::one_shard_options();
        options.shards = 2;
        options.driver = driver;
        const auto ran = runtime::run_real_node(std::move(options), [&](runtime::RealNode& node) {
            return rpc::run(rounds, std::string(node.driver_name()));
        });
        if (!ran) fmt::print("{}\n", ran.error().to_string());
    }
}

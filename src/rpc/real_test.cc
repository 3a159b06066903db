// Two nodes over loopback on the drivers of a real kernel, in one process: one's endpoints on the
// same shards as the other's.
#include <gtest/gtest.h>

#include <memory>

#include "base/units.h"
#include "rpc/endpoint.h"
#include "rpc/listener.h"
#include "runtime/real/real_node.h"
#include "runtime/remote.h"

namespace weir::rpc {
namespace {

using runtime::Shard;
using runtime::ShardId;
using runtime::SharedBytes;
using runtime::Task;

constexpr Kind kEcho{1};
constexpr NodeId n1{1};
constexpr ShardId kShards = 2;

using PerShard = std::vector<std::unique_ptr<Endpoint>>;

Uuid uuid_of(NodeId node) {
    Uuid uuid;
    uuid.bytes.fill(static_cast<uint8_t>(10 + node.v));
    return uuid;
}

Task<void> make(PerShard* endpoints, ShardId shard, NodeId node, runtime::MemoryBudget* memory) {
    co_await runtime::on(shard, [&]() -> Task<void> {
        Identity identity{.node = node, .uuid = uuid_of(node)};
        identity.cluster.bytes.fill(1);
        (*endpoints)[shard] =
            std::make_unique<Endpoint>(identity, EndpointOptions{.memory = memory});
        (*endpoints)[shard]->handle(kEcho, [](Request request) -> Task<Result<Message>> {
            co_return Message{.parts = {request.body}};
        });
        // Of whom it hears; nobody dials it.
        if (node == n1)
            (*endpoints)[shard]->set_address(NodeId{0}, "127.0.0.1", 1, uuid_of(NodeId{0}));
        co_return;
    });
}

Task<void> close(PerShard* endpoints, ShardId shard) {
    co_await runtime::on(shard, [&]() -> Task<void> {
        co_await (*endpoints)[shard]->close();
        (*endpoints)[shard].reset();
    });
}

Task<void> call(Endpoint* endpoint, size_t i, size_t* right) {
    const size_t size = i % 20 == 0 ? 1_MiB + i : i;
    std::vector<uint8_t> body(size, static_cast<uint8_t>(i));
    const auto answer = co_await endpoint->call(n1, static_cast<ShardId>(i % kShards),
                                                {.kind = kEcho, .body = body},
                                                {.deadline = Shard::current().now() + 20s});
    if (answer && std::ranges::equal(answer->bytes(), body)) ++*right;
}

Task<size_t> talk(Endpoint* endpoint) {
    size_t right = 0;
    runtime::Scope scope;
    for (size_t i = 0; i < 200; ++i) scope.spawn(call(endpoint, i, &right));
    co_await scope.join();
    co_return right;
}

Task<int> two_nodes(size_t* right) {
    runtime::MemoryBudget memory(256_MiB);
    PerShard clients(kShards);
    PerShard servers(kShards);
    std::vector<Endpoint*> listening;
    for (ShardId shard = 0; shard < kShards; ++shard) {
        co_await make(&clients, shard, NodeId{0}, &memory);
        co_await make(&servers, shard, n1, &memory);
        listening.push_back(servers[shard].get());
    }
    Listener listener(listening, {});
    if (!co_await listener.open("127.0.0.1:0")) co_return 1;
    listener.start();
    const std::string& address = listener.address();
    const auto port = static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
    for (ShardId shard = 0; shard < kShards; ++shard) {
        *right += co_await runtime::on(shard, [&]() -> Task<size_t> {
            clients[shard]->set_address(n1, "127.0.0.1", port, uuid_of(n1));
            co_return co_await talk(clients[shard].get());
        });
    }
    co_await listener.close();
    for (ShardId shard = 0; shard < kShards; ++shard) {
        co_await close(&clients, shard);
        co_await close(&servers, shard);
    }
    if (listener.connection_count() != 0 || memory.used() != 0) co_return 2;
    co_return 0;
}

void run_with(runtime::DriverChoice driver) {
    size_t right = 0;
    runtime::RealNodeOptions options = runtime::one_shard_options();
    options.shards = kShards;
    options.driver = driver;
    const auto ran = runtime::run_real_node(std::move(options),
                                            [&](runtime::RealNode&) { return two_nodes(&right); });
    if (!ran) GTEST_SKIP() << ran.error().to_string();
    EXPECT_EQ(*ran, 0);
    EXPECT_EQ(right, 200 * kShards);
}

TEST(RealDrivers, two_nodes_talk_over_loopback_with_io_uring) {
    run_with(runtime::DriverChoice::kUring);
}

TEST(RealDrivers, two_nodes_talk_over_loopback_with_epoll) {
    run_with(runtime::DriverChoice::kAio);
}

}  // namespace
}  // namespace weir::rpc

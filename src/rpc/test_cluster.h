// For tests: nodes of a simulated world that have nothing but their endpoints and a listener.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "rpc/endpoint.h"
#include "rpc/listener.h"
#include "runtime/sim/world.h"
#include "runtime/wait.h"

namespace weir::rpc {

inline constexpr uint16_t kPort = 7000;

inline Uuid test_uuid(uint8_t salt) {
    Uuid uuid;
    uuid.bytes.fill(salt);
    return uuid;
}

struct TestNode {
    sim::Node* node = nullptr;
    Identity identity;
    EndpointOptions options;
    ListenerOptions listener_options;
    std::unique_ptr<runtime::MemoryBudget> memory;

    // Those of the current process.
    std::vector<Endpoint*> endpoints;
    Listener* listener = nullptr;
    uint32_t endpoints_made = 0;
    uint32_t endpoints_closed = 0;
    bool listening = false;
    bool listener_closed = false;
    bool stop = false;
};

class TestCluster {
  public:
    // Called on each shard of a node before its listener opens.
    using Setup = std::function<void(size_t node, runtime::ShardId shard, Endpoint& endpoint)>;
    // Runs on each shard of a node once it listens; ends soon after its endpoint is closed.
    using Body =
        std::function<runtime::Task<void>(size_t node, runtime::ShardId shard, Endpoint* endpoint)>;

    TestCluster(sim::Plan plan, std::vector<uint32_t> shards)
        : world_({.plan = plan, .log_sink = [this](const Logger::Event& event) {
                      log_ +=
                          fmt::format("{} {} {}\n", event.component, event.message, event.fields);
                  }}) {
        for (size_t i = 0; i < shards.size(); ++i) {
            nodes_.push_back(std::make_unique<TestNode>());
            TestNode& node = *nodes_.back();
            node.node = &world_.add_node({.name = name(i), .shards = shards[i]});
            node.identity = {.cluster = test_uuid(1),
                             .node = NodeId{static_cast<int32_t>(i)},
                             .uuid = test_uuid(static_cast<uint8_t>(100 + i))};
            node.memory = std::make_unique<runtime::MemoryBudget>(64_MiB);
            node.options.memory = node.memory.get();
        }
    }

    static std::string name(size_t node) { return "n" + std::to_string(node); }
    static std::string address(size_t node) { return name(node) + ":" + std::to_string(kPort); }

    sim::World& world() { return world_; }
    TestNode& node(size_t i) { return *nodes_[i]; }
    size_t size() const { return nodes_.size(); }
    Endpoint& endpoint(size_t node, runtime::ShardId shard) {
        return *nodes_[node]->endpoints[shard];
    }
    const std::string& log() const { return log_; }
    Setup setup;
    Body body;

    void start(size_t i) {
        TestNode& node = *nodes_[i];
        node.endpoints.assign(node.node->shard_count(), nullptr);
        node.endpoints_made = node.endpoints_closed = 0;
        node.listening = node.listener_closed = node.stop = false;
        world_.start(*node.node,
                     [this, i](runtime::Shard& shard) { return serve(this, i, &shard); });
    }
    void start_all() {
        for (size_t i = 0; i < nodes_.size(); ++i) start(i);
    }
    void kill(size_t i) {
        world_.kill(*nodes_[i]->node, sim::Kill::kProcess);
        // What the dead process held.
        nodes_[i]->memory = std::make_unique<runtime::MemoryBudget>(nodes_[i]->memory->total());
        nodes_[i]->options.memory = nodes_[i]->memory.get();
        nodes_[i]->listening = false;
    }
    // In good order, which CHECKs that nothing is left behind.
    void stop(size_t i) {
        TestNode& node = *nodes_[i];
        node.stop = true;
        ASSERT_TRUE(run_until([&] { return node.node->finished(); }, 60s)) << log_;
        world_.reap(*node.node);
        EXPECT_EQ(node.memory->used(), 0);
    }
    void stop_all() {
        for (size_t i = 0; i < nodes_.size(); ++i) {
            if (nodes_[i]->node->running()) stop(i);
        }
    }
    bool run_until(const std::function<bool()>& done, Duration budget) {
        return world_.run_until(done, budget) == sim::World::Outcome::kDone;
    }
    void run_for(Duration time) { (void)world_.run_for(time); }
    bool all_listen() const {
        for (const auto& node : nodes_) {
            if (!node->listening) return false;
        }
        return true;
    }

  private:
    static runtime::Task<void> wait_for(const bool* flag) {
        while (!*flag) (void)co_await runtime::sleep_for(20ms);
    }

    static runtime::Task<void> serve(TestCluster* cluster, size_t index, runtime::Shard* shard) {
        TestNode& node = *cluster->nodes_[index];
        const runtime::ShardId id = shard->id();
        Endpoint endpoint(node.identity, node.options);
        for (size_t other = 0; other < cluster->size(); ++other) {
            if (other != index)
                endpoint.set_address(NodeId{static_cast<int32_t>(other)}, name(other), kPort,
                                     cluster->nodes_[other]->identity.uuid);
        }
        if (cluster->setup) cluster->setup(index, id, endpoint);
        node.endpoints[id] = &endpoint;
        ++node.endpoints_made;
        std::optional<Listener> listener;
        if (id == 0) {
            while (node.endpoints_made < shard->count()) (void)co_await runtime::sleep_for(1ms);
            listener.emplace(node.endpoints, node.listener_options);
            while (!co_await listener->open(address(index)))
                (void)co_await runtime::sleep_for(50ms);
            listener->start();
            node.listener = &*listener;
            node.listening = true;
        }
        co_await wait_for(&node.listening);
        runtime::Scope bodies;
        if (cluster->body) bodies.spawn(cluster->body(index, id, &endpoint));
        co_await wait_for(&node.stop);
        if (listener) {
            co_await listener->close();
            node.listener_closed = true;
        }
        co_await wait_for(&node.listener_closed);
        co_await endpoint.close();
        co_await bodies.close();
        ++node.endpoints_closed;
        // The listener counts what ends.
        while (id == 0 && node.endpoints_closed < shard->count())
            (void)co_await runtime::sleep_for(1ms);
        if (listener) CHECK(listener->connection_count() == 0);
    }

    std::string log_;
    std::vector<std::unique_ptr<TestNode>> nodes_;
    sim::World world_;
};

}  // namespace weir::rpc

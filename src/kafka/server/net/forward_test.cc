// What a node does with requests that only the controller can answer, when the controller goes away
// over them: two nodes of the simulator, the real connections, a controller that does nothing.
#include "kafka/server/net/forward.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "base/units.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "rpc/listener.h"
#include "runtime/sim/world.h"
#include "storage/store.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

class Forward : public testing::Test {
  protected:
    Forward() {
        world.start(controller, [this](Shard&) { return be_controller(this); });
    }
    ~Forward() override {
        for (sim::Node* node : {&asked, &controller}) {
            if (node->running()) world.kill(*node, sim::Kill::kProcess);
        }
    }

    static rpc::Identity identity(int32_t node) {
        Uuid cluster, self;
        cluster.bytes.fill(1);
        self.bytes.fill(static_cast<uint8_t>(100 + node));
        return {cluster, NodeId{node}, self};
    }

    // Takes what is passed on, and breaks the connection over the first.
    static Task<void> be_controller(Forward* test) {
        const rpc::Identity self = identity(1);
        rpc::Endpoint endpoint(self, rpc::EndpointOptions{.memory = &test->memory});
        endpoint.set_address(NodeId{0}, "asked", 7000, identity(0).uuid);
        endpoint.handle(
            kForwardCall, [test, &endpoint](rpc::Request call) -> Task<Result<rpc::Message>> {
                ByteReader in(call.body.bytes());
                const auto head = read_forward_head(in);
                EXPECT_TRUE(head);
                if (head) test->came = *head;
                if (++test->calls == 1) {
                    endpoint.forget(NodeId{0});
                    endpoint.set_address(NodeId{0}, "asked", 7000, identity(0).uuid);
                    co_return fail(ErrorCode::kUnavailable);
                }
                ByteWriter out;
                out.write_i64(0);
                out.write_text("done");
                co_return rpc::Message{
                    .kind = {}, .lane = rpc::Lane::kData, .body = out.flatten(), .parts = {}};
            });
        rpc::Listener listener({&endpoint}, {});
        EXPECT_TRUE(co_await listener.open("controller:7000"));
        listener.start();
        while (true) (void)co_await runtime::sleep_for(1s);
    }

    static Task<void> pass_on(Forward* test, ApiKey key) {
        storage::StoreOptions options;
        options.directory = "/data";
        options.memory = &test->memory;
        options.on_fatal = [](const Error&) {};
        const auto stores = co_await storage::StoreSet::open(options);
        if (!stores) {
            ADD_FAILURE() << stores.error().to_string();
            co_return;
        }
        storage::Store* store = &(*stores)->local();
        const rpc::Identity self = identity(0);
        rpc::Endpoint endpoint(self, rpc::EndpointOptions{.memory = &test->memory});
        endpoint.set_address(NodeId{1}, "controller", 7000, identity(1).uuid);
        replication::Replicator replicator({.self = {0}, .raft = {}, .store = store});
        cluster::MetadataShard metadata(0, {});
        metadata.set_status({.controller = 1, .alive = {0, 1}});
        Server server({.node = {.id = 0, .host = "asked", .version = "test"},
                       .memory = &test->memory,
                       .store = store,
                       .metadata = &metadata,
                       .replicator = &replicator,
                       .endpoint = &endpoint});
        const std::string client = "10.0.0.9:4711";
        Request request(server, client);
        request.principal = test->principal;
        request.header.client_id = "tool";
        request.handler = find_handler(static_cast<int16_t>(key));
        request.header.api_key = static_cast<int16_t>(key);
        const auto done = co_await run_at_controller(request);
        const std::vector<uint8_t> answer = request.out.flatten();
        test->outcome = done ? std::string(as_text(answer)) : done.error().to_string();
        while (true) (void)co_await runtime::sleep_for(1s);
    }

    std::string pass_on(ApiKey key) {
        calls = 0;
        outcome.reset();
        world.start(asked, [this, key](Shard&) { return pass_on(this, key); });
        EXPECT_EQ(world.run_until([&] { return outcome.has_value(); }, 60s),
                  sim::World::Outcome::kDone);
        world.kill(asked, sim::Kill::kProcess);
        return outcome.value_or("");
    }

    runtime::MemoryBudget memory{64_MiB};
    int calls = 0;
    Principal principal;              // of the client
    std::optional<ForwardHead> came;  // at the controller
    std::optional<std::string> outcome;
    sim::World world{{.plan = {.seed = 3}}};
    sim::Node& controller = world.add_node({.name = "controller", .shards = 1});
    sim::Node& asked = world.add_node({.name = "asked", .shards = 1});
};

TEST_F(Forward, what_is_done_once_is_not_sent_again_when_the_controller_goes_away_over_it) {
    for (const ApiKey key :
         {ApiKey::kCreateTopics, ApiKey::kDeleteTopics, ApiKey::kCreatePartitions}) {
        EXPECT_EQ(pass_on(key), "the controller went away over a request (end of stream)");
        EXPECT_EQ(calls, 1);
    }
}

TEST_F(Forward, what_may_be_done_twice_is_sent_again) {
    for (const ApiKey key : {ApiKey::kAlterConfigs, ApiKey::kDescribeQuorum}) {
        EXPECT_EQ(pass_on(key), "done");
        EXPECT_EQ(calls, 2);
    }
}

TEST_F(Forward, the_controller_gets_a_request_with_the_principal_that_sent_it) {
    for (const Principal& user : {Principal{}, Principal{.type = "User", .name = "CN=a:1,O=x"},
                                  Principal{.type = "Group", .name = "é"}}) {
        principal = user;
        ASSERT_EQ(pass_on(ApiKey::kAlterConfigs), "done");
        ASSERT_TRUE(came);
        EXPECT_EQ(came->principal, user);
        EXPECT_EQ(came->client_host, "10.0.0.9:4711");
        EXPECT_EQ(came->client_id, "tool");
        EXPECT_EQ(came->api_key, static_cast<int16_t>(ApiKey::kAlterConfigs));
    }
}

TEST(ForwardHeadTest, the_anonymous_user_is_in_the_bytes_of_versions_before_principals) {
    ForwardHead head{.api_key = 19, .api_version = 7, .client_id = "c", .client_host = "h"};
    EXPECT_EQ(encode(head), (std::vector<uint8_t>{0, 19, 0, 7, 1, 1, 'c', 1, 'h'}));
    head.principal = {.type = "User", .name = "u"};
    const std::vector<uint8_t> named = encode(head);
    EXPECT_EQ(named, (std::vector<uint8_t>{0, 19, 0, 7, 3, 1, 'c', 1, 'h', 6, 'U', 's', 'e', 'r',
                                           ':', 'u'}));
    for (size_t size = 0; size < named.size(); ++size) {
        ByteReader in(Bytes(named).first(size));
        EXPECT_FALSE(read_forward_head(in)) << size;
    }
    std::vector<uint8_t> later = named;
    later[4] |= 4;
    ByteReader in(later);
    EXPECT_FALSE(read_forward_head(in));
}

TEST(PrincipalTest, a_principal_is_the_anonymous_user_until_it_is_said_otherwise_and_reads_back) {
    EXPECT_TRUE(Principal{}.is_anonymous());
    EXPECT_EQ(Principal{}.to_string(), "User:ANONYMOUS");
    const Principal alice{.type = "User", .name = "CN=alice:1,O=x"};
    EXPECT_FALSE(alice.is_anonymous());
    EXPECT_EQ(Principal::parse(alice.to_string()), alice);
    EXPECT_EQ(Principal::parse("bob"), (Principal{.type = "User", .name = "bob"}));
}

}  // namespace
}  // namespace weir::kafka

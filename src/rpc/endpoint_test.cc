// Endpoints and listeners of nodes in the simulator.
#include "rpc/endpoint.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "rpc/frame.h"
#include "rpc/test_cluster.h"
#include "runtime/socket.h"

namespace weir::rpc {
namespace {

using runtime::Shard;
using runtime::ShardId;
using runtime::SharedBytes;
using runtime::Task;

constexpr Kind kEcho{1};
constexpr Kind kQueued{12};  // nobody handles it
constexpr Kind kSlow{2};     // answers after 2 s, or when it is stopped
constexpr Kind kFail{3};     // fails with kNotFound
constexpr Kind kNote{4};     // one way
constexpr Kind kUnknown{9};  // nobody handles it
constexpr NodeId n0{0};
constexpr NodeId n1{1};
const NodeId n2{2};

sim::Plan calm(uint64_t seed = 1) {
    sim::Plan plan;
    plan.seed = seed;
    return plan;
}

std::vector<uint8_t> bytes_of(std::string_view text) {
    const Bytes bytes = as_bytes(text);
    return {bytes.begin(), bytes.end()};
}

Message message(Kind kind, std::string_view text, Lane lane = Lane::kData) {
    return {.kind = kind, .lane = lane, .body = bytes_of(text)};
}

// What came one way, in the order in which it came.
struct Notes {
    std::vector<std::string> texts;
    std::vector<Origin> origins;
};

void set_handlers(Endpoint& endpoint, Notes* notes) {
    endpoint.handle(
        kEcho,
        [](Request request) -> Task<Result<Message>> {
            co_return Message{.parts = {request.body}};
        },
        From::kAnyone);
    endpoint.handle(kSlow, [](Request request) -> Task<Result<Message>> {
        (void)co_await runtime::sleep_for(2s, request.stop);
        co_return message(kSlow, "slow");
    });
    endpoint.handle(kFail, [](Request) -> Task<Result<Message>> {
        co_return fail(ErrorCode::kNotFound, "no such thing");
    });
    endpoint.on_message(kNote, [notes](Received received) {
        notes->texts.emplace_back(as_text(received.body.bytes()));
        notes->origins.push_back(received.from);
    });
}

class Endpoints : public testing::Test {
  protected:
    // Nodes with the handlers above, listening.
    void begin(std::vector<uint32_t> shards, sim::Plan plan = calm()) {
        make(std::move(shards), plan);
        start();
    }
    void make(std::vector<uint32_t> shards, sim::Plan plan = calm()) {
        cluster_ = std::make_unique<TestCluster>(plan, std::move(shards));
        cluster_->setup = [this](size_t node, ShardId shard, Endpoint& endpoint) {
            notes_[{node, shard}] = Notes();
            set_handlers(endpoint, &notes_[{node, shard}]);
        };
        cluster_->body = [this](size_t node, ShardId shard, Endpoint* endpoint) {
            return do_jobs(this, {node, shard}, endpoint);
        };
    }
    void start() {
        cluster_->start_all();
        ASSERT_TRUE(cluster_->run_until([&] { return cluster_->all_listen(); }, 10s));
    }
    void TearDown() override {
        if (cluster_) cluster_->stop_all();
    }

    // Runs the job on a shard of a node and waits for its end.
    using Job = std::function<Task<void>(Endpoint*)>;
    void run_on(size_t node, ShardId shard, Job job, Duration budget = 60s) {
        jobs_[{node, shard}] = std::move(job);
        ASSERT_TRUE(cluster_->run_until([&] { return !jobs_.contains({node, shard}); }, budget))
            << cluster_->log();
    }
    Result<std::string> call(size_t node, NodeId to, ShardId to_shard, Message request,
                             Duration timeout = 5s) {
        Result<std::string> result = fail(ErrorCode::kIo, "did not end");
        run_on(node, 0, [&](Endpoint* endpoint) -> Task<void> {
            auto answer = co_await endpoint->call(to, to_shard, std::move(request),
                                                  {.deadline = Shard::current().now() + timeout});
            if (answer) {
                result = std::string(as_text(answer->bytes()));
            } else {
                result = fail(answer.error());
            }
        });
        return result;
    }
    Result<std::string> call_address(size_t node, std::string address, Message request) {
        Result<std::string> result = fail(ErrorCode::kIo, "did not end");
        run_on(node, 0, [&](Endpoint* endpoint) -> Task<void> {
            auto answer = co_await endpoint->call_address(
                address, 0, std::move(request), {.deadline = Shard::current().now() + 5s});
            if (answer) {
                result = std::string(as_text(answer->bytes()));
            } else {
                result = fail(answer.error());
            }
        });
        return result;
    }
    void connect(size_t node, NodeId to, ShardId to_shard = 0) {
        run_on(node, 0, [&](Endpoint* endpoint) -> Task<void> {
            endpoint->connect(to, to_shard);
            co_return;
        });
        ASSERT_TRUE(cluster_->run_until([&] { return connected(node, to); }, 20s))
            << cluster_->log();
    }
    bool connected(size_t node, NodeId to) {
        return cluster_->endpoint(node, 0).status(to)->connections > 0;
    }
    Notes& notes(size_t node, ShardId shard = 0) { return notes_[{node, shard}]; }

    std::unique_ptr<TestCluster> cluster_;

  private:
    using Where = std::pair<size_t, ShardId>;
    static Task<void> do_jobs(Endpoints* self, Where where, Endpoint* endpoint) {
        while (!endpoint->closed()) {
            const auto job = self->jobs_.find(where);
            if (job == self->jobs_.end()) {
                (void)co_await runtime::sleep_for(1ms);
                continue;
            }
            co_await job->second(endpoint);
            self->jobs_.erase(where);
        }
    }
    std::map<Where, Job> jobs_;
    std::map<Where, Notes> notes_;
};

TEST_F(Endpoints, a_call_reaches_the_shard_it_is_for) {
    begin({1, 3});
    std::vector<ShardId> shards;
    for (ShardId shard = 0; shard < 5; ++shard) {
        const auto answer = call(0, n1, shard, message(kEcho, "hi"));
        ASSERT_TRUE(answer) << answer.error().to_string();
        EXPECT_EQ(*answer, "hi");
    }
    EXPECT_EQ(cluster_->endpoint(1, 0).metrics().messages_received, 2);  // 0 and 3
    EXPECT_EQ(cluster_->endpoint(1, 1).metrics().messages_received, 2);  // 1 and 4
    EXPECT_EQ(cluster_->endpoint(1, 2).metrics().messages_received, 1);
    const auto status = cluster_->endpoint(0, 0).status(n1);
    EXPECT_EQ(status->shards, 3);
    EXPECT_EQ(status->connections, 5);
    EXPECT_TRUE(status->last_heard);
    EXPECT_EQ(status->address, "n1:7000");
    EXPECT_FALSE(cluster_->endpoint(0, 0).status(NodeId{7}));
}

TEST_F(Endpoints, errors_of_handlers_come_as_they_are) {
    begin({1, 1});
    const auto failed = call(0, n1, 0, message(kFail, ""));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kNotFound);
    EXPECT_EQ(failed.error().message, "no such thing");
    const auto unknown = call(0, n1, 0, message(kUnknown, ""));
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, ErrorCode::kUnsupported);
    const auto nobody = call(0, NodeId{5}, 0, message(kEcho, ""));
    ASSERT_FALSE(nobody);
    EXPECT_EQ(nobody.error().code, ErrorCode::kUnavailable);
    EXPECT_TRUE(call(0, n1, 0, message(kEcho, "")));
}

TEST_F(Endpoints, a_slow_call_times_out_or_is_cancelled_and_others_pass_it) {
    begin({1, 1});
    run_on(0, 0, [](Endpoint* endpoint) -> Task<void> {
        runtime::StopSource stop;
        runtime::Scope scope;
        std::vector<std::string> order;
        const auto one = [](Endpoint* endpoint, std::vector<std::string>* order, Kind kind,
                            std::string name, CallOptions options) -> Task<void> {
            const auto answer = co_await endpoint->call(n1, 0, message(kind, name), options);
            order->push_back(name +
                             (answer ? "" : ": " + std::string(to_string(answer.error().code))));
        };
        const Instant now = Shard::current().now();
        scope.spawn(one(endpoint, &order, kSlow, "to the end", {}));
        scope.spawn(one(endpoint, &order, kSlow, "too short", {.deadline = now + 1s}));
        scope.spawn(one(endpoint, &order, kSlow, "stopped", {.stop = stop.token()}));
        scope.spawn(one(endpoint, &order, kEcho, "fast", {}));
        (void)co_await runtime::sleep_for(500ms);
        stop.request_stop();
        co_await scope.join();
        const std::vector<std::string> expected{
            "fast", "stopped: " + std::string(to_string(ErrorCode::kCancelled)),
            "too short: " + std::string(to_string(ErrorCode::kTimedOut)), "to the end"};
        EXPECT_EQ(order, expected);
        (void)co_await runtime::sleep_for(2s);
        EXPECT_EQ(endpoint->metrics().responses_late, 2);
    });
}

TEST_F(Endpoints, many_calls_at_once_get_their_own_answers) {
    begin({1, 1});
    run_on(0, 0, [](Endpoint* endpoint) -> Task<void> {
        const auto one = [](Endpoint* endpoint, size_t i, size_t* right) -> Task<void> {
            std::string text = std::to_string(i);
            if (i % 50 == 0) text.resize(600'000, static_cast<char>('a' + i % 26));
            const auto answer = co_await endpoint->call(n1, 0, message(kEcho, text));
            if (answer && as_text(answer->bytes()) == text) ++*right;
        };
        size_t right = 0;
        runtime::Scope scope;
        for (size_t i = 0; i < 1000; ++i) scope.spawn(one(endpoint, i, &right));
        co_await scope.join();
        EXPECT_EQ(right, 1000);
    });
}

TEST_F(Endpoints, messages_of_a_lane_come_in_order_and_together) {
    begin({1, 1});
    EXPECT_FALSE(cluster_->endpoint(0, 0).status(n1)->last_heard);
    connect(0, n1);
    std::vector<std::string> expected;
    for (int i = 0; i < 1000; ++i) expected.push_back(std::to_string(i));
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        const uint64_t writes = endpoint->metrics().writes;
        for (const std::string& text : expected)
            EXPECT_TRUE(endpoint->send(n1, 0, message(kNote, text)));
        EXPECT_TRUE(endpoint->send(n1, 0, message(kUnknown, "")));
        (void)co_await runtime::sleep_for(100ms);
        EXPECT_LE(endpoint->metrics().writes, writes + 2);
    });
    ASSERT_TRUE(cluster_->run_until([&] { return notes(1).texts.size() == 1000; }, 10s));
    EXPECT_EQ(notes(1).texts, expected);
    EXPECT_EQ(notes(1).origins[0].node, n0);
    EXPECT_EQ(notes(1).origins[0].uuid, test_uuid(100));
    cluster_->run_for(100ms);
    EXPECT_EQ(cluster_->endpoint(1, 0).metrics().messages_unknown, 1);
}

TEST_F(Endpoints, a_control_message_overtakes_megabytes) {
    begin({1, 1});
    connect(0, n1);
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        for (int i = 0; i < 3; ++i)
            EXPECT_TRUE(endpoint->send(n1, 0, message(kNote, std::string(5'000'000, 'x'))));
        (void)co_await runtime::sleep_for(1ms);
        EXPECT_TRUE(endpoint->send(n1, 0, message(kNote, "now", Lane::kControl)));
    });
    ASSERT_TRUE(cluster_->run_until([&] { return notes(1).texts.size() == 4; }, 60s));
    EXPECT_EQ(notes(1).texts[0], "now");
}

TEST_F(Endpoints, a_full_queue_refuses_and_the_lanes_are_apart) {
    make({1, 1});
    cluster_->node(0).options.data_queue_bytes_max = 1_MiB;
    start();
    connect(0, n1);
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        int sent = 0;
        while (endpoint->send(n1, 0, message(kNote, std::string(100'000, 'x')))) ++sent;
        EXPECT_EQ(sent, 10);
        EXPECT_EQ(endpoint->metrics().messages_refused, 1);
        const auto call = co_await endpoint->call(n1, 0, message(kEcho, std::string(100'000, 'x')));
        EXPECT_FALSE(call);
        if (!call) EXPECT_EQ(call.error().code, ErrorCode::kResourceExhausted);
        EXPECT_TRUE(endpoint->send(n1, 0, message(kNote, "still", Lane::kControl)));
        (void)co_await runtime::sleep_for(5s);
        EXPECT_TRUE(endpoint->send(n1, 0, message(kNote, "again")));
    });
}

TEST_F(Endpoints, messages_beyond_the_bound_are_refused) {
    make({1, 1});
    cluster_->node(0).options.message_bytes_max = 1000;
    start();
    connect(0, n1);
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        EXPECT_FALSE(endpoint->send(n1, 0, message(kNote, std::string(1001, 'x'))));
        EXPECT_TRUE(endpoint->send(n1, 0, message(kNote, std::string(1000, 'x'))));
        const auto call = co_await endpoint->call(n1, 0, message(kEcho, std::string(1001, 'x')));
        EXPECT_FALSE(call);
        if (!call) EXPECT_EQ(call.error().code, ErrorCode::kInvalidArgument);
    });
    // The other way round it is the receiver that ends the connection.
    connect(1, n0);
    run_on(1, 0, [&](Endpoint* endpoint) -> Task<void> {
        EXPECT_TRUE(endpoint->send(n0, 0, message(kNote, std::string(1001, 'x'))));
        co_return;
    });
    cluster_->run_for(10ms);
    EXPECT_NE(cluster_->log().find("closed for what came"), std::string::npos);
    EXPECT_TRUE(notes(0).texts.empty());
}

TEST_F(Endpoints, too_many_requests_are_told_so) {
    make({1, 1});
    cluster_->node(1).options.requests_running_max = 10;
    start();
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        const auto one = [](Endpoint* endpoint, std::map<std::string, int>* ends) -> Task<void> {
            const auto answer = co_await endpoint->call(n1, 0, message(kSlow, ""));
            ++(*ends)[answer ? "ok" : std::string(to_string(answer.error().code))];
        };
        std::map<std::string, int> ends;
        runtime::Scope scope;
        for (int i = 0; i < 15; ++i) scope.spawn(one(endpoint, &ends));
        co_await scope.join();
        EXPECT_EQ(ends["ok"], 10);
        EXPECT_EQ(ends[std::string(to_string(ErrorCode::kResourceExhausted))], 5);
        EXPECT_TRUE(co_await endpoint->call(n1, 0, message(kSlow, "")));
    });
}

TEST_F(Endpoints, a_receiver_that_keeps_what_came_loses_data_and_nothing_else) {
    make({1, 1});
    std::vector<SharedBytes> kept;
    int beats = 0;
    constexpr Kind kKeep{10};
    constexpr Kind kBeat{11};
    const auto setup = cluster_->setup;
    cluster_->setup = [&, setup](size_t node, ShardId shard, Endpoint& endpoint) {
        setup(node, shard, endpoint);
        endpoint.on_message(kKeep, [&kept](Received received) { kept.push_back(received.body); });
        endpoint.on_message(kBeat, [&beats](Received) { ++beats; });
    };
    cluster_->node(1).memory = std::make_unique<runtime::MemoryBudget>(1_MiB);
    cluster_->node(1).options.memory = cluster_->node(1).memory.get();
    start();
    connect(0, n1);
    const auto send = [&](int count) {
        run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
            for (int i = 0; i < count; ++i)
                EXPECT_TRUE(endpoint->send(n1, 0, message(kKeep, std::string(200'000, 'x'))));
            EXPECT_TRUE(endpoint->send(n1, 0, control_message(kBeat, {1})));
            co_return;
        });
    };
    send(20);
    cluster_->run_for(1s);
    EXPECT_EQ(kept.size(), 5);  // what 1 MiB holds
    EXPECT_EQ(beats, 1);
    send(1);
    cluster_->run_for(1s);
    EXPECT_EQ(beats, 2);
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        const auto refused =
            co_await endpoint->call(n1, 0, message(kSlow, std::string(100'000, 'x')));
        EXPECT_FALSE(refused);
        if (!refused) EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
    });
    EXPECT_LE(cluster_->node(1).memory->used(), 1_MiB);
    EXPECT_TRUE(connected(0, n1));
    // Counted elsewhere, it is in nobody's way.
    for (const SharedBytes& body : kept) body.discharge();
    EXPECT_EQ(cluster_->node(1).memory->used(), 0);
    send(3);
    cluster_->run_for(1s);
    EXPECT_EQ(kept.size(), 8);
    kept.clear();
    cluster_->stop_all();
}

TEST_F(Endpoints, what_is_queued_for_all_peers_is_bounded_but_each_may_have_one_message) {
    make({1, 1, 1});
    runtime::MemoryBudget sending(1_MiB);
    cluster_->node(0).options.send_memory = &sending;
    start();
    connect(0, n1);
    connect(0, n2);
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        int taken = 0;
        for (int i = 0; i < 20; ++i)
            taken += endpoint->send(n1, 0, message(kQueued, std::string(200'000, 'x'))) ? 1 : 0;
        EXPECT_EQ(taken, 5);
        EXPECT_TRUE(endpoint->send(n2, 0, message(kQueued, std::string(200'000, 'x'))));
        EXPECT_FALSE(endpoint->send(n2, 0, message(kQueued, std::string(200'000, 'x'))));
        EXPECT_TRUE(endpoint->send(n2, 0, control_message(kQueued, {1})));
        co_return;
    });
    cluster_->run_for(1s);
    EXPECT_EQ(sending.used(), 0);
    cluster_->stop_all();
}

// ---------------------------------------------------------------- hellos and refusals

TEST_F(Endpoints, nodes_of_two_clusters_do_not_talk) {
    make({1, 1});
    cluster_->node(1).identity.cluster = test_uuid(2);
    start();
    const auto answer = call(0, n1, 0, message(kEcho, "hi"));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
    EXPECT_NE(answer.error().message.find("belongs to cluster"), std::string::npos)
        << answer.error().message;
    const auto by_address = call_address(0, "n1:7000", message(kEcho, "hi"));
    ASSERT_FALSE(by_address);
    EXPECT_EQ(by_address.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(cluster_->log().find("a connection is refused"), std::string::npos);
}

TEST_F(Endpoints, a_node_without_a_cluster_or_an_id_may_call_by_address) {
    make({1, 1});
    cluster_->node(0).identity = {.uuid = test_uuid(7)};
    start();
    EXPECT_EQ(call_address(0, "n1:7000", message(kEcho, "who am I")).value_or(""), "who am I");
    const auto refused = call_address(0, "n1:7001", message(kEcho, ""));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kIo);
    cluster_->run_for(1s);
    EXPECT_EQ(cluster_->endpoint(0, 0).metrics().messages_sent, 1);
}

TEST_F(Endpoints, another_node_at_the_address_is_not_talked_to) {
    begin({1, 1, 1});
    run_on(0, 0, [](Endpoint* endpoint) -> Task<void> {
        endpoint->set_address(n1, "n2", kPort);
        co_return;
    });
    const auto answer = call(0, n1, 0, message(kEcho, ""));
    ASSERT_FALSE(answer);
    EXPECT_NE(answer.error().message.find("this is node 2"), std::string::npos)
        << answer.error().message;
    run_on(0, 0, [](Endpoint* endpoint) -> Task<void> {
        endpoint->set_address(n1, "n1", kPort);
        co_return;
    });
    cluster_->run_for(100ms);  // it does not sit out the pause
    EXPECT_TRUE(call(0, n1, 0, message(kEcho, "")));
}

TEST_F(Endpoints, whoever_the_listener_does_not_admit_is_told_why) {
    make({1, 1});
    cluster_->node(1).listener_options.admit = [](const Hello& hello, std::string* reason) {
        if (hello.from.uuid == test_uuid(101)) return Refusal::kNone;
        *reason = "removed from the cluster";
        return Refusal::kUnknownNode;
    };
    start();
    const auto answer = call_address(0, "n1:7000", message(kEcho, ""));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kNotFound);
    EXPECT_EQ(answer.error().message, "refused: removed from the cluster");
}

struct Stranger {
    bool closed = false;
    size_t got = 0;
    std::optional<HelloReply> reply;
};

// Sends the bytes and listens until the other side closes.
Task<void> be_strange(Stranger* stranger, std::vector<uint8_t> first, std::vector<uint8_t> then) {
    auto stream = co_await runtime::TcpStream::connect("n1:7000");
    CHECK(stream);
    if (!first.empty()) CHECK(co_await (*stream)->write_all({Bytes(first)}, {}));
    if (!then.empty()) {
        auto reply = co_await read_hello_reply(**stream, {});
        if (reply) stranger->reply = *reply;
        (void)co_await (*stream)->write_all({Bytes(then)}, {});
    }
    uint8_t sink[100];
    while (true) {
        const auto got = co_await (*stream)->read_some(sink, {});
        if (!got) break;
        stranger->got += *got;
    }
    stranger->closed = true;
    co_await (*stream)->close();
}

TEST_F(Endpoints, garbage_and_half_hellos_close_the_connection) {
    make({1, 1});
    start();
    const auto strange = [&](std::vector<uint8_t> first, std::vector<uint8_t> then = {}) {
        Stranger stranger;
        const Instant begin = cluster_->world().now();
        run_on(0, 0, [&](Endpoint*) -> Task<void> { co_await be_strange(&stranger, first, then); });
        EXPECT_TRUE(stranger.closed);
        return std::pair(stranger, cluster_->world().now() - begin);
    };
    EXPECT_LT(strange(bytes_of("GET / HTTP/1.1\r\nHost: n1\r\n\r\n")).second, 1s);
    EXPECT_NE(cluster_->log().find("what came is not from a node"), std::string::npos);
    const Duration silent = strange({}).second;
    EXPECT_GE(silent, 2900ms);
    EXPECT_LE(silent, 4s);
    const std::vector<uint8_t> hello =
        encode(Hello{.from = {.uuid = test_uuid(9)}, .shards = 1, .transient = true});
    EXPECT_GE(strange({hello.begin(), hello.end() - 1}).second, 2900ms);
    // A whole hello, and then something else than frames.
    const auto [garbled, took] = strange(hello, std::vector<uint8_t>(200, 0xee));
    ASSERT_TRUE(garbled.reply);
    EXPECT_EQ(garbled.reply->refusal, Refusal::kNone);
    EXPECT_EQ(garbled.reply->from.node, n1);
    EXPECT_LT(took, 1s);
    EXPECT_EQ(cluster_->endpoint(1, 0).metrics().frames_malformed, 1);
    // Half a frame: what is missing is never sent.
    EXPECT_GE(strange(hello, std::vector<uint8_t>(20, 0)).second, 2900ms);
    const std::vector<uint8_t> version_3 = encode(
        Hello{.version_min = 3, .version_max = 4, .from = {.uuid = test_uuid(9)}, .shards = 1});
    EXPECT_EQ(strange(version_3, {0}).first.reply->refusal, Refusal::kVersion);
}

TEST_F(Endpoints, a_bad_checksum_closes_the_connection_and_says_so) {
    begin({1, 1});
    const std::vector<uint8_t> hello =
        encode(Hello{.from = {.uuid = test_uuid(9)}, .shards = 1, .transient = true});
    std::vector<uint8_t> frame(kFrameHeaderBytes + 4);
    encode_header({.payload_size = 4, .kind = kNote, .message_size = 4}, frame.data());
    run_on(0, 0, [&](Endpoint*) -> Task<void> {
        Stranger stranger;
        co_await be_strange(&stranger, hello, frame);
        EXPECT_TRUE(stranger.closed);
    });
    EXPECT_NE(cluster_->log().find("a bad checksum"), std::string::npos);
    EXPECT_TRUE(notes(1).texts.empty());
    EXPECT_TRUE(call(0, n1, 0, message(kEcho, "")));
}

TEST_F(Endpoints, the_number_of_connections_is_bounded) {
    make({1, 1});
    cluster_->node(1).listener_options.connections_max = 3;
    start();
    run_on(0, 0, [&](Endpoint*) -> Task<void> {
        std::vector<Stranger> strangers(5);
        runtime::Scope scope;
        for (Stranger& stranger : strangers) scope.spawn(be_strange(&stranger, {}, {}));
        (void)co_await runtime::sleep_for(1s);
        size_t closed = 0;
        for (const Stranger& stranger : strangers) closed += stranger.closed;
        EXPECT_EQ(closed, 2);
        co_await scope.join();
    });
    EXPECT_TRUE(call(0, n1, 0, message(kEcho, "")));
}

// ---------------------------------------------------------------- nodes that come and go

TEST_F(Endpoints, a_node_that_is_killed_is_noticed_and_found_again_with_other_shards) {
    make({1, 3});
    std::vector<std::string> events;
    const auto setup = cluster_->setup;
    cluster_->setup = [&, setup](size_t node, ShardId shard, Endpoint& endpoint) {
        setup(node, shard, endpoint);
        if (node != 0) return;
        endpoint.on_up([&](NodeId peer, ShardId remote) {
            events.push_back(fmt::format("up {}.{}", peer.v, remote));
        });
        endpoint.on_down([&](NodeId peer, ShardId remote) {
            events.push_back(fmt::format("down {}.{}", peer.v, remote));
        });
    };
    start();
    EXPECT_TRUE(call(0, n1, 2, message(kEcho, "")));
    EXPECT_EQ(cluster_->endpoint(0, 0).status(n1)->shards, 3);
    const Instant killed = cluster_->world().now();
    cluster_->kill(1);
    ASSERT_TRUE(cluster_->run_until([&] { return !connected(0, n1); }, 10s));
    EXPECT_LT(cluster_->world().now() - killed, 1s);
    const auto gone = call(0, n1, 2, message(kEcho, ""));
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code, ErrorCode::kUnavailable);
    run_on(0, 0, [](Endpoint* endpoint) -> Task<void> {
        EXPECT_FALSE(endpoint->send(n1, 2, message(kNote, "lost")));
        co_return;
    });
    cluster_->run_for(20s);

    cluster_->node(1).node->set_shard_count(2);
    cluster_->start(1);
    ASSERT_TRUE(cluster_->run_until([&] { return connected(0, n1); }, 3s));
    EXPECT_EQ(call(0, n1, 2, message(kEcho, "back")).value_or(""), "back");
    EXPECT_EQ(cluster_->endpoint(0, 0).status(n1)->shards, 2);
    EXPECT_EQ(events, (std::vector<std::string>{"up 1.2", "down 1.2", "up 1.2"}));
    cluster_->stop_all();
}

TEST_F(Endpoints, calls_under_way_fail_when_the_connection_is_lost) {
    begin({1, 1});
    connect(0, n1);
    cluster_->world().schedule(1s, [&] { cluster_->kill(1); });
    const auto lost = call(0, n1, 0, message(kSlow, ""));
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, ErrorCode::kUnavailable);
    EXPECT_NE(lost.error().message.find("lost"), std::string::npos);
}

TEST_F(Endpoints, a_call_tells_whether_it_was_passed_on_and_not_answered) {
    begin({1, 1});
    connect(0, n1);
    const auto ask = [&](rpc::Kind kind) {
        bool unanswered = false;
        run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
            const auto answer = co_await endpoint->call(
                n1, 0, message(kind, ""),
                {.deadline = Shard::current().now() + 5s, .unanswered = &unanswered});
            EXPECT_EQ(answer.has_value(), kind == kEcho);
        });
        return unanswered;
    };
    EXPECT_FALSE(ask(kEcho));
    EXPECT_FALSE(ask(kFail)) << "an error of the handler's is an answer";
    cluster_->world().schedule(1s, [&] { cluster_->kill(1); });
    EXPECT_TRUE(ask(kSlow));
    EXPECT_FALSE(ask(kFail)) << "nobody was there to pass it on to";
}

TEST_F(Endpoints, a_partition_either_way_is_noticed_and_heals) {
    for (const int way : {0, 1, 2}) {
        begin({1, 1}, calm(static_cast<uint64_t>(way) + 1));
        connect(0, n1);
        sim::World& world = cluster_->world();
        sim::Node& a = *cluster_->node(0).node;
        sim::Node& b = *cluster_->node(1).node;
        cluster_->run_for(2s);
        if (way != 1) world.cut_link(a, b);
        if (way != 0) world.cut_link(b, a);
        const auto cut = call(0, n1, 0, message(kEcho, ""), 60s);
        ASSERT_FALSE(cut);
        EXPECT_EQ(cut.error().code, ErrorCode::kUnavailable);
        cluster_->run_for(20s);
        EXPECT_FALSE(connected(0, n1));
        world.heal_link(a, b);
        world.heal_link(b, a);
        ASSERT_TRUE(cluster_->run_until([&] { return connected(0, n1); }, 10s));
        EXPECT_TRUE(call(0, n1, 0, message(kEcho, "")));
        cluster_->stop_all();
    }
}

TEST_F(Endpoints, a_quiet_connection_stays_and_a_paused_node_is_noticed) {
    begin({1, 1});
    connect(0, n1);
    cluster_->run_for(60s);
    EXPECT_TRUE(connected(0, n1));
    EXPECT_EQ(cluster_->endpoint(0, 0).metrics().connections_made, 1);
    const auto status = cluster_->endpoint(0, 0).status(n1);
    EXPECT_LT(cluster_->world().now() - *status->last_heard, 2s);

    cluster_->world().pause(*cluster_->node(1).node);
    cluster_->run_for(5s);
    EXPECT_FALSE(connected(0, n1));
    cluster_->world().resume(*cluster_->node(1).node);
    ASSERT_TRUE(cluster_->run_until([&] { return connected(0, n1); }, 10s));
}

TEST_F(Endpoints, a_connection_that_nobody_uses_is_closed_until_somebody_does) {
    make({1, 1});
    cluster_->node(0).options.idle_after = 10s;
    start();
    EXPECT_TRUE(call(0, n1, 0, message(kEcho, "")));
    cluster_->run_for(9s);
    EXPECT_TRUE(connected(0, n1));
    cluster_->run_for(5s);
    EXPECT_FALSE(connected(0, n1));
    EXPECT_TRUE(call(0, n1, 0, message(kEcho, "")));
    EXPECT_EQ(cluster_->endpoint(0, 0).metrics().connections_made, 2);
}

TEST_F(Endpoints, a_forgotten_node_is_left_alone_until_it_has_an_address_again) {
    begin({1, 1});
    connect(0, n1);
    connect(1, n0);
    run_on(0, 0, [](Endpoint* endpoint) -> Task<void> {
        runtime::Scope scope;
        std::optional<ErrorCode> end;
        scope.spawn([](Endpoint* endpoint, std::optional<ErrorCode>* end) -> Task<void> {
            const auto answer = co_await endpoint->call(n1, 0, message(kSlow, ""));
            if (!answer) *end = answer.error().code;
        }(endpoint, &end));
        (void)co_await runtime::sleep_for(100ms);
        endpoint->forget(n1);
        co_await scope.join();
        EXPECT_EQ(end, ErrorCode::kUnavailable);
        EXPECT_FALSE(endpoint->status(n1));
        EXPECT_TRUE(endpoint->peers().empty());
        endpoint->set_address(n1, "n1", kPort);
        EXPECT_TRUE(co_await endpoint->call(n1, 0, message(kEcho, "")));
    });
    cluster_->run_for(1s);
    EXPECT_EQ(cluster_->endpoint(1, 0).metrics().connections_lost, 1);
}

TEST_F(Endpoints, close_ends_calls_and_handlers) {
    begin({2, 2});
    std::vector<std::string> ends;
    cluster_->run_for(10ms);
    const auto one = [](Endpoint* endpoint, std::vector<std::string>* ends) -> Task<void> {
        const auto answer = co_await endpoint->call(n1, 1, message(kSlow, ""));
        ends->push_back(answer ? "ok" : std::string(to_string(answer.error().code)));
    };
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        // Not waited for here: node 0 closes first.
        Shard::current().remote_scope().spawn(one(endpoint, &ends));
        (void)co_await runtime::sleep_for(100ms);
    });
    cluster_->stop(0);
    EXPECT_EQ(ends, std::vector<std::string>{std::string(to_string(ErrorCode::kUnavailable))});
    cluster_->start(0);
    ASSERT_TRUE(cluster_->run_until([&] { return cluster_->all_listen(); }, 10s));
    run_on(0, 0, [&](Endpoint* endpoint) -> Task<void> {
        Shard::current().remote_scope().spawn(one(endpoint, &ends));
        (void)co_await runtime::sleep_for(100ms);
    });
    const Instant before = cluster_->world().now();
    cluster_->stop(1);  // its handler is stopped, it does not run to its end
    EXPECT_LT(cluster_->world().now() - before, 1s);
    cluster_->run_for(100ms);
    EXPECT_EQ(ends.size(), 2);
}

}  // namespace
}  // namespace weir::rpc

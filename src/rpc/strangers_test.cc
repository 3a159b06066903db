// Who is listened to: members, and with a secret those that prove it. Raw connections play those
// that are neither.
#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "rpc/credentials.h"
#include "rpc/frame.h"
#include "rpc/outbox.h"
#include "rpc/test_cluster.h"
#include "runtime/deadline_stop.h"
#include "runtime/socket.h"

namespace weir::rpc {
namespace {

using runtime::Shard;
using runtime::ShardId;
using runtime::Task;
using runtime::TcpStream;

constexpr Kind kEcho{1};     // for members
constexpr Kind kWelcome{2};  // for anyone
constexpr Kind kNote{3};     // one way
constexpr NodeId n1{1};

std::shared_ptr<Credentials> secret(std::string_view text, bool required = true) {
    return std::make_shared<ClusterSecret>(*ClusterSecret::parse(text), required);
}

const char* const kSecret = "correct horse battery staple";
const char* const kOther = "correct horse battery stapler";

std::vector<uint8_t> frame(FrameType type, Kind kind, std::string_view text, uint64_t call = 0) {
    Outbox outbox(1_MiB, 1_MiB);
    const Bytes body = as_bytes(text);
    outbox.push({.type = type,
                 .call = call,
                 .message = {.kind = kind, .body = {body.begin(), body.end()}}});
    Outbox::Batch batch;
    outbox.gather(&batch);
    std::vector<uint8_t> bytes;
    for (const Bytes part : batch.parts) bytes.insert(bytes.end(), part.begin(), part.end());
    outbox.free(batch);
    return bytes;
}

// What came of a raw connection.
struct Said {
    std::optional<HelloReply> reply;
    std::optional<Verdict> verdict;
    std::vector<uint8_t> sent;  // by the stranger, up to its proof
    std::string answers;        // frames, as they came
    bool closed = false;
};

struct Attempt {
    Hello hello;
    const Credentials* credentials = nullptr;
    std::vector<uint8_t> instead;  // sent in place of a hello and a proof
    size_t flip = SIZE_MAX;        // a bit of the proof
    std::vector<uint8_t> then;     // behind all that
    Duration stay = 200ms;
};

Task<void> talk(const Attempt* attempt, Said* said) {
    auto stream = co_await TcpStream::connect("n1:7000");
    CHECK(stream);
    const auto write = [&](const std::vector<uint8_t>& bytes) {
        return (*stream)->write_all({Bytes(bytes)}, {});
    };
    std::vector<uint8_t> exchange = encode(attempt->hello);
    if (!attempt->instead.empty()) exchange = attempt->instead;
    said->sent = exchange;
    CHECK(co_await write(exchange));
    std::vector<uint8_t> sent;
    const auto reply = co_await read_hello_reply(**stream, {}, &sent);
    if (reply) said->reply = *reply;
    if (reply && reply->proof && attempt->credentials != nullptr) {
        EXPECT_TRUE(attempt->flip != SIZE_MAX ||
                    attempt->credentials->check(
                        Side::kAccepting, exchange_before_reply(exchange, *reply), *reply->proof));
        exchange.insert(exchange.end(), sent.begin(), sent.end());
        Proof proof = attempt->credentials->prove(Side::kDialling, exchange);
        if (attempt->flip != SIZE_MAX)
            proof[attempt->flip / 8] ^= static_cast<uint8_t>(1 << (attempt->flip % 8));
        const std::vector<uint8_t> bytes = encode_proof(proof);
        said->sent.insert(said->sent.end(), bytes.begin(), bytes.end());
        CHECK(co_await write(bytes));
    }
    if (reply && reply->proof) {
        if (const auto verdict = co_await read_verdict(**stream, {})) said->verdict = *verdict;
    }
    if (!attempt->then.empty()) (void)co_await write(attempt->then);
    const Instant end = Shard::current().now() + attempt->stay;
    while (Shard::current().now() < end) {
        uint8_t sink[500];
        runtime::DeadlineStop limit(end, {});
        const auto got = co_await (*stream)->read_some(sink, limit.token());
        if (!got) {
            said->closed = got.error().code != ErrorCode::kCancelled;
            break;
        }
        said->answers += as_text(Bytes(sink).first(*got));
    }
    co_await (*stream)->close();
}

class Strangers : public testing::Test {
  protected:
    void make(size_t nodes = 3) {
        sim::Plan plan;
        plan.seed = 1;
        cluster_ = std::make_unique<TestCluster>(plan, std::vector<uint32_t>(nodes, 1));
        cluster_->setup = [this](size_t node, ShardId, Endpoint& endpoint) {
            const auto echo = [](Request request) -> Task<Result<Message>> {
                co_return Message{.parts = {request.body}};
            };
            endpoint.handle(kEcho, echo);
            endpoint.handle(kWelcome, echo, From::kAnyone);
            endpoint.on_message(kNote, [this, node](Received received) {
                notes_[node] += as_text(received.body.bytes());
            });
        };
        cluster_->body = [this](size_t node, ShardId, Endpoint* endpoint) {
            return do_jobs(this, node, endpoint);
        };
    }
    void give(size_t node, std::shared_ptr<Credentials> credentials) {
        cluster_->node(node).options.credentials = credentials.get();
        held_.push_back(std::move(credentials));
    }
    void start() {
        cluster_->start_all();
        ASSERT_TRUE(cluster_->run_until([&] { return cluster_->all_listen(); }, 10s));
    }
    void TearDown() override {
        if (cluster_) cluster_->stop_all();
    }

    using Job = std::function<Task<void>(Endpoint*)>;
    void run_on(size_t node, Job job) {
        jobs_[node] = std::move(job);
        ASSERT_TRUE(cluster_->run_until([&] { return !jobs_.contains(node); }, 60s))
            << cluster_->log();
    }
    // "" or what went wrong.
    std::string call(size_t node, Kind kind = kEcho) {
        std::string problem = "did not end";
        run_on(node, [&](Endpoint* endpoint) -> Task<void> {
            const auto answer = co_await endpoint->call(n1, 0, {.kind = kind, .body = {1, 2, 3}},
                                                        {.deadline = Shard::current().now() + 5s});
            problem = answer ? "" : answer.error().to_string();
        });
        return problem;
    }
    // From node 0 to node 1, by hand.
    Said attempt(Attempt what) {
        Said said;
        run_on(0, [&](Endpoint*) -> Task<void> { co_await talk(&what, &said); });
        return said;
    }
    // As a member says hello.
    Hello hello_of(size_t node) {
        Hello hello{.from = cluster_->node(node).identity, .shards = 1, .to = n1, .proves = true};
        for (size_t i = 0; i < hello.nonce.size(); ++i) hello.nonce[i] = static_cast<uint8_t>(i);
        return hello;
    }
    Endpoint& n1_endpoint() { return cluster_->endpoint(1, 0); }
    bool heard_of(NodeId node) { return n1_endpoint().status(node)->last_heard.has_value(); }

    std::unique_ptr<TestCluster> cluster_;
    std::map<size_t, std::string> notes_;

  private:
    static Task<void> do_jobs(Strangers* self, size_t node, Endpoint* endpoint) {
        while (!endpoint->closed()) {
            const auto job = self->jobs_.find(node);
            if (job == self->jobs_.end()) {
                (void)co_await runtime::sleep_for(1ms);
                continue;
            }
            co_await job->second(endpoint);
            self->jobs_.erase(node);
        }
    }
    std::map<size_t, Job> jobs_;
    std::vector<std::shared_ptr<Credentials>> held_;
};

std::vector<uint8_t> both_frames() {
    std::vector<uint8_t> bytes = frame(FrameType::kMessage, kNote, "note");
    const auto request = frame(FrameType::kRequest, kEcho, "echo", 7);
    bytes.insert(bytes.end(), request.begin(), request.end());
    return bytes;
}

// ---------------------------------------------------------------- without a secret

TEST_F(Strangers, who_is_no_member_is_not_listened_to_whatever_its_hello_says) {
    make();
    start();
    const Identity member = cluster_->node(2).identity;
    const Identity strangers[] = {
        {.uuid = test_uuid(9)},                                       // says nothing
        {.cluster = {}, .node = NodeId{9999}, .uuid = test_uuid(9)},  // the second look's
        {.cluster = member.cluster, .node = NodeId{9999}, .uuid = test_uuid(9)},
        {.cluster = member.cluster, .node = member.node, .uuid = test_uuid(9)},
        {.cluster = {}, .node = member.node, .uuid = member.uuid},
        {.cluster = member.cluster, .node = n1, .uuid = member.uuid},
        {.cluster = member.cluster, .node = NodeId{-5}, .uuid = member.uuid}};
    for (const Identity& stranger : strangers) {
        Attempt what{.hello = hello_of(2), .then = both_frames()};
        what.hello.from = stranger;
        const Said said = attempt(what);
        ASSERT_TRUE(said.reply);
        EXPECT_EQ(said.reply->refusal, Refusal::kNone);
        EXPECT_NE(said.answers.find("only members"), std::string::npos);
        EXPECT_EQ(said.answers.find("echo"), std::string::npos);
        what.then = frame(FrameType::kRequest, kWelcome, "welcome", 8);
        EXPECT_NE(attempt(what).answers.find("welcome"), std::string::npos);
    }
    EXPECT_EQ(notes_[1], "");
    EXPECT_FALSE(heard_of(member.node));
    EXPECT_EQ(n1_endpoint().metrics().messages_of_strangers, 2 * std::size(strangers));
    const Said said = attempt({.hello = hello_of(2), .then = both_frames()});
    EXPECT_NE(said.answers.find("echo"), std::string::npos);
    EXPECT_EQ(notes_[1], "note");
    EXPECT_TRUE(heard_of(member.node));
}

TEST_F(Strangers, a_connection_in_a_members_name_does_not_end_the_members) {
    make();
    start();
    EXPECT_EQ(call(2), "");
    const uint64_t made = cluster_->endpoint(2, 0).metrics().connections_made;
    Attempt what{.hello = hello_of(2), .then = both_frames(), .stay = 2s};
    what.hello.from.uuid = test_uuid(9);
    what.hello.shards = 4000;
    (void)attempt(what);
    what.hello.from = cluster_->node(2).identity;
    what.hello.from.cluster = {};
    (void)attempt(what);
    EXPECT_EQ(call(2), "");
    EXPECT_EQ(cluster_->endpoint(2, 0).metrics().connections_made, made);
    EXPECT_EQ(n1_endpoint().status(NodeId{2})->shards, 1);
}

TEST_F(Strangers, a_node_is_a_member_from_when_its_address_is_known) {
    make();
    start();
    Attempt what{.hello = hello_of(2), .then = both_frames(), .stay = 500ms};
    what.hello.from.node = NodeId{5};
    EXPECT_EQ(attempt(what).answers.find("echo"), std::string::npos);
    run_on(1, [&](Endpoint* endpoint) -> Task<void> {
        endpoint->set_address(NodeId{5}, "n2", kPort, what.hello.from.uuid);
        co_return;
    });
    EXPECT_NE(attempt(what).answers.find("echo"), std::string::npos);
    run_on(1, [&](Endpoint* endpoint) -> Task<void> {
        endpoint->forget(NodeId{5});
        co_return;
    });
    EXPECT_EQ(attempt(what).answers.find("echo"), std::string::npos);
}

// Cluster seeds 5000045, 7171039: a node that joined knew members by hints, without their data
// directories, and answered whoever named one of them.
TEST_F(Strangers, a_member_that_is_known_by_its_address_alone_is_one_when_it_answers_there) {
    make();
    start();
    run_on(1, [&](Endpoint* endpoint) -> Task<void> {
        endpoint->forget(NodeId{2});
        endpoint->set_address(NodeId{2}, "n2", kPort);
        co_return;
    });
    Attempt impostor{.hello = hello_of(2), .then = both_frames(), .stay = 500ms};
    impostor.hello.from.uuid = test_uuid(9);
    EXPECT_EQ(attempt(impostor).answers.find("echo"), std::string::npos);
    EXPECT_EQ(attempt(impostor).answers.find("echo"), std::string::npos);
    // The first attempt made node 1 ask at the address.
    Attempt member{.hello = hello_of(2), .then = both_frames(), .stay = 500ms};
    EXPECT_NE(attempt(member).answers.find("echo"), std::string::npos);
}

TEST_F(Strangers, one_that_goes_on_sending_is_hung_up_on_and_so_is_one_that_sends_much) {
    make();
    start();
    Attempt what{.hello = hello_of(2),
                 .then = frame(FrameType::kRequest, kWelcome, std::string(100'000, 'x'), 7)};
    what.hello.from.uuid = test_uuid(9);
    EXPECT_TRUE(attempt(what).closed);
    what.hello = hello_of(2);
    const Said member = attempt(what);
    EXPECT_FALSE(member.closed);
    EXPECT_GT(member.answers.size(), 100'000);
}

TEST_F(Strangers, counts_in_a_hello_that_no_node_has_make_it_none) {
    make();
    start();
    for (const auto& [shards, from] : {std::pair(kShardsMax + 1, 0u), std::pair(4u, 4u)}) {
        Attempt what{.hello = hello_of(2)};
        what.hello.shards = shards;
        what.hello.from_shard = static_cast<ShardId>(from);
        EXPECT_FALSE(attempt(what).reply);
    }
}

TEST_F(Strangers, another_data_directory_at_a_members_address_is_not_talked_to) {
    make();
    start();
    run_on(0, [&](Endpoint* endpoint) -> Task<void> {
        endpoint->set_address(n1, "n1", kPort, test_uuid(9));
        co_return;
    });
    EXPECT_NE(call(0).find("another data directory"), std::string::npos);
}

// ---------------------------------------------------------------- with a secret

TEST_F(Strangers, nodes_with_the_same_secret_talk) {
    make();
    for (size_t node = 0; node < 3; ++node) give(node, secret(kSecret));
    start();
    EXPECT_EQ(call(0), "");
    EXPECT_EQ(call(2), "");
    EXPECT_EQ(call(0, kWelcome), "");
    const auto right = secret(kSecret);
    const Said said =
        attempt({.hello = hello_of(2), .credentials = right.get(), .then = both_frames()});
    ASSERT_TRUE(said.verdict);
    EXPECT_EQ(said.verdict->refusal, Refusal::kNone);
    EXPECT_NE(said.answers.find("echo"), std::string::npos);
}

TEST_F(Strangers, who_has_another_secret_or_none_gets_nothing) {
    make();
    give(0, secret(kOther));
    give(1, secret(kSecret));
    start();
    EXPECT_NE(call(0, kWelcome).find("the peer has another cluster secret"), std::string::npos);
    EXPECT_NE(call(2, kWelcome).find("asks for its secret"), std::string::npos);
    for (const uint16_t version : {uint16_t{1}, uint16_t{2}}) {
        Attempt what{.hello = hello_of(2), .then = both_frames()};
        what.hello.version_max = version;
        what.hello.proves = false;
        const Said said = attempt(what);
        ASSERT_TRUE(said.reply);
        EXPECT_EQ(said.reply->refusal, Refusal::kNotProven);
        EXPECT_FALSE(said.reply->proof);
        EXPECT_TRUE(said.closed);
        EXPECT_EQ(said.answers, "");
    }
    EXPECT_EQ(notes_[1], "");
    EXPECT_FALSE(heard_of(NodeId{2}));
}

TEST_F(Strangers, a_node_that_asks_for_proofs_does_not_talk_to_one_that_has_none) {
    make();
    give(0, secret(kSecret));
    start();
    EXPECT_NE(call(0).find("does not prove that it belongs to the cluster"), std::string::npos);
}

TEST_F(Strangers, a_proof_that_is_wrong_in_any_bit_is_none) {
    make();
    give(1, secret(kSecret));
    start();
    const auto right = secret(kSecret);
    for (size_t bit = 0; bit < 256; bit += 7) {
        const Said said = attempt(
            {.hello = hello_of(2), .credentials = right.get(), .flip = bit, .then = both_frames()});
        ASSERT_TRUE(said.verdict);
        EXPECT_EQ(said.verdict->refusal, Refusal::kNotProven);
        EXPECT_TRUE(said.closed);
    }
    EXPECT_EQ(notes_[1], "");
}

TEST_F(Strangers, nothing_that_was_heard_on_the_wire_can_be_said_again) {
    make();
    give(1, secret(kSecret));
    start();
    const auto right = secret(kSecret);
    const Said first =
        attempt({.hello = hello_of(2), .credentials = right.get(), .then = both_frames()});
    EXPECT_EQ(notes_[1], "note");
    // Hello, proof and frames as they were: the accepting node's nonce is another.
    const Said again = attempt({.instead = first.sent, .then = both_frames()});
    ASSERT_TRUE(again.verdict);
    EXPECT_EQ(again.verdict->refusal, Refusal::kNotProven);
    EXPECT_NE(first.reply->nonce, again.reply->nonce);
    // The accepting node's own proof, sent back.
    Attempt reflected{.hello = hello_of(2)};
    reflected.instead = encode(reflected.hello);
    const auto mirrored = encode_proof(*again.reply->proof);
    reflected.instead.insert(reflected.instead.end(), mirrored.begin(), mirrored.end());
    EXPECT_EQ(attempt(reflected).verdict->refusal, Refusal::kNotProven);
    EXPECT_EQ(notes_[1], "note");
}

TEST_F(Strangers, a_connection_that_is_refused_is_counted_by_its_reason) {
    make();
    for (size_t node = 0; node < 2; ++node) give(node, secret(kSecret));
    cluster_->node(1).listener_options.hello_timeout = 100ms;
    cluster_->node(1).listener_options.admit = [](const Hello& hello, std::string* reason) {
        if (hello.from.node.v != 7) return Refusal::kNone;
        *reason = "node 7 was removed";
        return Refusal::kUnknownNode;
    };
    start();
    const auto right = secret(kSecret);
    (void)attempt({.hello = hello_of(2), .credentials = right.get()});
    const auto counts = [&] {
        const ListenerMetrics& m = cluster_->node(1).listener->metrics();
        return std::vector<uint64_t>{m.other_cluster, m.other_version, m.other_node, m.unknown_node,
                                     m.not_proven,    m.no_hello,      m.too_many};
    };
    EXPECT_EQ(counts(), (std::vector<uint64_t>(7)));
    Attempt foreign{.hello = hello_of(2), .credentials = right.get()};
    foreign.hello.from.cluster = test_uuid(77);
    (void)attempt(foreign);
    Attempt later{.hello = hello_of(2), .credentials = right.get()};
    later.hello.version_min = later.hello.version_max = kVersionMax + 1;
    (void)attempt(later);
    Attempt astray{.hello = hello_of(2), .credentials = right.get()};
    astray.hello.to = NodeId{2};
    (void)attempt(astray);
    Attempt removed{.hello = hello_of(2), .credentials = right.get()};
    removed.hello.from.node = NodeId{7};
    (void)attempt(removed);
    EXPECT_EQ(counts(), (std::vector<uint64_t>{1, 1, 1, 1, 0, 0, 0}));
    Attempt proves_nothing{.hello = hello_of(2)};
    proves_nothing.hello.proves = false;
    (void)attempt(proves_nothing);
    (void)attempt({.hello = hello_of(2), .credentials = right.get(), .flip = 3});
    EXPECT_EQ(counts(), (std::vector<uint64_t>{1, 1, 1, 1, 2, 0, 0}));
    const std::string_view http = "GET / HTTP/1.1\r\n\r\n";
    (void)attempt({.instead = {http.begin(), http.end()}});
    EXPECT_EQ(counts(), (std::vector<uint64_t>{1, 1, 1, 1, 2, 1, 0}));
}

// ---------------------------------------------------------------- while a cluster takes it up

TEST_F(Strangers, a_cluster_takes_a_secret_up_node_by_node) {
    // Each column a step of the rolling restarts; 'n' none, 'o' optional, 'r' required.
    for (const std::string_view step :
         {"nnn", "onn", "oon", "ooo", "roo", "rro", "rrr", "non", "oro"}) {
        make();
        for (size_t node = 0; node < 3; ++node) {
            if (step[node] != 'n') give(node, secret(kSecret, step[node] == 'r'));
        }
        start();
        EXPECT_EQ(call(0), "") << step;
        EXPECT_EQ(call(2), "") << step;
        EXPECT_EQ(call(0, kWelcome), "") << step;
        TearDown();
        cluster_.reset();
    }
    // Another secret follows the first in the same way.
    make();
    give(0, secret(kOther, false));
    give(1, secret(kSecret, false));
    give(2, secret(kSecret, false));
    start();
    EXPECT_EQ(call(0), "");
    EXPECT_EQ(call(2), "");
}

TEST_F(Strangers, a_node_of_an_older_version_is_believed_while_the_secret_is_optional) {
    make();
    give(1, secret(kSecret, false));
    start();
    Attempt what{.hello = hello_of(2), .then = both_frames()};
    what.hello.version_max = 1;
    const Said said = attempt(what);
    ASSERT_TRUE(said.reply);
    EXPECT_EQ(said.reply->version, 1);
    EXPECT_NE(said.answers.find("echo"), std::string::npos);
}

// ---------------------------------------------------------------- the secret itself

TEST(ClusterSecretTest, newlines_at_the_end_of_the_file_do_not_count) {
    const std::string text = "0123456789abcdef";
    const auto plain = ClusterSecret::parse(text);
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->size(), 16);
    EXPECT_EQ(*ClusterSecret::parse(text + "\n"), *plain);
    EXPECT_EQ(*ClusterSecret::parse(text + "\r\n"), *plain);
    EXPECT_NE(*ClusterSecret::parse(text + " "), *plain);
}

TEST(ClusterSecretTest, a_secret_that_is_empty_short_or_endless_is_refused) {
    for (const std::string& text :
         {std::string(), std::string("\n"), std::string(15, 'x'), std::string(1025, 'x')})
        EXPECT_FALSE(ClusterSecret::parse(text)) << text.size();
    EXPECT_TRUE(ClusterSecret::parse(std::string(1024, 'x')));
}

TEST(ClusterSecretTest, a_proof_is_of_one_side_and_one_exchange) {
    const auto one = secret(kSecret);
    const auto other = secret(kOther);
    const Proof proof = one->prove(Side::kDialling, as_bytes("exchange"));
    EXPECT_TRUE(one->check(Side::kDialling, as_bytes("exchange"), proof));
    EXPECT_FALSE(one->check(Side::kAccepting, as_bytes("exchange"), proof));
    EXPECT_FALSE(one->check(Side::kDialling, as_bytes("exchangf"), proof));
    EXPECT_FALSE(other->check(Side::kDialling, as_bytes("exchange"), proof));
}

}  // namespace
}  // namespace weir::rpc

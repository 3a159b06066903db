// Clusters under drawn faults: nodes die and come back with other shards, links are cut one way or
// both, connections are reset, refused and stall. Every call ends in time, with its own answer if
// any; a message comes at most once and in the order of its lane; and when the faults end,
// everybody reaches everybody.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/crc32c.h"
#include "rpc/test_cluster.h"
#include "runtime/sim/plan.h"

namespace weir::rpc {
namespace {

using runtime::Shard;
using runtime::ShardId;
using runtime::Task;

// More, or one of them:
//   WEIR_SEEDS=300 weir_rpc_test --gtest_filter=Faults.every*
//   WEIR_SEED=51 weir_rpc_test --gtest_filter=Faults.every*
constexpr uint64_t kSeeds = 60;
constexpr Kind kEcho{1};
constexpr Kind kNote{2};
// How much later than its deadline a call may end: each step of its end may meet a late timer or a
// stall of the shard.
constexpr Duration kGrace = 5s;

// One shard of one life of a node.
struct Life {
    uint64_t number = 0;
    uint64_t calls_begun = 0;
    uint64_t calls_ended = 0;
    uint64_t next_call = 0;
    std::map<std::pair<NodeId, ShardId>, uint64_t> notes_sent;
};

struct Totals {
    uint64_t answers = 0;
    uint64_t errors = 0;
    uint64_t notes = 0;
    uint64_t handled = 0;
};

class Chaos {
  public:
    explicit Chaos(uint64_t seed, Totals* totals)
        : seed_(seed), totals_(*totals), prng_(seed, "chaos"), cluster_(draw(seed), shards()) {
        cluster_.setup = [this](size_t node, ShardId, Endpoint& endpoint) {
            set_handlers(node, endpoint);
        };
        cluster_.body = [this](size_t node, ShardId shard, Endpoint* endpoint) {
            return work(this, node, shard, endpoint);
        };
    }

    void run() {
        cluster_.start_all();
        for (int i = 0; i < 12; ++i) {
            cluster_.run_for(Duration(static_cast<int64_t>(prng_.below(2'000'000'000))));
            disturb();
        }
        calm_down();
        quiet_ = true;
        ASSERT_TRUE(cluster_.run_until([this] { return all_calls_ended(); }, 20s))
            << "a call does not end\n"
            << cluster_.log();
        probe_ = true;
        ASSERT_TRUE(cluster_.run_until([this] { return all_reached(); }, 30s))
            << "somebody does not reach somebody\n"
            << cluster_.log();
        cluster_.stop_all();
    }

  private:
    static sim::Plan draw(uint64_t seed) {
        sim::Plan plan = sim::draw_plan(seed);
        plan.net.unacknowledged_max = 10s;
        return plan;
    }
    std::vector<uint32_t> shards() {
        std::vector<uint32_t> shards(prng_.between(2, 3));
        for (uint32_t& count : shards) count = static_cast<uint32_t>(prng_.between(1, 3));
        return shards;
    }

    // ------------------------------------------------------------ faults

    void disturb() {
        const size_t i = prng_.below(cluster_.size());
        const size_t j = (i + 1 + prng_.below(cluster_.size() - 1)) % cluster_.size();
        sim::World& world = cluster_.world();
        sim::Node& node = *cluster_.node(i).node;
        sim::Node& other = *cluster_.node(j).node;
        switch (prng_.below(6)) {
            case 0:
                if (node.running()) {
                    cluster_.kill(i);
                    std::erase_if(life_of_,
                                  [i](const auto& life) { return life.first.first == i; });
                } else {
                    restart(i);
                }
                break;
            case 1:
                world.cut_link(node, other);
                break;
            case 2:
                world.cut_link(node, other);
                world.cut_link(other, node);
                break;
            case 3:
                world.heal_link(node, other);
                world.heal_link(other, node);
                break;
            case 4:
                if (!node.running()) break;
                may_be_late_ = true;
                if (node.paused()) {
                    world.resume(node);
                } else {
                    world.pause(node);
                }
                break;
            default:
                break;
        }
    }
    void restart(size_t i) {
        cluster_.node(i).node->set_shard_count(static_cast<uint32_t>(prng_.between(1, 3)));
        cluster_.start(i);
    }
    void calm_down() {
        cluster_.world().heal();
        for (size_t i = 0; i < cluster_.size(); ++i) {
            sim::Node& node = *cluster_.node(i).node;
            if (node.paused()) cluster_.world().resume(node);
            if (!node.running()) restart(i);
        }
    }

    // ------------------------------------------------------------ what the nodes do

    void set_handlers(size_t node, Endpoint& endpoint) {
        endpoint.handle(kEcho, [this](Request request) -> Task<Result<Message>> {
            ++totals_.handled;
            ByteReader in(request.body.bytes());
            const uint32_t ms = in.read_u32();
            (void)co_await runtime::sleep_for(std::chrono::milliseconds(ms), request.stop);
            if (ms == 3) co_return fail(ErrorCode::kOutOfRange, "three");
            co_return Message{.parts = {request.body}};
        });
        endpoint.on_message(kNote, [this, node](Received received) { take(node, received); });
    }

    void take(size_t node, const Received& received) {
        ++totals_.notes;
        ByteReader in(received.body.bytes());
        const int64_t life = in.read_i64();
        const uint32_t to_shard = in.read_u32();
        const auto number = static_cast<uint64_t>(in.read_i64());
        const uint32_t crc = in.read_u32();
        ASSERT_TRUE(in.ok());
        ASSERT_EQ(crc, crc32c(in.read_bytes(in.remaining())));
        uint64_t& last = seen_[{node, received.from.node.v, received.from.shard, life, to_shard}];
        ASSERT_GT(number, last) << "twice, or out of order\n" << cluster_.log();
        last = number;
    }

    static Task<void> work(Chaos* self, size_t node, ShardId shard, Endpoint* endpoint) {
        Prng prng(self->seed_ + 1000 * self->lives_, "work");
        auto& place = self->life_of_[{node, shard}];
        place = std::make_unique<Life>();
        Life& life = *place;
        life.number = ++self->lives_;
        runtime::Scope calls;
        while (!endpoint->closed()) {
            (void)co_await runtime::sleep_for(
                Duration(static_cast<int64_t>(prng.below(50'000'000))));
            if (self->probe_) {
                co_await probe(self, node, shard, endpoint);
                continue;
            }
            if (self->quiet_ || endpoint->closed()) continue;
            const NodeId to{static_cast<int32_t>(
                (node + 1 + prng.below(self->cluster_.size() - 1)) % self->cluster_.size())};
            const auto to_shard = static_cast<ShardId>(prng.below(4));
            for (uint64_t i = prng.between(1, 5); i > 0; --i) {
                if (prng.chance(0.5)) {
                    note(endpoint, to, to_shard, &life, &prng);
                } else if (calls.size() < 20) {
                    calls.spawn(call(self, endpoint, to, to_shard, &life, prng.next()));
                }
            }
        }
        co_await calls.join();
    }

    static size_t draw_size(Prng& prng) {
        return prng.chance(0.01) ? prng.below(400'000) : prng.below(200);
    }

    static void note(Endpoint* endpoint, NodeId to, ShardId to_shard, Life* life, Prng* prng) {
        uint64_t& number = life->notes_sent[{to, to_shard}];
        const std::vector<uint8_t> filler(draw_size(*prng), static_cast<uint8_t>(number));
        ByteWriter body;
        body.write_i64(static_cast<int64_t>(life->number));
        body.write_u32(to_shard);
        body.write_i64(static_cast<int64_t>(number + 1));
        body.write_u32(crc32c(filler));
        Message message{.kind = kNote, .body = body.flatten()};
        message.parts.push_back(runtime::SharedBytes::copy_of(filler));
        if (endpoint->send(to, to_shard, std::move(message))) ++number;
    }

    static Task<void> call(Chaos* self, Endpoint* endpoint, NodeId to, ShardId to_shard, Life* life,
                           uint64_t seed) {
        Prng prng(seed, "call");
        const auto ms = static_cast<uint32_t>(prng.below(30));
        ByteWriter body;
        body.write_u32(ms);
        body.write_i64(static_cast<int64_t>(life->number));
        body.write_i64(static_cast<int64_t>(life->next_call++));
        body.write_bytes(std::vector<uint8_t>(draw_size(prng), 0x5a));
        const std::vector<uint8_t> bytes = body.flatten();
        const Instant deadline =
            Shard::current().now() + std::chrono::milliseconds(prng.between(1, 4000));
        ++life->calls_begun;
        const auto answer =
            prng.chance(0.2)
                ? co_await endpoint->call_address(TestCluster::address(static_cast<size_t>(to.v)),
                                                  to_shard, {.kind = kEcho, .body = bytes},
                                                  {.deadline = deadline})
                : co_await endpoint->call(to, to_shard,
                                          {.kind = kEcho,
                                           .lane = prng.chance(0.5) ? Lane::kData : Lane::kControl,
                                           .body = bytes},
                                          {.deadline = deadline});
        ++life->calls_ended;
        // A node that stood still notices late.
        if (!self->may_be_late_) EXPECT_LE(Shard::current().now(), deadline + kGrace);
        if (!answer) {
            ++self->totals_.errors;
            if (answer.error().code == ErrorCode::kOutOfRange) EXPECT_EQ(ms, 3);
            co_return;
        }
        ++self->totals_.answers;
        EXPECT_TRUE(
            std::equal(bytes.begin(), bytes.end(), answer->bytes().begin(), answer->bytes().end()));
    }

    static Task<void> probe(Chaos* self, size_t node, ShardId shard, Endpoint* endpoint) {
        for (size_t other = 0; other < self->cluster_.size(); ++other) {
            if (other == node || self->reached_.contains({node, shard, other})) continue;
            const std::vector<uint8_t> body(4);
            const auto answer = co_await endpoint->call(NodeId{static_cast<int32_t>(other)}, shard,
                                                        {.kind = kEcho, .body = body},
                                                        {.deadline = Shard::current().now() + 5s});
            if (answer) self->reached_[{node, shard, other}] = true;
        }
    }

    bool all_calls_ended() const {
        for (const auto& [where, life] : life_of_) {
            if (life->calls_begun != life->calls_ended) return false;
        }
        return true;
    }
    bool all_reached() {
        size_t expected = 0;
        for (size_t i = 0; i < cluster_.size(); ++i)
            expected += cluster_.node(i).node->shard_count() * (cluster_.size() - 1);
        return reached_.size() == expected;
    }

    const uint64_t seed_;
    Totals& totals_;
    Prng prng_;
    std::map<std::pair<size_t, ShardId>, std::unique_ptr<Life>> life_of_;
    std::map<std::tuple<size_t, int32_t, ShardId, int64_t, uint32_t>, uint64_t> seen_;
    std::map<std::tuple<size_t, ShardId, size_t>, bool> reached_;
    uint64_t lives_ = 0;
    bool quiet_ = false;
    bool probe_ = false;
    bool may_be_late_ = false;
    TestCluster cluster_;  // last: its nodes use what is above
};

uint64_t number_from(const char* variable, uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Faults, every_call_ends_and_nothing_comes_twice_or_out_of_order) {
    const uint64_t one = number_from("WEIR_SEED", 0);
    const uint64_t first = one == 0 ? 1 : one;
    const uint64_t count = one == 0 ? number_from("WEIR_SEEDS", kSeeds) : 1;
    Totals totals;
    for (uint64_t seed = first; seed < first + count; ++seed) {
        SCOPED_TRACE(fmt::format("repeat it with WEIR_SEED={}", seed));
        Chaos(seed, &totals).run();
        if (HasFailure()) return;
    }
    if (one != 0) return;
    EXPECT_GT(totals.answers, count * 20);
    EXPECT_GT(totals.errors, count * 20);
    EXPECT_GT(totals.notes, count * 20);
    EXPECT_GE(totals.handled, totals.answers);
}

TEST(Faults, the_same_seed_gives_the_same_run) {
    for (uint64_t seed = 500; seed < 505; ++seed) {
        Totals first;
        Totals second;
        Chaos(seed, &first).run();
        Chaos(seed, &second).run();
        EXPECT_EQ(first.answers, second.answers);
        EXPECT_EQ(first.errors, second.errors);
        EXPECT_EQ(first.notes, second.notes);
        EXPECT_EQ(first.handled, second.handled);
    }
}

}  // namespace
}  // namespace weir::rpc

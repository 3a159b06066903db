#include "cluster/bootstrap.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/prng.h"

namespace weir::cluster {
namespace {

using Stage = NodeIdentity::Stage;
using Phase = Bootstrap::Phase;

Uuid uuid_of(uint64_t n) { return Uuid::random(n, n * 31); }

std::string address_of(size_t host) { return fmt::format("h{}:9700", host); }

const std::vector<std::string> kThree = {"h1:9700", "h2:9700", "h3:9700"};

// One node: its disk, and the process that may run on it.
struct Node {
    explicit Node(uint64_t uuid, std::string rpc, std::vector<std::string> seeds = kThree)
        : disk{.uuid = uuid_of(uuid)}, rpc(std::move(rpc)), seeds(std::move(seeds)) {
        start();
    }
    void start() {
        auto made =
            Bootstrap::make({.identity = disk, .rpc = rpc, .seeds = seeds, .node_id = node_id});
        ASSERT_TRUE(made) << made.error().to_string();
        process.emplace(std::move(*made));
    }
    // What its file must hold is written.
    void write() {
        while (process->to_persist() != nullptr) {
            disk = *process->to_persist();
            process->persisted();
        }
    }
    void hear(const Node& other, bool writes = true) {
        const auto hello = decode_hello(encode_hello(other.process->hello()));
        ASSERT_TRUE(hello) << hello.error().to_string();
        const auto& list = process->seeds();
        const auto seed = std::ranges::find(list, other.rpc);
        if (seed != list.end()) {
            process->note_answer(static_cast<size_t>(seed - list.begin()), *hello);
        } else {
            process->heard_from_asker(*hello);
        }
        if (writes) write();
    }
    Phase phase() const { return process->phase(); }
    std::string waits() const { return process->waiting_for(); }

    NodeIdentity disk;
    std::string rpc;
    std::vector<std::string> seeds;
    std::optional<int32_t> node_id;
    std::optional<Bootstrap> process;
};

struct ThreeNodes : testing::Test {
    Node a{1, "h1:9700"};
    Node b{2, "h2:9700"};
    Node c{3, "h3:9700"};

    void talk(std::initializer_list<Node*> nodes) {
        for (Node* to : nodes) {
            for (Node* from : nodes) {
                if (to != from) to->hear(*from);
            }
        }
    }
    void found() {
        for (int round = 0; round < 3; ++round) talk({&a, &b, &c});
        for (const Node* node : {&a, &b, &c}) ASSERT_EQ(node->phase(), Phase::kMember);
    }
};

TEST_F(ThreeNodes, found_one_cluster_with_ids_by_position) {
    found();
    EXPECT_EQ(a.disk.cluster_id, b.disk.cluster_id);
    EXPECT_EQ(a.disk.cluster_id, c.disk.cluster_id);
    EXPECT_EQ(a.disk.node_id, 1);
    EXPECT_EQ(b.disk.node_id, 2);
    EXPECT_EQ(c.disk.node_id, 3);
    EXPECT_EQ(a.disk.founding, c.disk.founding);
    EXPECT_EQ(a.disk.founding.size(), 3u);
}

TEST_F(ThreeNodes, the_order_of_the_seed_list_does_not_matter) {
    b.seeds = {"h3:9700", "h1:9700", "h2:9700"};
    b.start();
    found();
    EXPECT_EQ(b.disk.node_id, 2);
}

TEST_F(ThreeNodes, wait_for_a_seed_that_is_down_and_say_for_which) {
    talk({&a, &b});
    talk({&a, &b});
    EXPECT_EQ(a.phase(), Phase::kSearching);
    EXPECT_EQ(a.waits(), "no answer from h3:9700");
    EXPECT_EQ(a.disk.stage, Stage::kFree);
    found();
    EXPECT_EQ(a.waits(), "");
}

TEST_F(ThreeNodes, what_a_seed_said_before_it_fell_silent_counts_for_nothing) {
    a.hear(c);
    a.process->lost(2);
    a.hear(b);
    EXPECT_EQ(a.disk.stage, Stage::kFree);
    EXPECT_EQ(a.waits(), "no answer from h3:9700");
}

TEST_F(ThreeNodes, nothing_is_said_that_is_not_in_the_file) {
    a.hear(b);
    a.hear(c, false);
    ASSERT_NE(a.process->to_persist(), nullptr);
    EXPECT_EQ(a.process->to_persist()->stage, Stage::kPromised);
    EXPECT_EQ(a.process->hello().identity.stage, Stage::kFree);
    // It crashes before the file is written, and comes back as it was.
    a.start();
    EXPECT_EQ(a.process->hello().identity, NodeIdentity{.uuid = uuid_of(1)});
    found();
}

TEST_F(ThreeNodes, promised_ones_start_again_and_find_each_other) {
    talk({&a, &b, &c});
    for (Node* node : {&a, &b, &c}) node->start();
    found();
}

TEST_F(ThreeNodes, no_member_before_every_founder_has_promised) {
    a.hear(b);
    a.hear(c);
    ASSERT_EQ(a.disk.stage, Stage::kPromised);
    b.hear(a);  // takes part: the founding names it
    ASSERT_EQ(b.disk.stage, Stage::kPromised);
    a.hear(b);
    EXPECT_EQ(a.disk.stage, Stage::kPromised);
    EXPECT_EQ(a.waits(), "h3:9700 to take part in the founding");
    c.hear(a);
    a.hear(c);
    EXPECT_EQ(a.disk.stage, Stage::kMember);
    b.hear(a);
    EXPECT_EQ(b.disk.stage, Stage::kMember);
}

TEST_F(ThreeNodes, a_seed_that_lost_its_disk_joins_as_a_new_node) {
    found();
    Node again{22, "h2:9700"};
    again.hear(a);
    ASSERT_EQ(again.phase(), Phase::kJoining);
    EXPECT_EQ(again.process->cluster_to_join(), a.disk.cluster_id);
    EXPECT_EQ(again.process->join_through(), (std::vector<size_t>{0}));
    again.process->joined(a.disk.cluster_id, 4);
    again.write();
    EXPECT_EQ(again.phase(), Phase::kMember);
    EXPECT_EQ(again.disk.node_id, 4);
    EXPECT_TRUE(again.disk.founding.empty());
}

TEST_F(ThreeNodes, a_seed_that_lost_its_disk_founds_nothing_with_a_seed_that_missed_the_founding) {
    // c has promised, has heard that a and b are free, and not what became of it.
    c.hear(b);
    a.hear(b);
    a.hear(c);
    b.hear(a);
    c.hear(a);
    a.hear(b);
    a.hear(c);
    ASSERT_EQ(a.phase(), Phase::kMember);
    ASSERT_EQ(c.disk.stage, Stage::kPromised);
    Node again{22, "h2:9700"};
    for (int round = 0; round < 3; ++round) {
        again.hear(c);
        c.hear(again);
    }
    EXPECT_EQ(again.disk.stage, Stage::kFree);
    EXPECT_NE(again.waits().find("h3:9700 takes part in a founding with another node"),
              std::string::npos)
        << again.waits();
    EXPECT_NE(c.waits().find("h2:9700 is another node"), std::string::npos) << c.waits();
    c.hear(a);
    EXPECT_EQ(c.phase(), Phase::kMember);
    again.hear(c);
    EXPECT_EQ(again.phase(), Phase::kJoining);
}

TEST_F(ThreeNodes, an_old_copy_of_a_founders_disk_is_refused) {
    found();
    b.disk = NodeIdentity{.uuid = uuid_of(2)};
    b.start();
    b.hear(a);
    EXPECT_EQ(b.phase(), Phase::kRefused);
    EXPECT_NE(b.process->refusal().message.find("old copy"), std::string::npos);
}

TEST_F(ThreeNodes, seed_lists_that_differ_are_named) {
    c.seeds = {"h1:9700", "h3:9700"};
    c.start();
    for (int round = 0; round < 3; ++round) talk({&a, &b, &c});
    EXPECT_EQ(a.phase(), Phase::kSearching);
    EXPECT_EQ(a.disk.stage, Stage::kFree);
    EXPECT_EQ(a.waits(),
              "h3:9700 was started with other seeds: h1:9700,h3:9700 there, "
              "h1:9700,h2:9700,h3:9700 here");
    EXPECT_NE(c.waits().find("h1:9700 was started with other seeds"), std::string::npos);
    c.seeds = kThree;
    c.start();
    found();
}

TEST_F(ThreeNodes, ids_that_are_told_are_taken_and_two_equal_ones_are_named) {
    a.node_id = 10;
    a.start();
    b.node_id = 3;
    b.start();
    talk({&a, &b, &c});
    EXPECT_EQ(a.waits(), "two seeds have node id 3");  // h3's own by position
    b.node_id = 20;
    b.start();
    found();
    EXPECT_EQ(a.disk.node_id, 10);
    EXPECT_EQ(b.disk.node_id, 20);
    EXPECT_EQ(c.disk.node_id, 3);
    const auto other =
        Bootstrap::make({.identity = a.disk, .rpc = "h1:9700", .seeds = kThree, .node_id = 11});
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().message, "--node-id 11: this data directory is node 10's");
}

TEST_F(ThreeNodes, two_clusters_that_a_wrong_address_mixes_are_refused_and_named) {
    found();
    Node x{7, "h7:9700", {"h7:9700"}};
    x.write();
    ASSERT_EQ(x.phase(), Phase::kMember);
    Node lost{8, "h8:9700", {"h1:9700", "h7:9700"}};
    lost.hear(a);
    EXPECT_EQ(lost.phase(), Phase::kJoining);
    lost.hear(x);
    EXPECT_EQ(lost.phase(), Phase::kSearching);
    EXPECT_NE(lost.waits().find("the seeds belong to different clusters: "), std::string::npos);
    // A member hears of another cluster and stays what it is.
    a.hear(x);
    EXPECT_EQ(a.phase(), Phase::kMember);
    EXPECT_NE(a.disk.cluster_id, x.disk.cluster_id);
    // An answer of another cluster's controller.
    lost.process->lost(1);
    ASSERT_EQ(lost.phase(), Phase::kJoining);
    lost.process->joined(x.disk.cluster_id, 9);
    EXPECT_EQ(lost.phase(), Phase::kRefused);
}

TEST_F(ThreeNodes, a_node_that_is_no_seed_waits_and_then_joins) {
    Node d{4, "h4:9700"};
    d.hear(a);
    d.hear(b);
    d.hear(c);
    EXPECT_EQ(d.phase(), Phase::kSearching);
    EXPECT_EQ(d.waits(), "the seeds to found their cluster");
    found();
    d.hear(b);
    ASSERT_EQ(d.phase(), Phase::kJoining);
    d.process->join_refused("no feature");
    EXPECT_EQ(d.phase(), Phase::kRefused);
    EXPECT_NE(d.process->refusal().message.find("no feature"), std::string::npos);
}

TEST_F(ThreeNodes, a_seed_under_another_name_than_its_own_is_named) {
    b.rpc = "0.0.0.0:9700";
    b.start();
    a.process->note_answer(1, b.process->hello());
    EXPECT_EQ(a.waits(),
              "no answer from h3:9700; h2:9700 calls itself 0.0.0.0:9700: --rpc must be the "
              "address that --seeds has for it");
    b.process->note_answer(1, b.process->hello());
    EXPECT_NE(b.waits().find("h2:9700 is this node"), std::string::npos) << b.waits();
}

TEST_F(ThreeNodes, a_promise_that_cannot_come_about_is_refused) {
    talk({&a, &b, &c});
    ASSERT_EQ(a.disk.stage, Stage::kPromised);
    // b's disk was lost and an older copy of it, from before the promise, founded elsewhere.
    b.disk = NodeIdentity{.uuid = uuid_of(2)};
    b.seeds = {"h2:9700"};
    b.start();
    b.write();
    ASSERT_EQ(b.phase(), Phase::kMember);
    a.process->note_answer(1, b.process->hello());
    EXPECT_EQ(a.phase(), Phase::kRefused);
    EXPECT_NE(a.process->refusal().message.find("h2:9700 took part in another founding"),
              std::string::npos);
}

TEST(Bootstrap, one_seed_is_a_cluster_at_once_and_seed_lists_are_checked) {
    Node one{1, "h1:9700", {"h1:9700"}};
    one.write();
    EXPECT_EQ(one.phase(), Phase::kMember);
    EXPECT_EQ(one.disk.node_id, 1);
    const NodeIdentity free{.uuid = uuid_of(1)};
    EXPECT_FALSE(Bootstrap::make({.identity = free, .rpc = "h1:1", .seeds = {}}));
    EXPECT_FALSE(Bootstrap::make({.identity = free, .rpc = "h1:1", .seeds = {"h1:1", "h1:1"}}));
    EXPECT_FALSE(Bootstrap::make(
        {.identity = free, .rpc = "h1:1", .seeds = std::vector<std::string>(17, "h1:1")}));
}

TEST(Bootstrap, a_member_starts_without_its_seeds) {
    Node one{1, "h1:9700", {"h1:9700"}};
    one.write();
    one.seeds = kThree;
    one.rpc = "elsewhere:1";
    one.start();
    EXPECT_EQ(one.phase(), Phase::kMember);
    EXPECT_TRUE(one.process->to_ask().empty());
}

TEST(BootstrapHello, damage_is_malformed_and_never_crashes) {
    Node one{1, "h1:9700", {"h1:9700"}};
    one.node_id = 1;
    one.start();
    one.write();
    const auto whole = encode_hello(one.process->hello());
    EXPECT_EQ(*decode_hello(whole), one.process->hello());
    for (size_t size = 0; size < whole.size(); ++size)
        EXPECT_FALSE(decode_hello(Bytes(whole).first(size))) << size;
    auto later = whole;
    later[0] = 2;
    EXPECT_EQ(decode_hello(later).error().code, ErrorCode::kUnsupported);
    Prng prng(1);
    for (int i = 0; i < 50'000; ++i) {
        auto bytes = whole;
        for (uint64_t flips = prng.between(1, 4); flips > 0; --flips)
            bytes[prng.below(bytes.size())] = static_cast<uint8_t>(prng.next());
        if (const auto decoded = decode_hello(bytes))
            EXPECT_EQ(*decode_hello(encode_hello(*decoded)), *decoded);
    }
}

// Random schedules: messages are lost, repeated and late; nodes crash before and after their file
// is written; disks are lost. What a controller would do is modelled: it answers when a majority of
// the founders are members and run.
class World {
  public:
    enum class Wipes : uint8_t { kNone, kAfterFounding, kAny };

    World(uint64_t seed, Wipes wipes) : prng_(seed), wipes_(wipes) {
        seed_count_ = prng_.between(1, 4);
        std::vector<std::string> seeds;
        for (size_t i = 1; i <= seed_count_; ++i) seeds.push_back(address_of(i));
        const size_t count = seed_count_ + prng_.below(3);
        for (size_t i = 1; i <= count; ++i) nodes_.emplace_back(next_uuid_++, address_of(i), seeds);
    }

    void run(int steps) {
        for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
            Node& node = nodes_[prng_.below(nodes_.size())];
            switch (prng_.below(12)) {
                case 0:
                case 1:
                case 2:
                    ask(node);
                    break;
                case 3:
                    write(node);
                    break;
                case 4:
                    join(node);
                    break;
                case 5:
                    if (prng_.chance(0.2)) crash(node);
                    if (prng_.chance(0.5) && !node.process) node.start();
                    break;
                case 6:
                    if (prng_.chance(0.1)) wipe(node);
                    break;
                default:
                    deliver();
                    break;
            }
            check();
        }
    }

    // All run and hear each other: they must come together.
    void heal() {
        messages_.clear();
        for (Node& node : nodes_) {
            if (!node.process) node.start();
        }
        for (int round = 0; round < 8; ++round) {
            for (Node& node : nodes_) {
                write(node);
                ask(node);
                while (!messages_.empty()) deliver_at(0);
                write(node);
                join(node);
                write(node);
            }
            check();
        }
    }

    void expect_one_cluster() const {
        std::set<int32_t> ids;
        for (const Node& node : nodes_) {
            EXPECT_EQ(node.phase(), Phase::kMember) << node.rpc << ": " << node.waits();
            EXPECT_EQ(node.disk.cluster_id, nodes_.front().disk.cluster_id);
            EXPECT_TRUE(ids.insert(node.disk.node_id).second) << node.disk.node_id;
        }
    }

    size_t founded() const { return foundings_.size(); }

  private:
    struct Message {
        size_t from;
        size_t to;
        bool is_answer;
        Hello hello;
    };

    size_t index_of(const std::string& rpc) const {
        for (size_t i = 0; i < nodes_.size(); ++i) {
            if (nodes_[i].rpc == rpc) return i;
        }
        return SIZE_MAX;
    }
    void ask(Node& node) {
        if (!node.process) return;
        for (const size_t seed : node.process->to_ask()) {
            messages_.push_back({index_of(node.rpc), index_of(node.process->seeds()[seed]), false,
                                 node.process->hello()});
        }
    }
    void deliver() {
        if (messages_.empty()) return;
        const size_t at = prng_.below(messages_.size());
        if (prng_.chance(0.2)) {
            // Lost; whoever asked may notice.
            const Message message = messages_[at];
            messages_.erase(messages_.begin() + static_cast<ptrdiff_t>(at));
            Node& asker = nodes_[message.is_answer ? message.to : message.from];
            const Node& seed = nodes_[message.is_answer ? message.from : message.to];
            if (!asker.process || prng_.chance(0.5)) return;
            const auto& seeds = asker.process->seeds();
            const auto found = std::ranges::find(seeds, seed.rpc);
            if (found != seeds.end())
                asker.process->lost(static_cast<size_t>(found - seeds.begin()));
            return;
        }
        if (prng_.chance(0.1)) messages_.push_back(messages_[at]);
        deliver_at(at);
    }
    void deliver_at(size_t at) {
        const Message message = messages_[at];
        messages_.erase(messages_.begin() + static_cast<ptrdiff_t>(at));
        Node& to = nodes_[message.to];
        if (!to.process) return;
        if (message.is_answer) {
            const auto& seeds = to.process->seeds();
            const auto seed = std::ranges::find(seeds, nodes_[message.from].rpc);
            if (seed != seeds.end())
                to.process->note_answer(static_cast<size_t>(seed - seeds.begin()), message.hello);
        } else {
            to.process->heard_from_asker(message.hello);
            messages_.push_back({message.to, message.from, true, to.process->hello()});
        }
    }
    void write(Node& node) {
        while (node.process && node.process->to_persist() != nullptr) {
            note_write(node.disk, *node.process->to_persist());
            node.disk = *node.process->to_persist();
            // It may crash between the write and what follows from it.
            if (wipes_ != Wipes::kNone && prng_.chance(0.1)) {
                node.process.reset();
            } else {
                node.process->persisted();
            }
        }
        if (!node.process) node.start();
    }
    void crash(Node& node) {
        if (node.process && node.process->to_persist() != nullptr && prng_.chance(0.5)) {
            note_write(node.disk, *node.process->to_persist());
            node.disk = *node.process->to_persist();
        }
        node.process.reset();
    }
    bool has_quorum(const Founding& founding) const {
        size_t alive = 0;
        for (const Node& node : nodes_) {
            if (std::ranges::count(founding, node.disk.uuid, &Founder::uuid) > 0 &&
                node.disk.stage == Stage::kMember)
                ++alive;
        }
        return alive * 2 > founding.size();
    }
    void wipe(Node& node) {
        if (wipes_ == Wipes::kNone) return;
        const NodeIdentity before = node.disk;
        const NodeIdentity fresh{.uuid = uuid_of(next_uuid_++)};
        if (wipes_ == Wipes::kAfterFounding) {
            if (foundings_.empty()) return;
            node.disk = fresh;
            if (!has_quorum(foundings_.begin()->second)) {
                node.disk = before;
                return;
            }
        }
        node.disk = fresh;
        node.process.reset();
        if (before.stage == Stage::kMember) node.start();
    }
    void join(Node& node) {
        if (!node.process || node.process->phase() != Phase::kJoining) return;
        const Uuid cluster = node.process->cluster_to_join();
        const auto founding = foundings_.find(cluster);
        if (founding == foundings_.end() || !has_quorum(founding->second)) return;
        auto& ids = ids_[cluster];
        const auto id = ids.emplace(node.disk.uuid,
                                    static_cast<int32_t>(founding->second.size() + ids.size()) + 1);
        if (prng_.chance(0.3)) return;  // the answer is lost
        node.process->joined(cluster, id.first->second);
    }
    // What a file may turn into.
    void note_write(const NodeIdentity& before, const NodeIdentity& after) {
        EXPECT_EQ(before.uuid, after.uuid);
        EXPECT_LT(before.stage, after.stage);
        if (before.stage == Stage::kPromised) {
            EXPECT_EQ(before.cluster_id, after.cluster_id);
            EXPECT_EQ(before.node_id, after.node_id);
        }
        if (after.stage != Stage::kMember || after.founding.empty()) return;
        if (foundings_.contains(after.cluster_id)) return;
        // A cluster comes to be. Of any that was before, no founder's disk may be left.
        for (const auto& [cluster, founding] : foundings_) {
            for (const Node& node : nodes_) {
                EXPECT_EQ(std::ranges::count(founding, node.disk.uuid, &Founder::uuid), 0)
                    << "two clusters; " << node.rpc << " is of the first";
            }
        }
        foundings_.emplace(after.cluster_id, after.founding);
    }
    void check() const {
        std::map<std::pair<Uuid, int32_t>, Uuid> holders;
        for (const Node& node : nodes_) {
            if (node.process) EXPECT_EQ(node.process->identity().uuid, node.disk.uuid);
            if (node.disk.stage != Stage::kMember) continue;
            const auto [at, is_first] =
                holders.emplace(std::pair(node.disk.cluster_id, node.disk.node_id), node.disk.uuid);
            EXPECT_TRUE(is_first || at->second == node.disk.uuid) << "one id, two nodes";
        }
    }

    Prng prng_;
    const Wipes wipes_;
    uint64_t next_uuid_ = 1;
    size_t seed_count_ = 0;
    std::vector<Node> nodes_;
    std::vector<Message> messages_;
    std::map<Uuid, Founding> foundings_;  // that had a member
    std::map<Uuid, std::map<Uuid, int32_t>> ids_;
};

TEST(BootstrapProperty, whatever_is_lost_but_disks_all_become_one_cluster) {
    for (uint64_t seed = 1; seed <= 1500; ++seed) {
        SCOPED_TRACE(seed);
        World world(seed, World::Wipes::kNone);
        world.run(150);
        world.heal();
        world.expect_one_cluster();
        EXPECT_EQ(world.founded(), 1u);
        if (HasFailure()) break;
    }
}

TEST(BootstrapProperty, disks_that_are_lost_after_the_founding_join_the_same_cluster) {
    for (uint64_t seed = 1; seed <= 1500; ++seed) {
        SCOPED_TRACE(seed);
        World world(seed, World::Wipes::kAfterFounding);
        world.run(300);
        world.heal();
        world.expect_one_cluster();
        EXPECT_EQ(world.founded(), 1u);
        if (HasFailure()) break;
    }
}

TEST(BootstrapProperty, disks_that_are_lost_at_any_time_never_make_two_clusters) {
    size_t again = 0;
    for (uint64_t seed = 1; seed <= 3000; ++seed) {
        SCOPED_TRACE(seed);
        World world(seed, World::Wipes::kAny);
        world.run(400);
        world.heal();
        if (world.founded() > 1) ++again;
        if (HasFailure()) break;
    }
    // All of them lost, and founded anew: the schedules do come that far.
    EXPECT_GT(again, 10u);
}

}  // namespace
}  // namespace weir::cluster

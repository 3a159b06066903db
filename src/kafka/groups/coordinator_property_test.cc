// Random clients against one coordinator: some behave, some are confused, some die; appends finish
// late, in any order, or fail; the coordinator moves. What must hold whatever happens is checked as
// it goes; a run that fails prints its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/byte_writer.h"
#include "base/prng.h"
#include "kafka/groups/coordinator.h"

namespace weir::kafka {
namespace {

constexpr const char* kGroups[] = {"g", "h", "i"};
constexpr const char* kTopics[] = {"t", "u"};
constexpr int kPartitions = 3;

std::string text_of(const std::vector<uint8_t>& bytes) { return std::string(as_text(bytes)); }

std::vector<uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

std::vector<uint8_t> subscription_to(std::string_view topic) {
    ByteWriter out;
    out.write_i16(0);
    out.write_i32(1);
    out.write_i16(static_cast<int16_t>(topic.size()));
    out.write_text(topic);
    out.write_i32(-1);
    return out.flatten();
}

// A consumer as a client library drives it.
struct Client {
    enum class State { kOut, kJoining, kMustSync, kSyncing, kIn };
    std::string name;
    std::string group;
    std::optional<std::string> instance_id;
    int version = 3;
    std::string topic = "t";
    State state = State::kOut;
    std::string member_id;
    int32_t generation = -1;
    bool leads = false;
    bool skips = false;
    std::vector<JoinReplyMember> members;  // the leader's
    RequestId waiting;                     // the join or sync in flight
};

class World {
  public:
    explicit World(uint64_t seed) : prng_(seed, "world"), entropy_(seed, "member ids") {
        config_.initial_rebalance_delay = prng_.chance(0.5) ? Duration::zero() : Duration(3s);
        config_.group_size_max = prng_.chance(0.2) ? 3 : 100;
        config_.offsets_retention = prng_.chance(0.5) ? Duration(20min) : Duration(2h);
        if (prng_.chance(0.2)) config_.append_bytes_max = 400;
        if (prng_.chance(0.2)) config_.appends_outstanding_max = 3;
        for (size_t i = 0; i < prng_.between(2, 8); ++i) {
            Client& client = clients_.emplace_back();
            client.name = "c" + std::to_string(i);
            client.group = kGroups[prng_.below(2)];
            client.version = static_cast<int>(prng_.below(10));
            if (client.version >= 5 && prng_.chance(0.5))
                client.instance_id = "i" + std::to_string(i);
        }
        load();
    }

    void run(int steps) {
        for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
            step();
            coordinator_->check_invariants();
            check_stable_groups();
        }
    }

    // No more requests; all appends succeed; time passes. Then nobody waits any more and all groups
    // are empty.
    void come_to_rest() {
        while (!appends_.empty()) finish_append(0, true);
        // Longer than all timeouts one after another.
        const Instant end = now_.instant + 100min;
        while (coordinator_->next_deadline() <= end) {
            pass_time_until(coordinator_->next_deadline());
            while (!appends_.empty()) finish_append(0, true);
        }
        EXPECT_TRUE(waiting_.empty()) << waiting_.size() << " requests have no reply";
        for (const ListedGroup& group : coordinator_->list_groups({}, {}).groups)
            EXPECT_EQ(group.state, "Empty");
    }

    // With nothing on its way, the log, and also the live records, make the same state again.
    void check_replay() {
        while (!appends_.empty()) finish_append(0, true);
        const std::vector<LogRecord> live = live_records(*coordinator_);
        EXPECT_EQ(live_records(*replayed(log_)), live);
        EXPECT_EQ(live_records(*replayed(live)), live);
        for (const auto& [key, offset] : committed_) {
            const auto& [group, topic, partition] = key;
            const OffsetFetchReply reply =
                coordinator_->fetch_offsets(group, {{{topic, {partition}}}});
            EXPECT_EQ(reply.topics.at(0).partitions.at(0).offset, offset);
        }
    }

    size_t joins_done = 0;
    size_t syncs_done = 0;
    size_t commits_done = 0;

  private:
    using OffsetKey = std::tuple<std::string, std::string, int32_t>;

    template <class T, size_t n>
    T pick(T const (&items)[n]) {
        return items[prng_.below(n)];
    }

    void step() {
        const double dice = prng_.unit();
        if (dice < 0.55) return act(clients_[prng_.below(clients_.size())]);
        if (dice < 0.80) {
            if (!appends_.empty()) finish_append(prng_.below(appends_.size()), prng_.chance(0.95));
            return;
        }
        if (dice < 0.88) return pass_time();
        if (dice < 0.96) return confuse();
        if (dice < 0.99) return administrate();
        move();
    }

    // ---- Clients that behave

    void act(Client& client) {
        switch (client.state) {
            case Client::State::kOut:
                return join(client);
            case Client::State::kJoining:
                // Its connection broke, and it asks again.
                if (prng_.chance(0.1)) join(client);
                return;
            case Client::State::kMustSync:
                return sync(client);
            case Client::State::kSyncing:
                if (prng_.chance(0.05)) sync(client);
                return;
            case Client::State::kIn:
                break;
        }
        const double dice = prng_.unit();
        if (dice < 0.4) {
            take(coordinator_->heartbeat(
                     expect(&client),
                     {client.group, client.generation, client.member_id, client.instance_id}, now_),
                 "heartbeat");
        } else if (dice < 0.8) {
            commit(client);
        } else if (dice < 0.88) {
            if (prng_.chance(0.3)) client.topic = pick(kTopics);
            join(client);
        } else if (dice < 0.94) {
            // It dies; a static one comes back as a new process.
            client.state = Client::State::kOut;
            client.member_id.clear();
        } else {
            const LeaveInput input{client.group, {{client.member_id, client.instance_id, ""}}};
            client.state = Client::State::kOut;
            client.member_id.clear();
            take(coordinator_->leave(expect(nullptr), input, now_), "leave");
        }
    }

    void join(Client& client) {
        JoinInput input;
        input.group = client.group;
        input.member_id = client.member_id;
        input.instance_id = client.instance_id;
        input.client_id = client.name;
        input.client_host = "/127.0.0.1";
        input.session_timeout = 10s;
        if (client.version > 0) input.rebalance_timeout = 20s;
        input.protocol_type = "consumer";
        input.protocols = {{"range", subscription_to(client.topic)},
                           {"sticky", subscription_to(client.topic)}};
        if (prng_.chance(0.5)) std::swap(input.protocols[0], input.protocols[1]);
        input.two_step_join = client.version >= 4;
        input.can_skip_assignment = client.version >= 9;
        client.state = Client::State::kJoining;
        client.waiting = expect(&client);
        const RequestId id = client.waiting;
        take(coordinator_->join(id, std::move(input), now_), "join");
    }

    void sync(Client& client) {
        SyncInput input;
        input.group = client.group;
        input.generation = client.generation;
        input.member_id = client.member_id;
        input.instance_id = client.instance_id;
        if (client.leads && !client.skips) {
            for (const JoinReplyMember& member : client.members) {
                const std::string who = member.instance_id.value_or(member.member_id);
                input.assignments.push_back(
                    {member.member_id, bytes_of(std::to_string(client.generation) + ":" + who)});
            }
        }
        client.state = Client::State::kSyncing;
        client.waiting = expect(&client);
        const RequestId id = client.waiting;
        take(coordinator_->sync(id, std::move(input), now_), "sync");
    }

    void commit(Client& client) {
        CommitInput input;
        input.group = client.group;
        input.generation = client.generation;
        input.member_id = client.member_id;
        input.instance_id = client.instance_id;
        commit(std::move(input), &client);
    }

    void commit(CommitInput input, Client* client) {
        for (size_t i = 0; i < prng_.between(1, 2); ++i) {
            CommitTopic& topic = input.topics.emplace_back();
            topic.name = pick(kTopics);
            topic.partitions.push_back({.index = static_cast<int32_t>(prng_.below(kPartitions)),
                                        .offset = ++last_offset_,
                                        .leader_epoch = 1,
                                        .metadata = std::string(prng_.below(30), 'm')});
        }
        if (prng_.chance(0.1)) input.retention = 3h;
        const RequestId id = expect(client);
        commits_.emplace(id, input);
        take(coordinator_->commit_offsets(id, std::move(input), now_), "commit");
    }

    // ---- Others

    // Requests that make little sense: any group, member, instance and generation.
    void confuse() {
        const std::string group = pick(kGroups);
        const Client& other = clients_[prng_.below(clients_.size())];
        const std::string member_id = prng_.chance(0.3) ? "" : other.member_id;
        const int32_t generation = static_cast<int32_t>(prng_.between(0, 5)) - 1;
        std::optional<std::string> instance_id;
        if (prng_.chance(0.3)) instance_id = "i" + std::to_string(prng_.below(8));
        switch (prng_.below(5)) {
            case 0: {
                // Not to take over the slot of one who behaves: an instance of its own.
                if (instance_id) instance_id = "x" + *instance_id;
                if (!member_id.empty() && !instance_id) return;
                JoinInput input{.group = group,
                                .member_id = member_id,
                                .instance_id = instance_id,
                                .client_id = "x",
                                .client_host = "",
                                .session_timeout = std::chrono::seconds(prng_.between(1, 40)),
                                .rebalance_timeout = 5s,
                                .protocol_type = prng_.chance(0.8) ? "consumer" : "connect",
                                .protocols = {{"sticky", bytes_of("?")}},
                                .reason = "",
                                .two_step_join = prng_.chance(0.5)};
                return take(coordinator_->join(expect(nullptr), std::move(input), now_), "join");
            }
            case 1: {
                // The assignments of whoever leads must stay as they are: no member id.
                const SyncInput input{.group = group, .generation = generation, .member_id = ""};
                return take(coordinator_->sync(expect(nullptr), input, now_), "sync");
            }
            case 2:
                return take(coordinator_->heartbeat(
                                expect(nullptr), {group, generation, member_id, instance_id}, now_),
                            "heartbeat");
            case 3:
                if (prng_.chance(0.7)) return;
                return take(
                    coordinator_->leave(
                        expect(nullptr),
                        {group, {{member_id, instance_id, "why"}, {"nobody", {}, ""}}}, now_),
                    "leave");
            default: {
                CommitInput input;
                input.group = group;
                input.generation = generation;
                input.member_id = member_id;
                input.instance_id = instance_id;
                return commit(std::move(input), nullptr);
            }
        }
    }

    void administrate() {
        const std::string group = pick(kGroups);
        switch (prng_.below(4)) {
            case 0:
                return take(coordinator_->delete_group(expect(nullptr), group, now_), "delete");
            case 1: {
                const OffsetDeleteInput input{
                    group, {{pick(kTopics), {static_cast<int32_t>(prng_.below(kPartitions))}}}};
                return take(coordinator_->delete_offsets(expect(nullptr), input, now_), "delete");
            }
            case 2:
                return take(coordinator_->on_topics_deleted({pick(kTopics)}, now_), "topics");
            default:
                return check_replay();
        }
    }

    void pass_time() {
        const Instant next = coordinator_->next_deadline();
        const Instant soon =
            now_.instant + Duration(static_cast<int64_t>(prng_.exponential(2e9)) + 1);
        if (prng_.chance(0.05)) return pass_time_until(now_.instant + 15min);
        pass_time_until(prng_.chance(0.5) ? std::min(next, soon) : soon);
    }

    void pass_time_until(Instant instant) {
        now_.instant = std::max(now_.instant, instant);
        now_.wall = {now_.instant.ns / 1'000'000};
        // Once is not always enough: a late tick may find a deadline behind a deadline.
        for (int i = 0; i < 100 && coordinator_->next_deadline() <= now_.instant; ++i)
            take(coordinator_->tick(now_), "tick");
    }

    void finish_append(size_t index, bool ok) {
        // Results come in any order; the log has the order of the appends.
        Open& open = open_[appends_[index]];
        appends_.erase(appends_.begin() + static_cast<ptrdiff_t>(index));
        open.ok = ok;
        const AppendToken token = open.append.token;
        write_log();
        take(coordinator_->on_append_done(token, ok, now_), "append");
    }

    void write_log() {
        while (!open_.empty() && open_.begin()->second.ok) {
            const Open& first = open_.begin()->second;
            if (*first.ok) {
                log_.insert(log_.end(), first.append.records.begin(), first.append.records.end());
                for (const LogRecord& record : first.append.records) fold(record);
            }
            open_.erase(open_.begin());
        }
    }

    // What a fetch must answer, from the log alone.
    void fold(const LogRecord& record) {
        const auto decoded = decode_record(
            record.key, record.value ? std::optional<Bytes>(*record.value) : std::nullopt);
        ASSERT_TRUE(decoded.has_value());
        const auto* offset = std::get_if<OffsetRecord>(&*decoded);
        if (offset == nullptr) return;
        const OffsetKey key{offset->group, offset->topic, offset->partition};
        committed_[key] = offset->value ? offset->value->offset : -1;
    }

    // The coordinator's partition moves: what is on its way is lost or not; what waits is answered.
    void move() {
        for (auto& [token, open] : open_) {
            // The log ends somewhere among them, and has all before.
            if (!open.ok) open.ok = prng_.chance(0.5);
        }
        write_log();
        appends_.clear();
        take(coordinator_->close(), "close");
        EXPECT_TRUE(waiting_.empty()) << waiting_.size() << " requests have no reply at close";
        waiting_.clear();
        load();
    }

    void load() {
        coordinator_ = replayed(log_);
        leaders_.clear();
        generations_.clear();
    }

    std::unique_ptr<GroupCoordinator> replayed(const std::vector<LogRecord>& records) {
        auto coordinator = std::make_unique<GroupCoordinator>(config_, entropy_);
        coordinator->begin_load();
        for (const LogRecord& record : records) {
            EXPECT_TRUE(coordinator->replay(
                record.key, record.value ? std::optional<Bytes>(*record.value) : std::nullopt));
        }
        EXPECT_TRUE(coordinator->finish_load(now_).appends.empty());
        return coordinator;
    }

    static std::vector<LogRecord> live_records(const GroupCoordinator& coordinator) {
        std::vector<LogRecord> records;
        coordinator.for_each_live_record([&](LogRecord record) { records.push_back(record); });
        return records;
    }

    // ---- What comes out

    RequestId expect(Client* client) {
        const RequestId id{++last_request_};
        waiting_[id] = client;
        return id;
    }

    void take(GroupEffects effects, const char* what) {
        for (GroupAppend& append : effects.appends) {
            EXPECT_FALSE(append.records.empty());
            EXPECT_TRUE(open_.empty() || open_.rbegin()->first < append.token.v);
            appends_.push_back(append.token.v);
            open_[append.token.v].append = std::move(append);
        }
        for (GroupReply& reply : effects.replies) {
            const auto waiting = waiting_.find(reply.request);
            ASSERT_NE(waiting, waiting_.end())
                << "a second reply, or one to nobody, after " << what;
            Client* client = waiting->second;
            waiting_.erase(waiting);
            std::visit([&](auto& body) { on_reply(client, reply.request, body); }, reply.body);
        }
    }

    void on_reply(Client* client, RequestId id, JoinReply& reply) {
        if (reply.error == KafkaError::kNone) check_join(client, reply);
        if (client == nullptr || client->waiting != id || client->state != Client::State::kJoining)
            return;
        switch (reply.error) {
            case KafkaError::kNone:
                client->state = Client::State::kMustSync;
                client->member_id = reply.member_id;
                client->generation = reply.generation;
                client->leads = reply.leader == reply.member_id;
                client->skips = reply.skip_assignment;
                client->members = reply.members;
                return;
            case KafkaError::kMemberIdRequired:
                client->state = Client::State::kOut;
                client->member_id = reply.member_id;
                return;
            case KafkaError::kUnknownMemberId:
            case KafkaError::kFencedInstanceId:
            case KafkaError::kGroupMaxSizeReached:
                client->member_id.clear();
                break;
            default:
                break;
        }
        client->state = Client::State::kOut;
    }

    void check_join(const Client* client, const JoinReply& reply) {
        ++joins_done;
        const std::string group = client != nullptr ? client->group : "";
        if (group.empty()) return;
        // Generations go up while a group exists.
        int32_t& generation = generations_[group];
        EXPECT_GE(reply.generation, generation) << "generation of " << group;
        generation = reply.generation;
        if (reply.members.empty()) return;
        EXPECT_EQ(reply.leader, reply.member_id);
        // One instance leads a generation; its process may change.
        const std::string who = client->instance_id.value_or(reply.member_id);
        const auto [known, is_new] = leaders_.try_emplace({group, reply.generation}, who);
        EXPECT_EQ(known->second, who) << "two leaders of generation " << reply.generation;
    }

    void on_reply(Client* client, RequestId id, SyncReply& reply) {
        if (client == nullptr || client->waiting != id || client->state != Client::State::kSyncing)
            return;
        client->state = Client::State::kOut;
        if (reply.error == KafkaError::kNone) {
            ++syncs_done;
            client->state = Client::State::kIn;
            const std::string who = client->instance_id.value_or(client->member_id);
            EXPECT_EQ(text_of(reply.assignment), std::to_string(client->generation) + ":" + who);
        } else if (reply.error == KafkaError::kUnknownMemberId ||
                   reply.error == KafkaError::kFencedInstanceId) {
            client->member_id.clear();
        }
    }

    void on_reply(Client* client, RequestId, HeartbeatReply& reply) {
        if (client == nullptr || client->state != Client::State::kIn) return;
        if (reply.error != KafkaError::kNone) client->state = Client::State::kOut;
        if (reply.error == KafkaError::kUnknownMemberId ||
            reply.error == KafkaError::kFencedInstanceId)
            client->member_id.clear();
    }

    void on_reply(Client*, RequestId, LeaveReply&) {}

    void on_reply(Client*, RequestId id, CommitReply& reply) {
        const auto node = commits_.extract(id);
        ASSERT_FALSE(node.empty());
        const CommitInput& input = node.mapped();
        ASSERT_EQ(reply.topics.size(), input.topics.size());
        for (size_t i = 0; i < reply.topics.size(); ++i) {
            EXPECT_EQ(reply.topics[i].name, input.topics[i].name);
            const PartitionError& partition = reply.topics[i].partitions.at(0);
            if (partition.error != KafkaError::kNone) continue;
            ++commits_done;
            // Acknowledged: in the log, this or a later one, or deleted since.
            const auto found =
                committed_.find({input.group, reply.topics[i].name, partition.index});
            ASSERT_NE(found, committed_.end());
            if (found->second != -1) EXPECT_GE(found->second, input.topics[i].partitions[0].offset);
        }
    }

    void on_reply(Client*, RequestId, OffsetDeleteReply&) {}
    void on_reply(Client*, RequestId, DeleteGroupReply&) {}

    void check_stable_groups() {
        std::set<std::string> present;
        for (const ListedGroup& group : coordinator_->list_groups({}, {}).groups) {
            present.insert(group.group);
            if (group.state != "Stable") continue;
            for (const DescribedMember& member :
                 coordinator_->describe_group(group.group).members) {
                EXPECT_FALSE(member.assignment.empty())
                    << member.member_id << " of " << group.group << " has no assignment";
            }
        }
        // One that is gone begins anew.
        for (const char* group : kGroups) {
            if (present.contains(group)) continue;
            generations_.erase(group);
            std::erase_if(leaders_,
                          [group](const auto& item) { return item.first.first == group; });
        }
    }

    struct Open {
        GroupAppend append;
        std::optional<bool> ok;
    };

    Prng prng_;
    Prng entropy_;
    GroupConfig config_;
    std::unique_ptr<GroupCoordinator> coordinator_;
    Moment now_;
    std::vector<Client> clients_;
    uint64_t last_request_ = 0;
    int64_t last_offset_ = 0;
    std::map<RequestId, Client*> waiting_;
    std::map<RequestId, CommitInput> commits_;
    std::map<uint64_t, Open>
        open_;  // appends in log order, those with a result before others' included
    std::vector<uint64_t> appends_;  // tokens without a result
    std::vector<LogRecord> log_;
    std::map<OffsetKey, int64_t> committed_;
    std::map<std::string, int32_t> generations_;
    std::map<std::pair<std::string, int32_t>, std::string> leaders_;
};

TEST(coordinator, random_clients_never_see_what_must_not_be) {
    size_t joins = 0;
    size_t syncs = 0;
    size_t commits = 0;
    for (uint64_t seed = 1; seed <= 150; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        World world(seed);
        world.run(600);
        world.check_replay();
        world.come_to_rest();
        world.check_replay();
        joins += world.joins_done;
        syncs += world.syncs_done;
        commits += world.commits_done;
        if (testing::Test::HasFailure()) return;
    }
    // The clients got somewhere: else nothing was tested.
    EXPECT_GT(joins, 2000u);
    EXPECT_GT(syncs, 800u);
    EXPECT_GT(commits, 800u);
}

}  // namespace
}  // namespace weir::kafka

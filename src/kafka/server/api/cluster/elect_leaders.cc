// ElectLeaders (KIP-183, KIP-460). Preferred: hands leadership to the first replica. Unclean: Raft
// elects whoever has all that was acknowledged, as soon as a majority of the replicas is there, and
// nobody before: a partition that has a leader needs no election, and one that has none can't be
// given one.
#include "kafka/protocol/elect_leaders.h"

#include <fmt/format.h>

#include "cluster/leader_balance.h"
#include "cluster/node_admin.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

enum class ElectionType : int8_t { kPreferred = 0, kUnclean = 1 };

// Leadership of so many partitions changes hands at the same time.
constexpr size_t kTransfersAtOnce = 50;

struct Election {
    std::string topic;
    int32_t partition = 0;
    KafkaError error = KafkaError::kNone;
    std::string message = {};
    // What is to be done.
    storage::LogId log = {};
    int32_t from = -1;
    int32_t to = -1;
};

// As kafka-leader-election shows it.
constexpr const char* kNotNeeded = "Leader election not needed for topic partition.";

void refuse(Election& election, KafkaError error, std::string message) {
    election.error = error;
    election.message = std::move(message);
}

void plan(Server& server, ElectionType type, Election& election) {
    const cluster::TopicImage* topic = server.image().find(election.topic);
    if (topic == nullptr) {
        return refuse(election, KafkaError::kUnknownTopicOrPartition,
                      "No such topic as " + election.topic.substr(0, 249));
    }
    if (election.partition < 0 ||
        static_cast<size_t>(election.partition) >= topic->partitions.size()) {
        return refuse(election, KafkaError::kUnknownTopicOrPartition,
                      fmt::format("No such partition as {}-{}", topic->name, election.partition));
    }
    const auto& partition = topic->partitions[static_cast<size_t>(election.partition)];
    const cluster::LeaderState* known = server.metadata().leaders().find(partition.log);
    cluster::LedPartition led{.replicas = cluster::shown(partition).replicas};
    if (known != nullptr && known->leader >= 0 && server.is_alive(known->leader)) {
        led.leader = known->leader;
        led.in_sync = known->in_sync;
    }
    if (type == ElectionType::kUnclean) {
        if (led.leader >= 0) return refuse(election, KafkaError::kElectionNotNeeded, kNotNeeded);
        return refuse(
            election, KafkaError::kEligibleLeadersNotAvailable,
            "There is no unclean election: the replicas elect a leader by themselves when "
            "a majority of them is there.");
    }
    const auto can_lead = [&](int32_t id) {
        const cluster::NodeImage* node = server.image().find_node(id);
        if (node == nullptr) return server.image().nodes().empty();
        return node->state == cluster::NodeState::kActive && server.is_alive(id);
    };
    switch (cluster::plan_preferred_election(led, can_lead)) {
        case cluster::PreferredElection::kTransfer:
            election.log = partition.log;
            election.from = led.leader;
            election.to = led.replicas.front();
            return;
        case cluster::PreferredElection::kNotNeeded:
            return refuse(election, KafkaError::kElectionNotNeeded, kNotNeeded);
        case cluster::PreferredElection::kNoLeader:
            return refuse(election, KafkaError::kPreferredLeaderNotAvailable,
                          "The partition has no leader just now that could hand over.");
        case cluster::PreferredElection::kNotAvailable:
            return refuse(election, KafkaError::kPreferredLeaderNotAvailable,
                          fmt::format("The preferred replica, on broker {}, is not in sync, does "
                                      "not answer, or is in maintenance.",
                                      led.replicas.empty() ? -1 : led.replicas.front()));
    }
}

Task<bool> carry_out(Server* server, Election* election, Instant deadline) {
    const auto done =
        co_await server->transfer_leader(election->log, election->from, election->to, deadline);
    if (done) co_return true;
    if (Shard::current().now() >= deadline) {
        refuse(*election, KafkaError::kRequestTimedOut, "It was not done in time.");
    } else if (done.error().code == ErrorCode::kTimedOut) {
        // The leader gave it a while, and leads on.
        refuse(*election, KafkaError::kPreferredLeaderNotAvailable, done.error().message);
    } else {
        refuse(*election, KafkaError::kLeaderNotAvailable, done.error().to_string());
    }
    co_return false;
}

// On shard 0 of the controller. With `all`, what needs no election is left out.
Task<std::vector<Election>> elect(Server* server, ElectionType type,
                                  std::vector<Election> elections, bool all, Duration timeout) {
    const Instant deadline = Shard::current().now() + timeout;
    if (all) {
        for (const auto& [name, topic] : server->image().topics()) {
            for (size_t i = 0; i < topic.partitions.size(); ++i)
                elections.push_back({.topic = name, .partition = static_cast<int32_t>(i)});
        }
    }
    for (Election& election : elections) plan(*server, type, election);
    if (all) {
        std::erase_if(elections, [](const Election& election) {
            return election.error == KafkaError::kElectionNotNeeded;
        });
    }
    std::vector<Election*> waiting;
    for (Election& election : elections) {
        if (election.error == KafkaError::kNone) waiting.push_back(&election);
    }
    for (size_t begin = 0; begin < waiting.size(); begin += kTransfersAtOnce) {
        std::vector<Task<bool>> transfers;
        for (size_t i = begin; i < std::min(begin + kTransfersAtOnce, waiting.size()); ++i) {
            if (Shard::current().now() >= deadline)
                refuse(*waiting[i], KafkaError::kRequestTimedOut, "There was no time left for it.");
            else
                transfers.push_back(carry_out(server, waiting[i], deadline));
        }
        if (!transfers.empty()) (void)co_await runtime::all(std::move(transfers));
    }
    co_return elections;
}

Task<ElectLeadersResponse> answer(Request& request, ElectLeadersRequest body) {
    ElectLeadersResponse response;
    std::vector<Election> elections;
    if (body.topic_partitions) {
        for (const auto& topic : *body.topic_partitions) {
            for (const int32_t partition : topic.partitions)
                elections.push_back({.topic = topic.topic, .partition = partition});
        }
    }
    KafkaError trouble = KafkaError::kNone;
    const auto type = static_cast<ElectionType>(body.election_type);
    if (type != ElectionType::kPreferred && type != ElectionType::kUnclean) {
        trouble = KafkaError::kInvalidRequest;
    } else if (request.server.controller_id() != request.server.node().id) {
        trouble = KafkaError::kNotController;
    } else {
        const Duration timeout = admin_deadline(body.timeout_ms) - Shard::current().now();
        elections = co_await runtime::on(
            0, [server0 = &request.server.peer(0), type, elections = std::move(elections),
                all = !body.topic_partitions, timeout]() mutable {
                return elect(server0, type, std::move(elections), all, timeout);
            });
    }
    response.error_code = code(trouble);
    for (Election& election : elections) {
        // Before version 1 an answer has no error of its own.
        if (trouble != KafkaError::kNone) refuse(election, trouble, "");
        auto& topics = response.replica_election_results;
        if (topics.empty() || topics.back().topic != election.topic)
            topics.push_back({.topic = election.topic, .partition_result = {}});
        auto& row = topics.back().partition_result.emplace_back();
        row.partition_id = election.partition;
        row.error_code = code(election.error);
        row.error_message.reset();
        if (!election.message.empty()) row.error_message = std::move(election.message);
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_elect_leaders(Request& request) {
    return run_handler<ElectLeadersRequest, ElectLeadersResponse, answer>(request);
}

}  // namespace weir::kafka

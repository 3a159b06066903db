// ClusterWatch: looks into the replicas of a simulated cluster while it runs, from outside of every
// node. It sees what no client is told in time:
//   - a term of a group has one leader;
//   - a replica whose log is its leader's, entry for entry, has the same members in force;
//   - when the faults are over, all links are up and all nodes serve, a group has a leader within
//     kLeaderlessMax, and a follower that lacks entries gets some within kStarvedMax: nothing but
//     a node's own limits could be in the way;
//   - which replicas of relaxed topics may lack what they acknowledged, because they stopped
//   without
//     flushing and are not whole again (docs/decisions/0006-relaxed-durability.md). While they are
//     a majority, and only then, the history excuses losses.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "cluster_clients.h"
#include "cluster_history.h"
#include "raft/core.h"

namespace weir::sim {

class ClusterWatch {
  public:
    // A node that serves.
    struct Server {
        int32_t node = -1;
        broker::Broker* broker = nullptr;
        uint32_t shards = 0;
    };

    ClusterWatch(ClusterHistory& history, std::function<void(const std::string&)> fail)
        : history_(history), fail_(std::move(fail)) {}

    static constexpr Duration kLeaderlessMax = std::chrono::seconds(30);
    static constexpr Duration kStarvedMax = std::chrono::seconds(45);

    // `calm`: no fault is at work any more.
    void look(const std::vector<Server>& servers, const std::vector<ClusterClients::Topic>& topics,
              Instant now, bool calm);
    // The groups' leaders, as seen last; as often as they lead one.
    const std::vector<int32_t>& leaders() const { return leaders_now_; }
    // After a look: the node stops, or has stopped, without having flushed.
    void forgets(int32_t node);
    // It will never come back, and belongs to no group.
    void left(int32_t node);

  private:
    struct Replica {
        int32_t node;
        storage::LogId log;
        const raft::Core* core;
    };
    struct Relaxed {
        std::set<int32_t> forgetful;
        std::map<int32_t, raft::Configuration> known;  // by the node that has it in force
        bool may_lose() const;
    };
    void check(const std::string& name, const std::vector<Replica>& replicas);
    void check_progress(const std::string& name, const std::vector<Replica>& replicas, Instant now);
    void look_at_relaxed(const PartitionKey& key, const std::vector<Replica>& replicas,
                         const std::vector<Server>& servers);
    void tell();

    ClusterHistory& history_;
    std::function<void(const std::string&)> fail_;
    // By group: a topic that was deleted and made again has another log, whose terms begin anew.
    std::map<storage::LogId, std::map<raft::Term, int32_t>> leaders_;
    std::vector<int32_t> leaders_now_;
    struct Behind {
        storage::Position end;
        Instant since;
    };
    std::map<std::string, Instant> leaderless_;                 // since when
    std::map<std::pair<std::string, int32_t>, Behind> behind_;  // by group and node
    std::map<PartitionKey, Relaxed> relaxed_;
};

}  // namespace weir::sim

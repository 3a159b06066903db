// The clients of a simulated cluster: producers, readers, members of groups, an administrator
// and an operator, which speak the Kafka protocol through kafka/client over the simulated network,
// to a cluster that loses nodes, connections and answers under them. What they send and are told
// goes into the ClusterHistory. They run on a node of their own; owned by the run, which starts
// run() there.
//
// First the topics are made; then everybody works until wind_down(); then each finishes what it
// began, all is read to its end, and the groups catch up. Whatever fails before that is tried
// again, so a cluster that does not come back shows as one that never finishes.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/prng.h"
#include "cluster_history.h"
#include "kafka/client/client.h"
#include "runtime/scope.h"
#include "runtime/shard.h"

namespace weir::sim {

using runtime::Scope;
using runtime::Shard;
using runtime::Task;

// What the operator does.
struct Operations {
    bool transfers = false;
    bool moves = false;
    bool replication_factors = false;  // moves change how many replicas there are
    bool maintenance = false;
    bool decommission = false;
};

struct ClientOptions {
    uint64_t seed = 0;
    std::vector<std::string> bootstrap;
    std::vector<std::string> admin_addresses;
    uint32_t nodes = 1;  // how many found the cluster: for replication factors
    uint32_t topics = 1;
    uint32_t partitions = 1;           // of each
    uint32_t relaxed_topics = 0;       // the first ones: weir.durability=relaxed
    bool changing_durability = false;  // ... which the administrator takes back and sets again
    uint32_t idempotent_producers = 1;
    uint32_t plain_producers = 1;
    uint32_t weak_producers = 0;
    uint32_t readers = 1;
    uint32_t members = 0;  // of one group
    bool admin = false;
    Duration admin_pause_max = std::chrono::milliseconds(1500);
    Operations operations;
    uint32_t batch_records_max = 8;
    uint32_t pad_max = 200;
    Duration pause_max = std::chrono::milliseconds(20);
    Duration request_timeout = std::chrono::seconds(3);
    uint64_t records_max = 3000;                    // of all producers
    std::function<uint64_t(int32_t node)> life_of;  // how often the node was started
    // Which cut it is, of a node that is cut off from each other one, while that lasts; else 0.
    std::function<uint64_t(int32_t node)> isolation_of;
    // Called on the clients' shard: the cluster knows the node no more, its machine can go.
    std::function<void(const std::string& address)> node_left;
    // Called on the clients' shard: a request of several items is about to keep the controller
    // busy.
    std::function<void()> controller_is_busy;
};

class ClusterClients {
  public:
    ClusterClients(ClientOptions options, ClusterHistory& history,
                   std::function<void(const std::string&)> fail);
    ~ClusterClients();

    static Task<void> run(ClusterClients* clients);
    // Between steps of the world.
    void wind_down() { winding_down_ = true; }
    bool serving() const { return serving_; }  // the topics are there
    bool finished() const { return finished_; }
    // The node's disk is gone, and the node will never come back: it has to be decommissioned.
    void node_lost(int32_t node) { lost_.insert(node); }
    // It was asked to leave, so it may be none of the cluster's nodes any more.
    bool may_have_left(int32_t node) const {
        return leaving_.contains(node) || asked_to_leave_.contains(node) || left_.contains(node);
    }
    // A node at that address was, and its machine has not been given up.
    bool may_be_leaving(const std::string& address) const {
        return std::ranges::any_of(addresses_, [&](const auto& each) {
            return each.second == address &&
                   (leaving_.contains(each.first) || asked_to_leave_.contains(each.first));
        });
    }
    // After finished(): by "topic-partition", the nodes that have its replicas.
    const std::map<std::string, std::vector<int32_t>>& replicas() const { return replicas_; }
    // Nobody answered when its replicas were asked to move: they may at any time, also after
    // finished().
    bool may_move(const std::string& partition) const { return unsure_.contains(partition); }
    // For whoever asks why nothing ends.
    std::string doing() const;

    struct Topic {
        std::string name;
        Uuid id;
        int32_t partitions = 0;
        bool relaxed = false;  // its weir.durability, at least for a while
    };
    const std::vector<Topic>& topics() const { return topics_; }

    struct Counts {
        uint64_t requests = 0;
        uint64_t failures = 0;  // that were tried again
        uint64_t rebalances = 0;
        uint64_t topics_made = 0;
        uint64_t topics_removed = 0;
        uint64_t transfers = 0;
        uint64_t reassignments = 0;
        uint64_t maintenances = 0;
        uint64_t removed_nodes = 0;
    };
    const Counts& counts() const { return counts_; }

  private:
    class Session;
    struct Batch;
    struct Member;
    struct Operator;
    struct AdminAnswer;
    friend class Session;

    Prng prng(std::string_view who, uint64_t number) const;
    void say(const std::string& who, std::string what) { doing_[who] = std::move(what); }
    void fail(const std::string& what) { fail_(what); }
    Task<void> pause(Prng* prng);

    static Task<void> create_topics(ClusterClients* self);
    static Task<void> idempotent(ClusterClients* self, uint32_t number);
    enum class Delivery : uint8_t {
        kDone,
        kLost,    // the partition lost, rightly, what this producer was told before
        kBroken,  // the broker said what it must never say
    };
    static Task<Delivery> deliver(ClusterClients* self, Session* session, std::string who,
                                  const Topic* topic, int32_t partition, std::vector<Batch> open);
    static Task<void> once(ClusterClients* self, uint32_t number, WriterKind kind);
    static Task<void> reader(ClusterClients* self, uint32_t number);
    static Task<Result<int64_t>> fetch(ClusterClients* self, Session* session, const Topic* topic,
                                       int32_t partition, int64_t position, int32_t* last_epoch,
                                       int64_t* high_watermark);
    static Task<Result<void>> ask_latest(ClusterClients* self, Session* session, const Topic* topic,
                                         int32_t partition);
    static Task<void> read_all(ClusterClients* self);
    static Task<void> member(ClusterClients* self, uint32_t number);
    static Task<Result<void>> member_life(ClusterClients* self, Session* session, Member* member);
    static Task<Result<void>> work_as_member(ClusterClients* self, Session* session,
                                             Member* member);
    static Task<void> admin(ClusterClients* self);
    static Task<Result<void>> create_topic(ClusterClients* self, Session* session, Topic* topic);
    static Task<Result<void>> create_these(ClusterClients* self, Session* session,
                                           std::vector<Topic*> topics);
    static Task<Result<void>> delete_these(ClusterClients* self, Session* session,
                                           std::vector<Topic>* topics,
                                           std::vector<std::string>* not_there);
    static Task<Result<void>> alter_configs(ClusterClients* self, Session* session, Prng* prng);
    static Task<void> check_topics(ClusterClients* self);
    static Task<void> operate(ClusterClients* self);
    static Task<AdminAnswer> ask_admin(ClusterClients* self, Operator* op, std::string method,
                                       std::string target);
    static Task<std::vector<int32_t>> members(ClusterClients* self, Operator* op);
    static Task<void> transfer_leader(ClusterClients* self, Operator* op, std::string topic,
                                      int32_t partition, int32_t to);
    static Task<void> move_replicas(ClusterClients* self, Operator* op, std::string topic,
                                    int32_t partition, std::vector<int32_t> nodes);
    static Task<Result<void>> reassign(ClusterClients* self, Session* session, std::string topic,
                                       int32_t partition,
                                       std::optional<std::vector<int32_t>> nodes);
    static Task<void> maintain(ClusterClients* self, Operator* op, int32_t node);
    static Task<void> decommission(ClusterClients* self, Operator* op, int32_t node);
    static Task<void> settle(ClusterClients* self);
    static Task<bool> check_placement(ClusterClients* self, Operator* op);

    ClientOptions options_;
    ClusterHistory& history_;
    std::function<void(const std::string&)> fail_;
    std::vector<Topic> topics_;
    std::vector<Topic> short_lived_;              // of the administrator: those that are there now
    std::set<std::string> unsure_topics_;         // ... of which a creation was not answered
    std::vector<std::string> removed_;            // and will not come back
    std::map<std::string, std::string> configs_;  // by topic: what was last confirmed
    std::map<std::string, std::set<std::string>> unsure_configs_;  // ... and what was not answered
    std::map<PartitionKey, int64_t> ends_;                         // when all producers are done
    std::map<PartitionKey, int64_t> committed_;                    // as far as was confirmed
    // Of the operator.
    std::map<std::string, std::vector<int32_t>> placed_;  // by partition: as last confirmed
    std::set<std::string> unsure_;  // partitions of which a change was not answered
    std::set<int32_t> in_maintenance_;
    std::set<int32_t> leaving_;         // decommissioned, and still there
    std::set<int32_t> asked_to_leave_;  // nobody answered: one without replicas is gone at once
    std::set<int32_t> called_back_;     // of those: nodes that were seen to be none of it
    std::set<int32_t> left_;
    std::set<int32_t> lost_;
    std::map<std::string, std::set<int32_t>> listed_;  // by address: whom it ever told of
    Instant told_all_ = Instant::never();
    std::map<int32_t, std::string> addresses_;  // of nodes, for clients
    std::map<std::string, std::vector<int32_t>> replicas_;
    uint64_t records_ = 0;
    bool winding_down_ = false;
    bool serving_ = false;
    bool producers_done_ = false;
    bool all_read_ = false;
    bool finished_ = false;
    std::map<std::string, std::string> doing_;
    Counts counts_;
};

}  // namespace weir::sim

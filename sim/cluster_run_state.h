// ClusterRun: one run of the cluster simulation, from the start of its nodes to the comparison of
// their replicas. Used by run_cluster() alone. Its parts:
//
//   cluster_run.cc       the course of a run: start, work under faults, healing, the end; what is
//                        watched meanwhile
//   cluster_nodes.cc     the machines: how a node lives, is started, killed and started again
//   cluster_nemesis.cc   what is done to them
//   cluster_replicas.cc  whether the replicas are alike in the end
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "broker/broker.h"
#include "cluster_clients.h"
#include "cluster_history.h"
#include "cluster_knobs.h"
#include "cluster_run.h"
#include "cluster_strangers.h"
#include "cluster_watch.h"
#include "runtime/sim/world.h"
#include "runtime/wait.h"

namespace weir::sim {

// One entry of a replica's log, as far as two replicas must be alike.
struct SeenEntry {
    storage::Position first;
    int32_t term;
    uint32_t crc;
    bool operator==(const SeenEntry&) const = default;
};

struct SeenReplica {
    std::string what;
    int64_t start = 0;
    int64_t high_watermark = 0;
    int64_t end = 0;
    std::vector<SeenEntry> entries;  // below the high watermark
    std::vector<std::tuple<int64_t, int16_t, int32_t>> producers;
};
class ClusterRun {
  public:
    explicit ClusterRun(const ClusterRunOptions& options);
    ~ClusterRun();
    ClusterRunResult run();

  private:
    struct Machine {
        uint32_t index = 0;
        int32_t id = -1;  // that its cluster gave it
        Node* node = nullptr;
        // Of the present life.
        broker::Broker* broker = nullptr;   // while it serves
        broker::Broker* opening = nullptr;  // from its start to its end
        bool serving = false;
        bool stop = false;
        bool fatal = false;
        std::optional<std::function<Task<void>(broker::Broker&)>> job;
        // What the nemesis did to it.
        bool held_down = false;  // it restarts it later
        bool cut = false;
        uint64_t isolation = 0;  // which one, while no other machine can be asked anything
        bool sick = false;       // errors of its disk have a reason
        std::optional<DiskFaults> sick_disk;
        bool was_full = false;
        Instant has_room_since{-1};  // since it was full last
        bool full = false;
        // It left the cluster, or its disk broke: it comes again as another node.
        bool wipe = false;
        uint64_t failed_starts = 0;
        std::string last_error;
    };

    // --- the world's side
    void start(Machine& machine);
    void kill(Machine& machine, Kill how);
    void reap_finished();
    void strike();
    void next_strike();
    bool may_take_down(const Machine& machine) const;
    // A cluster that is being founded comes to be there under fewer faults.
    bool hunting() const { return knobs_.hunting && clients_.serving(); }
    Machine& pick();
    void take_down(Machine& machine, Kill how);
    void black_out();
    void restart_in_order(Machine& machine);
    static bool has_offline_log(const Machine& machine);  // of one that serves
    // It works on a request of several items: an orderly stop between two of them.
    void strike_busy_controller();
    void roll(size_t next);
    void cut_links();
    void lose_disk();
    void give_up(const std::string& address);
    bool may_have_left(const Machine& machine) const;
    void heal();
    void look();
    void next_look();
    void forget(const Machine& machine);
    bool wait(const std::function<bool()>& done, Duration budget, std::string_view what);
    void compare_replicas();
    uint64_t life_of(int32_t node) const {
        for (const auto& machine : machines_)
            if (machine->id == node) return machine->node->lives();
        return 0;
    }
    uint64_t isolation_of(int32_t node) const {
        for (const auto& machine : machines_)
            if (machine->id == node) return machine->isolation;
        return 0;
    }
    void end_isolations() {
        for (auto& machine : machines_) machine->isolation = 0;
    }
    bool gather(std::map<uint64_t, std::map<uint32_t, SeenReplica>>* replicas);
    void stop_all();
    std::string state() const;
    void note_replicas();
    Duration draw(Duration low, Duration high) {
        return Duration(static_cast<int64_t>(prng_.between(static_cast<uint64_t>(low.count()),
                                                           static_cast<uint64_t>(high.count()))));
    }
    void note(const std::string& text) {
        if (options_.note_sink)
            options_.note_sink(fmt::format("{:>12}us {}", world_.now().ns / 1000, text));
    }
    void fail(const std::string& text) {
        if (!failure_.empty()) return;
        failure_ = fmt::format("at {}us: {}", world_.now().ns / 1000, text);
        note("FAILURE " + text);
    }

    // --- the nodes' side
    static Task<void> node_main(ClusterRun* run, Machine* machine, Shard* shard);
    static Task<void> watch_stop(Machine* machine, runtime::StopSource* source,
                                 runtime::StopToken over);
    static Task<void> client_main(ClusterRun* run, Shard* shard);
    static Task<void> strangers_main(ClusterRun* run, Shard* shard);
    static Task<void> look(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker);
    static Task<void> look_here(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker);
    ClientOptions client_options();
    ClusterStrangers::Options strangers_options() const;

    ClusterRunOptions options_;
    Knobs knobs_;
    ClusterRunResult result_;
    std::string failure_;
    World world_;
    std::vector<std::unique_ptr<Machine>> machines_;
    Node* client_node_ = nullptr;
    Node* strangers_node_ = nullptr;  // of runs that have hostile peers
    Prng prng_;
    ClusterHistory history_;
    ClusterClients clients_;
    ClusterWatch watch_;
    ClusterStrangers strangers_;
    bool striking_ = false;
    bool healed_ = false;
    bool rolling_ = false;
    uint64_t isolations_ = 0;  // so far
    bool disk_lost_ = false;
};
}  // namespace weir::sim

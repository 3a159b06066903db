// World: a simulated universe on one OS thread, from one seed. It owns virtual time, one queue of
// events, and nodes, each with shards, a disk, a clock and a network address. Product code runs in
// it unchanged: it sees Shards whose Drivers are SimDrivers.
//
// The loop: deliver all events that are due; else let one runnable shard, picked from the seed,
// take a turn; else jump to the next event. Every draw comes from a stream of its own (seed, name),
// so that one more draw in one part does not reshuffle the others.
//
//   World world({.plan = draw_plan(seed)});
//   Node& node = world.add_node({.name = "n1", .shards = 2});
//   world.start(node, [&](Shard& shard) { return serve(shard, ...); });
//   world.run_until([&] { return done; }, 10s);
//   world.kill(node, Kill::kPower);
//   world.start(node, ...);
//
// kill() and the rest are called between steps, from the test's own code or from schedule(), never
// from a task of the node.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/prng.h"
#include "base/time.h"
#include "runtime/scope.h"
#include "runtime/shard.h"
#include "runtime/sim/disk.h"
#include "runtime/sim/plan.h"

namespace weir::sim {

using namespace weir::runtime;

class World;
class Node;
class Network;
class SimDriver;
struct Pending;
struct OpenFile;

using NodeId = uint32_t;

enum class Kill : uint8_t {
    kProcess,  // what completed stays; what is in flight takes effect or not
    kPower,    // and what was not synced is at risk
};

enum class EventKind : uint8_t {
    kOperation,
    kWake,
    kDeadline,
    kDoorbell,
    kNetwork,
    kClock,
    kControl,
    kTurn
};

struct NodeSpec {
    std::string name;  // its host name: others connect to "name:port"; it is reachable by itself as
                       // 127.0.0.1 too
    uint32_t shards = 1;
};

class Node {
  public:
    Node(World& world, NodeId id, NodeSpec spec);
    ~Node();

    const std::string& name() const { return spec_.name; }
    NodeId id() const { return id_; }
    Disk& disk() { return disk_; }
    bool running() const { return process_ != nullptr; }
    bool powered() const { return powered_; }
    bool paused() const { return paused_; }
    // All of its main tasks came to their end; reap() it.
    bool finished() const;
    uint32_t shard_count() const { return spec_.shards; }
    // From its next start on.
    void set_shard_count(uint32_t shards) {
        CHECK(!running());
        spec_.shards = shards;
    }
    // How often it was started.
    uint64_t lives() const { return lives_; }
    Shard& shard(ShardId id);

    // Corruptions of stored data so far, by DiskFaults.
    uint64_t corruptions() const { return corruptions_; }

    // Faults of this node's disk from now on; the plan's until then.
    DiskFaults& disk_faults() { return disk_faults_; }

  private:
    friend class World;
    friend class SimDriver;
    friend class Network;
    friend Fd add_file(Node& node, std::shared_ptr<OpenFile> file);
    friend std::shared_ptr<OpenFile> find_file(Node& node, Fd fd);
    struct Process;

    Instant local(Instant world_time) const;
    Instant world(
        Instant local_time) const;  // the first world time at which local() is at least that

    World& world_;
    NodeId id_;
    NodeSpec spec_;
    Disk disk_;
    DiskFaults disk_faults_;
    Prng disk_prng_;
    Prng entropy_;
    bool powered_ = true;
    bool paused_ = false;
    uint64_t lives_ = 0;
    uint64_t corruptions_ = 0;
    Instant booted_;
    double drift_ = 0;
    int64_t wall_offset_ms_ = 0;
    std::unique_ptr<Process> process_;
    std::function<Task<void>(Shard&)> last_main_;
};

class World {
  public:
    struct Options {
        Plan plan;
        Logger::Sink log_sink =
            {};  // gets the nodes' logs, with node=... and the virtual time before the fields
        LogLevel log_level = LogLevel::kInfo;
        std::function<void(const std::string&)> trace_sink = {};  // a line an event; slow
    };

    explicit World(Options options);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    const Plan& plan() const { return plan_; }
    Instant now() const { return now_; }
    // A stream of draws of its own, from the seed.
    Prng prng(std::string_view stream) const { return Prng(plan_.seed, stream); }

    Node& add_node(NodeSpec spec);
    Node& node(NodeId id) { return *nodes_[id]; }
    size_t node_count() const { return nodes_.size(); }

    // Main runs on each shard; the node's process ends with the last of them. Not running before;
    // powers it on.
    using Main = std::function<Task<void>(Shard&)>;
    void start(Node& node, Main main);
    // After finished(): frees the process in an orderly way, which CHECKs that nothing is left
    // behind.
    void reap(Node& node);
    void kill(Node& node, Kill how);
    // Not running: starts it with the main of its last life, on this many shards.
    void restart(Node& node) { restart(node, node.shard_count()); }
    void restart(Node& node, uint32_t shards);
    // Its shards get no processor; what is in flight completes.
    void pause(Node& node);
    void resume(Node& node);
    // Not running.
    void wipe_disk(Node& node);
    void jump_wall_clock(Node& node, Duration by);

    // Cuts or heals the direction from one node to another: what is sent waits.
    void cut_link(Node& from, Node& to);
    void heal_link(Node& from, Node& to);
    // No new faults from now on; cut links heal, clocks keep what they have.
    void heal();

    enum class Outcome : uint8_t {
        kDone,       // the predicate
        kOutOfTime,  // the budget of virtual time
        kIdle,       // nothing will ever happen again
    };
    // The predicate is asked after each step.
    Outcome run_until(const std::function<bool()>& done, Duration budget);
    Outcome run_for(Duration time);
    // One event or turn. False: idle.
    bool step();
    uint64_t steps() const { return steps_; }

    // Runs `call` at now + delay, between steps.
    void schedule(Duration delay, std::function<void()> call);

    // Over what happened (event kind, node, time), operations and their bytes, and the draws of all
    // streams.
    uint64_t trace_hash() const;

  private:
    friend class Node;
    friend class SimDriver;
    friend class Network;

    struct Event {
        Instant at;
        uint64_t sequence;
        EventKind kind;
        NodeId node;
        bool background;  // does not keep the world from being idle
        std::function<void()> call;
    };
    struct Later {
        bool operator()(const Event& a, const Event& b) const {
            return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
        }
    };
    // What the world keeps for a shard beside the Shard.
    struct Seat;

    void at(Instant when, EventKind kind, NodeId node, std::function<void()> call,
            bool background = false);
    void mix(EventKind kind, NodeId node, uint64_t detail);
    Instant read_clock();
    void wake(Seat& seat);
    void make_ready(Seat& seat);
    void leave_ready(Seat& seat);
    void turn(Seat& seat);
    void deadline(Seat& seat);
    void finish(Pending& pending, int32_t result);
    enum class Ending : uint8_t { kOrderly, kProcess, kPower };
    void end_process(Node& node, Ending ending);
    void schedule_wall_jump(Node& node);
    void doorbell(Node& node, ShardId to);
    void close_file(Node& node, Fd fd, bool power_lost);
    int64_t wall_ms(const Node& node);
    template <class F>
    static std::function<void()> for_seat(Seat& seat, F call);

    Plan plan_;
    Logger::Sink log_sink_;
    LogLevel log_level_;
    std::function<void(const std::string&)> trace_sink_;
    Instant now_;
    uint64_t sequence_ = 0;
    uint64_t steps_ = 0;
    uint64_t operations_ = 0;
    uint64_t foreground_events_ = 0;
    uint64_t hash_;
    std::vector<Event> events_;  // a heap
    std::vector<Seat*> ready_;
    Prng schedule_prng_;
    Prng clock_prng_;
    std::vector<std::unique_ptr<Node>> nodes_;
    std::unique_ptr<Network> network_;
};

}  // namespace weir::sim

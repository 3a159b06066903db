#include "runtime/sim/world.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/sim/network.h"
#include "runtime/sim/process.h"

namespace weir::sim {
namespace {

// 2025-01-01T00:00:00Z: where wall clocks start.
constexpr int64_t kWallStartMs = 1'735'689'600'000;

constexpr const char* kEventNames[] = {"operation", "wake",  "deadline", "doorbell",
                                       "network",   "clock", "control",  "turn"};

}  // namespace

// ---------------------------------------------------------------- nodes

Node::Node(World& world, NodeId id, NodeSpec spec)
    : world_(world),
      id_(id),
      spec_(std::move(spec)),
      disk_(world.plan().disk.capacity_bytes),
      disk_faults_(world.plan().disk),
      disk_prng_(mix64(world.plan().seed) + id, "disk"),
      entropy_(mix64(world.plan().seed) + id, "entropy") {
    Prng clock(mix64(world.plan().seed) + id, "clock");
    drift_ = (clock.unit() * 2 - 1) * world.plan().clock.drift_max;
    wall_offset_ms_ = static_cast<int64_t>(clock.below(1000));
}

Node::~Node() = default;

bool Node::finished() const { return process_ && process_->mains_left == 0; }

Shard& Node::shard(ShardId id) {
    CHECK(process_);
    return *process_->shards[id];
}

Instant Node::local(Instant world_time) const {
    return {
        static_cast<int64_t>(static_cast<double>((world_time - booted_).count()) * (1 + drift_))};
}

Instant Node::world(Instant local_time) const {
    Instant at =
        booted_ + Duration(static_cast<int64_t>(static_cast<double>(local_time.ns) / (1 + drift_)));
    while (local(at) < local_time) at = at + 1ns;
    return at;
}

// ---------------------------------------------------------------- the world's life

World::World(Options options)
    : plan_(options.plan),
      log_sink_(std::move(options.log_sink)),
      log_level_(options.log_level),
      trace_sink_(std::move(options.trace_sink)),
      hash_(mix64(options.plan.seed)),
      schedule_prng_(plan_.seed, "schedule"),
      clock_prng_(plan_.seed, "clock"),
      network_(std::make_unique<Network>(*this)) {}

World::~World() {
    for (auto& node : nodes_) {
        if (node->running()) end_process(*node, Ending::kProcess);
    }
}

Node& World::add_node(NodeSpec spec) {
    CHECK(spec.shards > 0);
    nodes_.push_back(
        std::make_unique<Node>(*this, static_cast<NodeId>(nodes_.size()), std::move(spec)));
    if (plan_.clock.jump_mean > 0s) schedule_wall_jump(*nodes_.back());
    return *nodes_.back();
}

void World::schedule_wall_jump(Node& node) {
    const Duration wait(static_cast<int64_t>(
        clock_prng_.exponential(static_cast<double>(plan_.clock.jump_mean.count()))));
    const auto jump = [this, &node] {
        const auto most = static_cast<uint64_t>(plan_.clock.jump_max.count());
        if (most == 0) return;
        jump_wall_clock(node, Duration(static_cast<int64_t>(clock_prng_.below(2 * most)) -
                                       static_cast<int64_t>(most)));
        schedule_wall_jump(node);
    };
    at(now_ + wait, EventKind::kClock, node.id(), jump, true);
}

void World::jump_wall_clock(Node& node, Duration by) {
    node.wall_offset_ms_ += by.count() / 1'000'000;
}

namespace {

Task<void> run_main(World::Main* main, Shard* shard, uint32_t* mains_left) {
    co_await (*main)(*shard);
    --*mains_left;
}

}  // namespace

void World::start(Node& node, Main main) {
    CHECK(!node.running());
    if (!node.powered_) {
        node.powered_ = true;
        node.booted_ = now_;
    }
    node.process_ = std::make_unique<Node::Process>();
    Node::Process& process = *node.process_;
    process.life = ++node.lives_;
    process.main = std::move(main);
    process.mains_left = node.spec_.shards;
    process.group.shards.resize(node.spec_.shards, nullptr);
    Logger logger;
    if (log_sink_) {
        logger = Logger(log_level_, [this, &node](const Logger::Event& event) {
            Logger::Event full = event;
            const std::string fields =
                fmt::format("node={} at={}us {}", node.name(), now_.ns / 1000, event.fields);
            full.fields = fields;
            log_sink_(full);
        });
    }
    for (ShardId id = 0; id < node.spec_.shards; ++id) {
        process.drivers.push_back(std::make_unique<SimDriver>(*this, node, id));
        const uint64_t seed = mix64(mix64(mix64(plan_.seed) + node.id_) + node.lives_) + id;
        process.shards.push_back(
            std::make_unique<Shard>(Shard::Options{.id = id,
                                                   .driver = process.drivers[id].get(),
                                                   .group = &process.group,
                                                   .log = logger,
                                                   .seed = seed}));
        Shard& shard = *process.shards.back();
        if (plan_.schedule.shuffle) shard.scheduler().shuffle_with(&schedule_prng_);
        process.seats.push_back(std::make_unique<Seat>(*this, node, shard));
    }
    for (auto& shard : process.shards) shard->open_rings(node.spec_.shards);
    for (ShardId id = 0; id < node.spec_.shards; ++id) {
        Shard& shard = *process.shards[id];
        Shard::set_current(&shard);
        process.roots.push_back(std::make_unique<Scope>());
        process.roots.back()->spawn(run_main(&process.main, &shard, &process.mains_left));
        Shard::set_current(nullptr);
        wake(*process.seats[id]);
    }
}

void World::restart(Node& node, uint32_t shards) {
    CHECK(!node.running());
    CHECK(node.last_main_);
    node.spec_.shards = shards;
    start(node, node.last_main_);
}

void World::kill(Node& node, Kill how) {
    CHECK(node.running());
    end_process(node, how == Kill::kPower ? Ending::kPower : Ending::kProcess);
}

void World::reap(Node& node) {
    CHECK(node.finished());
    end_process(node, Ending::kOrderly);
}

void World::end_process(Node& node, Ending ending) {
    Node::Process& process = *node.process_;
    mix(EventKind::kControl, node.id_, static_cast<uint64_t>(ending));
    for (auto& seat : process.seats) leave_ready(*seat);

    // Coroutines first, what runs for other shards before those that wait for it: their frames hold
    // what it works with.
    if (ending != Ending::kOrderly) {
        for (auto& shard : process.shards) shard->set_dying();
    }
    for (auto& shard : process.shards) {
        Shard::set_current(shard.get());
        shard->drop_remote_scope();
    }
    for (size_t i = 0; i < process.shards.size(); ++i) {
        Shard::set_current(process.shards[i].get());
        process.roots[i].reset();
    }
    for (auto& shard : process.shards) {
        Shard::set_current(shard.get());
        shard.reset();
    }
    Shard::set_current(nullptr);

    // What was in flight happens, or not, or in part; from here on its events find it gone.
    if (ending == Ending::kOrderly) CHECK(process.in_flight.empty());
    for (auto& [id, pending] : process.in_flight) {
        CHECK(pending->op == nullptr);
        pending->driver->apply_partly(*pending);
        pending->driver = nullptr;
    }
    process.in_flight.clear();
    for (size_t i = 0; i < process.files.size(); ++i) {
        if (process.files[i])
            close_file(node, Fd{static_cast<int32_t>(i)}, ending == Ending::kPower);
    }
    node.last_main_ = std::move(process.main);
    node.process_.reset();
    node.paused_ = false;
    if (ending == Ending::kPower) {
        node.powered_ = false;
        node.disk_.cut_power(node.disk_prng_,
                             {.torn_sectors = node.disk_faults_.torn_sectors,
                              .garbage_sectors = node.disk_faults_.garbage_sectors,
                              .unordered_metadata = node.disk_faults_.unordered_metadata});
    }
}

void World::wipe_disk(Node& node) {
    CHECK(!node.running());
    node.disk_.wipe();
}

void World::pause(Node& node) {
    CHECK(node.running());
    node.paused_ = true;
    for (auto& seat : node.process_->seats) leave_ready(*seat);
}

void World::resume(Node& node) {
    CHECK(node.paused_);
    node.paused_ = false;
    for (auto& seat : node.process_->seats) wake(*seat);
}

void World::cut_link(Node& from, Node& to) { network_->cut(from.id(), to.id()); }
void World::heal_link(Node& from, Node& to) { network_->heal(from.id(), to.id()); }

void World::heal() {
    const DiskFaults old = plan_.disk;
    plan_.disk = DiskFaults{.read_mean = old.read_mean,
                            .write_mean = old.write_mean,
                            .sync_mean = old.sync_mean,
                            .metadata_mean = old.metadata_mean};
    plan_.disk.capacity_bytes = old.capacity_bytes;
    plan_.net = NetFaults{.buffer_bytes_min = 4096, .chunk_bytes_min = 2048};
    plan_.clock.jump_mean = 0s;
    plan_.clock.jump_max = 0s;
    plan_.schedule = ScheduleFaults{.shuffle = plan_.schedule.shuffle};
    for (auto& node : nodes_) node->disk_faults_ = plan_.disk;
    network_->heal_all();
}

// ---------------------------------------------------------------- the loop

void World::at(Instant when, EventKind kind, NodeId node, std::function<void()> call,
               bool background) {
    if (!background) ++foreground_events_;
    events_.push_back({when, ++sequence_, kind, node, background, std::move(call)});
    std::ranges::push_heap(events_, Later{});
}

void World::schedule(Duration delay, std::function<void()> call) {
    at(now_ + delay, EventKind::kControl, 0, std::move(call));
}

void World::mix(EventKind kind, NodeId node, uint64_t detail) {
    hash_ = mix64(hash_ ^ static_cast<uint64_t>(now_.ns));
    hash_ = mix64(hash_ ^ (static_cast<uint64_t>(kind) << 32 | node));
    hash_ = mix64(hash_ ^ detail);
    if (trace_sink_) {
        trace_sink_(fmt::format("{} {} n{} {:x} {:016x}", now_.ns,
                                kEventNames[static_cast<size_t>(kind)], node, detail, hash_));
    }
}

Instant World::read_clock() {
    now_ = now_ + plan_.schedule.clock_read_cost;
    return now_;
}

bool World::step() {
    const bool due = !events_.empty() && events_.front().at <= now_;
    if (!due && !ready_.empty()) {
        ++steps_;
        turn(*ready_[ready_.size() == 1 ? 0 : schedule_prng_.below(ready_.size())]);
        return true;
    }
    // Background events alone keep nothing going; but a shard that yielded as one came due does.
    if (foreground_events_ == 0 && ready_.empty()) return false;
    ++steps_;
    std::ranges::pop_heap(events_, Later{});
    const Event event = std::move(events_.back());
    events_.pop_back();
    if (!event.background) --foreground_events_;
    now_ = std::max(now_, event.at);
    mix(event.kind, event.node, 0);
    event.call();
    return true;
}

World::Outcome World::run_until(const std::function<bool()>& done, Duration budget) {
    const Instant end = now_ + budget;
    while (!done()) {
        if (now_ >= end) return Outcome::kOutOfTime;
        if (ready_.empty() && !events_.empty() && events_.front().at > end) {
            now_ = end;
            return Outcome::kOutOfTime;
        }
        if (!step()) return Outcome::kIdle;
    }
    return Outcome::kDone;
}

World::Outcome World::run_for(Duration time) {
    const Outcome outcome = run_until([] { return false; }, time);
    return outcome;
}

void World::turn(Seat& seat) {
    leave_ready(seat);
    Shard::set_current(&seat.shard);
    seat.shard.unpark();
    const bool more = seat.shard.turn();
    const bool park = !more && seat.shard.prepare_to_park();
    Shard::set_current(nullptr);
    mix(EventKind::kTurn, seat.node.id(), seat.shard.steps());
    if (!park) {
        wake(seat);
    } else {
        deadline(seat);
    }
}

void World::wake(Seat& seat) {
    if (seat.node.paused_ || seat.stalled || seat.ready_at != SIZE_MAX) return;
    const ScheduleFaults& faults = plan_.schedule;
    if (faults.stall_chance > 0 && schedule_prng_.chance(faults.stall_chance)) {
        seat.stalled = true;
        const Duration stall(static_cast<int64_t>(
            schedule_prng_.below(static_cast<uint64_t>(faults.stall_max.count()) + 1)));
        at(now_ + stall, EventKind::kWake, seat.node.id(), for_seat(seat, [this](Seat& s) {
               s.stalled = false;
               if (!s.node.paused_ && s.ready_at == SIZE_MAX) make_ready(s);
           }));
        return;
    }
    make_ready(seat);
}

void World::make_ready(Seat& seat) {
    seat.ready_at = ready_.size();
    ready_.push_back(&seat);
}

void World::leave_ready(Seat& seat) {
    if (seat.ready_at == SIZE_MAX) return;
    ready_.back()->ready_at = seat.ready_at;
    ready_[seat.ready_at] = ready_.back();
    ready_.pop_back();
    seat.ready_at = SIZE_MAX;
}

// The seat's shard is parked: makes sure that it wakes for its next timer.
void World::deadline(Seat& seat) {
    const Instant local = seat.shard.next_deadline();
    if (local == Instant::never()) return;
    Instant when = seat.node.world(local);
    if (seat.deadline_at <= when && seat.deadline_at > now_) return;
    const ScheduleFaults& faults = plan_.schedule;
    if (faults.late_timer_chance > 0 && schedule_prng_.chance(faults.late_timer_chance)) {
        when = when + Duration(static_cast<int64_t>(schedule_prng_.below(
                          static_cast<uint64_t>(faults.late_timer_max.count()) + 1)));
    }
    seat.deadline_at = when;
    const uint64_t generation = ++seat.deadline_generation;
    at(when, EventKind::kDeadline, seat.node.id(), for_seat(seat, [this, generation](Seat& s) {
           if (s.deadline_generation != generation) return;
           s.deadline_at = Instant::never();
           wake(s);
       }));
}

// Wraps `call` so that it does nothing once the seat's process is gone.
template <class F>
std::function<void()> World::for_seat(Seat& seat, F call) {
    return [&node = seat.node, life = seat.node.lives_, id = seat.shard.id(), call] {
        if (node.process_ && node.process_->life == life) call(*node.process_->seats[id]);
    };
}

void World::doorbell(Node& node, ShardId to) {
    Seat& seat = *node.process_->seats[to];
    at(now_ + Duration(static_cast<int64_t>(schedule_prng_.below(3000))), EventKind::kDoorbell,
       node.id(), for_seat(seat, [this](Seat& s) { wake(s); }));
}

void World::finish(Pending& pending, int32_t result) {
    CHECK(pending.driver != nullptr);
    Node::Process& process = *pending.driver->node().process_;
    const std::shared_ptr<Pending> keep = process.in_flight.extract(pending.id).mapped();
    const ShardId id = pending.driver->shard();
    mix(EventKind::kOperation, pending.driver->node().id(),
        mix64(static_cast<uint64_t>(pending.kind) << 32 | static_cast<uint32_t>(result)) ^
            pending.offset ^ pending.size);
    Op* op = std::exchange(pending.op, nullptr);
    pending.driver = nullptr;
    CHECK(op != nullptr);
    op->result = result;
    op->driver_data = nullptr;
    Shard& shard = *process.shards[id];
    Shard::set_current(&shard);
    shard.complete(*op);
    Shard::set_current(nullptr);
    wake(*process.seats[id]);
}

uint64_t World::trace_hash() const {
    uint64_t hash = hash_;
    const auto add = [&hash](Prng prng) { hash = mix64(hash ^ prng.next()); };
    add(schedule_prng_);
    add(clock_prng_);
    add(network_->prng());
    for (const auto& node : nodes_) {
        add(node->disk_prng_);
        add(node->entropy_);
        if (!node->process_) continue;
        for (const auto& shard : node->process_->shards) add(shard->prng());
    }
    return hash;
}

int64_t World::wall_ms(const Node& node) {
    const auto elapsed = static_cast<double>(now_.ns) * (1 + node.drift_);
    return kWallStartMs + node.wall_offset_ms_ + static_cast<int64_t>(elapsed / 1e6);
}

}  // namespace weir::sim

#include <algorithm>

#include "cluster_run_state.h"

namespace weir::sim {

namespace {

constexpr Duration kHuntMax = 900ms;  // an election and a moment
constexpr Duration kBusyMax = 60ms;   // some items of a request of several

}  // namespace

// With this one away, is there still a majority that is up and not cut off?
bool ClusterRun::may_take_down(const Machine& machine) const {
    if (!knobs_.minority_only || machines_.size() == 1) return true;
    size_t away = 1;
    size_t all = 0;
    for (const auto& other : machines_) {
        if (other->index >= knobs_.nodes && other->node->lives() == 0) continue;
        ++all;
        if (other.get() != &machine && (!other->node->running() || other->cut || other->sick ||
                                        other->full || other->node->paused()))
            ++away;
    }
    return away * 2 < all;
}

ClusterRun::Machine& ClusterRun::pick() {
    if (hunting() && prng_.chance(0.7)) {
        look();
        const std::vector<int32_t>& leaders = watch_.leaders();
        if (!leaders.empty()) {
            const int32_t leader = leaders[prng_.below(leaders.size())];
            for (auto& machine : machines_)
                if (machine->id == leader) return *machine;
        }
    }
    return *machines_[prng_.below(machines_.size())];
}

void ClusterRun::next_strike() {
    const auto mean = static_cast<double>(knobs_.fault_mean.count());
    world_.schedule(Duration(static_cast<int64_t>(prng_.exponential(mean)) + 1'000'000), [this] {
        if (healed_) return;
        if (striking_) strike();
        if (striking_ && hunting() && prng_.chance(0.5))
            world_.schedule(draw(0ns, kHuntMax), [this] {
                if (striking_) strike();
            });
        next_strike();
    });
}

void ClusterRun::strike() {
    if (knobs_.lost_disk && !disk_lost_ && prng_.chance(0.1)) {
        lose_disk();
        return;
    }
    Machine& machine = pick();
    const bool up = machine.node->running() && !machine.node->finished() && !machine.held_down &&
                    !machine.node->paused() && !machine.stop;
    switch (prng_.below(7)) {
        case 0:
        case 1: {
            if (!knobs_.kills || !up || rolling_ || !may_take_down(machine)) return;
            const Kill how = prng_.chance(0.5) ? Kill::kPower : Kill::kProcess;
            if (knobs_.blackouts && clients_.serving() && prng_.chance(0.3))
                black_out();
            else
                take_down(machine, how);
            return;
        }
        case 2: {
            if (!knobs_.pauses || !up || !may_take_down(machine)) return;
            note(fmt::format("n{} is paused", machine.index));
            ++result_.seen.pauses;
            world_.pause(*machine.node);
            world_.schedule(draw(20ms, 3s), [this, &machine] {
                if (machine.node->running() && machine.node->paused()) {
                    note(fmt::format("n{} is resumed", machine.index));
                    world_.resume(*machine.node);
                }
            });
            return;
        }
        case 3:
            if (knobs_.rolling && !rolling_ && prng_.chance(0.3)) {
                roll(0);
                return;
            }
            if (!knobs_.orderly || rolling_ || !up || !may_take_down(machine)) return;
            restart_in_order(machine);
            return;
        case 4:
        case 5:
            if (knobs_.links) cut_links();
            return;
        default:
            if (knobs_.clock_jumps && up && prng_.chance(0.7)) {
                ++result_.seen.clock_jumps;
                const Duration by = draw(1ms, 3h) * (prng_.chance(0.5) ? 1 : -1);
                note(fmt::format("n{}'s wall clock jumps by {} ms", machine.index,
                                 by.count() / 1'000'000));
                world_.jump_wall_clock(*machine.node, by);
                return;
            }
            if (!knobs_.full_disk || machine.full || !may_take_down(machine)) return;
            note(fmt::format("n{}'s disk is full", machine.index));
            ++result_.seen.full_disks;
            machine.full = machine.was_full = true;
            machine.node->disk().set_capacity(0);
            world_.schedule(draw(100ms, 3s), [this, &machine] {
                note(fmt::format("n{}'s disk has room", machine.index));
                machine.node->disk().set_capacity(kDiskBytes);
                machine.full = false;
                machine.has_room_since = world_.now();
            });
    }
}

void ClusterRun::take_down(Machine& machine, Kill how) {
    note(fmt::format("n{} is killed{}{}", machine.index,
                     how == Kill::kPower ? ", with its power" : "",
                     machine.serving ? "" : ", while it starts"));
    ++(how == Kill::kPower ? result_.seen.power_cuts : result_.seen.kills);
    kill(machine, how);
    machine.held_down = true;
    world_.schedule(prng_.chance(0.5) ? draw(5ms, 300ms) : draw(300ms, 4s), [this, &machine] {
        machine.held_down = false;
        if (!machine.node->running()) start(machine);
    });
}

// The power of a rack, or one mistake on all machines.
void ClusterRun::black_out() {
    ++result_.seen.blackouts;
    const Kill how = prng_.chance(0.7) ? Kill::kPower : Kill::kProcess;
    for (auto& machine : machines_) {
        if (machine->node->running() && !machine->node->finished() && !machine->held_down &&
            prng_.chance(0.85))
            take_down(*machine, how);
    }
}

void ClusterRun::restart_in_order(Machine& machine) {
    note(fmt::format("n{} is asked to stop", machine.index));
    ++result_.seen.orderly_restarts;
    machine.stop = true;
}

void ClusterRun::strike_busy_controller() {
    if (!knobs_.busy_controller || !prng_.chance(0.6)) return;
    world_.schedule(draw(0ns, kBusyMax), [this] {
        if (!striking_ || rolling_) return;
        for (auto& machine : machines_) {
            cluster::Controller* controller =
                machine->broker == nullptr ? nullptr : machine->broker->controller();
            if (controller == nullptr || !controller->leads() || machine->stop ||
                !machine->node->running() || machine->node->paused() || !may_take_down(*machine))
                continue;
            restart_in_order(*machine);
            return;
        }
    });
}

// One after the other, each when the one before serves again.
void ClusterRun::roll(size_t next) {
    rolling_ = next < machines_.size() && !healed_;
    if (!rolling_) return;
    Machine& machine = *machines_[next];
    const bool calm = std::ranges::all_of(
        machines_, [](const auto& m) { return m->serving && !m->node->paused(); });
    if (!calm) {
        world_.schedule(200ms, [this, next] { roll(next); });
        return;
    }
    restart_in_order(machine);
    world_.schedule(500ms, [this, next] { roll(next + 1); });
}

void ClusterRun::cut_links() {
    Machine& machine = pick();
    if (machine.cut || !may_take_down(machine)) return;
    const bool one_way = prng_.chance(0.4);
    const bool inbound = prng_.chance(0.5);
    const bool clients_too = prng_.chance(0.4);
    // From all others, or from some of them alone.
    std::vector<Node*> others;
    for (auto& other : machines_) {
        if (other.get() != &machine && prng_.chance(0.8)) others.push_back(other->node);
    }
    const bool from_all = others.size() + 1 == machines_.size();
    if (clients_too || others.empty()) others.push_back(client_node_);
    note(fmt::format("n{} is cut off from {} nodes{}{}", machine.index, others.size(),
                     clients_too ? ", the clients' among them" : "",
                     one_way ? (inbound ? ", inbound" : ", outbound") : ""));
    ++(one_way ? result_.seen.partitions_one_way : result_.seen.partitions_two_way);
    machine.cut = true;
    for (Node* other : others) {
        if (!one_way || inbound) world_.cut_link(*other, *machine.node);
        if (!one_way || !inbound) world_.cut_link(*machine.node, *other);
    }
    if (from_all) machine.isolation = ++isolations_;
    world_.schedule(draw(50ms, 5s), [this, &machine, others] {
        if (healed_) return;
        note(fmt::format("n{} is back in the network", machine.index));
        machine.cut = false;
        end_isolations();  // a link may have been cut twice
        for (Node* other : others) {
            world_.heal_link(*other, *machine.node);
            world_.heal_link(*machine.node, *other);
        }
    });
}

// With all that it held: its node never comes back.
void ClusterRun::lose_disk() {
    Machine& machine = pick();
    // All that is there has three replicas, and the others are well.
    const bool calm = std::ranges::all_of(machines_, [](const auto& m) { return !m->sick; });
    if (disk_lost_ || !calm || machine.id < 0 || machine.held_down || machine.wipe ||
        !machine.node->running() || machine.node->finished() || rolling_ || !may_take_down(machine))
        return;
    disk_lost_ = true;
    note(fmt::format("n{} loses its disk", machine.index));
    ++result_.seen.lost_disks;
    kill(machine, Kill::kPower);
    machine.wipe = true;
    machine.held_down = true;
    clients_.node_lost(machine.id);
    world_.schedule(draw(100ms, 4s), [this, &machine] {
        machine.held_down = false;
        if (!machine.node->running()) start(machine);
    });
}

// The cluster knows it no more. Its machine joins as a new node.
void ClusterRun::give_up(const std::string& address) {
    const auto found = std::ranges::find(machines_, address,
                                         [](const auto& m) { return host(m->index) + ":9092"; });
    CHECK(found != machines_.end());
    Machine& machine = **found;
    note(fmt::format("n{} has left the cluster", machine.index));
    machine.wipe = true;
    if (!machine.node->running() || machine.node->finished()) return;
    if (machine.node->paused()) world_.resume(*machine.node);
    if (prng_.chance(0.5) && !machine.held_down) {
        restart_in_order(machine);
        return;
    }
    kill(machine, Kill::kProcess);
    if (std::exchange(machine.held_down, true)) return;
    world_.schedule(draw(10ms, 3s), [this, &machine] {
        machine.held_down = false;
        if (!machine.node->running()) start(machine);
    });
}

// One that was removed before it heard that it had been taken in knows no id of its own.
bool ClusterRun::may_have_left(const Machine& machine) const {
    if (machine.id >= 0) return clients_.may_have_left(machine.id);
    return machine.wipe || clients_.may_be_leaving(host(machine.index) + ":9092");
}

}  // namespace weir::sim

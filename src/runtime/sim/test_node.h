// Running one task on a fresh node of a world, for tests.
#pragma once

#include <functional>
#include <utility>

#include "runtime/sim/world.h"

namespace weir::sim {

// Runs `main` on one shard of the node to its end, then ends the process in an orderly way. CHECKs
// that it ends.
inline void run_on(World& world, Node& node, std::function<Task<void>(Shard&)> main,
                   Duration budget = 1h) {
    world.start(node, std::move(main));
    const World::Outcome outcome = world.run_until([&] { return node.finished(); }, budget);
    CHECK(outcome == World::Outcome::kDone);
    world.reap(node);
}

// Runs `main` and kills the node after so many steps of the world, or when it has ended.
inline void run_and_kill(World& world, Node& node, std::function<Task<void>(Shard&)> main,
                         uint64_t steps, Kill how) {
    world.start(node, std::move(main));
    const uint64_t end = world.steps() + steps;
    (void)world.run_until([&] { return node.finished() || world.steps() >= end; }, 1h);
    world.kill(node, how);
}

}  // namespace weir::sim

#include "cluster_run_state.h"

namespace weir::sim {

// A node may wait for the others until somebody ends it.
Task<void> ClusterRun::watch_stop(Machine* machine, runtime::StopSource* source,
                                  runtime::StopToken over) {
    while (!machine->stop && co_await runtime::sleep_for(20ms, over)) {
    }
    if (machine->stop) source->request_stop();
}

Task<void> ClusterRun::node_main(ClusterRun* run, Machine* machine, Shard* shard) {
    if (shard->id() != 0) co_return;
    runtime::StopSource stop_starting;
    auto broker = std::make_unique<broker::Broker>(
        broker_options(run->knobs_, run->options_.bugs, machine->index),
        broker::BuildInfo{.version = "sim", .driver = "sim"},
        [run, machine, &stop_starting](const Error& error) {
            machine->fatal = true;
            stop_starting.request_stop();
            if (!machine->sick && !machine->full)
                run->fail(fmt::format("n{} stops without a reason: {}", machine->index,
                                      error.to_string()));
        });
    Scope watch;
    watch.spawn(watch_stop(machine, &stop_starting, watch.stop_token()));
    machine->opening = broker.get();
    const Instant began = shard->now();
    const Result<void> started = co_await broker->start(stop_starting.token());
    co_await watch.close();
    if (started) {
        machine->broker = broker.get();
        machine->serving = true;
        machine->id = broker->node_id();
        while (!machine->stop && !machine->fatal) {
            if (machine->job) {
                co_await (*machine->job)(*broker);
                machine->job.reset();
            }
            (void)co_await runtime::sleep_for(10ms);
        }
    } else {
        ++machine->failed_starts;
        machine->last_error = started.error().to_string();
        run->note(fmt::format("n{} does not start: {}", machine->index, machine->last_error));
        const bool was_removed =
            started.error().code == ErrorCode::kInvalidArgument && run->may_have_left(*machine);
        const bool met_full_disk = machine->full || machine->has_room_since >= began;
        if (!machine->sick && !met_full_disk && !machine->fatal && !machine->stop && !was_removed)
            run->fail(
                fmt::format("n{} does not start: {}", machine->index, started.error().to_string()));
    }
    machine->broker = nullptr;
    machine->opening = nullptr;
    machine->serving = false;
    machine->job.reset();
    co_await broker->stop();
}

Task<void> ClusterRun::client_main(ClusterRun* run, Shard* shard) {
    if (shard->id() == 0) co_await ClusterClients::run(&run->clients_);
}

Task<void> ClusterRun::strangers_main(ClusterRun* run, Shard* shard) {
    if (shard->id() == 0) co_await ClusterStrangers::run(&run->strangers_);
}

void ClusterRun::start(Machine& machine) {
    machine.stop = machine.fatal = machine.serving = false;
    if (machine.wipe) {
        note(fmt::format("n{}'s disk is empty", machine.index));
        world_.wipe_disk(*machine.node);
        watch_.left(machine.id);
        machine.wipe = false;
        machine.id = -1;
        ++result_.seen.joined;
    }
    const auto shards = static_cast<uint32_t>(prng_.between(1, knobs_.shards_max));
    machine.node->set_shard_count(shards);
    note(fmt::format("n{} starts on {} shards", machine.index, shards));
    world_.start(*machine.node,
                 [this, &machine](Shard& shard) { return node_main(this, &machine, &shard); });
}

void ClusterRun::kill(Machine& machine, Kill how) {
    forget(machine);
    machine.broker = nullptr;
    machine.opening = nullptr;
    machine.serving = false;
    machine.job.reset();
    world_.kill(*machine.node, how);
}

// A node that ended by itself comes again, as a supervisor would have it.
void ClusterRun::reap_finished() {
    for (auto& each : machines_) {
        Machine& machine = *each;
        if (!machine.node->running() || !machine.node->finished() || machine.held_down) continue;
        world_.reap(*machine.node);
        note(
            fmt::format("n{} ended{}", machine.index, machine.fatal ? " after a fatal error" : ""));
        if (!machine.stop) ++result_.seen.failed_lives;
        // Whoever cannot write does not stop in good order.
        if (!machine.stop || machine.fatal || machine.sick || machine.full) forget(machine);
        machine.held_down = true;
        world_.schedule(draw(10ms, 1500ms), [this, &machine] {
            machine.held_down = false;
            if (!machine.node->running()) start(machine);
        });
    }
}

}  // namespace weir::sim

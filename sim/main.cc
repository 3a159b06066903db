// weir_sim: runs a simulation (a node's storage, or a cluster) on many seeds, replays one, or shows
// that switched-on bugs are caught.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "bugs.h"
#include "cluster_bugs.h"
#include "cluster_run.h"
#include "seeds.h"
#include "storage_workload.h"

namespace {

using namespace weir;
using namespace weir::sim;

struct Arguments {
    uint64_t seed = 0;
    uint64_t seeds = 0;
    uint64_t first = 1;
    bool fresh = false;
    std::string bug;
    bool corruption = false;
    uint32_t nodes = 0;
    bool log = false;
    std::string trace;
    uint32_t jobs = 0;
    uint64_t failures_max = 10;
    bool list_bugs = false;
};

// One kind of simulation: a node's storage, or a cluster.
struct StorageSimulation {
    using Options = StorageRunOptions;
    using Result = StorageRunResult;
    static constexpr std::string_view kCommand = "./dev sim";

    static void add_own_options(CLI::App& app, Arguments& arguments) {
        app.add_flag("--corruption", arguments.corruption,
                     "also corrupt data that was synced: it must be told, never be believed");
    }

    static Options options_of(const Arguments& arguments, uint64_t seed) {
        Options options;
        options.seed = seed;
        options.corruption = arguments.corruption;
        for (const NamedBug& bug : kBugs) {
            if (bug.name == arguments.bug) options.bugs.*bug.flag = true;
        }
        return options;
    }
    static Result run(const Options& options) { return run_storage(options); }
    static std::vector<std::string> bugs() {
        std::vector<std::string> names;
        for (const NamedBug& bug : kBugs) names.emplace_back(bug.name);
        return names;
    }
};

struct ClusterSimulation {
    using Options = ClusterRunOptions;
    using Result = ClusterRunResult;
    static constexpr std::string_view kCommand = "./dev sim cluster";

    static void add_own_options(CLI::App& app, Arguments& arguments) {
        app.add_option("--nodes", arguments.nodes, "so many nodes; 0: drawn from the seed")
            ->capture_default_str();
    }

    static Options options_of(const Arguments& arguments, uint64_t seed) {
        Options options;
        options.seed = seed;
        options.nodes = arguments.nodes;
        for (const NamedClusterBug& bug : kClusterBugs) {
            if (bug.name == arguments.bug) bug.switch_on(options.bugs);
        }
        return options;
    }
    static Result run(const Options& options) { return run_cluster(options); }
    static std::vector<std::string> bugs() {
        std::vector<std::string> names;
        for (const NamedClusterBug& bug : kClusterBugs) names.emplace_back(bug.name);
        return names;
    }
};

template <class Simulation>
std::string repeat_command(const Arguments& arguments, uint64_t seed) {
    return fmt::format("{} --seed {}{}{}{}", Simulation::kCommand, seed,
                       arguments.bug.empty() ? "" : " --bug " + arguments.bug,
                       arguments.corruption ? " --corruption" : "",
                       arguments.nodes > 0 ? fmt::format(" --nodes {}", arguments.nodes) : "");
}

constexpr size_t kTableTextMax = 160;

std::string seconds(int64_t ns) { return fmt::format("{:.1f} s", static_cast<double>(ns) / 1e9); }

template <class Simulation>
int replay(const Arguments& arguments) {
    typename Simulation::Options options = Simulation::options_of(arguments, arguments.seed);
    options.note_sink = [](const std::string& text) { fmt::print("{}\n", text); };
    if (arguments.log) {
        options.log_sink = [](const Logger::Event& event) {
            fmt::print("    {} {} {} {}\n", to_string(event.level), event.component, event.message,
                       event.fields);
        };
    }
    std::FILE* trace = nullptr;
    if (!arguments.trace.empty()) {
        trace = std::fopen(arguments.trace.c_str(), "w");
        if (trace == nullptr) {
            fmt::print(stderr, "weir_sim: cannot write {}\n", arguments.trace);
            return 2;
        }
        options.trace_sink = [trace](const std::string& line) { fmt::print(trace, "{}\n", line); };
    }
    const typename Simulation::Result result = Simulation::run(options);
    if (trace != nullptr) std::fclose(trace);
    fmt::print("{}\n", result.seen.to_string());
    fmt::print("seed {} {}: virtual time {}, {} steps, trace hash={:016x}\n", arguments.seed,
               result.failure.empty() ? "passed" : "FAILED: " + result.failure,
               seconds(result.virtual_time.count()), result.steps, result.trace_hash);
    return result.failure.empty() ? 0 : 1;
}

// ... and must leave the same trace.
bool runs_twice(uint64_t seed) { return seed % 20 == 0; }

template <class Simulation>
SeedOutcome run_one(const Arguments& arguments, uint64_t seed) {
    const typename Simulation::Options options = Simulation::options_of(arguments, seed);
    const typename Simulation::Result result = Simulation::run(options);
    SeedOutcome outcome{.seed = seed,
                        .failure = result.failure,
                        .virtual_ns = result.virtual_time.count(),
                        .extra = {}};
    if (outcome.failure.empty() && arguments.bug.empty() && runs_twice(seed)) {
        const typename Simulation::Result again = Simulation::run(options);
        if (again.trace_hash != result.trace_hash) {
            outcome.failure = fmt::format("not deterministic: trace hash={:016x}, then {:016x}",
                                          result.trace_hash, again.trace_hash);
        }
    }
    outcome.extra.assign(reinterpret_cast<const char*>(&result.seen), sizeof result.seen);
    return outcome;
}

SeedPool pool_of(const Arguments& arguments) {
    const auto processors = static_cast<uint32_t>(std::max(1l, sysconf(_SC_NPROCESSORS_ONLN)));
    return {.jobs = arguments.jobs == 0 ? processors : arguments.jobs};
}

std::vector<uint64_t> seeds_of(const Arguments& arguments) {
    std::vector<uint64_t> seeds(arguments.seeds);
    for (uint64_t i = 0; i < seeds.size(); ++i) seeds[i] = arguments.first + i;
    return seeds;
}

template <class Simulation>
int run_many(const Arguments& arguments) {
    const std::vector<uint64_t> seeds = seeds_of(arguments);
    fmt::print("seeds {} to {}\n", seeds.front(), seeds.back());
    typename Simulation::Result::Seen seen;
    int64_t virtual_ns = 0;
    uint64_t run = 0;
    uint64_t failures = 0;
    pool_of(arguments).run(
        seeds, [&](uint64_t seed) { return run_one<Simulation>(arguments, seed); },
        [&](const SeedOutcome& outcome) {
            ++run;
            virtual_ns += outcome.virtual_ns;
            if (outcome.extra.size() == sizeof seen) {
                typename Simulation::Result::Seen one;
                std::copy_n(outcome.extra.data(), sizeof one, reinterpret_cast<char*>(&one));
                seen.add(one);
            }
            if (outcome.failure.empty()) return true;
            ++failures;
            fmt::print("seed {}: {}\n  repeat: {}\n", outcome.seed, outcome.failure,
                       repeat_command<Simulation>(arguments, outcome.seed));
            std::fflush(stdout);
            return failures < arguments.failures_max;
        });
    fmt::print("{}\n", seen.to_string());
    fmt::print("{} seeds ({} of them twice), virtual time {}, {} failures\n", run,
               std::ranges::count_if(seeds, runs_twice), seconds(virtual_ns), failures);
    return failures > 0 ? 1 : 0;
}

// The first of `seeds` that fails with this bug, or none; and why.
template <class Simulation>
SeedOutcome first_failure(const Arguments& arguments, const std::vector<uint64_t>& seeds,
                          uint64_t* run) {
    SeedOutcome found;
    pool_of(arguments).run(
        seeds, [&](uint64_t seed) { return run_one<Simulation>(arguments, seed); },
        [&](const SeedOutcome& outcome) {
            ++*run;
            if (outcome.failure.empty()) return true;
            found = outcome;
            return false;
        });
    return found;
}

// How a bug was caught, or not.
struct Catch {
    std::string bug;
    bool caught = false;
    SeedOutcome by;
    uint64_t run = 0;  // seeds
};

// A bug is caught by a seed that fails with it and passes without it.
template <class Simulation>
Catch catch_bug(Arguments arguments, std::string_view bug) {
    std::vector<uint64_t> seeds = seeds_of(arguments);
    Catch done{.bug = std::string(bug), .caught = false, .by = {}, .run = 0};
    while (!done.caught && !seeds.empty()) {
        arguments.bug = bug;
        const SeedOutcome with = first_failure<Simulation>(arguments, seeds, &done.run);
        if (with.failure.empty()) break;
        fmt::print("seed {}: {}\n  repeat: {}\n", with.seed, with.failure,
                   repeat_command<Simulation>(arguments, with.seed));
        arguments.bug.clear();
        uint64_t control = 0;
        const SeedOutcome without = first_failure<Simulation>(arguments, {with.seed}, &control);
        done.caught = without.failure.empty();
        done.by = with;
        if (!done.caught) fmt::print("  ... and without the bug too: {}\n", without.failure);
        // Those before it may be run again: seeds end in any order.
        std::erase(seeds, with.seed);
    }
    fmt::print("bug {}: {} after {} seeds\n", bug, done.caught ? "caught" : "NOT CAUGHT", done.run);
    std::fflush(stdout);
    return done;
}

template <class Simulation>
int catch_bugs(const Arguments& arguments) {
    std::vector<Catch> catches;
    for (const std::string& bug : Simulation::bugs()) {
        if (arguments.bug == "all" || arguments.bug == bug)
            catches.push_back(catch_bug<Simulation>(arguments, bug));
    }
    if (arguments.bug == "all") {
        fmt::print("\n{:<40} {:>8} {:>10}  {}\n", "bug", "seeds", "caught by", "what was said");
        for (const Catch& each : catches) {
            fmt::print("{:<40} {:>8} {:>10}  {}\n", each.bug, each.run,
                       each.caught ? std::to_string(each.by.seed) : "none",
                       each.caught ? each.by.failure.substr(0, kTableTextMax) : "NOT CAUGHT");
        }
    }
    return std::ranges::all_of(catches, &Catch::caught) ? 0 : 1;
}

// What both kinds have, then what is the kind's own.
template <class Simulation>
void add_options(CLI::App& app, Arguments& arguments) {
    app.add_option("--seeds", arguments.seeds, "run so many seeds");
    app.add_option("--first", arguments.first, "... from this one on")->capture_default_str();
    app.add_flag("--fresh", arguments.fresh, "... from a number that nobody has run before");
    app.add_option("--seed", arguments.seed,
                   "replay one seed and print what happens, and its trace hash");
    app.add_flag("--log", arguments.log, "with --seed: also the nodes' log");
    app.add_option("--trace", arguments.trace, "with --seed: write each event to this file");
    std::vector<std::string> bugs = Simulation::bugs();
    bugs.emplace_back("all");
    app.add_option("--bug", arguments.bug,
                   "switch a bug on, or one after the other; ends at the first seed that catches "
                   "it, by failing with the bug and passing without it")
        ->check(CLI::IsMember(bugs));
    app.add_flag("--list-bugs", arguments.list_bugs, "print the names of the bugs");
    app.add_option("--jobs", arguments.jobs, "worker processes; 0: one for each processor")
        ->capture_default_str();
    app.add_option("--failures", arguments.failures_max, "stop after so many failures")
        ->capture_default_str();
    Simulation::add_own_options(app, arguments);
}

template <class Simulation>
int run(Arguments arguments) {
    if (arguments.list_bugs) {
        for (const std::string& bug : Simulation::bugs()) fmt::print("{}\n", bug);
        return 0;
    }
    if (arguments.seeds == 0) return replay<Simulation>(arguments);
    if (arguments.fresh) {
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        arguments.first = static_cast<uint64_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(now).count());
    }
    return arguments.bug.empty() ? run_many<Simulation>(arguments)
                                 : catch_bugs<Simulation>(arguments);
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app{
        "Simulates a node's storage under faults, from seeds; or, as `cluster`, a whole cluster "
        "with its clients. Exit 1 when a seed fails; with --bug, when none does."};
    add_options<StorageSimulation>(app, arguments);
    CLI::App* cluster = app.add_subcommand("cluster", "simulate brokers and their clients");
    add_options<ClusterSimulation>(*cluster, arguments);
    CLI11_PARSE(app, argc, argv);
    return cluster->parsed() ? run<ClusterSimulation>(arguments)
                             : run<StorageSimulation>(arguments);
}

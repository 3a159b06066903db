// weir_sim: runs the storage simulation on many seeds, replays one, or shows that switched-on bugs
// are caught.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "bugs.h"
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
    bool log = false;
    std::string trace;
    uint32_t jobs = 0;
    uint64_t failures_max = 10;
};

StorageRunOptions options_of(const Arguments& arguments, uint64_t seed) {
    StorageRunOptions options;
    options.seed = seed;
    options.corruption = arguments.corruption;
    for (const NamedBug& bug : kBugs) {
        if (bug.name == arguments.bug) options.bugs.*bug.flag = true;
    }
    return options;
}

std::string repeat_command(const Arguments& arguments, uint64_t seed) {
    return fmt::format("./dev sim --seed {}{}{}", seed,
                       arguments.bug.empty() ? "" : " --bug " + arguments.bug,
                       arguments.corruption ? " --corruption" : "");
}

std::string seconds(int64_t ns) { return fmt::format("{:.1f} s", static_cast<double>(ns) / 1e9); }

int replay(const Arguments& arguments) {
    StorageRunOptions options = options_of(arguments, arguments.seed);
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
    const StorageRunResult result = run_storage(options);
    if (trace != nullptr) std::fclose(trace);
    fmt::print("{}\n", result.seen.to_string());
    fmt::print("seed {} {}: virtual time {}, {} steps, trace hash={:016x}\n", arguments.seed,
               result.failure.empty() ? "passed" : "FAILED: " + result.failure,
               seconds(result.virtual_time.count()), result.steps, result.trace_hash);
    return result.failure.empty() ? 0 : 1;
}

// ... and must leave the same trace.
bool runs_twice(uint64_t seed) { return seed % 20 == 0; }

SeedOutcome run_one(const Arguments& arguments, uint64_t seed) {
    const StorageRunOptions options = options_of(arguments, seed);
    const StorageRunResult result = run_storage(options);
    SeedOutcome outcome{.seed = seed,
                        .failure = result.failure,
                        .virtual_ns = result.virtual_time.count(),
                        .extra = {}};
    if (outcome.failure.empty() && runs_twice(seed)) {
        const StorageRunResult again = run_storage(options);
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

int run_many(const Arguments& arguments) {
    const std::vector<uint64_t> seeds = seeds_of(arguments);
    fmt::print("seeds {} to {}\n", seeds.front(), seeds.back());
    StorageRunResult::Seen seen;
    int64_t virtual_ns = 0;
    uint64_t run = 0;
    uint64_t failures = 0;
    pool_of(arguments).run(
        seeds, [&](uint64_t seed) { return run_one(arguments, seed); },
        [&](const SeedOutcome& outcome) {
            ++run;
            virtual_ns += outcome.virtual_ns;
            if (outcome.extra.size() == sizeof seen) {
                StorageRunResult::Seen one;
                std::copy_n(outcome.extra.data(), sizeof one, reinterpret_cast<char*>(&one));
                seen.add(one);
            }
            if (outcome.failure.empty()) return true;
            ++failures;
            fmt::print("seed {}: {}\n  repeat: {}\n", outcome.seed, outcome.failure,
                       repeat_command(arguments, outcome.seed));
            std::fflush(stdout);
            return failures < arguments.failures_max;
        });
    fmt::print("{}\n", seen.to_string());
    fmt::print("{} seeds ({} of them twice), virtual time {}, {} failures\n", run,
               std::ranges::count_if(seeds, runs_twice), seconds(virtual_ns), failures);
    return failures > 0 ? 1 : 0;
}

// The first of `seeds` that fails with this bug, or none; and why.
SeedOutcome first_failure(const Arguments& arguments, const std::vector<uint64_t>& seeds,
                          uint64_t* run) {
    SeedOutcome found;
    pool_of(arguments).run(
        seeds, [&](uint64_t seed) { return run_one(arguments, seed); },
        [&](const SeedOutcome& outcome) {
            ++*run;
            if (outcome.failure.empty()) return true;
            found = outcome;
            return false;
        });
    return found;
}

// A bug is caught by a seed that fails with it and passes without it.
bool catch_bug(Arguments arguments, std::string_view bug) {
    std::vector<uint64_t> seeds = seeds_of(arguments);
    uint64_t run = 0;
    bool caught = false;
    while (!caught && !seeds.empty()) {
        arguments.bug = bug;
        const SeedOutcome with = first_failure(arguments, seeds, &run);
        if (with.failure.empty()) break;
        fmt::print("seed {}: {}\n  repeat: {}\n", with.seed, with.failure,
                   repeat_command(arguments, with.seed));
        arguments.bug.clear();
        uint64_t control = 0;
        const SeedOutcome without = first_failure(arguments, {with.seed}, &control);
        caught = without.failure.empty();
        if (!caught) fmt::print("  ... and without the bug too: {}\n", without.failure);
        // Those before it may be run again: seeds end in any order.
        std::erase(seeds, with.seed);
    }
    fmt::print("bug {}: {} after {} seeds\n", bug, caught ? "caught" : "NOT CAUGHT", run);
    std::fflush(stdout);
    return caught;
}

int catch_bugs(const Arguments& arguments) {
    bool all = true;
    for (const NamedBug& bug : kBugs) {
        if (arguments.bug == "all" || arguments.bug == bug.name)
            all &= catch_bug(arguments, bug.name);
    }
    return all ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app{
        "Simulates a node's storage under faults, from seeds. Exit 1 when a seed fails; with "
        "--bug, when none does."};
    app.add_option("--seeds", arguments.seeds, "run so many seeds");
    app.add_option("--first", arguments.first, "... from this one on")->capture_default_str();
    app.add_flag("--fresh", arguments.fresh, "... from a number that nobody has run before");
    app.add_option("--seed", arguments.seed,
                   "replay one seed and print what happens, and its trace hash");
    app.add_flag("--log", arguments.log, "with --seed: also the node's log");
    app.add_option("--trace", arguments.trace, "with --seed: write each event to this file");
    std::vector<std::string> names{"all"};
    for (const NamedBug& bug : kBugs) names.emplace_back(bug.name);
    app.add_option("--bug", arguments.bug,
                   "switch a bug on, or one after the other; ends at the first seed that catches "
                   "it, by failing with the bug and passing without it")
        ->check(CLI::IsMember(names));
    bool list_bugs = false;
    app.add_flag("--list-bugs", list_bugs, "print the names of the bugs");
    app.add_flag("--corruption", arguments.corruption,
                 "also corrupt data that was synced: it must be told, never be believed");
    app.add_option("--jobs", arguments.jobs, "worker processes; 0: one for each processor")
        ->capture_default_str();
    app.add_option("--failures", arguments.failures_max, "stop after so many failures")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    if (list_bugs) {
        for (const NamedBug& bug : kBugs) fmt::print("{}\n", bug.name);
        return 0;
    }
    if (arguments.seeds == 0) return replay(arguments);
    if (arguments.fresh) {
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        arguments.first = static_cast<uint64_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(now).count());
    }
    return arguments.bug.empty() ? run_many(arguments) : catch_bugs(arguments);
}

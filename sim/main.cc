// weir_sim: runs the storage simulation on many seeds, replays one, or shows that a switched-on bug
// is caught.
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

// One seed of many; one in twenty runs twice and must leave the same trace.
SeedOutcome run_one(const Arguments& arguments, uint64_t seed) {
    const StorageRunOptions options = options_of(arguments, seed);
    const StorageRunResult result = run_storage(options);
    SeedOutcome outcome{.seed = seed,
                        .failure = result.failure,
                        .virtual_ns = result.virtual_time.count(),
                        .extra = {}};
    if (outcome.failure.empty() && seed % 20 == 0) {
        const StorageRunResult again = run_storage(options);
        if (again.trace_hash != result.trace_hash) {
            outcome.failure = fmt::format("not deterministic: trace hash={:016x}, then {:016x}",
                                          result.trace_hash, again.trace_hash);
        }
    }
    outcome.extra.assign(reinterpret_cast<const char*>(&result.seen), sizeof result.seen);
    return outcome;
}

int run_many(const Arguments& arguments) {
    SeedPool pool{.jobs = arguments.jobs == 0
                              ? static_cast<uint32_t>(std::max(1l, sysconf(_SC_NPROCESSORS_ONLN)))
                              : arguments.jobs};
    uint64_t first = arguments.first;
    if (arguments.fresh)
        first = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count() /
                                      1000);
    std::vector<uint64_t> seeds(arguments.seeds);
    for (uint64_t i = 0; i < seeds.size(); ++i) seeds[i] = first + i;

    StorageRunResult::Seen seen;
    int64_t virtual_ns = 0;
    uint64_t run = 0;
    uint64_t failures = 0;
    pool.run(
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
    if (!arguments.bug.empty()) {
        fmt::print("bug {}: {} after {} seeds\n", arguments.bug,
                   failures > 0 ? "caught" : "NOT CAUGHT", run);
        return failures > 0 ? 0 : 1;
    }
    fmt::print("{} seeds, virtual time {}, {} failures\n", run, seconds(virtual_ns), failures);
    return failures > 0 ? 1 : 0;
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
    std::vector<std::string> names;
    for (const NamedBug& bug : kBugs) names.emplace_back(bug.name);
    app.add_option("--bug", arguments.bug,
                   "switch a bug on; ends at the first seed that catches it")
        ->check(CLI::IsMember(names));
    app.add_flag("--corruption", arguments.corruption,
                 "also corrupt data that was synced: it must be told, never be believed");
    app.add_option("--jobs", arguments.jobs, "worker processes; 0: one for each processor")
        ->capture_default_str();
    app.add_option("--failures", arguments.failures_max, "stop after so many failures")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    if (arguments.seeds == 0) return replay(arguments);
    if (!arguments.bug.empty()) arguments.failures_max = 1;
    return run_many(arguments);
}

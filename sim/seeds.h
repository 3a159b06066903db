// Runs many seeds in worker processes: a seed that crashes, fails a CHECK or hangs is a failure of
// that seed, not the end of the run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace weir::sim {

// What a seed came to. Crosses from the worker as text.
struct SeedOutcome {
    uint64_t seed = 0;
    std::string failure;  // empty: none
    int64_t virtual_ns = 0;
    std::string extra;  // the caller's own words about a seed that passed
};

struct SeedPool {
    uint32_t jobs = 1;
    uint32_t seconds_max = 120;  // of real time for one seed

    // Calls `run` in the workers, `done` here, in the order in which seeds end; done() says whether
    // to go on.
    void run(const std::vector<uint64_t>& seeds,
             const std::function<SeedOutcome(uint64_t seed)>& run,
             const std::function<bool(const SeedOutcome&)>& done) const;
};

}  // namespace weir::sim

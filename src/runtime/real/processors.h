// Which processors this process may use, and how many at once.
#pragma once

#include <cstdint>
#include <vector>

namespace weir::runtime {

struct Processors {
    std::vector<int> usable;  // by sched_getaffinity, ascending
    uint32_t allowed = 1;     // at once: fewer than usable where a cgroup's quota says so
};

Processors find_processors();
void pin_this_thread(int processor);

}  // namespace weir::runtime

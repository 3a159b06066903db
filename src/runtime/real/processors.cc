#include "runtime/real/processors.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

namespace weir::runtime {
namespace {

constexpr int kProcessorsMax = 4096;

std::string read_text(const char* path) {
    char text[128] = {};
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    const ssize_t got = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    return got > 0 ? std::string(text, static_cast<size_t>(got)) : std::string();
}

// The quota of a container in processors, or 0: cgroup version 2's "quota period", or version 1's
// two files.
double cgroup_quota() {
    double quota = 0;
    double period = 0;
    if (std::sscanf(read_text("/sys/fs/cgroup/cpu.max").c_str(), "%lf %lf", &quota, &period) == 2 &&
        period > 0) {
        return quota / period;
    }
    if (std::sscanf(read_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").c_str(), "%lf", &quota) == 1 &&
        quota > 0 &&
        std::sscanf(read_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us").c_str(), "%lf", &period) ==
            1 &&
        period > 0) {
        return quota / period;
    }
    return 0;
}

}  // namespace

Processors find_processors() {
    Processors found;
    cpu_set_t* set = CPU_ALLOC(kProcessorsMax);
    const size_t size = CPU_ALLOC_SIZE(kProcessorsMax);
    CPU_ZERO_S(size, set);
    if (sched_getaffinity(0, size, set) == 0) {
        for (int cpu = 0; cpu < kProcessorsMax; ++cpu) {
            if (CPU_ISSET_S(static_cast<size_t>(cpu), size, set)) found.usable.push_back(cpu);
        }
    }
    CPU_FREE(set);
    found.allowed = std::max<uint32_t>(1, static_cast<uint32_t>(found.usable.size()));
    if (const double quota = cgroup_quota(); quota > 0) {
        found.allowed =
            std::clamp<uint32_t>(static_cast<uint32_t>(std::ceil(quota)), 1, found.allowed);
    }
    return found;
}

void pin_this_thread(int processor) {
    cpu_set_t* set = CPU_ALLOC(kProcessorsMax);
    const size_t size = CPU_ALLOC_SIZE(kProcessorsMax);
    CPU_ZERO_S(size, set);
    CPU_SET_S(static_cast<size_t>(processor), size, set);
    // Where the system refuses, the thread runs anywhere: slower, not wrong.
    (void)pthread_setaffinity_np(pthread_self(), size, set);
    CPU_FREE(set);
}

}  // namespace weir::runtime

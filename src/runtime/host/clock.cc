#include "runtime/host/clock.h"

#include <ctime>

namespace weir::runtime {
namespace {

int64_t read_ns(clockid_t clock) {
    timespec ts{};
    clock_gettime(clock, &ts);
    return ts.tv_sec * 1'000'000'000LL + ts.tv_nsec;
}

}  // namespace

HostClock::HostClock() : start_ns_(read_ns(CLOCK_MONOTONIC)) {}

Instant HostClock::now() const { return {read_ns(CLOCK_MONOTONIC) - start_ns_}; }

WallTime HostClock::wall_now() { return {read_ns(CLOCK_REALTIME) / 1'000'000}; }

}  // namespace weir::runtime

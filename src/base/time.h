// Time as types. Nobody above runtime/ reads a clock: Shard::now() and Shard::wall_now() do.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

namespace weir {

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

// Monotonic since the node's start; comparable only within one node.
struct Instant {
    int64_t ns = 0;
    auto operator<=>(const Instant&) const = default;
    Instant operator+(Duration d) const { return {ns + d.count()}; }
    Instant operator-(Duration d) const { return {ns - d.count()}; }
    Duration operator-(Instant other) const { return Duration(ns - other.ns); }
    static constexpr Instant never() { return {INT64_MAX}; }
};

// Milliseconds since the Unix epoch, as in Kafka's records. May jump; used for record timestamps and retention, never for leases.
struct WallTime {
    int64_t ms = 0;
    auto operator<=>(const WallTime&) const = default;
};

}  // namespace weir

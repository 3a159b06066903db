// What one shard's server has counted since it started. Plain numbers, read on the shard; the
// broker gathers them for /metrics (docs/reference/metrics.md).
#pragma once

#include <array>
#include <cstdint>

#include "base/time.h"

namespace weir::kafka {

// Counts by powers of two of microseconds, from 64 us to 67 s; the last takes the rest.
struct LatencyCounts {
    static constexpr size_t kBuckets = 21;
    static constexpr uint64_t bound_us(size_t bucket) { return uint64_t{64} << bucket; }

    std::array<uint64_t, kBuckets + 1> counts{};
    uint64_t total = 0;
    uint64_t sum_us = 0;

    void add(Duration duration) {
        const auto us = static_cast<uint64_t>(std::max<int64_t>(0, duration.count() / 1000));
        size_t bucket = 0;
        while (bucket < kBuckets && us > bound_us(bucket)) ++bucket;
        ++counts[bucket];
        ++total;
        sum_us += us;
    }
};

struct ServerMetrics {
    static constexpr size_t kApis = 96;

    uint64_t connections_opened = 0;
    uint64_t connections_closed = 0;
    uint64_t requests_malformed = 0;  // and the connection closed for it
    uint64_t bytes_received = 0;
    uint64_t bytes_sent = 0;
    uint64_t produced_bytes = 0;  // of batches that were appended
    uint64_t produced_batches = 0;
    uint64_t produce_errors = 0;  // partitions answered with an error
    uint64_t fetched_bytes = 0;
    uint64_t fetch_waits = 0;
    std::array<uint64_t, kApis> requests{};      // by API key
    std::array<uint64_t, kApis> answer_bytes{};  // about as much as the largest of late had
    LatencyCounts produce_latency;  // from the request's last byte to the answer's first
    LatencyCounts fetch_latency;
    LatencyCounts other_latency;
};

}  // namespace weir::kafka

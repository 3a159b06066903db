// What the stall detector counted of one shard since the start (real/watchdog.h).
#pragma once

#include <cstdint>

#include "base/time.h"

namespace weir::runtime {

struct StallCounts {
    uint64_t count = 0;    // steps that held the shard over the threshold
    uint64_t starved = 0;  // steps that did because the machine gave the thread no processor
    Duration total{};      // how long the former held it, together
    Duration longest{};
};

}  // namespace weir::runtime

// Unpacking: who may hold the memory of a codec on this shard. What a batch unpacks to, and what a
// codec looks back at, are a stranger's choice: a kilobyte may need megabytes. So whoever unpacks
// or packs a batch asks here first, and waits in line. One shard; owned by the Server.
//
// Those that need little run beside those that need much, and do not stand in line behind them.
#pragma once

#include <algorithm>

#include "base/result.h"
#include "base/units.h"
#include "runtime/deadline_stop.h"
#include "runtime/memory.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {

class Unpacking {
  public:
    // Needs more than this: it is one of the few.
    static constexpr uint64_t kLittle = 512_KiB;
    static constexpr uint64_t kLittleAtOnce = 8;
    static constexpr uint64_t kMuchAtOnce = 2;
    // A client that waited so long has given up, or is about to.
    static constexpr Duration kWaitMax = 30s;

    // `memory` is the node's share; it outlives this.
    explicit Unpacking(runtime::MemoryBudget& memory) : memory_(memory) {}

    // Held while a batch is unpacked or packed.
    struct Permit {
        runtime::Units units;
        runtime::Reservation reservation;
    };

    // Waits until `bytes` of codec memory may be used, in the order of the calls. More than half of
    // the share counts as half of it, so that everything gets its turn: then the codec holds more
    // than the share for a while (docs/operating.md). kTimedOut or kCancelled by kWaitMax,
    // kCancelled by `stop`.
    runtime::Task<Result<Permit>> begin(uint64_t bytes, runtime::StopToken stop) {
        const Instant deadline = runtime::Shard::current().now() + kWaitMax;
        Permit permit;
        permit.units =
            co_await runtime::try_(co_await (bytes > kLittle ? much_ : little_)
                                       .acquire(1, {.deadline = deadline, .stop = stop}));
        const uint64_t charge = std::min(bytes, memory_.total() / 2);
        runtime::DeadlineStop limit(deadline, stop);
        permit.reservation = co_await runtime::try_(memory_.reserve(charge, limit.token()));
        co_return permit;
    }

    // Of bytes that were packed anew: a permit counted them, and is given back after this.
    runtime::Reservation charge(uint64_t bytes) { return memory_.charge(bytes); }

  private:
    runtime::MemoryBudget& memory_;
    runtime::Semaphore little_{kLittleAtOnce};
    runtime::Semaphore much_{kMuchAtOnce};
};

}  // namespace weir::kafka

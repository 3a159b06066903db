// Unpacking: bounds the memory of codecs on this shard. A stranger chooses what a batch unpacks to
// and what its codec looks back at: a kilobyte may need megabytes. So every unpacking or packing of
// a batch asks here first, and waits in line. One shard; owned by the Server.
//
// Small needs run beside large ones, and do not wait in line behind them.
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
    // A need above this is large.
    static constexpr uint64_t kLittle = 512_KiB;
    static constexpr uint64_t kLittleAtOnce = 8;
    static constexpr uint64_t kMuchAtOnce = 2;
    // A client that waited this long has given up, or is about to.
    static constexpr Duration kWaitMax = 30s;

    // `memory` is the node's share; it outlives this.
    explicit Unpacking(runtime::MemoryBudget& memory) : memory_(memory) {}

    // Held while a batch is unpacked or packed.
    struct Permit {
        runtime::Units units;
        runtime::Reservation reservation;
    };

    // Waits, in the order of the calls, until `bytes` of codec memory may be used. More than half
    // of the share counts as half of it, so that everything gets its turn: then the codec holds
    // more than the share for a while (docs/operating.md). kTimedOut or kCancelled by kWaitMax,
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

    // Charges recompressed bytes: a permit counted them so far, and is released after this.
    runtime::Reservation charge(uint64_t bytes) { return memory_.charge(bytes); }

  private:
    runtime::MemoryBudget& memory_;
    runtime::Semaphore little_{kLittleAtOnce};
    runtime::Semaphore much_{kMuchAtOnce};
};

}  // namespace weir::kafka

// Decides when a file operation may go to the device, so that no class of work fills the device's
// queue ahead of another. The kernel and the device serve what they have in their own order;
// operations that wait here are served by class.
//
// Foreground classes are bounded only by the shard's depth. Background operations have a small
// share of operations and bytes of their own, because a produce may wait behind all of them that
// are in flight.
#pragma once

#include <array>
#include <deque>

#include "runtime/driver.h"

namespace weir::runtime {

class DeviceQueue {
  public:
    static constexpr uint32_t kDepth = 256;  // operations of one shard at the device
    static constexpr uint32_t kBackgroundDepth = 8;
    static constexpr uint64_t kBackgroundBytes = 2 << 20;
    // A background transfer is cut to this size, so that other operations get in between: the
    // result is short, and its caller goes on.
    static constexpr uint64_t kBackgroundTransferMax = 1 << 20;

    // How much of a read or write to transfer at once.
    static uint32_t transfer_size(const Op& op);

    // True: start it now, and call leave() when it completed. False: it waits here, and a later
    // next() returns it.
    bool enter(Op& op);
    // The next operation to start, or nullptr. Call again until nullptr after each leave().
    Op* next();
    void leave(const Op& op);
    // Removes a waiting operation; false if it does not wait here.
    bool remove(const Op& op);

    uint32_t in_flight() const { return in_flight_; }

  private:
    bool fits(const Op& op) const;
    void count(const Op& op);

    std::array<std::deque<Op*>, kWorkClassCount> waiting_;
    uint32_t waiting_count_ = 0;
    uint32_t in_flight_ = 0;
    uint32_t background_in_flight_ = 0;
    uint64_t background_bytes_ = 0;
};

}  // namespace weir::runtime

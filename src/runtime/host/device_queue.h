// Decides when a file operation may go to the device, so that one class of work can't fill the
// device's queue before another. The kernel and the device serve in their own order what they have;
// what waits here is served by class.
//
// Foreground classes are bounded only by the shard's depth. Background operations have a small
// share of operations and bytes of their own: what is in flight of them is what a produce has to
// wait behind.
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
    // A background transfer is cut to this (the result is short, and its caller goes on), so that
    // it can be ordered in between.
    static constexpr uint64_t kBackgroundTransferMax = 1 << 20;

    // How much of a read or write to move in one go.
    static uint32_t transfer_size(const Op& op);

    // True: start it now, and leave() when it completed. False: it waits here, and some leave()
    // will give it.
    bool enter(Op& op);
    // The next operation to start, or nullptr. Call again until nullptr after each leave().
    Op* next();
    void leave(const Op& op);
    // Takes a waiting operation out; false if it does not wait here.
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

// The clocks of one real node. Shared by its shards: it only holds the node's start.
#pragma once

#include "base/time.h"

namespace weir::runtime {

class HostClock {
  public:
    HostClock();  // the node starts now
    Instant now() const;
    static WallTime wall_now();

  private:
    int64_t start_ns_;
};

}  // namespace weir::runtime

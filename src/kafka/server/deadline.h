// DeadlineStop: a stop token that stops at a moment, or when another one does. For operations that
// take a token and no deadline.
#pragma once

#include "base/time.h"
#include "runtime/shard.h"
#include "runtime/stop_token.h"
#include "runtime/timer.h"

namespace weir::kafka {

class DeadlineStop {
  public:
    DeadlineStop(Instant deadline, runtime::StopToken parent) : timer_(*this), forward_(*this) {
        if (parent.stop_requested()) {
            source_.request_stop();
            return;
        }
        parent.subscribe(forward_);
        if (deadline != Instant::never()) runtime::Shard::current().timers().arm(timer_, deadline);
    }
    DeadlineStop(const DeadlineStop&) = delete;
    DeadlineStop& operator=(const DeadlineStop&) = delete;

    runtime::StopToken token() { return source_.token(); }

  private:
    struct Expiry : runtime::Timer {
        explicit Expiry(DeadlineStop& owner)
            : Timer([](Timer& timer) { static_cast<Expiry&>(timer).owner.source_.request_stop(); }),
              owner(owner) {}
        DeadlineStop& owner;
    };
    struct Forward : runtime::StopCallback {
        explicit Forward(DeadlineStop& owner)
            : StopCallback([](StopCallback& callback) {
                  static_cast<Forward&>(callback).owner.source_.request_stop();
              }),
              owner(owner) {}
        DeadlineStop& owner;
    };
    runtime::StopSource source_;
    Expiry timer_;
    Forward forward_;
};

}  // namespace weir::kafka

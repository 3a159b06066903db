// DeadlineStop: a stop token that stops at a moment, or when another one does. For operations that
// take a token and no deadline.
#pragma once

#include "base/time.h"
#include "runtime/shard.h"
#include "runtime/stop_token.h"
#include "runtime/timer.h"

namespace weir::runtime {

class DeadlineStop {
  public:
    explicit DeadlineStop(Instant deadline, StopToken parent = {}, StopToken second_parent = {})
        : timer_(*this), first_(*this), second_(*this) {
        if (parent.stop_requested() || second_parent.stop_requested()) {
            source_.request_stop();
            return;
        }
        parent.subscribe(first_);
        second_parent.subscribe(second_);
        if (deadline != Instant::never()) Shard::current().timers().arm(timer_, deadline);
    }
    DeadlineStop(const DeadlineStop&) = delete;
    DeadlineStop& operator=(const DeadlineStop&) = delete;

    StopToken token() { return source_.token(); }

  private:
    struct Expiry : Timer {
        explicit Expiry(DeadlineStop& owner)
            : Timer([](Timer& timer) { static_cast<Expiry&>(timer).owner.source_.request_stop(); }),
              owner(owner) {}
        DeadlineStop& owner;
    };
    struct Forward : StopCallback {
        explicit Forward(DeadlineStop& owner)
            : StopCallback([](StopCallback& callback) {
                  static_cast<Forward&>(callback).owner.source_.request_stop();
              }),
              owner(owner) {}
        DeadlineStop& owner;
    };
    StopSource source_;
    Expiry timer_;
    Forward first_;
    Forward second_;
};

}  // namespace weir::runtime

// co_await perform({.kind = ...}): submits an Op and waits for its completion. The Op lies in the awaiting coroutine's frame.
#pragma once

#include <cerrno>

#include "runtime/shard.h"
#include "runtime/stop_token.h"

namespace weir::runtime {

struct OpResult {
    int32_t result;  // >= 0, or -errno
    uint64_t size_out;
    uint64_t size2_out;
};

class OpAwaiter {
  public:
    // With a stop token the operation is asked to cancel; the wait still lasts until it completed (the kernel may hold its memory).
    explicit OpAwaiter(const OpArguments& arguments, StopToken stop = {})
        : op_(arguments), stop_(stop), callback_(*this) {}
    OpAwaiter(const OpAwaiter&) = delete;
    OpAwaiter& operator=(const OpAwaiter&) = delete;
    ~OpAwaiter() {
        if (op_.in_flight) Shard::current().driver().abandon(op_);
    }

    bool await_ready() {
        if (!stop_.stop_requested()) return false;
        op_.result = -ECANCELED;
        return true;
    }
    void await_suspend(std::coroutine_handle<> h) {
        Shard& shard = Shard::current();
        op_.waiter.handle = h;
        op_.waiter.work_class = shard.work_class();
        op_.work_class = shard.work_class();
        op_.in_flight = true;
        stop_.subscribe(callback_);
        shard.driver().submit(op_);
    }
    OpResult await_resume() {
        callback_.unlink();
        return {op_.result, op_.size_out, op_.size2_out};
    }

  private:
    struct Canceller : StopCallback {
        explicit Canceller(OpAwaiter& o)
            : StopCallback([](StopCallback& callback) {
                  Op& op = static_cast<Canceller&>(callback).owner.op_;
                  if (op.in_flight) Shard::current().driver().cancel(op);
              }),
              owner(o) {}
        OpAwaiter& owner;
    };
    Op op_;
    StopToken stop_;
    Canceller callback_;
};

[[nodiscard]] inline OpAwaiter perform(const OpArguments& arguments, StopToken stop = {}) {
    return OpAwaiter(arguments, stop);
}

}  // namespace weir::runtime

// Work that can't be split into steps and needs nothing of a shard: a call of a compression
// library, the decoding of a message of megabytes. on_helper(f) runs f on a thread beside the
// shards and returns its result to the calling shard, which goes on meanwhile. Where a node has no
// such threads (the simulator, tests), f runs at once, within the step.
//
// f is a callable without arguments that does not throw. It and its captures stay in the caller's
// frame, like those of on(). It uses only what it was given: no Shard, no coroutine, nothing that
// others use meanwhile. It can't be cancelled, so it must end within seconds. The queue for the
// threads is bounded by the coroutines that wait.
#pragma once

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

#include "runtime/shard.h"
#include "runtime/task.h"

namespace weir::runtime {

// One piece of work; lies in the frame of the coroutine that waits for it.
struct HelperJob : Message {
    void (*work)(HelperJob&) = nullptr;  // on a helper's thread
    ShardId home = 0;                    // where the message runs then
};

class Helpers {
  public:
    virtual ~Helpers() = default;
    // From any shard's thread.
    virtual void submit(HelperJob& job) = 0;
};

// Sets the helpers of the node with these shards. The code that runs the node's loops sets them,
// and sets nullptr before it destroys them. Any thread.
void set_helpers(const ShardGroup& group, Helpers* helpers);
Helpers* helpers_of(const ShardGroup& group);

namespace helper_detail {

template <class F>
class Call : public HelperJob {
  public:
    using R = std::invoke_result_t<F&>;

    explicit Call(F f) : f_(std::move(f)) {}

    bool await_ready() {
        helpers_ = helpers_of(Shard::current().group());
        if (helpers_ != nullptr) return false;
        result_.emplace(f_());
        return true;
    }
    void await_suspend(std::coroutine_handle<> h) {
        Shard& shard = Shard::current();
        waiter_.handle = h;
        waiter_.work_class = shard.work_class();
        home = shard.id();
        work = [](HelperJob& job) {
            auto& self = static_cast<Call&>(job);
            self.result_.emplace(self.f_());
        };
        Message::run = [](Message& message) {
            Shard::current().make_runnable(static_cast<Call&>(message).waiter_);
        };
        helpers_->submit(*this);
    }
    R await_resume() { return std::move(*result_); }

  private:
    F f_;
    Helpers* helpers_ = nullptr;
    std::optional<R> result_;
    Waiter waiter_;
};

}  // namespace helper_detail

template <class F>
auto on_helper(F f) -> Task<std::invoke_result_t<F&>> {
    co_return co_await helper_detail::Call<F>(std::move(f));
}

}  // namespace weir::runtime

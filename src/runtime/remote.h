// Crossing shards: co_await on(shard, f) runs f on that shard of the same node and returns its
// result. f is a callable that returns Task<R>. It and its captures stay in the caller's frame, so
// a capturing lambda is safe here, unlike elsewhere; the result stays there too until it is moved
// out. What f uses belongs to the target shard; values go in and come out.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include "runtime/scope.h"
#include "runtime/shard.h"
#include "runtime/task.h"

namespace weir::runtime {

namespace remote_detail {

template <class F>
class RemoteCall : public Message {
  public:
    using R = typename std::invoke_result_t<F&>::value_type;
    using Slot = std::optional<task_detail::Stored<R>>;

    RemoteCall(ShardId to, F f) : to_(to), f_(std::move(f)) {}

    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        Shard& shard = Shard::current();
        from_ = shard.id();
        waiter_.handle = h;
        waiter_.work_class = shard.work_class();
        Message::run = &RemoteCall::arrive;
        shard.send(to_, *this);
    }
    R await_resume() {
        if constexpr (!std::is_void_v<R>) return std::move(*result_);
    }

  private:
    static void arrive(Message& message) {
        auto& self = static_cast<RemoteCall&>(message);
        // A closed scope (the node is stopping) drops the call: nobody is left to wait for it by
        // then.
        Shard::current().remote_scope().spawn(execute(&self), self.waiter_.work_class);
    }
    static Task<void> execute(RemoteCall* self) {
        if constexpr (std::is_void_v<R>) {
            co_await self->f_();
            self->result_.emplace();
        } else {
            self->result_.emplace(co_await self->f_());
        }
        // From here on the caller may run: nothing of *self may be touched after send().
        self->Message::run = &RemoteCall::come_back;
        Shard::current().send(self->from_, *self);
    }
    static void come_back(Message& message) {
        auto& self = static_cast<RemoteCall&>(message);
        Shard::current().make_runnable(self.waiter_);
    }

    ShardId to_;
    ShardId from_ = 0;
    F f_;
    Slot result_;
    Waiter waiter_;
};

}  // namespace remote_detail

template <class F>
auto on(ShardId to, F f) -> Task<typename std::invoke_result_t<F&>::value_type> {
    if (to == Shard::current().id()) {
        co_return co_await f();
    }
    co_return co_await remote_detail::RemoteCall<F>(to, std::move(f));
}

}  // namespace weir::runtime

// Task<T>: a lazy coroutine, owned by who holds it. It runs when it is awaited (or given to a Scope), on the shard that awaits it, and
// never moves to another. Destroying a Task destroys its frame and all that its frame owns; outside of the simulator's kill that is
// legal only before it started or after it ended.
//
//   Task<Result<int>> f() { const Filled filled = co_await try_(file.read(...)); ... co_return 7; }
//
// `co_await try_(x)`, with x a Task<Result<T>> or a Result<T>, gives the T; an error becomes this coroutine's result: its locals are
// destroyed and its awaiter resumes with the error. Nothing is thrown. The result slot therefore lies in the awaiter, never in the frame.
// Exceptions do not cross: an escaping one terminates the process.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/result.h"

namespace weir::runtime {

template <class T = void>
class Task;

namespace task_detail {

// Frames come from per-thread pools by size class; see frame_pool.cc. Out of memory terminates.
void* allocate_frame(size_t size);
void free_frame(void* frame, size_t size) noexcept;

// What happens after a task's end: resume `continuation`, unless `next` decides otherwise (try_).
struct Ending {
    std::coroutine_handle<> continuation;
    std::coroutine_handle<> (*next)(void* context) = nullptr;
    void* context = nullptr;

    std::coroutine_handle<> resolve() const { return next ? next(context) : continuation; }
};

struct PromiseBase {
    Ending ending;
    std::coroutine_handle<>* owner = nullptr;  // the awaiter's handle, cleared when try_ destroys the frame

    static void* operator new(size_t size) { return allocate_frame(size); }
    static void operator delete(void* frame, size_t size) noexcept { free_frame(frame, size); }

    std::suspend_always initial_suspend() noexcept { return {}; }
    void unhandled_exception() noexcept { std::terminate(); }
};

struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) noexcept {
        // resolve() may destroy this very frame: copy first.
        const Ending ending = h.promise().ending;
        return ending.resolve();
    }
    void await_resume() noexcept {}
};

template <class T>
struct Promise : PromiseBase {
    std::optional<T>* slot = nullptr;

    Task<T> get_return_object() noexcept;
    FinalAwaiter final_suspend() noexcept { return {}; }
    template <class U = T>
    void return_value(U&& value) {
        slot->emplace(std::forward<U>(value));
    }
};

template <>
struct Promise<void> : PromiseBase {
    std::optional<std::monostate>* slot = nullptr;

    Task<void> get_return_object() noexcept;
    FinalAwaiter final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
};

template <class T>
using Stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

// Ends the coroutine `h` with `error` without resuming it, and gives what is to be resumed then.
template <class P>
std::coroutine_handle<> end_with_error(std::coroutine_handle<P> h, Error error) {
    P& promise = h.promise();
    promise.slot->emplace(std::unexpected(std::move(error)));
    const Ending ending = promise.ending;
    *promise.owner = nullptr;
    h.destroy();
    return ending.resolve();
}

}  // namespace task_detail

template <class T>
class [[nodiscard]] Task {
  public:
    using promise_type = task_detail::Promise<T>;
    using value_type = T;
    using Handle = std::coroutine_handle<promise_type>;

    Task() = default;
    explicit Task(Handle handle) : handle_(handle) {}
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&& other) noexcept {
        if (this != &other) {
            destroy();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~Task() { destroy(); }

    explicit operator bool() const { return handle_ != nullptr; }
    Handle release() { return std::exchange(handle_, nullptr); }

    class Awaiter {
      public:
        explicit Awaiter(Handle handle) : handle_(handle) {}
        Awaiter(const Awaiter&) = delete;
        Awaiter& operator=(const Awaiter&) = delete;
        ~Awaiter() {
            if (handle_) handle_.destroy();
        }

        bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) noexcept {
            start({.continuation = parent});
            return handle_;
        }
        T await_resume() {
            if constexpr (!std::is_void_v<T>) {
                CHECK(slot_.has_value());
                return std::move(*slot_);
            }
        }

      protected:
        void start(task_detail::Ending ending) noexcept {
            CHECK(handle_);
            promise_type& promise = Handle::from_address(handle_.address()).promise();
            promise.slot = &slot_;
            promise.owner = &handle_;
            promise.ending = ending;
        }

        std::coroutine_handle<> handle_;
        std::optional<task_detail::Stored<T>> slot_;
    };

    Awaiter operator co_await() && { return Awaiter(release()); }

  private:
    void destroy() {
        if (handle_) std::exchange(handle_, nullptr).destroy();
    }

    Handle handle_;
};

namespace task_detail {

template <class T>
Task<T> Promise<T>::get_return_object() noexcept {
    return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
    return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

template <class R>
class TryResult {
  public:
    explicit TryResult(R result) : result_(std::move(result)) {}
    bool await_ready() const noexcept { return result_.has_value(); }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) {
        Error error = std::move(result_).error();
        return end_with_error(h, std::move(error));
    }
    typename R::value_type await_resume() {
        if constexpr (!std::is_void_v<typename R::value_type>) return std::move(*result_);
    }

  private:
    R result_;
};

template <class R>
class TryTask : public Task<R>::Awaiter {
  public:
    using Base = typename Task<R>::Awaiter;
    explicit TryTask(Task<R> task) : Base(task.release()) {}

    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> parent) noexcept {
        parent_ = parent;
        this->start({.continuation = parent, .next = &TryTask::template next<P>, .context = this});
        return this->handle_;
    }
    typename R::value_type await_resume() {
        if constexpr (!std::is_void_v<typename R::value_type>) return std::move(**this->slot_);
    }

  private:
    template <class P>
    static std::coroutine_handle<> next(void* context) {
        auto* self = static_cast<TryTask*>(context);
        CHECK(self->slot_.has_value());
        if (self->slot_->has_value()) return self->parent_;
        // This object lies in the frame that is about to be destroyed.
        Error error = std::move(*self->slot_).error();
        return end_with_error(std::coroutine_handle<P>::from_address(self->parent_.address()),
                              std::move(error));
    }

    std::coroutine_handle<> parent_;
};

}  // namespace task_detail

template <class T>
task_detail::TryTask<Result<T>> try_(Task<Result<T>> task) {
    return task_detail::TryTask<Result<T>>(std::move(task));
}
template <class T>
task_detail::TryResult<Result<T>> try_(Result<T> result) {
    return task_detail::TryResult<Result<T>>(std::move(result));
}

}  // namespace weir::runtime

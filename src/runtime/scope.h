// Structured concurrency. A Scope owns the coroutines that were spawned in it; its owner closes it (requests stop, waits for all) before it
// is destroyed. A Gate counts uses of something that must not go away while used.
#pragma once

#include <optional>

#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "runtime/wait.h"

namespace weir::runtime {

class Scope {
  public:
    Scope() = default;
    // Empty, or the shard is dying (then the children are destroyed).
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    // Starts the task on this shard, on a later step, in the given class (default: the caller's). False, and the task is dropped
    // unstarted, when the scope is closed.
    bool spawn(Task<void> task);
    bool spawn(Task<void> task, WorkClass work_class);

    // Children take this token when they want to end with their scope.
    StopToken stop_token() { return stop_.token(); }
    bool stop_requested() const { return stop_.stop_requested(); }
    void request_stop() { stop_.request_stop(); }
    // Waits until there is no child; new ones may still be spawned.
    Task<void> join();
    // No more children, stop requested, all waited for. Once.
    Task<void> close();
    size_t size() const { return size_; }

  private:
    struct Root;
    friend struct Root;

    StopSource stop_;
    bool closed_ = false;
    size_t size_ = 0;
    IntrusiveList<Root> children_;
    WaitQueue idle_;
};

class Gate {
  public:
    class Holder {
      public:
        Holder() = default;
        explicit Holder(Gate* gate) : gate_(gate) {}
        Holder(Holder&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
        Holder& operator=(Holder&& other) noexcept {
            if (this != &other) {
                leave();
                gate_ = std::exchange(other.gate_, nullptr);
            }
            return *this;
        }
        ~Holder() { leave(); }

      private:
        void leave() {
            if (gate_ != nullptr && !Shard::current_is_dying()) gate_->leave();
            gate_ = nullptr;
        }
        Gate* gate_ = nullptr;
    };

    ~Gate() { CHECK(count_ == 0 || Shard::current().dying()); }
    // Nothing when the gate is closed.
    std::optional<Holder> try_enter() {
        if (closed_) return std::nullopt;
        ++count_;
        return Holder(this);
    }
    bool closed() const { return closed_; }
    size_t count() const { return count_; }
    Task<void> close();

  private:
    void leave() {
        if (--count_ == 0) idle_.notify_all();
    }
    size_t count_ = 0;
    bool closed_ = false;
    WaitQueue idle_;
};

// Runs all tasks at once and waits for all; results in the order of the tasks.
template <class T>
Task<std::vector<T>> all(std::vector<Task<T>> tasks);

namespace scope_detail {

struct Join {
    size_t left = 0;
    WaitQueue done;
};

template <class T>
Task<void> run_one(Task<T> task, std::optional<T>* result, Join* join) {
    result->emplace(co_await std::move(task));
    if (--join->left == 0) join->done.notify_all();
}

}  // namespace scope_detail

template <class T>
Task<std::vector<T>> all(std::vector<Task<T>> tasks) {
    std::vector<T> results;
    if (tasks.size() == 1) {
        results.push_back(co_await std::move(tasks[0]));
        co_return results;
    }
    std::vector<std::optional<T>> slots(tasks.size());
    scope_detail::Join join{.left = tasks.size(), .done = {}};
    Scope scope;
    for (size_t i = 0; i < tasks.size(); ++i) {
        scope.spawn(scope_detail::run_one<T>(std::move(tasks[i]), &slots[i], &join));
    }
    co_await scope.join();
    results.reserve(slots.size());
    for (auto& slot : slots) results.push_back(std::move(*slot));
    co_return results;
}

}  // namespace weir::runtime

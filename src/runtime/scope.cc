#include "runtime/scope.h"

namespace weir::runtime {

// The coroutine that a spawned task runs in. Its promise is the scope's list element; it destroys its own frame at its end.
struct Scope::Root : ListHook {
    struct promise_type;
    using Handle = std::coroutine_handle<promise_type>;

    Scope* scope = nullptr;
    Waiter start;  // on the run queue until the first step

    static Root& run(Task<void> task);
};

struct Scope::Root::promise_type : Root {
    struct Return {
        promise_type* promise;
        using promise_type = Root::promise_type;
    };

    static void* operator new(size_t size) { return task_detail::allocate_frame(size); }
    static void operator delete(void* frame, size_t size) noexcept { task_detail::free_frame(frame, size); }

    Return get_return_object() noexcept { return {this}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct Final {
        bool await_ready() noexcept { return false; }
        void await_suspend(Handle h) noexcept {
            Scope* scope = h.promise().scope;
            h.destroy();
            if (--scope->size_ == 0) scope->idle_.notify_all();
        }
        void await_resume() noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
};

namespace {

template <class Return>
Return run_root(Task<void> task) {
    co_await std::move(task);
}

}  // namespace

Scope::~Scope() {
    if (size_ == 0) return;
    CHECK(Shard::current().dying());
    while (!children_.empty()) {
        Root& child = children_.pop_front();
        Root::Handle::from_promise(static_cast<Root::promise_type&>(child)).destroy();
    }
}

bool Scope::spawn(Task<void> task) { return spawn(std::move(task), Shard::current().work_class()); }

bool Scope::spawn(Task<void> task, WorkClass work_class) {
    if (closed_) return false;
    Root& root = *run_root<Root::promise_type::Return>(std::move(task)).promise;
    root.scope = this;
    root.start.handle = Root::Handle::from_promise(static_cast<Root::promise_type&>(root));
    root.start.work_class = work_class;
    ++size_;
    children_.push_back(root);
    Shard::current().make_runnable(root.start);
    return true;
}

Task<void> Scope::join() {
    while (size_ > 0) (void)co_await idle_.wait();
}

Task<void> Scope::close() {
    closed_ = true;
    stop_.request_stop();
    co_await join();
}

Task<void> Gate::close() {
    closed_ = true;
    while (count_ > 0) (void)co_await idle_.wait();
}

}  // namespace weir::runtime

#include "runtime/host/blocking_pool.h"

#include <pthread.h>
#include <signal.h>

#include "runtime/host/blocking_ops.h"

namespace weir::runtime {

BlockingPool::BlockingPool(int socket_flags, std::function<void()> wake)
    : socket_flags_(socket_flags), wake_(std::move(wake)) {}

BlockingPool::~BlockingPool() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    work_.notify_one();
    thread_.join();
}

void BlockingPool::submit(Op& op) {
    {
        const std::lock_guard lock(mutex_);
        waiting_.push_back(&op);
    }
    if (thread_.joinable()) {
        work_.notify_one();
        return;
    }
    // The helper takes no signals, and runs where the system puts it, not on the shard's processor.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { serve(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void BlockingPool::take_done(std::vector<Done>* out) {
    const std::lock_guard lock(mutex_);
    out->insert(out->end(), done_.begin(), done_.end());
    done_.clear();
}

void BlockingPool::serve() {
    cpu_set_t everywhere;
    CPU_ZERO(&everywhere);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &everywhere);
    // The system keeps only the processors that the process may use.
    pthread_setaffinity_np(pthread_self(), sizeof everywhere, &everywhere);
    pthread_setname_np(pthread_self(), "weir-helper");
    std::unique_lock lock(mutex_);
    while (true) {
        work_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        Op& op = *waiting_.front();
        waiting_.pop_front();
        lock.unlock();
        Done done{.op = &op, .result = 0, .opened_buffered = false};
        done.result = perform_blocking(op, socket_flags_, &done.opened_buffered);
        lock.lock();
        done_.push_back(done);
        if (done_.size() == 1) wake_();
    }
}

}  // namespace weir::runtime

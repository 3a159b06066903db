#include "runtime/real/helper_threads.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/host/doorbells.h"

namespace weir::runtime {
namespace {

// Shards answer clients at once; this work is large, and may wait.
constexpr int kNice = 5;

}  // namespace

HelperThreads::HelperThreads(uint32_t count, const ShardGroup& group, const Doorbells& doorbells)
    : group_(group), doorbells_(doorbells) {
    for (uint32_t i = 0; i < group.count(); ++i) done_.push_back(std::make_unique<Done>());
    // The node's signals are for its shards.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (uint32_t i = 0; i < count; ++i) threads_.emplace_back([this] { serve(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

HelperThreads::~HelperThreads() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void HelperThreads::submit(HelperJob& job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(job);
    }
    changed_.notify_one();
}

void HelperThreads::serve() {
    pthread_setname_np(pthread_self(), "weir-helper");
    (void)setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice);
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        auto& job = static_cast<HelperJob&>(jobs_.pop_front());
        lock.unlock();
        job.work(job);
        hand_back(job);
        lock.lock();
    }
}

void HelperThreads::hand_back(HelperJob& job) {
    const ShardId home = job.home;
    Done& done = *done_[home];
    bool parked = false;
    {
        // Until this is unlocked the shard can't take the job, and is there.
        const std::lock_guard lock(done.mutex);
        done.jobs.push_back(job);
        done.any.store(true, std::memory_order_relaxed);
        // Pairs with the fence in Shard::prepare_to_park(): either the shard sees the job, or we
        // see that it parks.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        parked = group_.shards[home]->parked();
    }
    if (parked) doorbells_.ring(home);
}

void HelperThreads::deliver(ShardId shard) {
    Done& done = *done_[shard];
    if (!done.any.load(std::memory_order_relaxed)) return;
    const std::lock_guard lock(done.mutex);
    done.any.store(false, std::memory_order_relaxed);
    while (!done.jobs.empty()) {
        Message& message = done.jobs.pop_front();
        message.run(message);
    }
}

}  // namespace weir::runtime

// The threads beside the shards of one node (runtime/helper.h). They sleep in the kernel while
// there is nothing to do, are pinned to no processor, and run with less weight than the shards.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/intrusive_list.h"
#include "runtime/helper.h"

namespace weir::runtime {

class Doorbells;

class HelperThreads final : public Helpers {
  public:
    // `group` is complete before the first job; it and the doorbells outlive this. Destroyed when
    // nobody waits for work any more.
    HelperThreads(uint32_t count, const ShardGroup& group, const Doorbells& doorbells);
    ~HelperThreads() override;
    void submit(HelperJob& job) override;

    // On that shard's thread, by its loop: runs the messages of what is done. After
    // Shard::prepare_to_park(), a shard that has some must not park.
    bool has_done(ShardId shard) const { return done_[shard]->any.load(std::memory_order_relaxed); }
    void deliver(ShardId shard);

  private:
    // What is done, for one shard.
    struct alignas(64) Done {
        std::mutex mutex;
        IntrusiveList<Message> jobs;
        std::atomic<bool> any{false};
    };

    void serve();
    void hand_back(HelperJob& job);

    const ShardGroup& group_;
    const Doorbells& doorbells_;
    std::mutex mutex_;
    std::condition_variable changed_;
    IntrusiveList<Message> jobs_;
    std::vector<std::unique_ptr<Done>> done_;  // by shard
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace weir::runtime

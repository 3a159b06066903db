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
    // `group` is complete before the first job; it and the doorbells outlive this object, which is
    // destroyed when nobody waits for work any more.
    HelperThreads(uint32_t count, const ShardGroup& group, const Doorbells& doorbells);
    ~HelperThreads() override;
    void submit(HelperJob& job) override;

    // Called on that shard's thread by its loop. A shard for which has_done() holds must not park:
    // ask after Shard::prepare_to_park().
    bool has_done(ShardId shard) const { return done_[shard]->any.load(std::memory_order_relaxed); }
    void deliver(ShardId shard);

  private:
    // Finished jobs of one shard.
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

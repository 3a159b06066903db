// The helper thread of one shard, started when it is first needed: it performs the operations that
// would block the shard, one after the other. Used by the shard's driver; the operations come back
// through take_done() after the shard's doorbell rang.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/driver.h"

namespace weir::runtime {

class BlockingPool {
  public:
    // `wake` rings the shard's doorbell; called on the helper thread.
    BlockingPool(int socket_flags, std::function<void()> wake);
    // Waits for the operation in hand.
    ~BlockingPool();
    BlockingPool(const BlockingPool&) = delete;
    BlockingPool& operator=(const BlockingPool&) = delete;

    struct Done {
        Op* op;
        int result;
        bool opened_buffered;
    };

    void submit(Op& op);
    void take_done(std::vector<Done>* out);

  private:
    void serve();

    const int socket_flags_;
    const std::function<void()> wake_;
    std::mutex mutex_;  // of all below but the thread
    std::condition_variable work_;
    std::deque<Op*> waiting_;  // bounded by the coroutines that wait for them
    std::vector<Done> done_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace weir::runtime

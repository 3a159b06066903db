// Produce requests of one connection append in the order in which they arrived, although they are
// checked one after the other, and travel to other shards and wait for room and for the disk at the
// same time.
//
// On the connection's shard each Produce holds a Turn until its batches are on their way. Each part
// of it gets a ticket for the shard that owns the partitions; there the tickets of one connection
// are turns again. So a request costs one message to each owner and one back, and waits for the one
// before it only where both append.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "runtime/wait.h"

namespace weir::kafka {

// A queue of one shard; tickets are served in order.
class TurnQueue {
  public:
    uint64_t draw_ticket() { return next_ticket_++; }
    // Waits until all earlier tickets are done.
    runtime::Task<Result<void>> wait_for(uint64_t ticket, runtime::StopToken stop) {
        while (serving_ != ticket) co_await runtime::try_(co_await changed_.wait({.stop = stop}));
        co_return Result<void>{};
    }
    // In any order; each ticket once.
    void done(uint64_t ticket) {
        if (ticket != serving_) {
            done_early_.push_back(ticket);
            return;
        }
        ++serving_;
        for (bool again = true; again;) {
            again = std::erase(done_early_, serving_) > 0;
            if (again) ++serving_;
        }
        changed_.notify_all();
    }

  private:
    uint64_t next_ticket_ = 0;
    uint64_t serving_ = 0;
    std::vector<uint64_t> done_early_;  // bounded by the requests in flight
    runtime::WaitQueue changed_;
};

// The turn is done at its destruction, or before.
class Turn {
  public:
    Turn() = default;
    explicit Turn(TurnQueue& queue) : Turn(queue, queue.draw_ticket()) {}
    Turn(TurnQueue& queue, uint64_t ticket) : queue_(&queue), ticket_(ticket) {}
    Turn(Turn&& other) noexcept
        : queue_(std::exchange(other.queue_, nullptr)), ticket_(other.ticket_) {}
    Turn& operator=(Turn&& other) noexcept {
        done();
        queue_ = std::exchange(other.queue_, nullptr);
        ticket_ = other.ticket_;
        return *this;
    }
    ~Turn() { done(); }
    runtime::Task<Result<void>> wait(runtime::StopToken stop) const {
        return queue_->wait_for(ticket_, stop);
    }
    void done() {
        if (queue_ != nullptr) std::exchange(queue_, nullptr)->done(ticket_);
    }

  private:
    TurnQueue* queue_ = nullptr;
    uint64_t ticket_ = 0;
};

// A connection's tickets at the owners of partitions, and its name there. Used on the connection's
// shard.
struct AppendTickets {
    uint64_t connection = 0;          // the node's alone
    std::vector<uint64_t> next = {};  // by the owner's shard; of those that have none yet: 0

    uint64_t draw(size_t owner) {
        if (next.size() <= owner) next.resize(owner + 1);
        return next[owner]++;
    }
};

// At an owner: the turns of the connections that append here. forget() removes a connection's entry
// when its last request has returned.
class AppendTurns {
  public:
    Turn turn(uint64_t connection, uint64_t ticket) { return {turns_[connection], ticket}; }
    void forget(uint64_t connection) { turns_.erase(connection); }
    size_t size() const { return turns_.size(); }

  private:
    std::unordered_map<uint64_t, TurnQueue> turns_;  // a Turn keeps a reference
};

}  // namespace weir::kafka

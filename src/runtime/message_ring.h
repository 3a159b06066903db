// MessageRing: a bounded ring of message pointers from one shard to another; one thread writes, one reads. A Message lies in memory of
// its sender (mostly a coroutine frame that waits for the answer); the ring's release/acquire pair hands it over.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "base/intrusive_list.h"
#include "base/time.h"

namespace weir::runtime {

struct Message : ListHook {
    void (*run)(Message&) = nullptr;  // on the receiving shard, between coroutine steps; must be short
};

class MessageRing {
  public:
    static constexpr size_t kCapacity = 1024;

    // Writer's side. False when full.
    bool push(Message* message) {
        const size_t tail = tail_.load(std::memory_order_relaxed);
        if (tail - head_cache_ == kCapacity) {
            head_cache_ = head_.load(std::memory_order_acquire);
            if (tail - head_cache_ == kCapacity) return false;
        }
        slots_[tail % kCapacity] = message;
        tail_.store(tail + 1, std::memory_order_release);
        return true;
    }

    // Reader's side. nullptr when empty.
    Message* pop() {
        const size_t head = head_.load(std::memory_order_relaxed);
        if (head == tail_cache_) {
            tail_cache_ = tail_.load(std::memory_order_acquire);
            if (head == tail_cache_) return nullptr;
        }
        Message* message = slots_[head % kCapacity];
        head_.store(head + 1, std::memory_order_release);
        return message;
    }
    bool empty() const {
        return head_.load(std::memory_order_relaxed) == tail_.load(std::memory_order_acquire);
    }

  private:
    std::array<Message*, kCapacity> slots_;
    alignas(64) std::atomic<size_t> head_{0};
    size_t tail_cache_ = 0;  // the reader's
    alignas(64) std::atomic<size_t> tail_{0};
    size_t head_cache_ = 0;  // the writer's
};

}  // namespace weir::runtime

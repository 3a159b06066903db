// LeadListeners: those who act while this shard leads a log: coordinators, uploads, procedures. A
// listener is called when a replica begins to lead and is ready (Partition::leads()), when its term
// changes, and when it leads no more; it looks at the partition to see which. Each shard's
// PartitionTable owns one and uses it on that shard alone.
//
// Listeners are called in the order in which they were added, within the step that changed the
// role. A listener may add and remove listeners, itself included: a removed listener is not called
// any more, an added one is called from the next change on. It may not wait, close the partition,
// or call its group. A new listener is not called for what is led already: it looks through
// PartitionTable::for_each().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

namespace weir::kafka {

class Partition;

class LeadListeners {
  public:
    using Listener = std::function<void(Partition&)>;

    // Removes its listener when it is destroyed. LeadListeners outlives it.
    class Registration {
      public:
        Registration() = default;
        Registration(Registration&& other) noexcept
            : listeners_(std::exchange(other.listeners_, nullptr)), id_(other.id_) {}
        Registration& operator=(Registration&& other) noexcept {
            remove();
            listeners_ = std::exchange(other.listeners_, nullptr);
            id_ = other.id_;
            return *this;
        }
        ~Registration() { remove(); }
        void remove() {
            if (listeners_ != nullptr) std::exchange(listeners_, nullptr)->by_id_.erase(id_);
        }

      private:
        friend class LeadListeners;
        Registration(LeadListeners& listeners, uint64_t id) : listeners_(&listeners), id_(id) {}
        LeadListeners* listeners_ = nullptr;
        uint64_t id_ = 0;
    };

    LeadListeners() = default;
    LeadListeners(const LeadListeners&) = delete;
    LeadListeners& operator=(const LeadListeners&) = delete;

    [[nodiscard]] Registration add(Listener listener) {
        by_id_.emplace(next_id_, std::move(listener));
        return {*this, next_id_++};
    }
    void notify(Partition& partition) {
        const uint64_t end = next_id_;
        for (auto at = by_id_.begin(); at != by_id_.end() && at->first < end;) {
            const uint64_t id = at->first;
            const Listener listener = at->second;  // it may remove itself
            listener(partition);
            at = by_id_.upper_bound(id);
        }
    }
    size_t size() const { return by_id_.size(); }

  private:
    uint64_t next_id_ = 1;
    std::map<uint64_t, Listener> by_id_;
};

}  // namespace weir::kafka

// RetentionHold: its owner needs a log's entries from an offset on (they are not committed, not
// uploaded, or not folded yet), and retention by time and size keeps them. A log may have several
// holds, and the lowest counts; without a hold there is no such bound. Holds are in memory only:
// after a restart each owner asks again before retention runs (storage::Store::start()). Deliberate
// cuts (Log::truncate_prefix, start_anew) ignore holds. Used on the log's shard. A hold that
// outlives its log holds nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/intrusive_list.h"

namespace weir::storage {

class RetentionHold {
  public:
    RetentionHold() = default;  // of nothing
    RetentionHold(RetentionHold&&) noexcept = default;
    RetentionHold& operator=(RetentionHold&&) noexcept = default;

    // From now on the hold keeps exactly the entries at and after `offset`. Only for a hold of a
    // log.
    void move_to(int64_t offset) {
        CHECK(node_ != nullptr);
        node_->offset = offset;
    }
    void release() { node_.reset(); }
    bool holds() const { return node_ != nullptr && node_->linked(); }

  private:
    friend class RetentionHolds;
    struct Node : ListHook {
        explicit Node(int64_t offset) : offset(offset) {}
        int64_t offset;
    };
    explicit RetentionHold(std::unique_ptr<Node> node) : node_(std::move(node)) {}

    std::unique_ptr<Node> node_;
};

// The holds of one log.
class RetentionHolds {
  public:
    [[nodiscard]] RetentionHold add(int64_t offset) {
        auto node = std::make_unique<RetentionHold::Node>(offset);
        nodes_.push_back(*node);
        return RetentionHold(std::move(node));
    }
    // INT64_MAX if there is none. Looks at each hold: a log has a handful.
    int64_t lowest() const {
        int64_t lowest = INT64_MAX;
        nodes_.for_each(
            [&](const RetentionHold::Node& node) { lowest = std::min(lowest, node.offset); });
        return lowest;
    }

  private:
    mutable IntrusiveList<RetentionHold::Node> nodes_;
};

}  // namespace weir::storage

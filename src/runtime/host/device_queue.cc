#include "runtime/host/device_queue.h"

#include <algorithm>

#include "base/check.h"

namespace weir::runtime {
namespace {

constexpr uint64_t kTransferMax = 1 << 30;  // the kernel's own limit is 2 GiB less a page

// Who goes first when the shard's depth is used up.
constexpr WorkClass kOrder[] = {WorkClass::kProduce, WorkClass::kReplication, WorkClass::kNetwork,
                                WorkClass::kFetch, WorkClass::kBackground};
static_assert(std::size(kOrder) == kWorkClassCount);

bool is_background(const Op& op) { return op.work_class == WorkClass::kBackground; }

uint64_t bytes_of(const Op& op) {
    return op.kind == OpKind::kFdatasync ? 0 : DeviceQueue::transfer_size(op);
}

}  // namespace

uint32_t DeviceQueue::transfer_size(const Op& op) {
    return static_cast<uint32_t>(
        std::min(op.size, is_background(op) ? kBackgroundTransferMax : kTransferMax));
}

bool DeviceQueue::fits(const Op& op) const {
    if (in_flight_ >= kDepth) return false;
    if (!is_background(op) || background_in_flight_ == 0) return true;
    return background_in_flight_ < kBackgroundDepth &&
           background_bytes_ + bytes_of(op) <= kBackgroundBytes;
}

void DeviceQueue::count(const Op& op) {
    ++in_flight_;
    if (!is_background(op)) return;
    ++background_in_flight_;
    background_bytes_ += bytes_of(op);
}

bool DeviceQueue::enter(Op& op) {
    auto& queue = waiting_[static_cast<size_t>(op.work_class)];
    if (queue.empty() && fits(op)) {
        count(op);
        return true;
    }
    queue.push_back(&op);
    ++waiting_count_;
    return false;
}

Op* DeviceQueue::next() {
    if (waiting_count_ == 0) return nullptr;
    for (const WorkClass work_class : kOrder) {
        auto& queue = waiting_[static_cast<size_t>(work_class)];
        if (queue.empty() || !fits(*queue.front())) continue;
        Op* op = queue.front();
        queue.pop_front();
        --waiting_count_;
        count(*op);
        return op;
    }
    return nullptr;
}

void DeviceQueue::leave(const Op& op) {
    CHECK(in_flight_ > 0);
    --in_flight_;
    if (!is_background(op)) return;
    CHECK(background_in_flight_ > 0);
    --background_in_flight_;
    background_bytes_ -= bytes_of(op);
}

bool DeviceQueue::remove(const Op& op) {
    auto& queue = waiting_[static_cast<size_t>(op.work_class)];
    const auto at = std::ranges::find(queue, &op);
    if (at == queue.end()) return false;
    queue.erase(at);
    --waiting_count_;
    return true;
}

}  // namespace weir::runtime

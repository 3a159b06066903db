#include "broker/descriptors.h"

#include <algorithm>

namespace weir::broker {
namespace {

// Standard streams, listeners, the folder, its lock, files of the node itself.
constexpr uint64_t kNode = 20;
// A ring or epoll, its wake-up, journal files, a checkpoint, folders that are flushed.
constexpr uint64_t kShard = 10;
constexpr uint64_t kOpenSegmentsMin = 4;
constexpr uint64_t kOpenSegmentsMax = 256;
constexpr uint64_t kAdminMin = 4;
constexpr uint64_t kAdminMax = 256;

}  // namespace

DescriptorShares share_descriptors(uint64_t limit, uint32_t shards) {
    if (limit == 0) return {};
    const uint64_t left = limit - std::min(limit, kNode + kShard * shards);
    DescriptorShares shares;
    // An eighth stays open, an eighth is for those in use, an eighth for other nodes.
    const uint64_t segments = std::clamp(left / 8 / shards, kOpenSegmentsMin, kOpenSegmentsMax);
    const uint64_t admin = std::clamp(left / 16, kAdminMin, kAdminMax);
    shares.open_segments = static_cast<uint32_t>(segments);
    shares.admin = static_cast<uint32_t>(admin);
    const uint64_t others = 2 * segments * shards + admin + left / 8;
    shares.connections = std::max<uint64_t>(left - std::min(left, others), 1);
    return shares;
}

}  // namespace weir::broker

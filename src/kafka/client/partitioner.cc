#include "kafka/client/partitioner.h"

namespace weir::kafka {

uint32_t murmur2(Bytes key) {
    constexpr uint32_t kMultiplier = 0x5bd1e995;
    uint32_t hash = 0x9747b28c ^ static_cast<uint32_t>(key.size());
    for (; key.size() >= 4; key = key.subspan(4)) {
        uint32_t k = load_le<uint32_t>(key.data()) * kMultiplier;
        k = (k ^ (k >> 24)) * kMultiplier;
        hash = hash * kMultiplier ^ k;
    }
    if (!key.empty()) {
        for (size_t i = 0; i < key.size(); ++i) hash ^= static_cast<uint32_t>(key[i]) << (8 * i);
        hash *= kMultiplier;
    }
    hash = (hash ^ (hash >> 13)) * kMultiplier;
    return hash ^ (hash >> 15);
}

int32_t partition_of_key(Bytes key, int32_t partition_count) {
    return static_cast<int32_t>(murmur2(key) & 0x7fffffffu) % partition_count;
}

}  // namespace weir::kafka

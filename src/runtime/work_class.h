// Work classes share a shard by weighted fair queueing, so that catch-up reads, hand-over and uploads can't move the produce tail.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weir::runtime {

enum class WorkClass : uint8_t { kNetwork, kProduce, kFetch, kReplication, kBackground };
inline constexpr size_t kWorkClassCount = 5;

struct WorkClassInfo {
    std::string_view name;
    uint32_t weight;  // processor and device time relative to the other classes that have work
};
inline constexpr std::array<WorkClassInfo, kWorkClassCount> kWorkClasses{{
    {"network", 1000},
    {"produce", 1000},
    {"fetch", 600},
    {"replication", 800},
    {"background", 150},
}};

}  // namespace weir::runtime

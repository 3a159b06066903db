#include "kafka/groups/offsets_table.h"

#include <utility>

namespace weir::kafka {
namespace {

// A map's node: links, the key, the value's fields.
constexpr size_t kOffsetOverheadBytes = 144;
constexpr size_t kTopicOverheadBytes = 160;

size_t bytes_of(const CommittedOffset& offset) {
    return kOffsetOverheadBytes + offset.metadata.size();
}

}  // namespace

void OffsetsTable::set(std::string_view topic, int32_t partition, CommittedOffset offset) {
    auto found = topics_.find(topic);
    if (found == topics_.end()) {
        found = topics_.emplace(std::string(topic), Partitions{}).first;
        bytes_ += kTopicOverheadBytes + topic.size();
    }
    const auto [at, inserted] = found->second.try_emplace(partition);
    if (inserted)
        ++size_;
    else
        bytes_ -= bytes_of(at->second);
    at->second = std::move(offset);
    bytes_ += bytes_of(at->second);
}

void OffsetsTable::erase(std::string_view topic, int32_t partition) {
    const auto found = topics_.find(topic);
    if (found == topics_.end()) return;
    const auto at = found->second.find(partition);
    if (at == found->second.end()) return;
    bytes_ -= bytes_of(at->second);
    --size_;
    found->second.erase(at);
    if (!found->second.empty()) return;
    bytes_ -= kTopicOverheadBytes + found->first.size();
    topics_.erase(found);
}

const CommittedOffset* OffsetsTable::find(std::string_view topic, int32_t partition) const {
    const auto found = topics_.find(topic);
    if (found == topics_.end()) return nullptr;
    const auto at = found->second.find(partition);
    return at == found->second.end() ? nullptr : &at->second;
}

}  // namespace weir::kafka

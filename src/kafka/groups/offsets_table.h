// The durable committed offsets of one group, by topic and partition. Owned by its
// GroupCoordinator.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "kafka/groups/offsets_records.h"

namespace weir::kafka {

class OffsetsTable {
  public:
    using Partitions = std::map<int32_t, CommittedOffset>;
    using Topics = std::map<std::string, Partitions, std::less<>>;

    void set(std::string_view topic, int32_t partition, CommittedOffset offset);
    void erase(std::string_view topic, int32_t partition);
    const CommittedOffset* find(std::string_view topic, int32_t partition) const;
    const Topics& topics() const { return topics_; }

    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    // An estimate of the memory that it takes.
    size_t bytes() const { return bytes_; }

  private:
    Topics topics_;
    size_t size_ = 0;
    size_t bytes_ = 0;
};

}  // namespace weir::kafka

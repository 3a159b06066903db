// Runs of segments in memory: recently written or read ahead. Bounded by the options and by the
// node's budget; the least recently used run goes first. Checksums are verified before a run is
// inserted. Owned by the ShardStore, used on its shard.
#pragma once

#include <map>

#include "base/intrusive_list.h"
#include "runtime/buffer.h"
#include "storage/segment_files.h"

namespace weir::storage {

struct RunKey {
    LogId log;
    uint32_t segment = 0;
    uint64_t position = 0;
    auto operator<=>(const RunKey&) const = default;
};

class ReadCache {
  public:
    explicit ReadCache(uint64_t bytes_max) : bytes_max_(bytes_max) {}

    // A verified run. Runs that share one block of memory are counted by their own size.
    void insert(RunKey key, runtime::SharedBytes run);
    // Empty when it is not here.
    runtime::SharedBytes find(RunKey key);
    bool contains(RunKey key) const { return items_.contains(key); }
    void erase_segment(LogId log, uint32_t segment);
    void erase_log(LogId log);
    // Frees about `bytes`; gives what it freed.
    uint64_t reclaim(uint64_t bytes);
    uint64_t bytes() const { return bytes_; }
    void clear();

  private:
    struct Item : ListHook {
        RunKey key;
        runtime::SharedBytes run;
    };
    using Items = std::map<RunKey, std::unique_ptr<Item>>;
    void erase(Items::iterator at);
    void erase_range(Items::iterator from, Items::iterator to);

    uint64_t bytes_max_;
    uint64_t bytes_ = 0;
    Items items_;
    IntrusiveList<Item> recent_;
};

}  // namespace weir::storage

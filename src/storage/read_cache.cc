#include "storage/read_cache.h"

namespace weir::storage {

void ReadCache::insert(RunKey key, runtime::SharedBytes run) {
    if (run.size() > bytes_max_ || items_.contains(key)) return;
    auto item = std::make_unique<Item>();
    item->key = key;
    item->run = std::move(run);
    bytes_ += item->run.size();
    recent_.push_back(*item);
    items_.emplace(key, std::move(item));
    if (bytes_ > bytes_max_) reclaim(bytes_ - bytes_max_);
}

runtime::SharedBytes ReadCache::find(RunKey key) {
    const auto found = items_.find(key);
    if (found == items_.end()) return {};
    Item& item = *found->second;
    item.unlink();
    recent_.push_back(item);
    return item.run;
}

void ReadCache::erase(Items::iterator at) {
    bytes_ -= at->second->run.size();
    items_.erase(at);
}

void ReadCache::erase_range(Items::iterator from, Items::iterator to) {
    while (from != to) erase(from++);
}

void ReadCache::erase_segment(LogId log, uint32_t segment) {
    erase_range(items_.lower_bound({log, segment, 0}),
                items_.upper_bound({log, segment, UINT64_MAX}));
}

void ReadCache::erase_log(LogId log) {
    erase_range(items_.lower_bound({log, 0, 0}), items_.upper_bound({log, UINT32_MAX, UINT64_MAX}));
}

uint64_t ReadCache::reclaim(uint64_t bytes) {
    uint64_t freed = 0;
    while (freed < bytes && !recent_.empty()) {
        Item& oldest = recent_.front();
        freed += oldest.run.size();
        erase(items_.find(oldest.key));
    }
    return freed;
}

void ReadCache::clear() {
    items_.clear();
    bytes_ = 0;
}

}  // namespace weir::storage

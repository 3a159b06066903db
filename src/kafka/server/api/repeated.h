// Items that a request names twice are answered once. Otherwise a request of a few bytes for each
// name could demand an answer many times as large.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace weir::kafka {

// `key` gives a value of its own: items move.
template <class T, class Key>
void drop_repeated(std::vector<T>& items, Key key) {
    using Value = std::remove_cvref_t<std::invoke_result_t<Key, const T&>>;
    std::set<Value> seen;
    std::erase_if(items,
                  [&](const T& item) { return !seen.insert(std::invoke(key, item)).second; });
}

// For topics with lists of partitions: a topic may occur again with other partitions.
template <class Topic>
void drop_repeated_partitions(std::vector<Topic>& topics, std::string Topic::* name,
                              std::vector<int32_t> Topic::* partitions) {
    std::set<std::pair<std::string, int32_t>> seen;
    for (Topic& topic : topics) {
        std::erase_if(topic.*partitions, [&](int32_t partition) {
            return !seen.emplace(topic.*name, partition).second;
        });
    }
}

}  // namespace weir::kafka

#include "kafka/protocol/api.h"

#include <algorithm>

#include "base/check.h"

namespace weir::kafka {

const ApiInfo* find_api(int16_t key) {
    const std::span<const ApiInfo> apis = all_apis();
    const auto found = std::ranges::lower_bound(
        apis, key, {}, [](const ApiInfo& api) { return static_cast<int16_t>(api.key); });
    return found != apis.end() && static_cast<int16_t>(found->key) == key ? &*found : nullptr;
}

const ApiInfo& api_info(ApiKey key) {
    const ApiInfo* const info = find_api(static_cast<int16_t>(key));
    CHECK(info != nullptr);
    return *info;
}

}  // namespace weir::kafka

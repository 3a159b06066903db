// The only part of a member's bytes that a coordinator reads: which topics a consumer is subscribed
// to (the prefix of "ConsumerProtocolSubscription", the same in all its versions). The coordinator
// needs it to keep the offsets of topics in use, and to notice that a static member came back with
// another subscription. All other bytes pass through untouched.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "base/bytes.h"

namespace weir::kafka {

// The protocol type whose metadata has that form.
inline constexpr std::string_view kConsumerProtocolType = "consumer";

// nullopt if the bytes have another form.
std::optional<std::set<std::string>> topics_of_subscription(Bytes subscription);

}  // namespace weir::kafka

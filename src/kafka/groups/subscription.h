// The one thing that a coordinator reads inside of a member's bytes: which topics a consumer is
// subscribed to (the prefix of "ConsumerProtocolSubscription", the same in all its versions).
// Needed so that offsets of topics in use are neither deleted nor expired, and to see whether a
// static member came back with another subscription. All else passes through untouched.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "base/bytes.h"

namespace weir::kafka {

// The protocol type whose metadata has that form.
inline constexpr std::string_view kConsumerProtocolType = "consumer";

// nullopt where the bytes are something else.
std::optional<std::set<std::string>> topics_of_subscription(Bytes subscription);

}  // namespace weir::kafka

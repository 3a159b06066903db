#include "kafka/groups/subscription.h"

#include "base/byte_reader.h"

namespace weir::kafka {

std::optional<std::set<std::string>> topics_of_subscription(Bytes subscription) {
    ByteReader in(subscription);
    const int16_t version = in.read_i16();
    const int32_t count = in.read_i32();
    if (!in.ok() || version < 0 || count < 0) return std::nullopt;
    std::set<std::string> topics;
    for (int32_t i = 0; i < count; ++i) {
        const int16_t size = in.read_i16();
        if (size < 0) return std::nullopt;
        const Bytes name = in.read_bytes(static_cast<size_t>(size));
        if (!in.ok()) return std::nullopt;
        topics.emplace(as_text(name));
    }
    return topics;
}

}  // namespace weir::kafka

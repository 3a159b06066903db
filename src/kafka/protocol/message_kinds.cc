#include "kafka/protocol/message_kinds.h"

#include <algorithm>
#include <array>

namespace weir::kafka {

namespace {

// What `records` fields of random messages point at.
constexpr std::array<uint8_t, 64> kRecordBytes = [] {
    std::array<uint8_t, 64> bytes{};
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37);
    return bytes;
}();

}  // namespace

int64_t Filler::number() {
    if (is_bomb_) return 0;
    switch (prng_.below(8)) {
        case 0:
            return 0;
        case 1:
            return -1;
        case 2:
            return 1;
        case 3:
            return int64_t{1} << prng_.below(63);
        default:
            return static_cast<int64_t>(prng_.next());
    }
}

// Mostly short; at times past what one byte of varint can say.
size_t Filler::size() {
    if (is_bomb_) return 0;
    return prng_.chance(0.05) ? prng_.between(120, 300) : prng_.below(24);
}

size_t Filler::count() {
    const size_t index = arrays_++;
    if (!is_bomb_) return prng_.chance(0.02) ? prng_.between(125, 130) : prng_.below(4);
    return index < large_ ? 1 : index == large_ ? count_ : 0;
}

void Filler::fill(Uuid& v) {
    if (is_bomb_ || prng_.chance(0.2)) return;
    v = Uuid::random(prng_.next(), prng_.next());
}

void Filler::fill(std::string& v) {
    v.resize(size());
    for (char& c : v) c = static_cast<char>(prng_.next());
}

void Filler::fill(std::optional<std::string>& v, bool nullable) {
    if (is_null(nullable)) {
        v.reset();
    } else {
        fill(v.emplace());
    }
}

void Filler::fill(std::vector<uint8_t>& v) {
    v.resize(size());
    for (uint8_t& byte : v) byte = static_cast<uint8_t>(prng_.next());
}

void Filler::fill(std::optional<std::vector<uint8_t>>& v, bool nullable) {
    if (is_null(nullable)) {
        v.reset();
    } else {
        fill(v.emplace());
    }
}

void Filler::fill(Records& v, bool nullable) {
    v.parts.clear();
    v.null = is_null(nullable);
    if (v.null) return;
    for (size_t part = is_bomb_ ? 0 : prng_.below(4); part > 0; --part) {
        const size_t at = prng_.below(kRecordBytes.size());
        v.parts.push_back(
            Bytes(kRecordBytes).subspan(at, prng_.between(0, kRecordBytes.size() - at)));
    }
}

std::vector<MessageKind> all_message_kinds() {
    std::vector<MessageKind> kinds;
    for (const auto part :
         {message_kinds_0(), message_kinds_1(), message_kinds_2(), message_kinds_3()}) {
        kinds.insert(kinds.end(), part.begin(), part.end());
    }
    std::ranges::sort(kinds, {}, &MessageKind::name);
    return kinds;
}

std::optional<MessageKind> find_message_kind(std::string_view name) {
    for (const MessageKind& kind : all_message_kinds()) {
        if (kind.name == name) return kind;
    }
    return std::nullopt;
}

}  // namespace weir::kafka

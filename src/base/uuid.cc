#include "base/uuid.h"

#include "base/bytes.h"
#include "base/prng.h"

namespace weir {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

}  // namespace

std::string Uuid::to_string() const {
    std::string text;
    text.reserve(22);
    uint32_t pending = 0;
    int pending_bits = 0;
    for (const uint8_t byte : bytes) {
        pending = (pending << 8) | byte;
        pending_bits += 8;
        while (pending_bits >= 6) {
            pending_bits -= 6;
            text.push_back(kAlphabet[(pending >> pending_bits) & 63]);
        }
    }
    text.push_back(kAlphabet[(pending << (6 - pending_bits)) & 63]);
    return text;
}

Result<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != 22) return fail(ErrorCode::kMalformed, "a UUID has 22 characters of URL-safe base64");
    Uuid id;
    uint32_t pending = 0;
    int pending_bits = 0;
    size_t at = 0;
    for (const char c : text) {
        const size_t value = kAlphabet.find(c);
        if (value == std::string_view::npos) {
            return fail(ErrorCode::kMalformed, "a UUID has characters of URL-safe base64 alone");
        }
        pending = (pending << 6) | static_cast<uint32_t>(value);
        pending_bits += 6;
        if (pending_bits >= 8 && at < id.bytes.size()) {
            pending_bits -= 8;
            id.bytes[at++] = static_cast<uint8_t>(pending >> pending_bits);
        }
    }
    return id;
}

Uuid Uuid::random(uint64_t high, uint64_t low) {
    Uuid id;
    store_be(id.bytes.data(), high);
    store_be(id.bytes.data() + 8, low);
    if (id.bytes[0] >= 0xf8) id.bytes[0] &= 0x7f;  // 62 << 2: the first character would be '-' or '_'
    id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);
    id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
    return id;
}

size_t UuidHash::operator()(const Uuid& id) const {
    return mix64(load_le<uint64_t>(id.bytes.data()) ^ mix64(load_le<uint64_t>(id.bytes.data() + 8)));
}

}  // namespace weir

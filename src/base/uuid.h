// Uuid: 128 bits, as Kafka's topic ids and cluster ids. Its text is URL-safe base64 without padding (22 characters), as Kafka prints it.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace weir {

struct Uuid {
    std::array<uint8_t, 16> bytes{};
    auto operator<=>(const Uuid&) const = default;

    bool is_zero() const { return *this == Uuid{}; }
    std::string to_string() const;
    static Result<Uuid> parse(std::string_view text);
    // Version 4, from two words of entropy. Never begins with '-', as Kafka's never do (command lines would take it for a flag).
    static Uuid random(uint64_t high, uint64_t low);
};

struct UuidHash {
    size_t operator()(const Uuid& id) const;
};

}  // namespace weir

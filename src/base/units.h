// Sizes in bytes, and rounding.
#pragma once

#include <cstdint>

namespace weir {

consteval uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
consteval uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
consteval uint64_t operator""_GiB(unsigned long long n) { return n << 30; }

// `alignment` is a power of two.
constexpr uint64_t round_up(uint64_t n, uint64_t alignment) {
    return (n + alignment - 1) & ~(alignment - 1);
}
constexpr uint64_t round_down(uint64_t n, uint64_t alignment) { return n & ~(alignment - 1); }

}  // namespace weir

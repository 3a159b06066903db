// Prng: xoshiro256** (Blackman and Vigna), seeded through splitmix64. Not for secrets. Streams split by name, so that one
// more draw in one component does not reshuffle the others: Prng(seed, "disk").
#pragma once

#include <cstdint>
#include <string_view>

namespace weir {

class Prng {
  public:
    explicit Prng(uint64_t seed, std::string_view stream = {});

    uint64_t next();
    uint64_t below(uint64_t bound);                       // [0, bound); bound > 0
    uint64_t between(uint64_t first, uint64_t last);      // [first, last], inclusive
    bool chance(double probability);
    double unit();                                        // [0, 1)
    double exponential(double mean);

  private:
    uint64_t state_[4];
};

// A well-mixed hash of a 64-bit key (splitmix64's finalizer): placement, checksums of names.
constexpr uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

}  // namespace weir

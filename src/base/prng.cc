#include "base/prng.h"

#include <bit>
#include <cmath>

#include "base/check.h"

namespace weir {

Prng::Prng(uint64_t seed, std::string_view stream) {
    uint64_t x = seed;
    for (const char c : stream) x = mix64(x ^ static_cast<uint8_t>(c));
    for (uint64_t& word : state_) {
        x += 0x9e3779b97f4a7c15ULL;
        word = mix64(x);
    }
}

uint64_t Prng::next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

uint64_t Prng::below(uint64_t bound) {
    CHECK(bound > 0);
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
}

uint64_t Prng::between(uint64_t first, uint64_t last) {
    CHECK(first <= last);
    const uint64_t span = last - first;
    return span == UINT64_MAX ? next() : first + below(span + 1);
}

double Prng::unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
bool Prng::chance(double probability) { return unit() < probability; }
double Prng::exponential(double mean) { return -mean * std::log1p(-unit()); }

}  // namespace weir

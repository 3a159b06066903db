#include "base/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace weir {
namespace {

constexpr size_t kBlockBytes = 64;

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
constexpr std::array<uint32_t, 64> kRounds{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

}  // namespace

Sha256::Sha256()
    : state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {}

Sha256& Sha256::update(Bytes bytes) {
    bytes_ += bytes.size();
    while (!bytes.empty()) {
        const size_t size = std::min(bytes.size(), kBlockBytes - filled_);
        std::memcpy(block_.data() + filled_, bytes.data(), size);
        filled_ += size;
        bytes = bytes.subspan(size);
        if (filled_ < kBlockBytes) break;
        compress(block_.data());
        filled_ = 0;
    }
    return *this;
}

Digest Sha256::finish() {
    const uint64_t bits = bytes_ * 8;
    constexpr std::array<uint8_t, kBlockBytes> kPadding{0x80};
    const size_t zeros = filled_ < 56 ? 56 - filled_ : 120 - filled_;
    update(Bytes(kPadding).first(zeros));
    CHECK(filled_ == 56);
    std::array<uint8_t, 8> length;
    store_be<uint64_t>(length.data(), bits);
    update(length);
    CHECK(filled_ == 0);
    Digest digest;
    for (size_t i = 0; i < state_.size(); ++i) store_be<uint32_t>(digest.data() + 4 * i, state_[i]);
    return digest;
}

void Sha256::compress(const uint8_t* block) {
    std::array<uint32_t, 64> words;
    for (size_t i = 0; i < 16; ++i) words[i] = load_be<uint32_t>(block + 4 * i);
    for (size_t i = 16; i < 64; ++i) {
        const uint32_t early = words[i - 15];
        const uint32_t late = words[i - 2];
        words[i] = words[i - 16] + words[i - 7] +
                   (std::rotr(early, 7) ^ std::rotr(early, 18) ^ (early >> 3)) +
                   (std::rotr(late, 17) ^ std::rotr(late, 19) ^ (late >> 10));
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (size_t i = 0; i < 64; ++i) {
        const uint32_t one = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                             ((e & f) ^ (~e & g)) + kRounds[i] + words[i];
        const uint32_t two =
            (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + one;
        d = c;
        c = b;
        b = a;
        a = one + two;
    }
    const std::array<uint32_t, 8> mixed{a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state_[i] += mixed[i];
}

Digest hmac_sha256(Bytes key, std::initializer_list<Bytes> parts) {
    std::array<uint8_t, kBlockBytes> inner{};
    if (key.size() > kBlockBytes) {
        const Digest shorter = Sha256().update(key).finish();
        std::ranges::copy(shorter, inner.begin());
    } else {
        std::ranges::copy(key, inner.begin());
    }
    std::array<uint8_t, kBlockBytes> outer = inner;
    for (uint8_t& byte : inner) byte ^= 0x36;
    for (uint8_t& byte : outer) byte ^= 0x5c;
    Sha256 message;
    message.update(inner);
    for (const Bytes part : parts) message.update(part);
    const Digest digest = message.finish();
    return Sha256().update(outer).update(digest).finish();
}

bool equal_in_constant_time(Bytes a, Bytes b) {
    if (a.size() != b.size()) return false;
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < a.size(); ++i)
        difference = static_cast<uint8_t>(difference | (a[i] ^ b[i]));
    return difference == 0;
}

}  // namespace weir

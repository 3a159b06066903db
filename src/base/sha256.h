// SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104). Nodes use them to prove that they know their
// cluster's secret. Plain code, not meant to be fast.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "base/bytes.h"

namespace weir {

using Digest = std::array<uint8_t, 32>;

class Sha256 {
  public:
    Sha256();
    Sha256& update(Bytes bytes);
    // Call it once, last.
    Digest finish();

  private:
    void compress(const uint8_t* block);

    std::array<uint32_t, 8> state_;
    std::array<uint8_t, 64> block_;
    size_t filled_ = 0;  // of block_
    uint64_t bytes_ = 0;
};

// HMAC-SHA-256 of the parts, concatenated. Any key length.
Digest hmac_sha256(Bytes key, std::initializer_list<Bytes> parts);

// Compares in a time that depends on the size alone, so that a wrong guess does not show how much
// of it was right. False if the sizes differ.
bool equal_in_constant_time(Bytes a, Bytes b);

}  // namespace weir

// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78; RFC 3720, appendix B.4). SSE4.2 or ARMv8 CRC instructions where the
// processor has them, else tables; the choice is made once.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace weir {

// crc32c(b, crc32c(a)) == crc32c(a then b).
uint32_t crc32c(Bytes bytes, uint32_t crc = 0);

// A table of one byte a step: the reference that the tests hold crc32c() against, and the fall-back's base.
uint32_t crc32c_slow(Bytes bytes, uint32_t crc = 0);

// The CRC of a followed by b, from each one's own CRC and b's length.
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b);

}  // namespace weir

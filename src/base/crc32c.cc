#include "base/crc32c.h"

#include <array>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace weir {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;

consteval std::array<std::array<uint32_t, 256>, 8> make_tables() {
    std::array<std::array<uint32_t, 256>, 8> tables{};
    for (uint32_t n = 0; n < 256; ++n) {
        uint32_t crc = n;
        for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? (crc >> 1) ^ kPolynomial : crc >> 1;
        tables[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; ++n) {
        for (size_t k = 1; k < 8; ++k) {
            tables[k][n] = (tables[k - 1][n] >> 8) ^ tables[0][tables[k - 1][n] & 0xff];
        }
    }
    return tables;
}
constexpr auto kTables = make_tables();

// a * b modulo the polynomial, reflected: bit 31 is x^0.
constexpr uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t mask = 1u << 31; mask != 0; mask >>= 1) {
        if (a & mask) product ^= b;
        b = (b & 1) ? (b >> 1) ^ kPolynomial : b >> 1;
    }
    return product;
}

// x^(8 * bytes) modulo the polynomial.
constexpr uint32_t x_to_bytes(uint64_t bytes) {
    uint32_t result = 1u << 31;
    uint32_t square = 1u << 23;  // x^8
    for (; bytes != 0; bytes >>= 1) {
        if (bytes & 1) result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

#if defined(__x86_64__)

// Three independent streams hide the three-cycle latency of crc32; their CRCs are joined by multiplication with x^(8 * stream),
// through four byte-wide tables made at compile time.
constexpr size_t kStream = 4096;

consteval std::array<std::array<uint32_t, 256>, 4> make_shift_tables() {
    std::array<std::array<uint32_t, 256>, 4> tables{};
    const uint32_t factor = x_to_bytes(kStream);
    std::array<uint32_t, 32> powers{};
    for (uint32_t bit = 0; bit < 32; ++bit) powers[bit] = multiply(1u << bit, factor);
    for (size_t k = 0; k < 4; ++k) {
        for (uint32_t n = 0; n < 256; ++n) {
            uint32_t sum = 0;
            for (uint32_t bit = 0; bit < 8; ++bit) {
                if (n & (1u << bit)) sum ^= powers[8 * k + bit];
            }
            tables[k][n] = sum;
        }
    }
    return tables;
}
constexpr auto kShift = make_shift_tables();

uint32_t shift_by_stream(uint32_t crc) {
    return kShift[0][crc & 0xff] ^ kShift[1][(crc >> 8) & 0xff] ^ kShift[2][(crc >> 16) & 0xff] ^
           kShift[3][crc >> 24];
}

uint32_t crc32c_hardware(const uint8_t* at, size_t size, uint32_t crc) {
    uint64_t state = crc;
    while (size >= 3 * kStream) {
        uint64_t a = state;
        uint64_t b = 0;
        uint64_t c = 0;
        for (size_t i = 0; i < kStream; i += 8) {
            a = _mm_crc32_u64(a, load_le<uint64_t>(at + i));
            b = _mm_crc32_u64(b, load_le<uint64_t>(at + kStream + i));
            c = _mm_crc32_u64(c, load_le<uint64_t>(at + 2 * kStream + i));
        }
        state = shift_by_stream(shift_by_stream(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^ c;
        at += 3 * kStream;
        size -= 3 * kStream;
    }
    for (; size >= 8; size -= 8, at += 8) state = _mm_crc32_u64(state, load_le<uint64_t>(at));
    uint32_t tail = static_cast<uint32_t>(state);
    for (; size > 0; --size, ++at) tail = _mm_crc32_u8(tail, *at);
    return tail;
}

#endif

[[maybe_unused]] uint32_t crc32c_tables(const uint8_t* at, size_t size, uint32_t crc) {
    for (; size >= 8; size -= 8, at += 8) {
        const uint64_t word = load_le<uint64_t>(at) ^ crc;
        crc = 0;
        for (size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xff];
    }
    for (; size > 0; --size, ++at) crc = (crc >> 8) ^ kTables[0][(crc ^ *at) & 0xff];
    return crc;
}

}  // namespace

uint32_t crc32c(Bytes bytes, uint32_t crc) {
#if defined(__x86_64__)
    return ~crc32c_hardware(bytes.data(), bytes.size(), ~crc);
#else
    return ~crc32c_tables(bytes.data(), bytes.size(), ~crc);
#endif
}

uint32_t crc32c_slow(Bytes bytes, uint32_t crc) {
    crc = ~crc;
    for (const uint8_t byte : bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ byte) & 0xff];
    return ~crc;
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b) {
    return multiply(x_to_bytes(size_b), crc_a) ^ crc_b;
}

}  // namespace weir

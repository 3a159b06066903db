// ByteReader: a cursor over bytes that came from outside. A read past the end fails once and for all: the reader is then
// `!ok()`, further reads return zero values, and the caller asks ok() at the end (or before it trusts a length).
// Big-endian, as on Kafka's wire; varints are Kafka's (protobuf base-128; signed ones zigzag).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace weir {

class ByteReader {
  public:
    explicit ByteReader(Bytes bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

    bool ok() const { return ok_; }
    size_t remaining() const { return static_cast<size_t>(end_ - at_); }
    void set_failed() {
        ok_ = false;
        at_ = end_;
    }

    int8_t read_i8() { return static_cast<int8_t>(read_u8()); }
    uint8_t read_u8() { return read_be<uint8_t>(); }
    int16_t read_i16() { return read_be<int16_t>(); }
    uint16_t read_u16() { return read_be<uint16_t>(); }
    int32_t read_i32() { return read_be<int32_t>(); }
    uint32_t read_u32() { return read_be<uint32_t>(); }
    int64_t read_i64() { return read_be<int64_t>(); }
    double read_f64() { return std::bit_cast<double>(read_be<uint64_t>()); }

    uint32_t read_unsigned_varint() { return static_cast<uint32_t>(read_varint_bits<5>(0xf)); }
    int32_t read_varint() {
        const uint32_t raw = read_unsigned_varint();
        return static_cast<int32_t>((raw >> 1) ^ (~(raw & 1) + 1));
    }
    uint64_t read_unsigned_varlong() { return read_varint_bits<10>(0x1); }
    int64_t read_varlong() {
        const uint64_t raw = read_unsigned_varlong();
        return static_cast<int64_t>((raw >> 1) ^ (~(raw & 1) + 1));
    }

    // The next `count` bytes as a view into the input; empty and !ok() if there are fewer.
    Bytes read_bytes(size_t count) {
        if (count > remaining()) {
            set_failed();
            return {};
        }
        const Bytes bytes{at_, count};
        at_ += count;
        return bytes;
    }
    void skip(size_t count) { read_bytes(count); }

  private:
    template <class T>
    T read_be() {
        if (remaining() < sizeof(T)) {
            set_failed();
            return T{};
        }
        const T value = load_be<T>(at_);
        at_ += sizeof(T);
        return value;
    }

    // At most `kLengthMax` bytes, the last of which may hold only the bits of `last_mask`: longer ones are malformed, not truncated.
    template <int kLengthMax>
    uint64_t read_varint_bits(uint8_t last_mask) {
        uint64_t value = 0;
        for (int i = 0; i < kLengthMax; ++i) {
            const uint8_t byte = read_u8();
            if (!ok_) return 0;
            if (i == kLengthMax - 1 && (byte & ~last_mask) != 0) break;
            value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
            if ((byte & 0x80) == 0) return value;
        }
        set_failed();
        return 0;
    }

    const uint8_t* at_;
    const uint8_t* end_;
    bool ok_ = true;
};

}  // namespace weir

// ByteWriter: grows a vector of bytes, big-endian and with Kafka's varints. Large bytes that already lie somewhere (record batches
// on their way to a consumer) are not copied: add_external() notes where they belong, and the sender gathers. The caller keeps the
// external bytes alive until the message is sent.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace weir {

class ByteWriter {
  public:
    struct External {
        size_t at;  // before this byte of inline_bytes()
        Bytes bytes;
    };

    void write_i8(int8_t v) { buffer_.push_back(static_cast<uint8_t>(v)); }
    void write_u8(uint8_t v) { buffer_.push_back(v); }
    void write_i16(int16_t v) { write_be(v); }
    void write_u16(uint16_t v) { write_be(v); }
    void write_i32(int32_t v) { write_be(v); }
    void write_u32(uint32_t v) { write_be(v); }
    void write_i64(int64_t v) { write_be(v); }
    void write_f64(double v) { write_be(std::bit_cast<uint64_t>(v)); }
    void write_unsigned_varint(uint32_t v) { write_unsigned_varlong(v); }
    void write_varint(int32_t v) {
        write_unsigned_varlong((static_cast<uint32_t>(v) << 1) ^ static_cast<uint32_t>(v >> 31));
    }
    void write_unsigned_varlong(uint64_t v) {
        while (v >= 0x80) {
            buffer_.push_back(static_cast<uint8_t>(v | 0x80));
            v >>= 7;
        }
        buffer_.push_back(static_cast<uint8_t>(v));
    }
    void write_varlong(int64_t v) {
        write_unsigned_varlong((static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63));
    }
    void write_bytes(Bytes bytes) { buffer_.insert(buffer_.end(), bytes.begin(), bytes.end()); }
    void write_text(std::string_view text) { write_bytes(as_bytes(text)); }
    void add_external(Bytes bytes) {
        if (bytes.empty()) return;
        externals_.push_back({buffer_.size(), bytes});
        external_size_ += bytes.size();
    }

    // What was written so far, externals included.
    size_t size() const { return buffer_.size() + external_size_; }
    const std::vector<uint8_t>& inline_bytes() const { return buffer_; }
    const std::vector<External>& externals() const { return externals_; }
    // Overwrites four inline bytes at `at` (a length that was not known before).
    void patch_i32(size_t at, int32_t v) { store_be(buffer_.data() + at, v); }
    void reserve(size_t size) { buffer_.reserve(size); }
    void clear() {
        buffer_.clear();
        externals_.clear();
        external_size_ = 0;
    }
    // Everything in one run, externals copied in.
    std::vector<uint8_t> flatten() const {
        std::vector<uint8_t> all;
        all.reserve(size());
        size_t from = 0;
        for (const External& external : externals_) {
            all.insert(all.end(), buffer_.begin() + static_cast<ptrdiff_t>(from),
                       buffer_.begin() + static_cast<ptrdiff_t>(external.at));
            all.insert(all.end(), external.bytes.begin(), external.bytes.end());
            from = external.at;
        }
        all.insert(all.end(), buffer_.begin() + static_cast<ptrdiff_t>(from), buffer_.end());
        return all;
    }

  private:
    template <class T>
    void write_be(T v) {
        const size_t at = buffer_.size();
        buffer_.resize(at + sizeof v);
        store_be(buffer_.data() + at, v);
    }

    std::vector<uint8_t> buffer_;
    std::vector<External> externals_;
    size_t external_size_ = 0;
};

}  // namespace weir

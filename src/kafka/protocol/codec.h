// Decoder and Encoder: what the generated codecs are written in. A Decoder reads one message of one
// version from bytes that came from outside; an Encoder writes one. Both remember the first problem
// and carry on with zero values, so generated code asks once, at the end (finish()). Included by
// generated sources alone.
//
// Hostile input. A frame may claim any count, so nothing is allocated on its word: a count must fit
// the bytes that are left, at the least size that an element can have, and all that decoding
// allocates is charged to a budget in proportion to the frame (kMemoryFactor). There is no
// recursion: nesting is as deep as the schema.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/result.h"
#include "base/uuid.h"
#include "kafka/protocol/types.h"

namespace weir::kafka {

// Whether the schema has this version at all.
Result<void> check_version(const char* message, int16_t version, int16_t first, int16_t last);

class Decoder {
  public:
    // A decoded message is larger than its frame: a three-byte topic name is 32 bytes of
    // std::string. What clients send stays under a factor of 6; small frames, where factors vary
    // most, live in the constant.
    static constexpr size_t kMemoryFactor = 8;
    static constexpr size_t kMemoryFloor = size_t{256} << 10;

    const int16_t version;
    const bool flexible;

    Decoder(ByteReader& in, int16_t version, bool flexible)
        : version(version),
          flexible(flexible),
          in_(in),
          frame_size_(in.remaining()),
          own_budget_(kMemoryFloor + kMemoryFactor * in.remaining()),
          budget_(own_budget_) {}
    // For the content of one tagged field; it draws on the budget of the message.
    Decoder(ByteReader& in, Decoder& message)
        : version(message.version),
          flexible(message.flexible),
          in_(in),
          frame_size_(in.remaining()),
          own_budget_(0),
          budget_(message.budget_) {}
    Decoder(const Decoder&) = delete;

    bool ok() const { return in_.ok(); }
    void fail(const char* problem);

    void read(bool& v) { v = in_.read_i8() != 0; }
    void read(int8_t& v) { v = in_.read_i8(); }
    void read(int16_t& v) { v = in_.read_i16(); }
    void read(uint16_t& v) { v = in_.read_u16(); }
    void read(int32_t& v) { v = in_.read_i32(); }
    void read(int64_t& v) { v = in_.read_i64(); }
    void read(double& v) { v = in_.read_f64(); }
    void read(Uuid& v);
    void read(std::string& v);
    void read(std::optional<std::string>& v, bool nullable);
    void read(std::vector<uint8_t>& v);
    void read(std::optional<std::vector<uint8_t>>& v, bool nullable);
    void read(Records& v, bool nullable);

    // Reads the count of an array and makes room: the elements are the caller's to read. Empty on
    // any problem, and for null.
    template <class T>
    std::span<T> array(std::vector<T>& v, size_t element_size_min) {
        v.resize(read_count(element_size_min, sizeof(T), false).value_or(0));
        return v;
    }
    template <class T>
    std::span<T> array(std::optional<std::vector<T>>& v, size_t element_size_min, bool nullable) {
        const std::optional<size_t> count = read_count(element_size_min, sizeof(T), nullable);
        if (!count) {
            v.reset();
            return {};
        }
        v.emplace(*count);
        return *v;
    }
    // The byte before a struct that may be null: true if the struct follows.
    bool read_presence();

    // Tagged fields: while (in.next_tag(count, tag, content)) { Decoder field(content, in); …
    // in.end_tag(content); }
    uint32_t read_tag_count();
    bool next_tag(uint32_t& count, int64_t& tag, ByteReader& content);
    // A field that is known must fill the size that was stated for it.
    void end_tag(const Decoder& field);
    // Skips all tagged fields of a struct that knows none.
    void skip_tags();

    // What was decoded, as an error if it was malformed or, for a message that owns its frame, if
    // bytes follow.
    Result<void> finish(const char* message, bool may_trail) const;

  private:
    std::optional<size_t> read_count(size_t element_size_min, size_t element_memory, bool nullable);
    // The length of a string or of bytes; nullopt for null.
    std::optional<size_t> read_length(bool wide, bool nullable);
    void charge(size_t bytes);

    ByteReader& in_;
    const size_t frame_size_;
    size_t own_budget_;
    size_t& budget_;
    const char* problem_ = nullptr;
};

// An error's text may quote what the client sent, which may be as long as a string can be. The
// answer must hold it and say the rest: every field `error_message` is cut to so many bytes when it
// is encoded.
inline constexpr size_t kErrorTextMax = 512;
// The longest beginning of `text` (UTF-8) of at most `size_max` bytes that ends between characters.
std::string_view cut_text(std::string_view text, size_t size_max);

class Encoder {
  public:
    const int16_t version;
    const bool flexible;

    Encoder(ByteWriter& out, int16_t version, bool flexible)
        : version(version), flexible(flexible), out_(out) {}
    // For the content of one tagged field.
    Encoder(ByteWriter& out, const Encoder& message)
        : version(message.version), flexible(message.flexible), out_(out) {}
    Encoder(const Encoder&) = delete;

    void write(bool v) { out_.write_i8(v ? 1 : 0); }
    void write(int8_t v) { out_.write_i8(v); }
    void write(int16_t v) { out_.write_i16(v); }
    void write(uint16_t v) { out_.write_u16(v); }
    void write(int32_t v) { out_.write_i32(v); }
    void write(int64_t v) { out_.write_i64(v); }
    void write(double v) { out_.write_f64(v); }
    void write(const Uuid& v) { out_.write_bytes(v.bytes); }
    void write(const std::string& v, const char* field);
    void write(const std::optional<std::string>& v, bool nullable, const char* field);
    void write(const std::vector<uint8_t>& v, const char* field);
    void write(const std::optional<std::vector<uint8_t>>& v, bool nullable, const char* field);
    void write(const Records& v, bool nullable, const char* field);

    // Writes the count of an array: the elements are the caller's to write.
    template <class T>
    std::span<const T> array(const std::vector<T>& v, const char* field) {
        write_count(v.size(), field);
        return v;
    }
    template <class T>
    std::span<const T> array(const std::optional<std::vector<T>>& v, bool nullable,
                             const char* field) {
        if (!v) {
            write_null_count(nullable, field);
            return {};
        }
        write_count(v->size(), field);
        return *v;
    }
    void write_presence(bool present) { out_.write_i8(present ? 1 : -1); }
    void write_tag_count(uint32_t count) { out_.write_unsigned_varint(count); }
    void write_tag(uint32_t tag, const ByteWriter& content, const Encoder& field);

    // A value was set that this version has no place for, and that must not be lost in silence.
    void reject(const char* field) { fail(field, "has no place"); }

    Result<void> finish(const char* message) const;

  private:
    void fail(const char* field, const char* problem);
    void write_count(size_t count, const char* field);
    void write_null_count(bool nullable, const char* field);
    // The length of a string or of bytes. False if it is too long, which is noted.
    bool write_length(size_t size, bool wide, const char* field);
    void write_null_length(bool wide, bool nullable, const char* field);

    ByteWriter& out_;
    const char* field_ = nullptr;
    const char* problem_ = nullptr;
};

}  // namespace weir::kafka

#include "kafka/protocol/codec.h"

#include <algorithm>

namespace weir::kafka {

namespace {

constexpr size_t kStringSizeMax = INT16_MAX;  // in flexible versions too, as in Kafka
constexpr size_t kLengthMax = INT32_MAX - 1;
// What an allocation costs beside its bytes.
constexpr size_t kAllocationOverhead = 16;
// A std::string holds this much without an allocation.
constexpr size_t kStringInline = 15;

}  // namespace

size_t Records::size() const {
    size_t size = 0;
    for (const Bytes part : parts) size += part.size();
    return size;
}

bool Records::operator==(const Records& other) const {
    if (null != other.null || size() != other.size()) return false;
    size_t part = 0;
    size_t at = 0;
    for (const Bytes theirs : other.parts) {
        for (const uint8_t byte : theirs) {
            while (at == parts[part].size()) {
                ++part;
                at = 0;
            }
            if (parts[part][at++] != byte) return false;
        }
    }
    return true;
}

Result<void> check_version(const char* message, int16_t version, int16_t first, int16_t last) {
    if (first <= version && version <= last) return {};
    return fail(ErrorCode::kUnsupported,
                std::string(message) + " has no version " + std::to_string(version));
}

void Decoder::fail(const char* problem) {
    if (problem_ == nullptr && in_.ok()) problem_ = problem;
    in_.set_failed();
}

void Decoder::charge(size_t bytes) {
    if (bytes > budget_) {
        fail("would take too much memory for its size");
        return;
    }
    budget_ -= bytes;
}

std::optional<size_t> Decoder::read_length(bool wide, bool nullable) {
    int64_t length;
    if (flexible) {
        length = int64_t{in_.read_unsigned_varint()} - 1;
    } else {
        length = wide ? in_.read_i32() : in_.read_i16();
    }
    if (!in_.ok()) return std::nullopt;
    if (length == -1) {
        if (!nullable) fail("has null where the version forbids it");
        return std::nullopt;
    }
    if (length < 0) {
        fail("has a negative length");
        return std::nullopt;
    }
    if (static_cast<size_t>(length) > in_.remaining()) {
        fail("has a length beyond its end");
        return std::nullopt;
    }
    if (!wide && static_cast<size_t>(length) > kStringSizeMax) {
        fail("has a string longer than 32767 bytes");
        return std::nullopt;
    }
    return static_cast<size_t>(length);
}

std::optional<size_t> Decoder::read_count(size_t element_size_min, size_t element_memory,
                                          bool nullable) {
    const std::optional<size_t> count = read_length(true, nullable);  // counts look like lengths
    if (!count || *count == 0) return count;
    if (*count > in_.remaining() / element_size_min) {
        fail("counts more elements than it has bytes for");
        return std::nullopt;
    }
    charge(*count * element_memory + kAllocationOverhead);
    if (!in_.ok()) return std::nullopt;
    return count;
}

void Decoder::read(Uuid& v) {
    const Bytes bytes = in_.read_bytes(v.bytes.size());
    if (bytes.size() == v.bytes.size()) std::ranges::copy(bytes, v.bytes.begin());
}

void Decoder::read(std::string& v) {
    const std::optional<size_t> size = read_length(false, false);
    if (!size) return;
    if (*size > kStringInline) charge(*size + kAllocationOverhead);
    v.assign(as_text(in_.read_bytes(*size)));
}

void Decoder::read(std::optional<std::string>& v, bool nullable) {
    const std::optional<size_t> size = read_length(false, nullable);
    if (!size) {
        v.reset();
        return;
    }
    if (*size > kStringInline) charge(*size + kAllocationOverhead);
    v.emplace(as_text(in_.read_bytes(*size)));
}

void Decoder::read(std::vector<uint8_t>& v) {
    const std::optional<size_t> size = read_length(true, false);
    if (!size) return;
    charge(*size + kAllocationOverhead);
    const Bytes bytes = in_.read_bytes(in_.ok() ? *size : 0);
    v.assign(bytes.begin(), bytes.end());
}

void Decoder::read(std::optional<std::vector<uint8_t>>& v, bool nullable) {
    const std::optional<size_t> size = read_length(true, nullable);
    if (!size) {
        v.reset();
        return;
    }
    charge(*size + kAllocationOverhead);
    const Bytes bytes = in_.read_bytes(in_.ok() ? *size : 0);
    v.emplace(bytes.begin(), bytes.end());
}

void Decoder::read(Records& v, bool nullable) {
    const std::optional<size_t> size = read_length(true, nullable);
    v.parts.clear();
    v.null = !size;
    if (!size || *size == 0) return;
    charge(sizeof(Bytes) + kAllocationOverhead);
    v.parts.push_back(in_.read_bytes(*size));
}

bool Decoder::read_presence() {
    const int8_t mark = in_.read_i8();  // -1 or 1; Kafka takes any sign
    return ok() && mark >= 0;
}

uint32_t Decoder::read_tag_count() {
    const uint32_t count = in_.read_unsigned_varint();
    return in_.ok() ? count : 0;
}

bool Decoder::next_tag(uint32_t& count, int64_t& tag, ByteReader& content) {
    if (count == 0 || !in_.ok()) return false;
    --count;
    const int64_t before = tag;
    tag = in_.read_unsigned_varint();
    if (tag <= before) fail("has tagged fields out of order");  // KIP-482; so none comes twice
    const uint32_t size = in_.read_unsigned_varint();
    content = ByteReader(in_.read_bytes(size));
    return in_.ok();
}

void Decoder::end_tag(const Decoder& field) {
    if (field.problem_ != nullptr) {
        fail(field.problem_);
    } else if (!field.in_.ok() || field.in_.remaining() != 0) {
        fail("has a tagged field that does not fill its size");
    }
}

void Decoder::skip_tags() {
    uint32_t count = read_tag_count();
    int64_t tag = -1;
    ByteReader content({});
    while (next_tag(count, tag, content)) {
    }
}

Result<void> Decoder::finish(const char* message, bool may_trail) const {
    if (in_.ok() && (may_trail || in_.remaining() == 0)) return {};
    std::string text = message;
    text += " version ";
    text += std::to_string(version);
    if (in_.ok()) {
        text += " is followed by ";
        text += std::to_string(in_.remaining());
        text += " bytes too many";
    } else {
        text += " in ";
        text += std::to_string(frame_size_);
        text += " bytes ";
        text += problem_ != nullptr ? problem_ : "ends early";
    }
    return weir::fail(ErrorCode::kMalformed, std::move(text));
}

std::string_view cut_text(std::string_view text, size_t size_max) {
    if (text.size() <= size_max) return text;
    // Not within a character of several bytes (RFC 3629, 3: bytes 10xxxxxx follow another).
    size_t size = size_max;
    while (size > 0 && (static_cast<uint8_t>(text[size]) & 0xc0) == 0x80) --size;
    return text.substr(0, size);
}

void Encoder::fail(const char* field, const char* problem) {
    if (problem_ != nullptr) return;
    field_ = field;
    problem_ = problem;
}

bool Encoder::write_length(size_t size, bool wide, const char* field) {
    if (size > (wide ? kLengthMax : kStringSizeMax)) {
        fail(field, "is too long");
        return false;
    }
    if (flexible) {
        out_.write_unsigned_varint(static_cast<uint32_t>(size + 1));
    } else if (wide) {
        out_.write_i32(static_cast<int32_t>(size));
    } else {
        out_.write_i16(static_cast<int16_t>(size));
    }
    return true;
}

void Encoder::write_null_length(bool wide, bool nullable, const char* field) {
    if (!nullable) {
        fail(field, "can't be null");
    } else if (flexible) {
        out_.write_unsigned_varint(0);
    } else if (wide) {
        out_.write_i32(-1);
    } else {
        out_.write_i16(-1);
    }
}

void Encoder::write_count(size_t count, const char* field) { write_length(count, true, field); }

void Encoder::write_null_count(bool nullable, const char* field) {
    write_null_length(true, nullable, field);
}

void Encoder::write(const std::string& v, const char* field) {
    if (write_length(v.size(), false, field)) out_.write_text(v);
}

void Encoder::write(const std::optional<std::string>& v, bool nullable, const char* field) {
    if (v && v->size() > kErrorTextMax && std::string_view(field).ends_with("error_message")) {
        write(std::string(cut_text(*v, kErrorTextMax)), field);
    } else if (v) {
        write(*v, field);
    } else {
        write_null_length(false, nullable, field);
    }
}

void Encoder::write(const std::vector<uint8_t>& v, const char* field) {
    if (write_length(v.size(), true, field)) out_.write_bytes(v);
}

void Encoder::write(const std::optional<std::vector<uint8_t>>& v, bool nullable,
                    const char* field) {
    if (v) {
        write(*v, field);
    } else {
        write_null_length(true, nullable, field);
    }
}

void Encoder::write(const Records& v, bool nullable, const char* field) {
    if (v.null) {
        write_null_length(true, nullable, field);
    } else if (write_length(v.size(), true, field)) {
        for (const Bytes part : v.parts) out_.add_external(part);
    }
}

void Encoder::write_tag(uint32_t tag, const ByteWriter& content, const Encoder& field) {
    if (field.problem_ != nullptr) fail(field.field_, field.problem_);
    out_.write_unsigned_varint(tag);
    out_.write_unsigned_varint(static_cast<uint32_t>(content.size()));
    out_.write_bytes(content.inline_bytes());
}

Result<void> Encoder::finish(const char* message) const {
    if (problem_ == nullptr) return {};
    std::string text = message;
    text += '.';
    text += field_;
    text += ' ';
    text += problem_;
    text += " in version ";
    text += std::to_string(version);
    return weir::fail(ErrorCode::kInvalidArgument, std::move(text));
}

}  // namespace weir::kafka

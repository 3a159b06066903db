#include "rpc/frame.h"

#include <algorithm>
#include <string>

#include "base/crc32c.h"

namespace weir::rpc {
namespace {

constexpr size_t kErrorTextMax = 1024;

// What an error's code is called on the wire, in the order of its numbers: docs/formats/rpc.md.
constexpr ErrorCode kWireCodes[] = {
    ErrorCode::kInvalidArgument,   ErrorCode::kMalformed,     ErrorCode::kCorrupt,
    ErrorCode::kNotFound,          ErrorCode::kAlreadyExists, ErrorCode::kOutOfRange,
    ErrorCode::kResourceExhausted, ErrorCode::kDiskFull,      ErrorCode::kIo,
    ErrorCode::kEndOfStream,       ErrorCode::kCancelled,     ErrorCode::kTimedOut,
    ErrorCode::kUnavailable,       ErrorCode::kUnsupported,
};

}  // namespace

void encode_header(const FrameHeader& header, uint8_t* to) {
    store_be<uint32_t>(to + 4, header.payload_size);
    store_be<uint16_t>(to + 8, static_cast<uint16_t>(header.kind));
    to[10] = static_cast<uint8_t>(header.type);
    to[11] = static_cast<uint8_t>(header.lane);
    store_be<uint32_t>(to + 12, header.timeout_ms);
    store_be<uint64_t>(to + 16, header.call);
    store_be<uint32_t>(to + 24, header.message_size);
    store_be<uint32_t>(to + 28, header.offset);
}

uint32_t checksum_header(const uint8_t* header) {
    return crc32c(Bytes(header + sizeof(uint32_t), kFrameHeaderBytes - sizeof(uint32_t)));
}

Result<FrameHeader> decode_header(Bytes bytes, size_t message_bytes_max) {
    CHECK(bytes.size() == kFrameHeaderBytes);
    const uint8_t* from = bytes.data();
    const FrameHeader header{.crc = load_be<uint32_t>(from),
                             .payload_size = load_be<uint32_t>(from + 4),
                             .kind = Kind{load_be<uint16_t>(from + 8)},
                             .type = FrameType{from[10]},
                             .lane = Lane{from[11]},
                             .timeout_ms = load_be<uint32_t>(from + 12),
                             .call = load_be<uint64_t>(from + 16),
                             .message_size = load_be<uint32_t>(from + 24),
                             .offset = load_be<uint32_t>(from + 28)};
    const auto refuse = [](std::string what) { return fail(ErrorCode::kMalformed, what); };
    if (header.type < FrameType::kMessage || header.type > FrameType::kKeepAlive)
        return refuse("a frame of an unknown type");
    if (from[11] >= kLanes) return refuse("a frame of an unknown lane");
    if (header.message_size > message_bytes_max)
        return refuse("a message of " + std::to_string(header.message_size) + " bytes");
    if (header.payload_size > kPayloadMax)
        return refuse("a frame of " + std::to_string(header.payload_size) + " bytes");
    if (header.offset > header.message_size ||
        header.payload_size > header.message_size - header.offset)
        return refuse("a frame beyond its message");
    if (header.payload_size == 0 && header.message_size > 0)
        return refuse("an empty frame of a message that is not");
    if (header.type == FrameType::kKeepAlive && header.message_size > 0)
        return refuse("a keep-alive with a body");
    const bool calls = header.type == FrameType::kRequest || header.type == FrameType::kResponse ||
                       header.type == FrameType::kFailure;
    if (calls != (header.call != 0)) return refuse("a frame whose call does not fit its type");
    return header;
}

std::vector<uint8_t> encode_error(const Error& error) {
    const auto* code = std::find(std::begin(kWireCodes), std::end(kWireCodes), error.code);
    CHECK(code != std::end(kWireCodes));
    const size_t text = std::min(error.message.size(), kErrorTextMax);
    std::vector<uint8_t> body(sizeof(uint16_t) + text);
    store_be<uint16_t>(body.data(), static_cast<uint16_t>(code - std::begin(kWireCodes) + 1));
    std::copy_n(error.message.data(), text, body.begin() + sizeof(uint16_t));
    return body;
}

Error decode_error(Bytes body) {
    if (body.size() < sizeof(uint16_t))
        return {.code = ErrorCode::kMalformed, .message = "a failure without a code"};
    const auto code = load_be<uint16_t>(body.data());
    Bytes text = body.subspan(sizeof(uint16_t));
    text = text.first(std::min(text.size(), kErrorTextMax));
    // A code of a later version: what it means is not known here, only that it failed.
    const bool known = code >= 1 && code <= std::size(kWireCodes);
    return {.code = known ? kWireCodes[code - 1] : ErrorCode::kIo,
            .message = std::string(as_text(text))};
}

}  // namespace weir::rpc

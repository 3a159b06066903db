// Frame: what a connection between nodes carries after the hello. A message is one frame, or
// several when it is large, so that messages of the other lane get in between. docs/formats/rpc.md
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "rpc/message.h"

namespace weir::rpc {

enum class FrameType : uint8_t {
    kMessage = 1,    // one way
    kRequest = 2,    // call != 0
    kResponse = 3,   // to the request with that call
    kFailure = 4,    // the same; the body is an error
    kKeepAlive = 5,  // empty
};

inline constexpr size_t kFrameHeaderBytes = 32;
inline constexpr size_t kPayloadMax = size_t{256} << 10;

struct FrameHeader {
    uint32_t crc = 0;  // of the header's other bytes and the payload
    uint32_t payload_size = 0;
    Kind kind{};
    FrameType type = FrameType::kMessage;
    Lane lane = Lane::kData;
    uint32_t timeout_ms = 0;    // of a request: how long its caller waits; 0: for ever
    uint64_t call = 0;          // of a request, and of what answers it
    uint32_t message_size = 0;  // of all its frames' payloads
    uint32_t offset = 0;        // of this payload in them
};

// Encodes all fields but the checksum.
void encode_header(const FrameHeader& header, uint8_t* to);
// The checksum of an encoded header, to be continued over the payload.
uint32_t checksum_header(const uint8_t* header);
// `bytes` are kFrameHeaderBytes. kMalformed: a field has an impossible value. The reader verifies
// the checksum when it has the payload.
Result<FrameHeader> decode_header(Bytes bytes, size_t message_bytes_max);

// The body of a kFailure.
std::vector<uint8_t> encode_error(const Error& error);
Error decode_error(Bytes body);

}  // namespace weir::rpc

// What precedes the body of each request and response, after the four-byte size of the frame.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "kafka/protocol/types.h"

namespace weir::kafka {

// Header versions: 1 has the client id; 2, used with flexible versions of an API, ends in tagged
// fields, while its client id keeps the rigid form, so that a server can read the header of a
// request whose version it does not know. 0 has no client id; only ControlledShutdown 0 used it.
struct RequestHeader {
    int16_t api_key = 0;
    int16_t api_version = 0;
    int32_t correlation_id = 0;
    std::optional<std::string> client_id;  // 1+

    // Leaves `in` at the body. The header's version follows from the key and the version of the
    // API. For a key without a schema it is taken to be 1: the caller can refuse the request by
    // key, version and correlation id, but not read on.
    static Result<RequestHeader> decode(ByteReader& in);
    // For a stated version of the header.
    static Result<RequestHeader> decode(ByteReader& in, int16_t header_version);
    // Under the header version that belongs to api_key and api_version; the key must have a schema.
    [[nodiscard]] Result<void> encode(ByteWriter& out) const;
    [[nodiscard]] Result<void> encode(ByteWriter& out, int16_t header_version) const;
    bool operator==(const RequestHeader&) const = default;
};

// Header version 1, used with flexible versions, ends in tagged fields;
// ApiInfo::response_header_version() says which to use.
struct ResponseHeader {
    int32_t correlation_id = 0;

    static Result<ResponseHeader> decode(ByteReader& in, int16_t header_version);
    void encode(ByteWriter& out, int16_t header_version) const;
    bool operator==(const ResponseHeader&) const = default;
};

}  // namespace weir::kafka

#include "kafka/protocol/header.h"

#include "base/check.h"
#include "kafka/protocol/api.h"
#include "kafka/protocol/codec.h"

namespace weir::kafka {

namespace {

Result<void> finish(const ByteReader& in, const char* what) {
    if (in.ok()) return {};
    return fail(ErrorCode::kMalformed, std::string(what) + " is malformed or ends early");
}

}  // namespace

Result<RequestHeader> RequestHeader::decode(ByteReader& in, int16_t header_version) {
    CHECK(header_version >= 0 && header_version <= 2);
    RequestHeader header;
    header.api_key = in.read_i16();
    header.api_version = in.read_i16();
    header.correlation_id = in.read_i32();
    Decoder rigid(in, header_version, false);
    if (header_version >= 1) rigid.read(header.client_id, true);
    if (header_version >= 2) rigid.skip_tags();
    TRY(finish(in, "request header"));
    return header;
}

Result<RequestHeader> RequestHeader::decode(ByteReader& in) {
    ByteReader ahead = in;
    const int16_t key = ahead.read_i16();
    const int16_t version = ahead.read_i16();
    const ApiInfo* const api = find_api(key);
    return decode(in, api != nullptr ? api->request_header_version(version) : int16_t{1});
}

Result<void> RequestHeader::encode(ByteWriter& out, int16_t header_version) const {
    CHECK(header_version >= 0 && header_version <= 2);
    out.write_i16(api_key);
    out.write_i16(api_version);
    out.write_i32(correlation_id);
    Encoder rigid(out, header_version, false);
    if (header_version >= 1) rigid.write(client_id, true, "client_id");
    if (header_version >= 2) rigid.write_tag_count(0);
    return rigid.finish("RequestHeader");
}

Result<void> RequestHeader::encode(ByteWriter& out) const {
    return encode(out, api_info(ApiKey{api_key}).request_header_version(api_version));
}

Result<ResponseHeader> ResponseHeader::decode(ByteReader& in, int16_t header_version) {
    CHECK(header_version == 0 || header_version == 1);
    ResponseHeader header;
    header.correlation_id = in.read_i32();
    if (header_version >= 1) Decoder(in, header_version, true).skip_tags();
    TRY(finish(in, "response header"));
    return header;
}

void ResponseHeader::encode(ByteWriter& out, int16_t header_version) const {
    CHECK(header_version == 0 || header_version == 1);
    out.write_i32(correlation_id);
    if (header_version >= 1) out.write_unsigned_varint(0);
}

}  // namespace weir::kafka

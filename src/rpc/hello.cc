#include "rpc/hello.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/crc32c.h"

namespace weir::rpc {
namespace {

using runtime::ByteStream;
using runtime::StopToken;
using runtime::Task;

constexpr uint32_t kHelloMagic = 0x57525043;  // "WRPC"
constexpr uint32_t kReplyMagic = 0x57525052;  // "WRPR"
constexpr size_t kPreambleBytes = 12;
// Later versions may say more; what is beyond what is known here is skipped.
constexpr size_t kBodyMax = 2048;
constexpr size_t kReasonMax = 512;

void write_identity(ByteWriter& out, const Identity& identity) {
    out.write_bytes(identity.cluster.bytes);
    out.write_i32(identity.node.v);
    out.write_bytes(identity.uuid.bytes);
}

Uuid read_uuid(ByteReader& in) {
    Uuid uuid;
    const Bytes bytes = in.read_bytes(uuid.bytes.size());
    std::copy(bytes.begin(), bytes.end(), uuid.bytes.begin());
    return uuid;
}

Identity read_identity(ByteReader& in) {
    Identity identity;
    identity.cluster = read_uuid(in);
    identity.node = NodeId{in.read_i32()};
    identity.uuid = read_uuid(in);
    return identity;
}

std::vector<uint8_t> seal(uint32_t magic, const ByteWriter& body) {
    ByteWriter out;
    out.write_u32(magic);
    out.write_u32(static_cast<uint32_t>(body.size()));
    out.write_u32(crc32c(body.inline_bytes()));
    out.write_bytes(body.inline_bytes());
    return out.flatten();
}

// The body of a hello or of its reply.
Task<Result<std::vector<uint8_t>>> read_sealed(ByteStream& stream, uint32_t magic, StopToken stop) {
    uint8_t preamble[kPreambleBytes];
    co_await runtime::try_(runtime::read_exactly(stream, preamble, stop));
    if (load_be<uint32_t>(preamble) != magic)
        co_return fail(ErrorCode::kMalformed, "what came is not from a node");
    const auto size = load_be<uint32_t>(preamble + 4);
    if (size > kBodyMax) co_return fail(ErrorCode::kMalformed, "a hello that is too long");
    std::vector<uint8_t> body(size);
    co_await runtime::try_(runtime::read_exactly(stream, body, stop));
    if (crc32c(body) != load_be<uint32_t>(preamble + 8))
        co_return fail(ErrorCode::kMalformed, "a hello with a bad checksum");
    co_return body;
}

}  // namespace

Error to_error(const HelloReply& refused) {
    CHECK(refused.refusal != Refusal::kNone);
    ErrorCode code = ErrorCode::kUnavailable;
    switch (refused.refusal) {
        case Refusal::kOtherCluster:
            code = ErrorCode::kInvalidArgument;
            break;
        case Refusal::kVersion:
            code = ErrorCode::kUnsupported;
            break;
        case Refusal::kUnknownNode:
        case Refusal::kOtherNode:
            code = ErrorCode::kNotFound;
            break;
        default:  // a reason of a later version
            break;
    }
    return {.code = code, .message = "refused: " + refused.reason};
}

std::vector<uint8_t> encode(const Hello& hello) {
    ByteWriter body;
    body.write_u16(hello.version_min);
    body.write_u16(hello.version_max);
    write_identity(body, hello.from);
    body.write_u32(hello.shards);
    body.write_u32(hello.from_shard);
    body.write_u32(hello.to_shard);
    body.write_i32(hello.to.v);
    body.write_u16(hello.transient ? 1 : 0);
    return seal(kHelloMagic, body);
}

std::vector<uint8_t> encode(const HelloReply& reply) {
    ByteWriter body;
    body.write_u16(static_cast<uint16_t>(reply.refusal));
    body.write_u16(reply.version);
    write_identity(body, reply.from);
    body.write_u32(reply.shards);
    const std::string_view reason = std::string_view(reply.reason).substr(0, kReasonMax);
    body.write_u16(static_cast<uint16_t>(reason.size()));
    body.write_text(reason);
    return seal(kReplyMagic, body);
}

Task<Result<Hello>> read_hello(ByteStream& stream, StopToken stop) {
    const std::vector<uint8_t> body =
        co_await runtime::try_(read_sealed(stream, kHelloMagic, stop));
    ByteReader in(body);
    Hello hello;
    hello.version_min = in.read_u16();
    hello.version_max = in.read_u16();
    hello.from = read_identity(in);
    hello.shards = in.read_u32();
    hello.from_shard = in.read_u32();
    hello.to_shard = in.read_u32();
    hello.to = NodeId{in.read_i32()};
    hello.transient = (in.read_u16() & 1) != 0;
    if (!in.ok() || hello.version_min > hello.version_max)
        co_return fail(ErrorCode::kMalformed, "a hello that can't be read");
    co_return hello;
}

Task<Result<HelloReply>> read_hello_reply(ByteStream& stream, StopToken stop) {
    const std::vector<uint8_t> body =
        co_await runtime::try_(read_sealed(stream, kReplyMagic, stop));
    ByteReader in(body);
    HelloReply reply;
    reply.refusal = Refusal{in.read_u16()};
    reply.version = in.read_u16();
    reply.from = read_identity(in);
    reply.shards = in.read_u32();
    reply.reason = as_text(in.read_bytes(in.read_u16()));
    if (!in.ok() || (reply.refusal == Refusal::kNone && reply.shards == 0))
        co_return fail(ErrorCode::kMalformed, "an answer to a hello that can't be read");
    co_return reply;
}

}  // namespace weir::rpc

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

constexpr uint32_t kHelloMagic = 0x57525043;    // "WRPC"
constexpr uint32_t kReplyMagic = 0x57525052;    // "WRPR"
constexpr uint32_t kProofMagic = 0x57525050;    // "WRPP"
constexpr uint32_t kVerdictMagic = 0x57525056;  // "WRPV"
constexpr uint16_t kTransient = 1;              // flags of a hello
constexpr uint16_t kProves = 2;
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

template <size_t N>
void read_array(ByteReader& in, std::array<uint8_t, N>& into) {
    const Bytes bytes = in.read_bytes(N);
    if (in.ok()) std::copy(bytes.begin(), bytes.end(), into.begin());
}

void write_reason(ByteWriter& out, std::string_view reason) {
    reason = reason.substr(0, kReasonMax);
    out.write_u16(static_cast<uint16_t>(reason.size()));
    out.write_text(reason);
}

// All of a reply but what proves it.
void write_reply(ByteWriter& body, const HelloReply& reply) {
    body.write_u16(static_cast<uint16_t>(reply.refusal));
    body.write_u16(reply.version);
    write_identity(body, reply.from);
    body.write_u32(reply.shards);
    write_reason(body, reply.reason);
    if (reply.version < kVersionProofs) return;
    body.write_u8(reply.proof ? 1 : 0);
    if (reply.proof) body.write_bytes(reply.nonce);
}

std::vector<uint8_t> seal(uint32_t magic, const ByteWriter& body) {
    ByteWriter out;
    out.write_u32(magic);
    out.write_u32(static_cast<uint32_t>(body.size()));
    out.write_u32(crc32c(body.inline_bytes()));
    out.write_bytes(body.inline_bytes());
    return out.flatten();
}

// The body of a message of the exchange; its bytes as they came are added to *all.
Task<Result<std::vector<uint8_t>>> read_sealed(ByteStream& stream, uint32_t magic, StopToken stop,
                                               std::vector<uint8_t>* all = nullptr) {
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
    if (all != nullptr) {
        all->assign(preamble, preamble + kPreambleBytes);
        all->insert(all->end(), body.begin(), body.end());
    }
    co_return body;
}

}  // namespace

Error to_error(Refusal refusal, const std::string& reason) {
    CHECK(refusal != Refusal::kNone);
    ErrorCode code = ErrorCode::kUnavailable;
    switch (refusal) {
        case Refusal::kOtherCluster:
            code = ErrorCode::kInvalidArgument;
            break;
        case Refusal::kVersion:
        case Refusal::kNotProven:
            code = ErrorCode::kUnsupported;
            break;
        case Refusal::kUnknownNode:
        case Refusal::kOtherNode:
            code = ErrorCode::kNotFound;
            break;
        default:  // a reason of a later version
            break;
    }
    return {.code = code, .message = "refused: " + reason};
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
    body.write_u16(
        static_cast<uint16_t>((hello.transient ? kTransient : 0) | (hello.proves ? kProves : 0)));
    if (hello.version_max >= kVersionProofs) body.write_bytes(hello.nonce);
    return seal(kHelloMagic, body);
}

std::vector<uint8_t> encode(const HelloReply& reply) {
    ByteWriter body;
    if (reply.proof) CHECK(reply.version >= kVersionProofs);
    write_reply(body, reply);
    if (reply.proof) body.write_bytes(*reply.proof);
    return seal(kReplyMagic, body);
}

std::vector<uint8_t> exchange_before_reply(Bytes hello, const HelloReply& reply) {
    ByteWriter exchange;
    exchange.write_bytes(hello);
    write_reply(exchange, reply);
    return exchange.flatten();
}

std::vector<uint8_t> encode_proof(const Proof& proof) {
    ByteWriter body;
    body.write_bytes(proof);
    return seal(kProofMagic, body);
}

std::vector<uint8_t> encode(const Verdict& verdict) {
    ByteWriter body;
    body.write_u16(static_cast<uint16_t>(verdict.refusal));
    write_reason(body, verdict.reason);
    return seal(kVerdictMagic, body);
}

Task<Result<Hello>> read_hello(ByteStream& stream, StopToken stop, std::vector<uint8_t>* sent) {
    const std::vector<uint8_t> body =
        co_await runtime::try_(read_sealed(stream, kHelloMagic, stop, sent));
    ByteReader in(body);
    Hello hello;
    hello.version_min = in.read_u16();
    hello.version_max = in.read_u16();
    hello.from = read_identity(in);
    hello.shards = in.read_u32();
    hello.from_shard = in.read_u32();
    hello.to_shard = in.read_u32();
    hello.to = NodeId{in.read_i32()};
    const uint16_t flags = in.read_u16();
    hello.transient = (flags & kTransient) != 0;
    if (hello.version_max >= kVersionProofs) {
        hello.proves = (flags & kProves) != 0;
        read_array(in, hello.nonce);
    }
    if (!in.ok() || hello.version_min > hello.version_max || hello.shards > kShardsMax ||
        hello.from_shard >= std::max(hello.shards, 1u))
        co_return fail(ErrorCode::kMalformed, "a hello that can't be read");
    co_return hello;
}

Task<Result<HelloReply>> read_hello_reply(ByteStream& stream, StopToken stop,
                                          std::vector<uint8_t>* sent) {
    const std::vector<uint8_t> body =
        co_await runtime::try_(read_sealed(stream, kReplyMagic, stop, sent));
    ByteReader in(body);
    HelloReply reply;
    reply.refusal = Refusal{in.read_u16()};
    reply.version = in.read_u16();
    reply.from = read_identity(in);
    reply.shards = in.read_u32();
    reply.reason = as_text(in.read_bytes(in.read_u16()));
    if (reply.version >= kVersionProofs && in.read_u8() != 0) {
        read_array(in, reply.nonce);
        reply.proof.emplace();
        read_array(in, *reply.proof);
    }
    if (!in.ok() || reply.shards > kShardsMax ||
        (reply.refusal == Refusal::kNone && reply.shards == 0))
        co_return fail(ErrorCode::kMalformed, "an answer to a hello that can't be read");
    co_return reply;
}

Task<Result<Proof>> read_proof(ByteStream& stream, StopToken stop) {
    const std::vector<uint8_t> body =
        co_await runtime::try_(read_sealed(stream, kProofMagic, stop));
    ByteReader in(body);
    Proof proof{};
    read_array(in, proof);
    if (!in.ok()) co_return fail(ErrorCode::kMalformed, "a proof that can't be read");
    co_return proof;
}

Task<Result<Verdict>> read_verdict(ByteStream& stream, StopToken stop) {
    const std::vector<uint8_t> body =
        co_await runtime::try_(read_sealed(stream, kVerdictMagic, stop));
    ByteReader in(body);
    Verdict verdict;
    verdict.refusal = Refusal{in.read_u16()};
    verdict.reason = as_text(in.read_bytes(in.read_u16()));
    if (!in.ok()) co_return fail(ErrorCode::kMalformed, "an answer to a proof that can't be read");
    co_return verdict;
}

}  // namespace weir::rpc

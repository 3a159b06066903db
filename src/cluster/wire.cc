#include "cluster/wire.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"

namespace weir::cluster {
namespace {

// Of a registration.
constexpr uint8_t kPassedOn = 1;
constexpr uint8_t kIsMember = 2;

void put(ByteWriter& out, const std::string& text) {
    out.write_unsigned_varlong(text.size());
    out.write_text(text);
}

std::string get_text(ByteReader& in) {
    return std::string(as_text(in.read_bytes(in.read_unsigned_varlong())));
}

Uuid get_uuid(ByteReader& in) {
    Uuid uuid;
    const Bytes bytes = in.read_bytes(uuid.bytes.size());
    std::ranges::copy(bytes, uuid.bytes.begin());
    return uuid;
}

uint64_t get_u64(ByteReader& in) { return static_cast<uint64_t>(in.read_i64()); }

template <class T>
Result<T> finish(const ByteReader& in, T value) {
    if (!in.ok() || in.remaining() != 0)
        return fail(ErrorCode::kMalformed, "a message of another node does not parse");
    return value;
}

}  // namespace

std::vector<uint8_t> encode(const RegisterRequest& request) {
    ByteWriter out;
    out.write_u8(static_cast<uint8_t>((request.passed_on ? kPassedOn : 0) |
                                      (request.is_member ? kIsMember : 0)));
    // A record has no node without an id.
    out.write_i32(request.node.id);
    NodeRegistered node = request.node;
    node.id = std::max(node.id, 0);
    out.write_bytes(encode_metadata({MetadataRecord(std::move(node))}));
    return out.flatten();
}

Result<RegisterRequest> decode_register_request(Bytes bytes) {
    ByteReader in(bytes);
    RegisterRequest request;
    const uint8_t flags = in.read_u8();
    request.passed_on = (flags & kPassedOn) != 0;
    request.is_member = (flags & kIsMember) != 0;
    const int32_t id = in.read_i32();
    TRY_ASSIGN(const auto records, decode_metadata(in.read_bytes(in.remaining())));
    if (records.size() != 1 || !std::holds_alternative<NodeRegistered>(records[0]))
        return fail(ErrorCode::kMalformed, "a registration does not parse");
    request.node = std::get<NodeRegistered>(records[0]);
    request.node.id = std::max(id, -1);
    return request;
}

std::vector<uint8_t> encode(const RegisterReply& reply) {
    ByteWriter out;
    out.write_bytes(reply.cluster_id.bytes);
    out.write_i32(reply.node_id);
    out.write_i64(reply.committed_end);
    out.write_unsigned_varlong(reply.members.size());
    for (const auto& [id, endpoint] : reply.members) {
        out.write_i32(id);
        put(out, endpoint.host);
        out.write_u16(endpoint.port);
    }
    return out.flatten();
}

Result<RegisterReply> decode_register_reply(Bytes bytes) {
    ByteReader in(bytes);
    RegisterReply reply;
    reply.cluster_id = get_uuid(in);
    reply.node_id = in.read_i32();
    reply.committed_end = in.read_i64();
    const uint64_t count = in.read_unsigned_varlong();
    for (uint64_t i = 0; i < count && in.ok(); ++i) {
        const int32_t id = in.read_i32();
        Endpoint endpoint{.host = get_text(in), .port = 0};
        endpoint.port = in.read_u16();
        if (id < 0 || endpoint.host.empty()) in.set_failed();
        reply.members.emplace_back(id, std::move(endpoint));
    }
    return finish(in, std::move(reply));
}

std::vector<uint8_t> encode(const LeaderUpdateReply& reply) {
    ByteWriter out;
    for (const uint64_t v : {reply.incarnation, reply.after, reply.upto})
        out.write_i64(static_cast<int64_t>(v));
    return out.flatten();
}

Result<LeaderUpdateReply> decode_leader_update_reply(Bytes bytes) {
    ByteReader in(bytes);
    LeaderUpdateReply reply;
    reply.incarnation = get_u64(in);
    reply.after = get_u64(in);
    reply.upto = get_u64(in);
    return finish(in, reply);
}

std::vector<uint8_t> encode(const MetadataShard::ReplicasReport& report) {
    ByteWriter out;
    out.write_bytes(report.topic.bytes);
    out.write_u32(report.partition);
    out.write_u32(report.revision);
    return out.flatten();
}

Result<MetadataShard::ReplicasReport> decode_replicas_report(Bytes bytes) {
    ByteReader in(bytes);
    MetadataShard::ReplicasReport report;
    report.topic = get_uuid(in);
    report.partition = in.read_u32();
    report.revision = in.read_u32();
    return finish(in, report);
}

std::vector<uint8_t> encode(const TransferRequest& request) {
    ByteWriter out;
    out.write_i64(static_cast<int64_t>(request.log.v));
    out.write_i32(request.target);
    return out.flatten();
}

Result<TransferRequest> decode_transfer_request(Bytes bytes) {
    ByteReader in(bytes);
    TransferRequest request;
    request.log = {get_u64(in)};
    request.target = in.read_i32();
    return finish(in, request);
}

std::vector<uint8_t> encode(const AdminCall& call) {
    ByteWriter out;
    for (const std::string* text : {&call.method, &call.path, &call.query}) put(out, *text);
    return out.flatten();
}

Result<AdminCall> decode_admin_call(Bytes bytes) {
    ByteReader in(bytes);
    AdminCall call;
    for (std::string* text : {&call.method, &call.path, &call.query}) *text = get_text(in);
    return finish(in, std::move(call));
}

std::vector<uint8_t> encode(const AdminReply& reply) {
    ByteWriter out;
    out.write_u16(reply.status);
    put(out, reply.body);
    return out.flatten();
}

Result<AdminReply> decode_admin_reply(Bytes bytes) {
    ByteReader in(bytes);
    AdminReply reply;
    reply.status = in.read_u16();
    reply.body = get_text(in);
    return finish(in, std::move(reply));
}

std::vector<uint8_t> encode(const ProgressMap& progress) {
    ByteWriter out;
    out.write_unsigned_varlong(progress.size());
    for (const auto& [log, each] : progress) {
        out.write_unsigned_varlong(log.v);
        out.write_varlong(each.high_watermark);
        out.write_unsigned_varlong(each.lag.size());
        for (const auto& [node, lag] : each.lag) {
            out.write_varint(node);
            out.write_varlong(lag);
        }
    }
    return out.flatten();
}

Result<ProgressMap> decode_progress(Bytes bytes) {
    ByteReader in(bytes);
    ProgressMap progress;
    const uint64_t count = in.read_unsigned_varlong();
    for (uint64_t i = 0; i < count && in.ok(); ++i) {
        PartitionProgress& each = progress[{in.read_unsigned_varlong()}];
        each.high_watermark = in.read_varlong();
        const uint64_t lags = in.read_unsigned_varlong();
        for (uint64_t j = 0; j < lags && in.ok(); ++j) {
            const int32_t node = in.read_varint();
            each.lag[node] = in.read_varlong();
        }
    }
    return finish(in, std::move(progress));
}

std::vector<uint8_t> encode(const AilmentMap& ailments) {
    ByteWriter out;
    out.write_unsigned_varlong(ailments.size());
    for (const auto& [log, reason] : ailments) {
        out.write_unsigned_varlong(log.v);
        out.write_unsigned_varlong(reason.size());
        out.write_bytes({reinterpret_cast<const uint8_t*>(reason.data()), reason.size()});
    }
    return out.flatten();
}

Result<AilmentMap> decode_ailments(Bytes bytes) {
    ByteReader in(bytes);
    AilmentMap ailments;
    const uint64_t count = in.read_unsigned_varlong();
    for (uint64_t i = 0; i < count && in.ok(); ++i) {
        std::string& reason = ailments[{in.read_unsigned_varlong()}];
        const Bytes text = in.read_bytes(in.read_unsigned_varlong());
        reason.assign(reinterpret_cast<const char*>(text.data()), text.size());
    }
    return finish(in, std::move(ailments));
}

std::vector<uint8_t> encode_i64(int64_t value) {
    ByteWriter out;
    out.write_i64(value);
    return out.flatten();
}

Result<int64_t> decode_i64(Bytes bytes) {
    ByteReader in(bytes);
    const int64_t value = in.read_i64();
    return finish(in, value);
}

}  // namespace weir::cluster

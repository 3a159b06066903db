// Bytes from another node: whatever they are, they are refused or taken; what is taken says the
// same when it is encoded again.
#include <cstdlib>

#include "base/check.h"
#include "replication/wire.h"

namespace weir::replication {
namespace {

std::vector<uint8_t> encode(const std::vector<GroupMessage>& messages) {
    ByteWriter out;
    for (const GroupMessage& message : messages) append_message(out, message);
    return out.flatten();
}

void messages(Bytes bytes) {
    const auto decoded = decode_messages(bytes);
    if (!decoded) return;
    const std::vector<uint8_t> once = encode(*decoded);
    const auto again = decode_messages(once);
    CHECK(again.has_value());
    CHECK(again->size() == decoded->size());
    CHECK(encode(*again) == once);
}

void append(Bytes bytes) {
    const auto decoded = decode_append(runtime::SharedBytes::copy_of(bytes));
    if (!decoded) return;
    std::vector<storage::FoundEntry> entries;
    storage::Position at = decoded->request.prev;
    for (const storage::Entry& entry : decoded->entries) {
        CHECK(entry.info.first == at);
        at = entry.info.end();
        entries.push_back({entry.info, entry.payload});
    }
    const rpc::Message message =
        encode_append(decoded->log, decoded->start_offset, decoded->request, entries);
    std::vector<uint8_t> body = message.body;
    for (const runtime::SharedBytes& part : message.parts)
        body.insert(body.end(), part.bytes().begin(), part.bytes().end());
    CHECK(decode_append(runtime::SharedBytes::copy_of(body)).has_value());
}

void snapshot(Bytes bytes) {
    const auto decoded = decode_snapshot(bytes);
    if (!decoded) return;
    const std::vector<uint8_t> once = encode_snapshot(*decoded).body;
    const auto again = decode_snapshot(once);
    CHECK(again.has_value());
    CHECK(encode_snapshot(*again).body == once);
}

void control(Bytes bytes) {
    const auto decoded = decode_control(bytes);
    if (!decoded || !*decoded) return;
    const auto again = decode_control(
        encode_control({.kind = raft::ControlKind::kConfiguration, .configuration = **decoded}));
    CHECK(again.has_value());
    CHECK(*again == *decoded);
}

// What a group keeps beside its log comes from the node's own disk, by way of the store.
void kept(Bytes bytes) {
    const auto decoded = decode_kept(bytes);
    if (!decoded) return;
    const auto again = decode_kept(encode_kept(*decoded));
    CHECK(again.has_value());
    CHECK(encode_kept(*again) == encode_kept(*decoded));
    CHECK(again->memory_history == decoded->memory_history);
}

}  // namespace
}  // namespace weir::replication

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace weir;
    if (size == 0) return 0;
    const Bytes bytes{data + 1, size - 1};
    switch (data[0] % 5) {
        case 0:
            replication::messages(bytes);
            break;
        case 1:
            replication::append(bytes);
            break;
        case 2:
            replication::snapshot(bytes);
            break;
        case 3:
            replication::control(bytes);
            break;
        default:
            replication::kept(bytes);
            break;
    }
    return 0;
}

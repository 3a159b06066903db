// Bytes from another node: whatever they are, they are refused or taken; what is taken says the
// same when it is encoded again.
#include <cstdlib>

#include "base/check.h"
#include "replication/wire.h"

namespace weir::replication {
namespace {

void messages(Bytes bytes) {
    const auto decoded = decode_messages(bytes);
    if (!decoded) return;
    ByteWriter out;
    for (const GroupMessage& message : *decoded) append_message(out, message);
    const std::vector<uint8_t> again = out.flatten();
    const auto twice = decode_messages(again);
    CHECK(twice.has_value());
    CHECK(twice->size() == decoded->size());
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

}  // namespace
}  // namespace weir::replication

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace weir;
    if (size == 0) return 0;
    const Bytes bytes{data + 1, size - 1};
    switch (data[0] % 4) {
        case 0:
            replication::messages(bytes);
            break;
        case 1:
            replication::append(bytes);
            break;
        case 2:
            if (const auto snapshot = replication::decode_snapshot(bytes))
                CHECK(replication::decode_snapshot(replication::encode_snapshot(*snapshot).body));
            break;
        default:
            (void)replication::decode_control(bytes);
            break;
    }
    return 0;
}

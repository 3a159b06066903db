// Any bytes as any message: the first byte picks the kind, the second the version, the rest is the body. And any bytes as a request
// with its header. What decodes must encode, and then mean the same; what it takes in memory is bounded by its size, which the
// fuzzer's own limit on memory watches.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "kafka/protocol/header.h"
#include "kafka/protocol/message_kinds.h"

using namespace weir;
using namespace weir::kafka;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const std::vector<MessageKind> kinds = all_message_kinds();
    const Bytes input(data, size);
    ByteReader header(input);
    if (const Result<RequestHeader> read = RequestHeader::decode(header)) CHECK(header.remaining() < size);
    if (size < 2) return 0;
    const MessageKind& kind = kinds[data[0] % kinds.size()];
    const int versions = kind.version_max - kind.version_min + 1;
    const auto version = static_cast<int16_t>(kind.version_min + data[1] % versions);
    const Result<std::vector<uint8_t>> once = kind.recode(input.subspan(2), version);
    if (!once) return 0;
    const Result<std::vector<uint8_t>> twice = kind.recode(*once, version);
    CHECK(twice.has_value());
    CHECK(*twice == *once);
    return 0;
}

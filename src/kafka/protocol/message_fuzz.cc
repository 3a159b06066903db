// Any bytes as any message: the first byte picks the kind, the second the version, the rest is the
// body. And any bytes as a request with its header. What decodes must encode, and then mean the
// same; what it takes in memory is bounded by its size, which the fuzzer's own limit on memory
// watches.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "kafka/protocol/header.h"
#include "kafka/protocol/message_kinds.h"

using namespace weir;
using namespace weir::kafka;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

namespace {

std::span<const MessageKind> kinds() {
    static const std::vector<MessageKind> all = all_message_kinds();
    return all;
}

int versions_of(const MessageKind& kind) { return kind.version_max - kind.version_min + 1; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const Bytes input(data, size);
    ByteReader header(input);
    if (RequestHeader::decode(header)) CHECK(header.remaining() < size);
    if (size < 2) return 0;
    const MessageKind& kind = kinds()[data[0] % kinds().size()];
    const auto version = static_cast<int16_t>(kind.version_min + data[1] % versions_of(kind));
    const Result<std::vector<uint8_t>> once = kind.recode(input.subspan(2), version);
    if (!once) return 0;
    const Result<std::vector<uint8_t>> twice = kind.recode(*once, version);
    CHECK(twice.has_value());
    CHECK(*twice == *once);
    return 0;
}

// Now and then a well-formed message of random values, so that mutations start deep inside of one.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
    if (seed % 16 != 0) return LLVMFuzzerMutate(data, size, size_max);
    Prng prng(seed);
    const size_t index = prng.below(kinds().size());
    const MessageKind& kind = kinds()[index];
    const auto step = static_cast<uint8_t>(prng.below(static_cast<uint64_t>(versions_of(kind))));
    const std::vector<uint8_t> body =
        kind.random(prng, static_cast<int16_t>(kind.version_min + step));
    if (body.size() + 2 > size_max) return LLVMFuzzerMutate(data, size, size_max);
    data[0] = static_cast<uint8_t>(index);
    data[1] = step;
    std::ranges::copy(body, data + 2);
    return body.size() + 2;
}

// The codecs: reading whole and reading in chunks agree, neither passes its bound, and what was
// packed comes back.
#include <array>
#include <vector>

#include "base/check.h"
#include "kafka/records/compression.h"

namespace weir::kafka {
namespace {

constexpr size_t kPlainMax = 200'000;

// What a stream of the codec begins with, so that the fuzzer need not guess it.
Bytes preamble_of(Compression codec) {
    static constexpr uint8_t kGzip[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
    static constexpr uint8_t kXerial[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0,
                                          0,    0,   0,   1,   0,   0,   0,   1};
    static constexpr uint8_t kLz4[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82};
    static constexpr uint8_t kZstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    switch (codec) {
        case Compression::kGzip:
            return kGzip;
        case Compression::kSnappy:
            return kXerial;
        case Compression::kLz4:
            return kLz4;
        case Compression::kZstd:
            return kZstd;
        case Compression::kNone:
            break;
    }
    return {};
}

void check_unpacking(Compression codec, Bytes packed, size_t size_max, Lz4Header lz4_header) {
    const auto whole = decompress(codec, packed, size_max, lz4_header);
    if (whole) CHECK(whole->size() <= size_max);
    Decompressor decompressor;
    std::vector<uint8_t> all;
    Result<> status = decompressor.start(codec, packed, size_max, lz4_header);
    while (status && !decompressor.ended()) {
        const auto chunk = decompressor.next();
        if (!chunk) {
            status = fail(chunk.error());
        } else {
            all.insert(all.end(), chunk->begin(), chunk->end());
            CHECK(all.size() <= size_max);
        }
    }
    CHECK(status.has_value() == whole.has_value());
    if (whole) CHECK(*whole == all);
}

void fuzz(Bytes input) {
    if (input.size() < 2) return;
    const auto codec = static_cast<Compression>(input[0] % 5);
    const uint8_t mode = input[1];
    const Bytes rest = input.subspan(2);
    const Lz4Header lz4_header = (mode & 4) ? Lz4Header::kUnchecked : Lz4Header::kChecked;
    const size_t size_max = (mode & 8) ? 100 : kPlainMax;
    if (mode % 4 == 0) {
        const auto packed = compress(codec, rest);
        CHECK(packed.has_value());
        const auto again = decompress(codec, *packed, rest.size());
        CHECK(again.has_value());
        CHECK(std::equal(again->begin(), again->end(), rest.begin(), rest.end()));
        return;
    }
    std::vector<uint8_t> packed;
    if (mode % 4 != 1) {
        const Bytes preamble = preamble_of(codec);
        packed.assign(preamble.begin(), preamble.end());
    }
    packed.insert(packed.end(), rest.begin(), rest.end());
    check_unpacking(codec, packed, size_max, lz4_header);
}

}  // namespace
}  // namespace weir::kafka

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    weir::kafka::fuzz({data, size});
    return 0;
}

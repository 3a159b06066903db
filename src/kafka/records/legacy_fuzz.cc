// Message sets of magic 0 and 1: what is converted is a valid batch; nothing that comes in breaks
// anything.
#include <zlib.h>

#include <vector>

#include "base/check.h"
#include "kafka/records/legacy.h"
#include "kafka/records/record.h"

namespace weir::kafka {
namespace {

constexpr size_t kPlainMax = 1 << 20;
constexpr size_t kPrefixSize = 12;  // offset and size

// Makes the CRCs right of those messages whose sizes are, so that the fuzzer gets past them.
void seal_messages(MutableBytes set) {
    while (set.size() >= kPrefixSize + 4) {
        const uint32_t size = load_be<uint32_t>(set.data() + 8);
        if (size < 4 || size > set.size() - kPrefixSize) return;
        const Bytes covered = set.subspan(kPrefixSize + 4, size - 4);
        const auto crc = static_cast<uint32_t>(crc32_z(0, covered.data(), covered.size()));
        store_be(set.data() + kPrefixSize, crc);
        set = set.subspan(kPrefixSize + size);
    }
}

std::vector<uint8_t> wrap(Bytes value, uint8_t magic, uint8_t attributes) {
    std::vector<uint8_t> set(kPrefixSize + 4);
    set.push_back(magic);
    set.push_back(attributes);
    if (magic == 1) set.resize(set.size() + 8);
    set.insert(set.end(), 4, 0xff);
    set.resize(set.size() + 4);
    store_be(set.data() + set.size() - 4, static_cast<uint32_t>(value.size()));
    set.insert(set.end(), value.begin(), value.end());
    store_be(set.data() + 8, static_cast<uint32_t>(set.size() - kPrefixSize));
    seal_messages(set);
    return set;
}

void check_set(Bytes set, Compression codec) {
    const BatchLimits limits{.records_bytes_max = kPlainMax};
    const UpConversion up = up_convert(set, limits, codec);
    (void)message_set_compression(set);
    if (!up.verdict.ok()) {
        CHECK(up.batch.empty());
        CHECK(!up.verdict.reason.empty());
        return;
    }
    CHECK(validate_batch(up.batch, limits).ok());
    CHECK(up.verdict.header.compression() == codec);
    CHECK(OpenBatch::open(up.batch, 2 * kPlainMax).has_value());
}

void fuzz(Bytes input) {
    if (input.size() < 2) return;
    const uint8_t mode = input[0];
    const auto codec = static_cast<Compression>(input[1] % 5);
    std::vector<uint8_t> set(input.begin() + 2, input.end());
    if (mode & 1) seal_messages(set);
    if (mode & 2) {
        const uint8_t wrapper_codec = (mode >> 2) % 4;
        const auto packed = compress(static_cast<Compression>(wrapper_codec), set);
        CHECK(packed.has_value());
        set = wrap(*packed, (mode >> 4) & 1, wrapper_codec);
    } else if (mode & 4) {
        set = wrap(set, (mode >> 4) & 1, (mode >> 5) & 7);
    }
    check_set(set, codec);
}

}  // namespace
}  // namespace weir::kafka

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    weir::kafka::fuzz({data, size});
    return 0;
}

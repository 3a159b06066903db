// The metadata log: any bytes as its entries. What is read is written and read again as the same;
// an image that follows it is the same after a snapshot; what does not follow is an error that
// leaves the image as it was.
#include "base/check.h"
#include "cluster/image.h"
#include "cluster/records.h"

namespace weir::cluster {
namespace {

void fuzz(Bytes input) {
    const auto records = decode_metadata(input);
    if (!records) return;
    const auto again = decode_metadata(encode_metadata(*records));
    CHECK(again && *again == *records);

    MetadataImage image;
    for (const MetadataRecord& record : *records) {
        const MetadataImage before = image;
        if (!image.apply(record)) CHECK(image == before);
    }
    MetadataImage restored;
    for (const MetadataRecord& record : image.to_records()) CHECK(restored.apply(record));
    CHECK(restored == image);

    size_t partitions = 0;
    for (const auto& [name, topic] : image.topics()) {
        CHECK(image.find(name) == &topic);
        CHECK(image.find(topic.id) == &topic);
        if (const TopicImage* other = image.find_collision(name)) {
            CHECK(other != &topic);
            CHECK(image.find_collision(other->name) != nullptr);
        }
        partitions += topic.partitions.size();
    }
    CHECK(partitions == image.partition_count());
}

// So that the fuzzer need not find the frame around records: its length is made right.
void fuzz_framed(Bytes input) {
    std::vector<uint8_t> entry(5);
    entry.insert(entry.end(), input.begin(), input.end());
    entry[0] = 1;
    store_be(entry.data() + 1, static_cast<uint32_t>(input.size()));
    fuzz(entry);
}

}  // namespace
}  // namespace weir::cluster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const weir::Bytes input(data + 1, size - 1);
    if ((data[0] & 1) != 0) {
        weir::cluster::fuzz_framed(input);
    } else {
        weir::cluster::fuzz(input);
    }
    return 0;
}

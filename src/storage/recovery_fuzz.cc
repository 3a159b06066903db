// Arbitrary bytes where recovery, reads and the debug commands meet those of a disk. The first byte
// chooses which. Where a checksum would stop nearly every input at the door, it is made right
// first, so that what lies behind it is met too.
#include <cstdlib>

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/checkpoint_format.h"
#include "storage/describe.h"
#include "storage/replay.h"
#include "storage/segment_format.h"

namespace weir::storage {
namespace {

void fix_crc(std::vector<uint8_t>& bytes, size_t length) {
    if (length >= 8 && bytes.size() >= length)
        store_le<uint32_t>(bytes.data() + 4, crc32c(Bytes(bytes).subspan(8, length - 8)));
}

// The input is the groups of one block after another: each begins with its length.
void fuzz_replay(Bytes input) {
    Replay replay({});
    uint64_t sequence = 1;
    while (input.size() > 2) {
        const size_t size = std::min<size_t>(load_le<uint16_t>(input.data()), input.size() - 2);
        std::vector<uint8_t> block(kBlockHeaderBytes);
        block.insert(block.end(), input.begin() + 2,
                     input.begin() + 2 + static_cast<ptrdiff_t>(size));
        store_le<uint32_t>(block.data() + 44, size > 0 ? input[2] % 4u : 0);
        input = input.subspan(2 + size);
        (void)replay.bypassed_runs(block);
        if (!replay.apply({.block_sequence = sequence++}, block)) return;
    }
    if (!replay.finish()) return;
    for (const auto& [id, log] : replay.logs()) {
        const LogState& state = log.snapshot.log;
        CHECK(state.flushed_end <= state.end);
        std::vector<uint8_t> checkpoint(kCheckpointHeaderBytes);
        append_section(checkpoint, state, state.end, sequence,
                       {log.snapshot.state_end, log.snapshot.state_floor, log.snapshot.state});
    }
}

void fuzz_run(std::vector<uint8_t> bytes) {
    if (bytes.size() >= kRunHeaderBytes) {
        store_le<uint32_t>(bytes.data(), kRunMagic);
        store_le<uint16_t>(bytes.data() + 8, kSegmentVersion);
        const size_t table =
            std::min<size_t>(load_le<uint32_t>(bytes.data() + 36), bytes.size() / kTableItemBytes) *
            kTableItemBytes;
        const size_t payloads =
            std::min<size_t>(load_le<uint32_t>(bytes.data() + 40), bytes.size());
        if (kRunHeaderBytes + table + payloads <= bytes.size()) {
            store_le<uint32_t>(bytes.data() + 44,
                               crc32c(Bytes(bytes).subspan(kRunHeaderBytes, table)));
            store_le<uint32_t>(bytes.data() + 48,
                               crc32c(Bytes(bytes).subspan(kRunHeaderBytes + table, payloads)));
        }
        bytes.resize(round_to_page(bytes.size()));
        fix_crc(bytes, kRunHeaderBytes);
    }
    auto view = RunView::parse(bytes, true);
    if (!view) return;
    for (uint32_t i = 0; i < view->count(); ++i) (void)view->item(i);
    (void)view->find(view->header().first.offset);
}

void fuzz_checkpoint(std::vector<uint8_t> bytes) {
    if (bytes.size() >= kCheckpointHeaderBytes) {
        store_le<uint32_t>(bytes.data(), kCheckpointMagic);
        store_le<uint16_t>(bytes.data() + 8, kCheckpointVersion);
        store_le<uint64_t>(bytes.data() + 16, bytes.size());
        fix_crc(bytes, bytes.size());
    }
    auto checkpoint = parse_checkpoint(bytes);
    if (!checkpoint) return;
    Replay replay(std::move(checkpoint->logs));
    (void)replay.finish();
}

void fuzz_footer(std::vector<uint8_t> bytes) {
    if (bytes.size() >= kFooterHeaderBytes) {
        const size_t count =
            std::min<size_t>(load_le<uint32_t>(bytes.data() + 32), bytes.size() / kFooterItemBytes);
        store_le<uint32_t>(bytes.data(), kFooterMagic);
        store_le<uint16_t>(bytes.data() + 8, kSegmentVersion);
        fix_crc(bytes, std::min(bytes.size(), kFooterHeaderBytes + count * kFooterItemBytes));
    }
    (void)parse_footer(bytes);
    (void)parse_trailer(bytes);
}

}  // namespace
}  // namespace weir::storage

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace weir;
    using namespace weir::storage;
    if (size == 0) return 0;
    const Bytes input(data + 1, size - 1);
    const std::vector<uint8_t> bytes(input.begin(), input.end());
    switch (data[0] % 8) {
        case 0:
            fuzz_replay(input);
            break;
        case 1:
            fuzz_run(bytes);
            break;
        case 2:
            fuzz_checkpoint(bytes);
            break;
        case 3:
            fuzz_footer(bytes);
            break;
        case 4:
            (void)describe_journal(input);
            break;
        case 5:
            (void)describe_segment(input);
            break;
        case 6:
            (void)describe_checkpoint(input);
            break;
        case 7: {
            BlockHeader header;
            (void)check_block(input, &header);
            break;
        }
    }
    return 0;
}

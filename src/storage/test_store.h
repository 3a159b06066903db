// For tests of stores: a simulated node with a data directory, entries whose content tells their
// offset, and a reader that checks what it reads.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "base/units.h"
#include "runtime/sim/test_node.h"
#include "storage/store.h"

namespace weir::storage {

using runtime::Shard;
using runtime::Task;

template <class T>
T must(Result<T> result) {
    if (!result) ADD_FAILURE() << result.error().to_string();
    CHECK(result.has_value());
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// The payload of the entry at `offset`: a header that names it, then bytes that follow from it.
inline runtime::SharedBytes payload_of(LogId log, int64_t offset, size_t size) {
    std::vector<uint8_t> bytes(std::max<size_t>(size, 24));
    uint64_t x = mix64(log.v * 1000003 + static_cast<uint64_t>(offset));
    store_le<uint64_t>(bytes.data(), log.v);
    store_le<int64_t>(bytes.data() + 8, offset);
    store_le<uint64_t>(bytes.data() + 16, bytes.size());
    for (size_t i = 24; i < bytes.size(); ++i)
        bytes[i] = static_cast<uint8_t>((x = x * 6364136223846793005ull + 1) >> 56);
    return runtime::SharedBytes::copy_of(bytes);
}

inline Entry make_entry(const Log& log, size_t size, int64_t width = 1, int32_t term = 1,
                        int64_t timestamp = -1) {
    Entry entry;
    entry.info = {.kind = EntryKind::kData,
                  .term = term,
                  .first = log.end(),
                  .next_offset = log.end().offset + width,
                  .max_timestamp_ms = timestamp == -1 ? log.end().offset * 10 : timestamp};
    entry.payload = payload_of(log.id(), log.end().offset, size);
    entry.summary_bytes = 24;
    return entry;
}

inline Entry make_control(const Log& log, int32_t term) {
    Entry entry;
    entry.info = {.kind = EntryKind::kControl,
                  .term = term,
                  .first = log.end(),
                  .next_offset = log.end().offset};
    entry.payload = payload_of(log.id(), -1, 40);
    return entry;
}

inline Task<Result<void>> append_durably(Log* log, Entry entry) {
    co_await runtime::try_(log->append(std::move(entry)));
    co_return co_await log->wait_durable(log->end());
}

// Reads [from, to) and checks each payload; gives how many entries there were.
inline Task<Result<int>> read_and_check(Log* log, int64_t from, int64_t to,
                                        uint64_t bytes_max = 1 << 20) {
    int entries = 0;
    while (from < to) {
        ReadResult result =
            co_await runtime::try_(log->read(from, {.end_offset = to, .bytes_max = bytes_max}, {}));
        if (result.parts.empty())
            co_return fail(ErrorCode::kCorrupt, "nothing at " + std::to_string(from));
        int64_t expected = result.first_offset;
        if (expected > from) co_return fail(ErrorCode::kCorrupt, "gap at " + std::to_string(from));
        for (const runtime::SharedBytes& part : result.parts) {
            for (size_t at = 0; at < part.size();) {
                const int64_t offset = load_le<int64_t>(part.data() + at + 8);
                const uint64_t size = load_le<uint64_t>(part.data() + at + 16);
                if (offset < expected)
                    co_return fail(ErrorCode::kCorrupt,
                                   "offset " + std::to_string(offset) + " out of order");
                const runtime::SharedBytes right = payload_of(log->id(), offset, size);
                if (at + size > part.size() ||
                    std::memcmp(right.data(), part.data() + at, size) != 0) {
                    co_return fail(ErrorCode::kCorrupt,
                                   "payload of offset " + std::to_string(offset));
                }
                expected = offset + 1;
                at += size;
                ++entries;
            }
        }
        from = result.next_offset;
    }
    co_return entries;
}

// Small limits, so that short tests reach every path.
inline StoreOptions small_options(runtime::MemoryBudget* memory) {
    StoreOptions options;
    options.directory = "/data";
    options.memory = memory;
    options.journal_file_bytes = 256_KiB;
    options.journal_bytes_max = 2_MiB;
    options.unflushed_bytes_max = 512_KiB;
    options.commit_bytes_max = 64_KiB;
    options.bypass_bytes_min = 16_KiB;
    options.cache_bytes_max = 256_KiB;
    options.read_ahead_bytes = 64_KiB;
    options.retention_check_ms = 1000;
    options.sweep_delay_ms = 0;
    return options;
}

}  // namespace weir::storage

// Sizes and names that the files of a data directory share. docs/formats/ says what lies where.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "runtime/task.h"
#include "storage/entry.h"

namespace weir::storage {

// Everything on disk begins and ends at a multiple of this: O_DIRECT, and a torn write never harms
// a neighbour.
inline constexpr uint64_t kPage = 4096;

constexpr uint64_t round_to_page(uint64_t bytes) { return round_up(bytes, kPage); }

struct Layout {
    uint64_t generation = 0;  // of shards-G: a new one for each change of the number of shards
    uint32_t shards = 0;
    // The id of each shard's journal: shards-G of another data directory is known by it. Empty in
    // files of earlier versions.
    std::vector<uint64_t> journals;
};

// The file `layout` of a data directory. docs/formats/layout.md. kCorrupt.
inline constexpr uint64_t kLayoutBytesMax = 8192;
std::string encode_layout(const Layout& layout);
Result<Layout> parse_layout(const std::string& text);

std::string shards_directory(const std::string& data, uint64_t generation);
std::string shard_directory(const std::string& data, uint64_t generation, uint32_t shard);
std::string logs_directory(const std::string& data);
std::string log_directory(const std::string& data, LogId id);
// A name is never used twice: the segment's number in its log goes into it beside its first offset.
std::string segment_path(const std::string& data, LogId id, int64_t base_offset, uint32_t segment);
std::string journal_path(const std::string& shard_directory, uint64_t sequence);

// "journal-000000000000002a" -> 42; false for other names.
bool parse_journal_name(const std::string& name, uint64_t* sequence);
bool parse_log_directory_name(const std::string& name, LogId* id);
// The name of a segment_path() in its directory; false for other names.
bool parse_segment_name(const std::string& name, int64_t* base_offset, uint32_t* segment);

// Makes the directory and its parents, and syncs the last `levels` names of its path even if they
// are there already: a process that was killed may have made them without coming to that.
runtime::Task<Result<void>> make_durable_directory(std::string path, int levels);

}  // namespace weir::storage

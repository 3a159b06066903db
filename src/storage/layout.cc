#include "storage/layout.h"

#include <fmt/format.h>

#include <charconv>

#include "base/crc32c.h"
#include "runtime/file.h"

namespace weir::storage {
namespace {

template <class Integer>
bool parse_whole(std::string_view text, int base, Integer* value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, base);
    return error == std::errc() && end == text.data() + text.size();
}

bool parse_hex(std::string_view text, uint64_t* value) {
    return text.size() == 16 && parse_whole(text, 16, value);
}

constexpr std::string_view kJournalPrefix = "journal-";
constexpr std::string_view kLayoutMagic = "weir-data 1";
constexpr std::string_view kJournalsWord = "journals";

}  // namespace

std::string encode_layout(const Layout& layout) {
    const std::string body = fmt::format("{}\ngeneration {}\nshards {}\n", kLayoutMagic,
                                         layout.generation, layout.shards);
    std::string text = fmt::format("{}crc {:08x}\n", body, crc32c(as_bytes(body)));
    if (layout.journals.empty()) return text;
    text += kJournalsWord;
    for (const uint64_t id : layout.journals) text += fmt::format(" {:016x}", id);
    return fmt::format("{}\ncrc {:08x}\n", text, crc32c(as_bytes(text)));
}

namespace {

// What follows the part that earlier versions know.
Result<void> parse_journals(std::string_view text, size_t at, Layout* layout) {
    const auto damaged = [] {
        return fail(ErrorCode::kCorrupt, "the journals in the data directory's layout file");
    };
    const size_t end = text.find('\n', at);
    if (!text.substr(at).starts_with(kJournalsWord) || end == std::string_view::npos)
        return damaged();
    if (text.substr(end + 1) != fmt::format("crc {:08x}\n", crc32c(as_bytes(text.substr(0, end)))))
        return damaged();
    for (at += kJournalsWord.size(); at < end; at += 17) {
        uint64_t id = 0;
        if (text[at] != ' ' || !parse_hex(text.substr(at + 1, 16), &id)) return damaged();
        layout->journals.push_back(id);
    }
    if (layout->journals.size() != layout->shards) return damaged();
    return {};
}

}  // namespace

Result<Layout> parse_layout(const std::string& text) {
    Layout layout;
    unsigned long long generation = 0;
    unsigned shards = 0, crc = 0;
    const size_t crc_at = text.find("crc ");
    const bool parsed =
        text.starts_with(kLayoutMagic) && crc_at != std::string::npos &&
        std::sscanf(text.c_str() + kLayoutMagic.size(), "\ngeneration %llu\nshards %u\ncrc %8x\n",
                    &generation, &shards, &crc) == 3;
    if (!parsed)
        return fail(ErrorCode::kCorrupt, "the data directory's layout file does not parse");
    if (crc32c(as_bytes(std::string_view(text).substr(0, crc_at))) != crc)
        return fail(ErrorCode::kCorrupt, "checksum of the data directory's layout file");
    if (shards == 0 || shards > 256)
        return fail(ErrorCode::kCorrupt, "number of shards in the data directory's layout file");
    layout.generation = generation;
    layout.shards = shards;
    const size_t known_end = text.find('\n', crc_at);
    if (known_end == std::string::npos || known_end + 1 == text.size()) return layout;
    TRY(parse_journals(text, known_end + 1, &layout));
    return layout;
}

std::string shards_directory(const std::string& data, uint64_t generation) {
    return fmt::format("{}/shards-{}", data, generation);
}

std::string shard_directory(const std::string& data, uint64_t generation, uint32_t shard) {
    return fmt::format("{}/shards-{}/{}", data, generation, shard);
}

std::string logs_directory(const std::string& data) { return data + "/logs"; }

std::string log_directory(const std::string& data, LogId id) {
    return fmt::format("{}/logs/{:02x}/{:016x}", data, id.v & 0xff, id.v);
}

std::string segment_path(const std::string& data, LogId id, int64_t base_offset, uint32_t segment) {
    return fmt::format("{}/{:020}-{:08x}.segment", log_directory(data, id), base_offset, segment);
}

std::string journal_path(const std::string& shard_directory, uint64_t sequence) {
    return fmt::format("{}/{}{:016x}", shard_directory, kJournalPrefix, sequence);
}

bool parse_journal_name(const std::string& name, uint64_t* sequence) {
    return name.starts_with(kJournalPrefix) &&
           parse_hex(std::string_view(name).substr(kJournalPrefix.size()), sequence);
}

bool parse_log_directory_name(const std::string& name, LogId* id) {
    return parse_hex(name, &id->v);
}

bool parse_segment_name(const std::string& name, int64_t* base_offset, uint32_t* segment) {
    constexpr size_t kOffsetDigits = 20, kSegmentDigits = 8;
    constexpr std::string_view kSuffix = ".segment";
    const std::string_view text(name);
    return text.size() == kOffsetDigits + 1 + kSegmentDigits + kSuffix.size() &&
           text[kOffsetDigits] == '-' && text.ends_with(kSuffix) &&
           parse_whole(text.substr(0, kOffsetDigits), 10, base_offset) &&
           parse_whole(text.substr(kOffsetDigits + 1, kSegmentDigits), 16, segment);
}

runtime::Task<Result<void>> make_durable_directory(std::string path, int levels) {
    co_await runtime::try_(runtime::make_directories(path));
    for (; levels > 0; --levels) {
        const size_t slash = path.rfind('/');
        path = slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
        co_await runtime::try_(runtime::sync_directory(path));
        if (slash == std::string::npos || slash == 0) break;
    }
    co_return Result<void>{};
}

}  // namespace weir::storage

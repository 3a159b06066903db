#include "storage/losses.h"

#include <fmt/format.h>

#include <charconv>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/units.h"
#include "runtime/file.h"

namespace weir::storage {

using runtime::Task;
using runtime::try_;

namespace {

constexpr std::string_view kMagic = "weir-losses 1\n";
constexpr std::string_view kAccepted = " accepted";
constexpr uint64_t kBytesMax = 64_MiB;  // of some 2 million logs

std::string_view next_line(std::string_view& rest) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    return line;
}

}  // namespace

std::string losses_path(const std::string& shard_directory) { return shard_directory + "/losses"; }

std::string encode_losses(const LossMap& logs) {
    std::string body(kMagic);
    for (const auto& [log, accepted] : logs)
        body += fmt::format("log {:016x}{}\n", log.v, accepted ? kAccepted : "");
    return fmt::format("{}crc {:08x}\n", body, crc32c(as_bytes(body)));
}

Result<LossMap> parse_losses(const std::string& text) {
    LossMap logs;
    std::string_view rest(text);
    if (rest.starts_with(kMagic)) rest.remove_prefix(kMagic.size());
    while (rest.starts_with("log ")) {
        std::string_view line = next_line(rest).substr(4);
        const bool accepted = line.ends_with(kAccepted);
        if (accepted) line.remove_suffix(kAccepted.size());
        LogId id;
        const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), id.v, 16);
        if (error != std::errc() || end != line.data() + line.size()) break;
        logs.emplace(id, accepted);
    }
    if (encode_losses(logs) != text)
        return fail(ErrorCode::kCorrupt, "damage in the file of losses");
    return logs;
}

Task<Result<LossMap>> Losses::load(std::string shard_directory) {
    const std::string path = losses_path(shard_directory);
    const auto text = co_await runtime::read_small_file(path, kBytesMax);
    if (text) {
        auto parsed = parse_losses(*text);
        if (!parsed) co_return fail(std::move(parsed).error().with(path));
        co_return parsed;
    }
    if (text.error().code == ErrorCode::kNotFound) co_return LossMap{};
    co_return fail(text.error());
}

Task<Result<void>> Losses::store(std::string shard_directory, LossMap logs) {
    const std::string path = losses_path(shard_directory);
    if (!logs.empty()) co_return co_await runtime::replace_small_file(path, encode_losses(logs));
    const Result<void> removed = co_await runtime::unlink_file(path);
    if (!removed && removed.error().code != ErrorCode::kNotFound) co_return fail(removed.error());
    co_return co_await runtime::sync_directory(shard_directory);
}

Task<Result<void>> Losses::remove(LogId log) {
    if (logs_.erase(log) > 0) ++asked_;
    const uint64_t wanted = asked_;
    auto alone = co_await writing_.acquire(1);
    CHECK(alone.has_value());
    if (written_ >= wanted) co_return Result<void>{};
    const uint64_t writing = asked_;
    co_await try_(store(directory_, logs_));
    written_ = writing;
    co_return Result<void>{};
}

}  // namespace weir::storage

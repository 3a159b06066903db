#include "storage/history.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace weir::storage {

std::string history_path(const std::string& data) { return data + "/history"; }

std::string encode_history(History history) {
    const std::string body = fmt::format("weir-history 1\nid {:016x}\nstopped {}\n", history.id,
                                         history.stopped ? "yes" : "no");
    return fmt::format("{}crc {:08x}\n", body, crc32c(as_bytes(body)));
}

Result<History> parse_history(const std::string& text) {
    History history;
    unsigned long long id = 0;
    char stopped[4] = {};
    if (std::sscanf(text.c_str(), "weir-history 1\nid %16llx\nstopped %3s\n", &id, stopped) != 2)
        return fail(ErrorCode::kCorrupt, "the history file does not parse");
    history.id = id;
    history.stopped = std::string_view(stopped) == "yes";
    if (history.id == 0 || encode_history(history) != text)
        return fail(ErrorCode::kCorrupt, "damage in the history file");
    return history;
}

}  // namespace weir::storage

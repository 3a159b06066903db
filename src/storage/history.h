// History: the file of a data directory that says whether the node's last stop was orderly, and
// since when all stops were. The StoreSet reads and writes it; a replica that acknowledges from
// memory keeps the number beside its log (replication/). Bytes: docs/formats/history.md.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace weir::storage {

struct History {
    // Drawn anew at each start that does not follow an orderly stop. Never 0.
    uint64_t id = 0;
    bool stopped = false;  // in good order, with everything flushed; false while the node runs
};

std::string history_path(const std::string& data);
std::string encode_history(History history);
Result<History> parse_history(const std::string& text);  // kCorrupt

}  // namespace weir::storage

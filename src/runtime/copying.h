// Copies that take milliseconds: 100 MB into fresh memory take 80 ms, most of it the kernel's for
// the pages. In pieces, between which the shard serves others. One shard.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/units.h"
#include "runtime/task.h"
#include "runtime/wait.h"

namespace weir::runtime {

// Some 700 us into fresh memory.
inline constexpr size_t kCopyPiece = 1_MiB;

// Copies `from` to the begin of `to`, which has room for it. Both are the caller's alone, and stay
// until this has ended. Can't be cancelled; the caller looks up again what it knew before.
inline Task<void> copy_in_pieces(MutableBytes to, Bytes from) {
    while (!from.empty()) {
        const size_t size = std::min(from.size(), kCopyPiece);
        std::memcpy(to.data(), from.data(), size);
        to = to.subspan(size);
        from = from.subspan(size);
        if (!from.empty()) co_await yield();
    }
}

}  // namespace weir::runtime

// Reads the frames of a connection: four bytes of size, then so many bytes. The size is a
// stranger's word: it is checked before anything is allocated, and memory follows the bytes that
// have come, not the size that was claimed, all of it reserved from the node's budget first. While
// the budget is used up, reading waits: that is the back-pressure to producers.
#pragma once

#include <array>
#include <functional>

#include "base/result.h"
#include "runtime/buffer.h"
#include "runtime/memory.h"
#include "runtime/socket.h"

namespace weir::kafka {

// The first allocation for a frame; a frame up to this size needs no copy, and a larger one is
// copied while it grows by eights.
inline constexpr size_t kFrameChunk = size_t{32} << 10;
inline constexpr size_t kFrameGrowth = 8;

struct FrameLimits {
    size_t size_max = 0;
    // Called when a frame has begun and its end is not there yet, and again on each progress; keeps
    // the time.
    std::function<void()> on_progress;
};

class FrameReader {
  public:
    // Both outlive the reader.
    FrameReader(runtime::ByteStream& stream, runtime::MemoryBudget& memory)
        : stream_(stream), memory_(memory) {}

    // kMalformed: the size is negative, too small for a header, or above size_max.
    // kResourceExhausted: larger than the whole budget. kEndOfStream, kIo, kCancelled.
    runtime::Task<Result<runtime::SharedBytes>> next(const FrameLimits& limits,
                                                     runtime::StopToken stop);

  private:
    size_t ahead_size() const { return ahead_end_ - ahead_begin_; }
    // At least four bytes ahead.
    runtime::Task<Result<void>> read_ahead(const FrameLimits& limits, runtime::StopToken stop);

    runtime::ByteStream& stream_;
    runtime::MemoryBudget& memory_;
    // Small requests, and several of them at once, come with one receive; a large one costs a copy
    // of this much. It is all that an idle connection holds.
    std::array<uint8_t, 1024> ahead_;
    size_t ahead_begin_ = 0;
    size_t ahead_end_ = 0;
};

}  // namespace weir::kafka

// Reads the frames of a connection: four bytes of size, then that many bytes. The size comes from a
// stranger: it is checked before anything is allocated, and memory follows the bytes that have
// arrived, not the claimed size. All of it is reserved from the node's budget first. While the
// budget is used up, reading waits: this is the back-pressure on producers.
#pragma once

#include <array>
#include <functional>

#include "base/result.h"
#include "runtime/buffer.h"
#include "runtime/memory.h"
#include "runtime/socket.h"

namespace weir::kafka {

// The first allocation for a frame of its own. A frame up to this size is not copied; a larger one
// is copied while its buffer grows by factors of eight.
inline constexpr size_t kFrameChunk = size_t{32} << 10;
inline constexpr size_t kFrameGrowth = 8;
// While a client sends faster than it is read, frames up to this size are slices of one received
// piece. The piece's size is within these bounds and follows how far the client is ahead.
inline constexpr size_t kSliceMax = size_t{24} << 10;
inline constexpr size_t kPieceMin = size_t{4} << 10;
inline constexpr size_t kPieceMax = size_t{64} << 10;

struct FrameLimits {
    size_t size_max = 0;
    // Called when a frame has begun and is incomplete, and again on each progress, to track time.
    std::function<void()> on_progress;
};

class FrameReader {
  public:
    // Both outlive the reader.
    FrameReader(runtime::ByteStream& stream, runtime::MemoryBudget& memory)
        : stream_(stream), memory_(memory) {}

    // kMalformed: the size is negative, too small for a header, or above size_max.
    // kResourceExhausted: larger than the budget has room for. kEndOfStream, kIo, kCancelled.
    // After an error nothing more can be read, and no memory is held.
    runtime::Task<Result<runtime::SharedBytes>> next(const FrameLimits& limits,
                                                     runtime::StopToken stop);

  private:
    Bytes ahead() const {
        return piece_.empty() ? Bytes(small_).subspan(begin_, end_ - begin_)
                              : piece_.bytes().subspan(begin_, end_ - begin_);
    }
    runtime::Task<Result<runtime::SharedBytes>> read_next(const FrameLimits& limits,
                                                          runtime::StopToken stop);
    // Reads until at least four bytes are buffered.
    runtime::Task<Result<void>> read_size(const FrameLimits& limits, runtime::StopToken stop);
    // Receives until `size` bytes are buffered, in a piece with room for them.
    runtime::Task<Result<void>> fill_piece(size_t size, const FrameLimits& limits,
                                           runtime::StopToken stop);
    // Makes room for `size` bytes from begin_ on, in this piece or a new one. False: no memory now.
    bool make_piece(size_t size);
    runtime::Task<Result<runtime::SharedBytes>> read_whole(size_t size, const FrameLimits& limits,
                                                           runtime::StopToken stop);
    void consume(size_t size);

    runtime::ByteStream& stream_;
    runtime::MemoryBudget& memory_;
    // Received bytes that were not used yet lie at [begin_, end_) of `piece_`, or of `small_` while
    // there is no piece. A piece is released as soon as all of it was used, so that an idle
    // connection holds only `small_`. Its bytes below begin_ belong to the frames that were made of
    // them.
    std::array<uint8_t, 1024> small_;
    runtime::SharedBytes piece_;
    size_t begin_ = 0;
    size_t end_ = 0;
    size_t piece_size_ = kPieceMin;  // of the next one
};

}  // namespace weir::kafka

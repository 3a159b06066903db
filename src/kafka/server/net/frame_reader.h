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

// The first allocation for a frame that has one of its own; a frame up to this size needs no copy,
// and a larger one is copied while it grows by eights.
inline constexpr size_t kFrameChunk = size_t{32} << 10;
inline constexpr size_t kFrameGrowth = 8;
// Frames up to this size are slices of what was received in one piece, while a client sends faster
// than it is read; such a piece has these sizes, as much as the client is ahead.
inline constexpr size_t kSliceMax = size_t{24} << 10;
inline constexpr size_t kPieceMin = size_t{4} << 10;
inline constexpr size_t kPieceMax = size_t{64} << 10;

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
    // At least four bytes ahead.
    runtime::Task<Result<void>> read_size(const FrameLimits& limits, runtime::StopToken stop);
    // Receives until `size` bytes are ahead, in a piece that has room for them.
    runtime::Task<Result<void>> fill_piece(size_t size, const FrameLimits& limits,
                                           runtime::StopToken stop);
    // Room for `size` bytes from begin_ on, in this piece or a new one. False: no memory just now.
    bool make_piece(size_t size);
    runtime::Task<Result<runtime::SharedBytes>> read_whole(size_t size, const FrameLimits& limits,
                                                           runtime::StopToken stop);
    void consume(size_t size);

    runtime::ByteStream& stream_;
    runtime::MemoryBudget& memory_;
    // What came and is not taken yet lies at [begin_, end_) of `piece_`, or of `small_` while there
    // is no piece. A piece is let go as soon as all of it is taken, so that an idle connection
    // holds `small_` alone. Its bytes below begin_ belong to the frames that were made of them.
    std::array<uint8_t, 1024> small_;
    runtime::SharedBytes piece_;
    size_t begin_ = 0;
    size_t end_ = 0;
    size_t piece_size_ = kPieceMin;  // of the next one
};

}  // namespace weir::kafka

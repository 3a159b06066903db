#include "kafka/server/frame_reader.h"

#include <algorithm>

namespace weir::kafka {

using runtime::IoBuffer;
using runtime::Task;

namespace {

// Key, version and correlation id: every request has them.
constexpr int32_t kFrameSizeMin = 8;

}  // namespace

Task<Result<void>> FrameReader::read_ahead(const FrameLimits& limits, runtime::StopToken stop) {
    while (ahead_size() < sizeof(int32_t)) {
        if (ahead_size() > 0 && limits.on_progress) limits.on_progress();
        std::memmove(ahead_.data(), ahead_.data() + ahead_begin_, ahead_size());
        ahead_end_ = ahead_size();
        ahead_begin_ = 0;
        ahead_end_ += co_await runtime::try_(
            stream_.read_some(MutableBytes(ahead_).subspan(ahead_end_), stop));
    }
    co_return Result<void>{};
}

Task<Result<runtime::SharedBytes>> FrameReader::next(const FrameLimits& limits,
                                                     runtime::StopToken stop) {
    co_await runtime::try_(read_ahead(limits, stop));
    const auto claimed = load_be<int32_t>(ahead_.data() + ahead_begin_);
    ahead_begin_ += sizeof claimed;
    if (claimed < kFrameSizeMin || static_cast<size_t>(claimed) > limits.size_max) {
        co_return fail(ErrorCode::kMalformed, "a request of " + std::to_string(claimed) + " bytes");
    }
    const auto size = static_cast<size_t>(claimed);
    if (size > memory_.total())
        co_return fail(ErrorCode::kResourceExhausted, "a request larger than the node's memory");

    size_t capacity = std::min(size, kFrameChunk);
    runtime::Reservation reservation = co_await runtime::try_(memory_.reserve(capacity, stop));
    IoBuffer frame = IoBuffer::allocate(capacity, std::move(reservation), 16);
    size_t filled = std::min(size, ahead_size());
    std::memcpy(frame.data(), ahead_.data() + ahead_begin_, filled);
    ahead_begin_ += filled;
    while (filled < size) {
        if (limits.on_progress) limits.on_progress();
        if (filled == capacity) {
            // It holds the old buffer while it waits for the larger one, so that bytes that have
            // come are never lost; the connection's watch ends a wait that lasts too long, and with
            // it the standstill of many half frames.
            capacity = std::min(size, capacity * kFrameGrowth);
            reservation = co_await runtime::try_(memory_.reserve(capacity, stop));
            IoBuffer larger = IoBuffer::allocate(capacity, std::move(reservation), 16);
            std::memcpy(larger.data(), frame.data(), filled);
            frame = std::move(larger);
        }
        filled += co_await runtime::try_(stream_.read_some(frame.all().subspan(filled), stop));
    }
    frame.set_size(size);
    co_return std::move(frame).share();
}

}  // namespace weir::kafka

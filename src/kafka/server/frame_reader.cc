#include "kafka/server/frame_reader.h"

#include <algorithm>

namespace weir::kafka {

using runtime::IoBuffer;
using runtime::Task;

namespace {

// Key, version and correlation id: every request has them.
constexpr int32_t kFrameSizeMin = 8;

}  // namespace

Task<Result<runtime::SharedBytes>> read_frame(runtime::ByteStream& stream,
                                              runtime::MemoryBudget& memory,
                                              const FrameLimits& limits, runtime::StopToken stop) {
    uint8_t prefix[4];
    co_await runtime::try_(runtime::read_exactly(stream, prefix, stop));
    const auto claimed = load_be<int32_t>(prefix);
    if (claimed < kFrameSizeMin || static_cast<size_t>(claimed) > limits.size_max) {
        co_return fail(ErrorCode::kMalformed, "a request of " + std::to_string(claimed) + " bytes");
    }
    const auto size = static_cast<size_t>(claimed);
    if (size > memory.total())
        co_return fail(ErrorCode::kResourceExhausted, "a request larger than the node's memory");

    size_t capacity = std::min(size, kFrameChunk);
    runtime::Reservation reservation = co_await runtime::try_(memory.reserve(capacity, stop));
    IoBuffer frame = IoBuffer::allocate(capacity, std::move(reservation), 16);
    size_t filled = 0;
    while (true) {
        filled += co_await runtime::try_(stream.read_some(frame.all().subspan(filled), stop));
        if (filled == size) break;
        if (limits.on_progress) limits.on_progress();
        if (filled < capacity) continue;
        // It holds the old buffer while it waits for the larger one, so that bytes that have come
        // are never lost; the connection's watch ends a wait that lasts too long, and with it the
        // standstill of many half frames.
        capacity = std::min(size, capacity * kFrameGrowth);
        reservation = co_await runtime::try_(memory.reserve(capacity, stop));
        IoBuffer larger = IoBuffer::allocate(capacity, std::move(reservation), 16);
        std::memcpy(larger.data(), frame.data(), filled);
        frame = std::move(larger);
    }
    frame.set_size(size);
    co_return std::move(frame).share();
}

}  // namespace weir::kafka

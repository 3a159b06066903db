#include "kafka/server/net/frame_reader.h"

#include <algorithm>

#include "base/units.h"
#include "runtime/copying.h"

namespace weir::kafka {

using runtime::IoBuffer;
using runtime::Task;

namespace {

// Key, version and correlation id: every request has them.
constexpr int32_t kFrameSizeMin = 8;

// Of a large frame, at once: the kernel copies it while the shard waits.
constexpr size_t kReadMax = 1_MiB;

// While its buffer grows, a frame holds the old one beside the new.
uint64_t bytes_while_growing(size_t size) {
    size_t before = 0;
    for (size_t capacity = kFrameChunk; capacity < size; capacity *= kFrameGrowth)
        before = capacity;
    return before + size;
}

}  // namespace

void FrameReader::consume(size_t size) {
    begin_ += size;
    if (begin_ < end_) return;
    begin_ = end_ = 0;
    piece_ = {};
}

Task<Result<void>> FrameReader::read_size(const FrameLimits& limits, runtime::StopToken stop) {
    if (!piece_.empty() && ahead().size() < sizeof(int32_t)) {
        // A few bytes go over; whatever follows is received beside them.
        const Bytes left = ahead();
        std::memcpy(small_.data(), left.data(), left.size());
        piece_ = {};
        begin_ = 0;
        end_ = left.size();
    }
    while (ahead().size() < sizeof(int32_t)) {
        if (end_ > begin_ && limits.on_progress) limits.on_progress();
        std::memmove(small_.data(), small_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
        end_ += co_await runtime::try_(stream_.read_some(MutableBytes(small_).subspan(end_), stop));
    }
    co_return Result<void>{};
}

bool FrameReader::make_piece(size_t size) {
    if (!piece_.empty() && piece_.size() - begin_ >= size) return true;
    const size_t capacity = std::max(piece_size_, size);
    auto reservation = memory_.try_reserve(capacity);
    if (!reservation) return false;
    IoBuffer fresh = IoBuffer::allocate(capacity, std::move(*reservation), 16);
    const Bytes left = ahead();
    std::memcpy(fresh.data(), left.data(), left.size());
    fresh.set_size(capacity);
    piece_ = std::move(fresh).share();
    begin_ = 0;
    end_ = left.size();
    return true;
}

Task<Result<void>> FrameReader::fill_piece(size_t size, const FrameLimits& limits,
                                           runtime::StopToken stop) {
    while (ahead().size() < size) {
        if (limits.on_progress) limits.on_progress();
        // Beyond end_ the piece is nobody else's.
        const MutableBytes room(const_cast<uint8_t*>(piece_.data()) + end_, piece_.size() - end_);
        const size_t got = co_await runtime::try_(stream_.read_some(room, stop));
        end_ += got;
        if (got == room.size()) {
            piece_size_ = std::min(2 * piece_size_, kPieceMax);
        } else if (got < piece_size_ / 4) {
            piece_size_ = std::max(piece_size_ / 2, kPieceMin);
        }
    }
    co_return Result<void>{};
}

Task<Result<runtime::SharedBytes>> FrameReader::next(const FrameLimits& limits,
                                                     runtime::StopToken stop) {
    auto frame = co_await read_next(limits, stop);
    // Nothing is read after an error: what came is of no use.
    if (!frame) consume(end_ - begin_);
    co_return frame;
}

Task<Result<runtime::SharedBytes>> FrameReader::read_next(const FrameLimits& limits,
                                                          runtime::StopToken stop) {
    co_await runtime::try_(read_size(limits, stop));
    const auto claimed = load_be<int32_t>(ahead().data());
    if (claimed < kFrameSizeMin || static_cast<size_t>(claimed) > limits.size_max) {
        co_return fail(ErrorCode::kMalformed, "a request of " + std::to_string(claimed) + " bytes");
    }
    const auto size = static_cast<size_t>(claimed);
    // A larger frame would wait for memory that it holds itself, until its time is up.
    if (bytes_while_growing(size) > memory_.total()) {
        co_return fail(ErrorCode::kResourceExhausted,
                       "a request of " + std::to_string(size) +
                           " bytes, more than the node's memory has room for");
    }

    // A client that is ahead of us by more than the small buffer: the next frames come in pieces.
    const bool ahead_of_us = !piece_.empty() || end_ == small_.size();
    const size_t with_size = sizeof claimed + size;
    if (!ahead_of_us || with_size > kSliceMax || !make_piece(with_size)) {
        consume(sizeof claimed);
        co_return co_await read_whole(size, limits, stop);
    }
    co_await runtime::try_(fill_piece(with_size, limits, stop));
    runtime::SharedBytes frame = piece_.slice(begin_ + sizeof claimed, size);
    consume(with_size);
    co_return frame;
}

Task<Result<runtime::SharedBytes>> FrameReader::read_whole(size_t size, const FrameLimits& limits,
                                                           runtime::StopToken stop) {
    size_t capacity = std::min(size, kFrameChunk);
    runtime::Reservation reservation = co_await runtime::try_(memory_.reserve(capacity, stop));
    IoBuffer frame = IoBuffer::allocate(capacity, std::move(reservation), 16);
    size_t filled = 0;
    while (true) {
        if (filled == capacity) {
            // It holds the old buffer while it waits for the larger one, so that bytes that have
            // come are never lost; the connection's watch ends a wait that lasts too long, and with
            // it the standstill of many half frames.
            capacity = std::min(size, capacity * kFrameGrowth);
            reservation = co_await runtime::try_(memory_.reserve(capacity, stop));
            IoBuffer larger = IoBuffer::allocate(capacity, std::move(reservation), 16);
            co_await runtime::copy_in_pieces(larger.all(), frame.all().first(filled));
            frame = std::move(larger);
        }
        if (const Bytes left = ahead(); !left.empty()) {
            const size_t take = std::min(left.size(), capacity - filled);
            std::memcpy(frame.data() + filled, left.data(), take);
            filled += take;
            consume(take);
        } else {
            filled += co_await runtime::try_(stream_.read_some(
                frame.all().subspan(filled, std::min(capacity - filled, kReadMax)), stop));
        }
        if (filled == size) break;
        if (limits.on_progress) limits.on_progress();
    }
    frame.set_size(size);
    co_return std::move(frame).share();
}

}  // namespace weir::kafka

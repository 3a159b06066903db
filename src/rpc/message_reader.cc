#include "rpc/message_reader.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/units.h"
#include "runtime/shard.h"

namespace weir::rpc {

using runtime::IoBuffer;
using runtime::Shard;
using runtime::StopToken;
using runtime::Task;

namespace {

// What is received in one piece while messages are small. A payload of more than half of it is
// received to where it stays.
constexpr size_t kBufferBytes = 16_KiB;

bool continues(const FrameHeader& header, const FrameHeader& first) {
    return header.type == first.type && header.kind == first.kind && header.call == first.call &&
           header.timeout_ms == first.timeout_ms && header.message_size == first.message_size;
}

}  // namespace

MessageReader::MessageReader(runtime::ByteStream& stream, runtime::MemoryBudget& memory,
                             size_t message_bytes_max)
    : stream_(stream),
      memory_(memory),
      message_bytes_max_(message_bytes_max),
      buffer_(kBufferBytes),
      heard_(Shard::current().now()) {}

void MessageReader::consume(size_t size) {
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
}

Task<Result<void>> MessageReader::receive(MutableBytes into, size_t* got, StopToken stop) {
    *got = co_await runtime::try_(stream_.read_some(into, stop));
    heard_ = Shard::current().now();
    bytes_read_ += *got;
    co_return Result<void>{};
}

Task<Result<void>> MessageReader::fill(size_t size, StopToken stop) {
    CHECK(size <= buffer_.size());
    while (ahead().size() < size) {
        if (buffer_.size() - begin_ < size) {
            std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
            end_ -= begin_;
            begin_ = 0;
        }
        size_t got = 0;
        co_await runtime::try_(receive(MutableBytes(buffer_).subspan(end_), &got, stop));
        end_ += got;
    }
    co_return Result<void>{};
}

Task<Result<IoBuffer>> MessageReader::allocate(size_t size, StopToken stop) {
    auto reservation = memory_.try_reserve(size);
    if (!reservation && size > kSmallBytes) {
        waiting_since_ = Shard::current().now();
        auto waited = co_await memory_.reserve(size, stop);
        waiting_since_ = Instant::never();
        heard_ = Shard::current().now();
        reservation = co_await runtime::try_(std::move(waited));
    }
    co_return IoBuffer::allocate(
        size, reservation ? std::move(*reservation) : runtime::Reservation(), 16);
}

Task<Result<void>> MessageReader::read_payload(MutableBytes into, const FrameHeader& header,
                                               uint32_t crc, StopToken stop) {
    MutableBytes left = into;
    while (!left.empty()) {
        if (ahead().empty() && left.size() >= buffer_.size() / 2) {
            size_t got = 0;
            co_await runtime::try_(receive(left, &got, stop));
            left = left.subspan(got);
            continue;
        }
        co_await runtime::try_(fill(1, stop));
        const size_t take = std::min(left.size(), ahead().size());
        std::memcpy(left.data(), ahead().data(), take);
        consume(take);
        left = left.subspan(take);
    }
    if (crc32c(into, crc) != header.crc) co_return fail(ErrorCode::kMalformed, "a bad checksum");
    co_return Result<void>{};
}

Task<Result<Incoming>> MessageReader::next(StopToken stop) {
    while (true) {
        co_await runtime::try_(fill(kFrameHeaderBytes, stop));
        const Bytes encoded = ahead().first(kFrameHeaderBytes);
        const FrameHeader header =
            co_await runtime::try_(decode_header(encoded, message_bytes_max_));
        const uint32_t crc = checksum_header(encoded.data());
        consume(kFrameHeaderBytes);

        Partial& partial = partial_[static_cast<size_t>(header.lane)];
        const bool begun = partial.body.size() > 0;
        if (header.offset != partial.body.size() || (begun && !continues(header, partial.header)))
            co_return fail(ErrorCode::kMalformed, "a frame that does not go on with its message");
        if (begun) {
            const size_t filled = partial.body.size();
            const MutableBytes room = partial.body.all().subspan(filled, header.payload_size);
            co_await runtime::try_(read_payload(room, header, crc, stop));
            partial.body.set_size(filled + header.payload_size);
        } else {
            IoBuffer piece = co_await runtime::try_(allocate(header.payload_size, stop));
            const MutableBytes room = piece.all().first(header.payload_size);
            co_await runtime::try_(read_payload(room, header, crc, stop));
            if (header.payload_size < header.message_size) {
                // Its size is believed now that the checksum was right.
                partial.body = co_await runtime::try_(allocate(header.message_size, stop));
                std::memcpy(partial.body.data(), piece.data(), header.payload_size);
            } else {
                partial.body = std::move(piece);
            }
            partial.header = header;
            partial.body.set_size(header.payload_size);
        }
        if (partial.body.size() < header.message_size) continue;
        co_return Incoming{.type = header.type,
                           .lane = header.lane,
                           .kind = header.kind,
                           .timeout_ms = header.timeout_ms,
                           .call = header.call,
                           .body = std::exchange(partial.body, IoBuffer()).share()};
    }
}

}  // namespace weir::rpc

#include "rpc/message_reader.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/units.h"
#include "runtime/deadline_stop.h"
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
                             size_t message_bytes_max, Duration patience)
    : stream_(stream),
      memory_(memory),
      message_bytes_max_(message_bytes_max),
      patience_(patience),
      buffer_(kBufferBytes),
      heard_(Shard::current().awake_now()) {}

void MessageReader::consume(size_t size) {
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
}

Task<Result<void>> MessageReader::receive(MutableBytes into, size_t* got, StopToken stop) {
    *got = co_await runtime::try_(stream_.read_some(into, stop));
    heard_ = Shard::current().awake_now();
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

Task<Result<std::optional<IoBuffer>>> MessageReader::allocate(size_t size, Lane lane,
                                                              StopToken stop) {
    // A message that is larger than the budget takes half of it, so that it gets through.
    const uint64_t charge = std::min<uint64_t>(size, memory_.total() / 2);
    auto reservation = memory_.try_reserve(charge);
    // That a few bytes fit does not say that there is memory for data again.
    if (lane == Lane::kControl || size <= kSmallBytes) {
        co_return IoBuffer::allocate(
            size, reservation ? std::move(*reservation) : memory_.charge(charge), 16);
    }
    if (!reservation && !short_of_memory_) {
        runtime::DeadlineStop limit(Shard::current().now() + patience_, stop);
        auto waited = co_await memory_.reserve(charge, limit.token());
        heard_ = Shard::current().awake_now();
        if (waited) reservation = std::move(*waited);
        if (!waited && stop.stop_requested()) co_return fail(std::move(waited).error());
    }
    short_of_memory_ = !reservation;
    if (!reservation) co_return std::nullopt;
    co_return IoBuffer::allocate(size, std::move(*reservation), 16);
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

Task<Result<void>> MessageReader::skip_payload(const FrameHeader& header, uint32_t crc,
                                               StopToken stop) {
    size_t left = header.payload_size;
    while (left > 0) {
        if (ahead().empty()) co_await runtime::try_(fill(1, stop));
        const size_t take = std::min(left, ahead().size());
        crc = crc32c(ahead().first(take), crc);
        consume(take);
        left -= take;
    }
    if (crc != header.crc) co_return fail(ErrorCode::kMalformed, "a bad checksum");
    co_return Result<void>{};
}

Task<Result<void>> MessageReader::begin_message(const FrameHeader& header, uint32_t crc,
                                                StopToken stop) {
    Partial& partial = partial_[static_cast<size_t>(header.lane)];
    partial.header = header;
    partial.dropped = true;
    std::optional<IoBuffer> piece =
        co_await runtime::try_(allocate(header.payload_size, header.lane, stop));
    if (!piece) co_return co_await skip_payload(header, crc, stop);
    const MutableBytes room = piece->all().first(header.payload_size);
    co_await runtime::try_(read_payload(room, header, crc, stop));
    piece->set_size(header.payload_size);
    if (header.payload_size < header.message_size) {
        // Its size is believed now that the checksum was right.
        std::optional<IoBuffer> whole =
            co_await runtime::try_(allocate(header.message_size, header.lane, stop));
        if (!whole) co_return Result<void>{};
        std::memcpy(whole->data(), piece->data(), header.payload_size);
        whole->set_size(header.payload_size);
        piece = std::move(whole);
    }
    partial.dropped = false;
    partial.body = std::move(*piece);
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
        const bool begun = partial.received > 0;
        if (header.offset != partial.received || (begun && !continues(header, partial.header)))
            co_return fail(ErrorCode::kMalformed, "a frame that does not go on with its message");
        if (!begun) {
            co_await runtime::try_(begin_message(header, crc, stop));
        } else if (partial.dropped) {
            co_await runtime::try_(skip_payload(header, crc, stop));
        } else {
            const MutableBytes room =
                partial.body.all().subspan(partial.received, header.payload_size);
            co_await runtime::try_(read_payload(room, header, crc, stop));
            partial.body.set_size(partial.received + header.payload_size);
        }
        partial.received += header.payload_size;
        if (partial.received < header.message_size) continue;
        partial.received = 0;
        co_return Incoming{.type = header.type,
                           .lane = header.lane,
                           .kind = header.kind,
                           .timeout_ms = header.timeout_ms,
                           .call = header.call,
                           .body = std::exchange(partial.body, IoBuffer()).share(),
                           .dropped = partial.dropped};
    }
}

}  // namespace weir::rpc

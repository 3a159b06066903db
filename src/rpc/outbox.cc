#include "rpc/outbox.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/units.h"

namespace weir::rpc {
namespace {

constexpr size_t kBatchBytes = 256_KiB;
// What a message costs beside its bytes, so that empty ones are bounded too.
constexpr size_t kOverheadBytes = 256;

}  // namespace

void Outbox::Batch::clear() {
    parts.clear();
    headers.clear();
    finished.clear();
    bytes = 0;
    queued_bytes.fill(0);
}

size_t Outbox::cost(size_t size) { return size + kOverheadBytes; }

bool Outbox::fits(Lane lane, size_t size) const {
    const Queue& queue = queues_[static_cast<size_t>(lane)];
    return queue.bytes == 0 || queue.bytes + cost(size) <= queue.bytes_max;
}

void Outbox::push(Outgoing outgoing) {
    Queue& queue = queues_[static_cast<size_t>(outgoing.message.lane)];
    const size_t size = outgoing.message.size();
    CHECK(size <= kMessageBytesMax);
    queue.bytes += cost(size);
    queue.waiting.push_back({.outgoing = std::move(outgoing), .size = size});
}

void Outbox::gather(Batch* batch) {
    CHECK(batch->parts.empty());
    constexpr auto kControl = static_cast<size_t>(Lane::kControl);
    constexpr auto kData = static_cast<size_t>(Lane::kData);
    while (!queues_[kControl].waiting.empty() && batch->bytes < kBatchBytes)
        add_frame(Lane::kControl, batch);
    if (queues_[kData].waiting.empty()) return;
    do {
        add_frame(Lane::kData, batch);
    } while (!queues_[kData].waiting.empty() && batch->bytes < kBatchBytes);
}

void Outbox::free(const Batch& batch) {
    for (size_t i = 0; i < kLanes; ++i) {
        CHECK(batch.queued_bytes[i] <= queues_[i].bytes);
        queues_[i].bytes -= batch.queued_bytes[i];
    }
}

void Outbox::add_frame(Lane lane, Batch* batch) {
    Queue& queue = queues_[static_cast<size_t>(lane)];
    Waiting& waiting = queue.waiting.front();
    const size_t payload = std::min(waiting.size - waiting.sent, kPayloadMax);
    auto& header = batch->headers.emplace_back();
    encode_header({.payload_size = static_cast<uint32_t>(payload),
                   .kind = waiting.outgoing.message.kind,
                   .type = waiting.outgoing.type,
                   .lane = lane,
                   .timeout_ms = waiting.outgoing.timeout_ms,
                   .call = waiting.outgoing.call,
                   .message_size = static_cast<uint32_t>(waiting.size),
                   .offset = static_cast<uint32_t>(waiting.sent)},
                  header.data());
    uint32_t crc = checksum_header(header.data());
    batch->parts.push_back(Bytes(header));
    const Message& message = waiting.outgoing.message;
    for (size_t left = payload; left > 0;) {
        const Bytes piece =
            waiting.piece == 0 ? Bytes(message.body) : message.parts[waiting.piece - 1].bytes();
        const Bytes part =
            piece.subspan(waiting.piece_sent, std::min(left, piece.size() - waiting.piece_sent));
        if (!part.empty()) {
            crc = crc32c(part, crc);
            batch->parts.push_back(part);
        }
        left -= part.size();
        waiting.piece_sent += part.size();
        if (waiting.piece_sent == piece.size()) {
            ++waiting.piece;
            waiting.piece_sent = 0;
        }
    }
    store_be<uint32_t>(header.data(), crc);
    waiting.sent += payload;
    batch->bytes += kFrameHeaderBytes + payload;
    if (waiting.sent < waiting.size) return;
    batch->queued_bytes[static_cast<size_t>(lane)] += cost(waiting.size);
    batch->finished.push_back(std::move(waiting.outgoing));
    queue.waiting.pop_front();
}

}  // namespace weir::rpc

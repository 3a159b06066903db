// Outbox: what one connection has yet to send, with one queue for each lane, and how it becomes
// frames. The queued bytes, those being sent included, are bounded. Owned by its Connection.
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "rpc/frame.h"
#include "rpc/hello.h"
#include "rpc/message.h"

namespace weir::rpc {

// A message on its way out.
struct Outgoing {
    FrameType type = FrameType::kMessage;
    uint32_t timeout_ms = 0;
    uint64_t call = 0;
    Message message;
    runtime::Reservation reservation = {};  // until it was sent
};

class Outbox {
  public:
    Outbox(size_t control_bytes_max, size_t data_bytes_max)
        : queues_{Queue{.bytes_max = control_bytes_max}, Queue{.bytes_max = data_bytes_max}} {}

    // One vectored send. Its parts point into what it holds.
    struct Batch {
        std::vector<Bytes> parts;
        std::deque<std::array<uint8_t, kFrameHeaderBytes>> headers;
        std::vector<Outgoing> finished;  // messages whose last frame is in it
        size_t bytes = 0;
        std::array<size_t, kLanes> queued_bytes{};  // that it frees when it was sent

        void clear();
    };

    // Whether a message of that size may be pushed; any fits an empty queue.
    bool fits(Lane lane, size_t size) const;
    void push(Outgoing outgoing);
    bool empty() const { return queues_[0].waiting.empty() && queues_[1].waiting.empty(); }
    size_t queued_bytes(Lane lane) const { return queues_[static_cast<size_t>(lane)].bytes; }

    // Adds the next frames to the empty batch, about kBatchBytes in all: those of the control lane
    // first, then the data lane's. At least one is of the data lane, if it has any, so that neither
    // lane starves.
    void gather(Batch* batch);
    // The batch was sent.
    void free(const Batch& batch);

  private:
    struct Waiting {
        Outgoing outgoing;
        size_t size = 0;
        size_t sent = 0;  // in frames so far
        // Where `sent` is: piece 0 is the body, piece i + 1 is parts[i].
        size_t piece = 0;
        size_t piece_sent = 0;
    };
    struct Queue {
        size_t bytes_max = 0;
        size_t bytes = 0;
        std::deque<Waiting> waiting;
    };

    static size_t cost(size_t size);
    void add_frame(Lane lane, Batch* batch);

    std::array<Queue, kLanes> queues_;
};

}  // namespace weir::rpc

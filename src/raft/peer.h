// What a leader knows about one other member: how far its log matches, and what is in flight to it.
#pragma once

#include <array>
#include <cstdint>

#include "base/time.h"
#include "raft/types.h"

namespace weir::raft {

// Probe: the leader looks for the position where the logs diverge, with one append in flight.
// Replicate: the position is known, and appends are pipelined up to a window of bytes. Snapshot:
// the peer needs entries that this log no longer has; only heartbeats are sent until it has them.
enum class PeerState : uint8_t { kProbe, kReplicate, kSnapshot };

// Appends in flight, as a few rows (end, bytes). When the rows are full the newest one grows: the
// bytes stay exact, and only their release gets coarser.
class Inflight {
  public:
    void push(Position end, uint64_t bytes);
    void release(Position match);  // those that end at or before it
    void clear();
    uint64_t bytes() const { return bytes_; }
    bool empty() const { return count_ == 0; }

  private:
    struct Row {
        Position end;
        uint64_t bytes;
    };
    static constexpr uint8_t kRows = 6;
    std::array<Row, kRows> rows_;
    uint8_t first_ = 0;
    uint8_t count_ = 0;
    uint64_t bytes_ = 0;
};

struct Peer {
    NodeId node;
    PeerState state = PeerState::kProbe;
    bool sending = false;   // a SendEntries is with the driver
    bool probed = false;    // kProbe: one is on the way
    bool carrying = false;  // kSnapshot: the driver is at it
    bool down = false;      // as the driver told
    bool quiet = false;     // agreed to sleep at this log's end
    Position match;         // durable there
    Position received;      // it has all below, durable or not
    Position next;          // the first position not sent yet
    Instant heard{};        // any message of this term
    Instant progressed{};   // match or received moved, or something was sent into an empty pipe
    // The latest heartbeat that it answered. Below 0: the first one whose answer counts, negated.
    int64_t context = 0;
    Inflight inflight;

    // Whether its reports are about the log that it has now (Core::match_peers()).
    bool is_known() const { return context >= 0; }
    void become(PeerState to, Position from);
};

static_assert(sizeof(Peer) <= 256);

}  // namespace weir::raft

#include "raft/peer.h"

#include "base/check.h"

namespace weir::raft {

void Inflight::push(Position end, uint64_t bytes) {
    bytes_ += bytes;
    if (count_ == kRows) {
        Row& newest = rows_[(first_ + count_ - 1) % kRows];
        newest.end = end;
        newest.bytes += bytes;
        return;
    }
    rows_[(first_ + count_) % kRows] = {end, bytes};
    ++count_;
}

void Inflight::release(Position match) {
    while (count_ > 0 && rows_[first_].end <= match) {
        CHECK(bytes_ >= rows_[first_].bytes);
        bytes_ -= rows_[first_].bytes;
        first_ = static_cast<uint8_t>((first_ + 1) % kRows);
        --count_;
    }
}

void Inflight::clear() {
    first_ = 0;
    count_ = 0;
    bytes_ = 0;
}

void Peer::become(PeerState to, Position from) {
    state = to;
    next = from;
    received = {};
    probed = false;
    carrying = false;
    inflight.clear();
}

}  // namespace weir::raft

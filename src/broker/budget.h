// Budget: how --memory is divided among everything that can grow on a node. One pure function, so
// that the relations between the shares stand in one place and are tested for all sizes.
//
// Each share bounds one kind of holder. Memory that moves from one holder to another moves its
// charge too (SharedBytes::discharge()), so nobody fills a share that it can't empty:
//
//   share          | who waits when it is used up             | what empties it
//   requests       | readers of clients' sockets, cold reads  | requests end; caches give way; the
//                  |                                          | store hands over what it keeps
//   unpacking      | produce and time queries, before they    | one batch was checked; a batch that
//                  | unpack or pack anew                      | was packed anew is appended
//   unflushed      | appends, before they are admitted        | the store's hand-over to segments
//   received       | nobody: a message of another node is     | the message is handled; its entries
//                  | dropped after 20 ms, and sent again      | are appended, and then unflushed
//   sending        | nobody: a message to another node is     | the socket takes it, or the
//                  | refused, and sent again                  | connection ends (3 s)
//   fetch_answers  | nobody: an answer to a fetch is smaller  | clients read; slow ones are hurried
//   answers        | requests with large answers, before they | clients read; slow ones are hurried
//                  | are worked on                            |
//   producers      | nobody: the oldest producer is forgotten | retention, expiry
//
// A holder of memory of one share waits only for a share further down the list (requests, then
// unpacking, then unflushed), and the disk empties unflushed: so no two shares wait for each other.
// Every such wait ends by a deadline or with its client.
#pragma once

#include <cstdint>

namespace weir::broker {

struct Budget {
    // Together: all of --memory.
    uint64_t requests = 0;  // of clients; runs of segments that are read, written and cached
    uint64_t unflushed = 0;
    uint64_t received = 0;  // messages of other nodes
    uint64_t sending = 0;   // messages to other nodes
    uint64_t unpacking = 0;
    uint64_t fetch_answers = 0;
    uint64_t answers = 0;  // to all other requests, the admin port's among them
    uint64_t producers = 0;

    // Shares of one shard.
    uint64_t unflushed_per_shard = 0;
    uint64_t fetch_answers_per_shard = 0;
    uint64_t producers_per_shard = 0;
    uint64_t cache_per_shard_max = 0;  // of `requests`; gives way

    uint64_t total() const {
        return requests + unflushed + received + sending + unpacking + fetch_answers + answers +
               producers;
    }
};

// `memory` is --memory; `shards` is at least 1. The shares are proportional at any size. A shard's
// unflushed data has an upper bound, and requests get what that leaves.
Budget divide(uint64_t memory, uint32_t shards);

}  // namespace weir::broker

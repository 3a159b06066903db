// Who leads each partition and who is in sync, as its leader last said. Soft state: it is in no
// log, a node that starts knows nothing and is told. Each node publishes what it leads to every
// other (LeaderPublisher, on shard 0), and each shard keeps what it heard (LeaderTable), to answer
// Metadata from. Of two statements about a partition the newer epoch wins, within an epoch the
// newer revision; so the order in which they come, and how often, does not matter. Where the leader
// itself said nothing yet, what a replica on this node knows of its group stands in for it. Pure.
// Format between nodes: docs/formats/leader-update.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "storage/entry.h"

namespace weir::cluster {

struct LeaderState {
    storage::LogId log;            // of the partition; never used for another
    int32_t leader = -1;           // -1: who said so last has stepped down
    int32_t epoch = 0;             // the leader's term, Kafka's leader epoch
    uint32_t revision = 0;         // of what the leader of this epoch says
    std::vector<int32_t> in_sync;  // the leader among them
    // Not the leader's word but a replica's on this node, whose group has this leader; of what is
    // in sync it knows the leader alone. No other node is told.
    bool hearsay = false;
    // Terms begin at 1: of a new partition, whose first leader is on its way (MetadataShard).
    bool is_expected() const { return epoch == 0; }
    bool operator==(const LeaderState&) const = default;

    bool is_newer_than(const LeaderState& other) const {
        if (epoch != other.epoch) return epoch > other.epoch;
        return hearsay != other.hearsay ? other.hearsay : revision > other.revision;
    }
};

class LeaderTable {
  public:
    // Statements about further partitions than `size_max` are dropped.
    explicit LeaderTable(size_t size_max) : size_max_(size_max) {}

    // Whether it was news.
    bool learn(LeaderState state);
    void forget(storage::LogId log) { states_.erase(log); }
    // Forgets what has been unknown since the last sweep. A statement may come before the record
    // that creates its partition, and one that is late may come after the one that deletes it.
    void sweep(const std::function<bool(storage::LogId)>& is_known);

    // nullptr if nothing is known. Valid until the next change.
    const LeaderState* find(storage::LogId log) const;
    size_t size() const { return states_.size(); }

  private:
    struct Heard {
        LeaderState state;
        bool was_unknown = false;  // to the last sweep
    };
    const size_t size_max_;
    std::map<storage::LogId, Heard> states_;
};

// What one node tells another: some of what it leads, all if the other knew nothing yet.
struct LeaderUpdate {
    int32_t node = 0;  // who says so
    // It holds all that is news after the first for whoever acknowledged that, up to the second. An
    // acknowledgement names both.
    uint64_t after = 0;
    uint64_t upto = 0;
    std::vector<LeaderState> states;
    bool operator==(const LeaderUpdate&) const = default;
};
// Longer updates are malformed.
inline constexpr size_t kLeaderUpdateMax = 10'000;

std::vector<uint8_t> encode_leader_update(const LeaderUpdate& update);
// kMalformed or kUnsupported.
Result<LeaderUpdate> decode_leader_update(Bytes bytes);

class LeaderPublisher {
  public:
    explicit LeaderPublisher(int32_t node) : node_(node) {}

    // The node leads at this epoch, with these in sync. Whether there is something to tell.
    bool lead(storage::LogId log, int32_t epoch, std::vector<int32_t> in_sync);
    // It stepped down from leading at this epoch.
    bool resign(storage::LogId log, int32_t epoch);
    // What another node said. Where it is newer, there is nothing to tell any more.
    void heard(const LeaderState& state);
    // The partition is gone.
    void forget(storage::LogId log);
    size_t size() const { return states_.size(); }

    // What `peer` has not acknowledged, oldest first, at most `size_max` statements; nothing if it
    // has all. The same again until it does.
    std::optional<LeaderUpdate> next_for(int32_t peer, size_t size_max = kLeaderUpdateMax) const;
    // `incarnation` is the peer's, any number that is another after each start of it: one that
    // started anew knows nothing, so is told everything. Acknowledgements of the connection that
    // is open now alone: of two incarnations none is known to be the older.
    void acknowledged(int32_t peer, uint64_t incarnation, uint64_t after, uint64_t upto);
    // What a peer had acknowledged is forgotten: after it left, or to tell it all again.
    void forget_peer(int32_t peer) { peers_.erase(peer); }

  private:
    struct Said {
        LeaderState state;
        uint64_t sequence = 0;
    };
    struct Peer {
        uint64_t incarnation = 0;
        uint64_t acknowledged = 0;
    };
    void say(LeaderState state);

    const int32_t node_;
    uint64_t sequence_ = 0;  // of the last statement
    std::map<storage::LogId, Said> states_;
    std::map<uint64_t, storage::LogId> by_sequence_;
    std::map<int32_t, Peer> peers_;
};

}  // namespace weir::cluster

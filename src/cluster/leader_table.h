// Who leads each partition and who is in sync, by the leader's last statement. Soft state: it is in
// no log, and a node that starts knows nothing until it is told. Each node publishes what it leads
// to every other node (LeaderPublisher, on shard 0), and each shard keeps what it learned
// (LeaderTable) and answers Metadata from it. Of two statements about a partition the newer epoch
// wins; within an epoch, the newer revision. So their order and number do not matter. Until the
// leader itself has said something, a local replica's knowledge of its group stands in. Pure.
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
    // Not said by the leader but by a replica on this node, whose group has this leader. Such a
    // replica knows of no in-sync replica but the leader. It is not sent to other nodes.
    bool hearsay = false;
    // Terms begin at 1, so 0 stands for a new partition whose first leader is expected
    // (MetadataShard).
    bool is_expected() const { return epoch == 0; }
    bool operator==(const LeaderState&) const = default;

    bool is_newer_than(const LeaderState& other) const {
        if (epoch != other.epoch) return epoch > other.epoch;
        return hearsay != other.hearsay ? other.hearsay : revision > other.revision;
    }
};

class LeaderTable {
  public:
    // Statements about more partitions than `size_max` are dropped.
    explicit LeaderTable(size_t size_max) : size_max_(size_max) {}

    // Returns whether the statement was news.
    bool learn(LeaderState state);
    void forget(storage::LogId log) { states_.erase(log); }
    // Forgets partitions that were unknown at the last sweep too. A statement may arrive before the
    // record that creates its partition, and a late one after the record that deletes it.
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

// One node's statements for another: some of what it leads; everything, if the other knew nothing.
struct LeaderUpdate {
    int32_t node = 0;  // who says so
    // For a peer that acknowledged `after`, this update has all news up to `upto`. An
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

    // This node leads the log at this epoch, with these replicas in sync. Returns whether there is
    // news to send.
    bool lead(storage::LogId log, int32_t epoch, std::vector<int32_t> in_sync);
    // This node no longer leads at this epoch.
    bool resign(storage::LogId log, int32_t epoch);
    // Another node's statement: if it is newer, this node's own is no longer sent.
    void note_statement(const LeaderState& state);
    // The partition is gone.
    void forget(storage::LogId log);
    size_t size() const { return states_.size(); }

    // What `peer` has not acknowledged, oldest first, at most `size_max` statements; nothing if it
    // has everything. The same again until it acknowledges.
    std::optional<LeaderUpdate> next_for(int32_t peer, size_t size_max = kLeaderUpdateMax) const;
    // `incarnation` is any number of the peer that differs after each of its starts: a restarted
    // peer knows nothing, so it is sent everything. Only acknowledgements of the connection that is
    // open now count: of two incarnations it is unknown which is older.
    void acknowledged(int32_t peer, uint64_t incarnation, uint64_t after, uint64_t upto);
    // Forgets what the peer acknowledged: because it left, or to send it everything again.
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

// ClusterHistory: what the simulated clients sent, were answered and read, and what must follow
// from it. Every record has a name (its writer and a number that the writer counts for each
// partition), so the history knows of each byte that comes back where it belongs. Plain code,
// outside of every node; one a run. A rule that is broken is told to the listener, in words.
//
// The rules, by partition:
//   - an offset holds one record for ever, whoever reads it, from whichever node;
//   - a record that is read was sent to this partition, and its bytes are those that were sent;
//   - it is there once: in its writer's order if the writer is idempotent;
//   - one that was acknowledged with acks=all is there in the end, at the offset that was told;
//   - a reader goes forward, without gaps, and gets nothing at or above the high watermark it is
//     told;
//   - the high watermark of a node in an epoch does not go back; an epoch has one leader;
//   - what is told to be the newest offset is not older than what anybody knew when it was asked.
// And by group: a committed offset that was acknowledged never goes back.
//
// Of a relaxed topic (docs/decisions/0006-relaxed-durability.md) the end of a partition's log may
// be lost, when a majority of its replicas stopped without flushing before they were whole again.
// The run says from when to when that is so (may_lose). What was acknowledged or read before is
// excused then, and nothing else: what follows must stay. What is left of the log is a beginning of
// what was there, in the same order, and each record is there once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/uuid.h"

namespace weir::sim {

struct PartitionKey {
    Uuid topic;
    int32_t index = 0;
    auto operator<=>(const PartitionKey&) const = default;
};

struct RecordName {
    uint32_t writer = 0;
    uint32_t number = 0;  // counts the writer's records to one partition, from 0
    auto operator<=>(const RecordName&) const = default;
};

enum class WriterKind : uint8_t {
    kIdempotent,  // acks=all, each record again and again until it is acknowledged
    kPlain,       // acks=all, each record once: it may be lost while it is not acknowledged
    kWeak,        // acks=1 or 0, each once: it may be lost even then
};

class ClusterHistory {
  public:
    using Listener = std::function<void(const std::string& broken_rule)>;
    explicit ClusterHistory(Listener listener) : listener_(std::move(listener)) {}

    // --- losing. While it is so, and at its beginning all that was told before, may be lost.
    void may_lose(const PartitionKey& key, bool now);
    bool may_have_lost(const PartitionKey& key) const;  // since ever
    // When a request left: what its answer tells may be lost if the partition may lose since then.
    struct Asked {
        uint64_t losses = 0;
    };
    Asked asked(const PartitionKey& key) const;

    // --- writing. A record's value, `pad` bytes beyond its head.
    static constexpr size_t kHeadBytes = 12;
    static std::vector<uint8_t> value_of(RecordName name, uint32_t pad);
    uint32_t new_writer(WriterKind kind);
    // Before the request leaves.
    void sent(const PartitionKey& key, RecordName name);
    // `offset` -1: the broker knows it as a duplicate and does not say where it is.
    // Its leader was of `epoch` or later.
    void acknowledged(const PartitionKey& key, RecordName name, int64_t offset, int32_t epoch,
                      Asked asked);

    // --- reading. `epoch` -1: not known.
    void read(const PartitionKey& key, int64_t offset, int32_t epoch, Bytes value, Asked asked);
    // Who told it. A node that was started anew in an epoch follows, and may know less.
    struct Teller {
        int32_t epoch = -1;
        int32_t node = -1;
        uint64_t life = 0;
        auto operator<=>(const Teller&) const = default;
    };
    // The largest high watermark that it has told anybody so far; -1: none.
    int64_t high_watermark_told(const PartitionKey& key, const Teller& teller) const;
    // `before`: what that was when the question left.
    void told_high_watermark(const PartitionKey& key, const Teller& teller, int64_t high_watermark,
                             int64_t before, Asked asked);
    void told_leader(const PartitionKey& key, int32_t epoch, int32_t leader);
    // What the newest offset (ListOffsets) is at least, for a question that leaves now: all that
    // was acknowledged with acks=all, and all high watermarks that anybody was told, are below.
    int64_t latest_at_least(const PartitionKey& key) const;
    void told_latest(const PartitionKey& key, int32_t node, int64_t offset, int64_t at_least,
                     Asked asked);

    // --- groups
    struct Commit {
        std::string group;
        PartitionKey key;
        auto operator<=>(const Commit&) const = default;
    };
    void commit_sent(const Commit& commit, int64_t offset);
    void commit_acknowledged(const Commit& commit, int64_t offset);
    // What an answer may tell at least, for a question that leaves now.
    int64_t committed_at_least(const Commit& commit) const;
    // -1: nothing is committed.
    void told_committed(const Commit& commit, int64_t offset, int64_t at_least);

    // --- the end: all of [start, end) was read, and nobody writes any more.
    void check_all_read(const PartitionKey& key, int64_t start, int64_t end);
    // The topic was deleted by somebody who was allowed to: nothing must be there any more.
    void forget(const PartitionKey& key) { partitions_.erase(key); }
    std::vector<PartitionKey> partitions() const;

    struct Counts {
        uint64_t sent = 0;
        uint64_t acknowledged = 0;
        uint64_t read = 0;
        uint64_t commits = 0;
        uint64_t epochs = 0;
        uint64_t may_lose = 0;  // how often partitions came to be allowed to lose
        uint64_t lost = 0;      // records that were acknowledged, and rightly
    };
    Counts counts() const { return counts_; }

  private:
    struct Held {
        RecordName name;
        int32_t epoch = -1;
        Asked asked;  // last
    };
    struct Told {
        int64_t offset = -1;
        int32_t epoch = -1;
        Asked asked;
    };
    struct Partition {
        std::set<RecordName> sent;
        std::map<RecordName, Told> acknowledged;
        std::map<int64_t, Held> held;                            // by offset, of the newest epoch
        std::map<std::pair<int64_t, int32_t>, RecordName> gone;  // held once, by offset and epoch
        std::map<RecordName, int64_t> where;
        std::map<Teller, int64_t> high_watermarks;
        std::map<int32_t, int32_t> leaders;  // by epoch
        int64_t latest = 0;
        uint64_t losses = 0;  // how often it came to be allowed to lose
        bool may_lose = false;

        bool excused(Asked asked) const { return asked.losses < losses; }
    };
    void hold(const PartitionKey& key, Partition& partition, int64_t offset, Held held);
    void check_order(const PartitionKey& key, const Partition& partition, int64_t start,
                     int64_t end) const;
    struct Committed {
        std::set<int64_t> sent;
        int64_t acknowledged = -1;
    };
    void complain(const PartitionKey& key, const std::string& what) const;

    Listener listener_;
    std::vector<WriterKind> writers_;
    std::map<PartitionKey, Partition> partitions_;
    std::map<Commit, Committed> commits_;
    Counts counts_;
};

}  // namespace weir::sim

// FetchSessions: incremental fetches (KIP-227). A client that fetches many partitions names them
// once. From then on its requests contain only changes, and answers contain only partitions with
// news. Pure, bounded; each shard has one for its connections. A client that comes back over a
// connection of another shard is told that its session is gone, and begins a new one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "base/uuid.h"
#include "kafka/protocol/kafka_error.h"

namespace weir::kafka {

struct FetchRequest;

struct FetchKey {
    std::string topic;  // before version 13
    Uuid topic_id;      // from version 13 on
    int32_t partition = 0;
    auto operator<=>(const FetchKey&) const = default;
};

// What a client wants from a partition.
struct FetchTarget {
    FetchKey key;
    int64_t offset = 0;
    int32_t current_leader_epoch = -1;
    int32_t last_fetched_epoch = -1;
    int32_t bytes_max = 0;
};

class FetchSessions {
  public:
    explicit FetchSessions(size_t sessions_max) : sessions_max_(sessions_max) {}

    struct Plan {
        KafkaError error = KafkaError::kNone;  // of the whole request
        int32_t session_id = 0;                // 0: none
        bool incremental = false;              // the answer leaves out what has nothing new
        std::vector<FetchTarget> targets;      // in the order in which they are to be served
    };
    // Applies the request to its session. `entropy` makes ids of new sessions.
    Plan begin(const FetchRequest& request, int16_t version, Instant now, uint64_t entropy);

    struct Seen {
        KafkaError error = KafkaError::kNone;
        int64_t high_watermark = -1;
        int64_t log_start_offset = -1;
        bool has_data = false;
    };
    // Whether an incremental answer has to include this partition; remembers what the client knows
    // then. Also true if the session is gone meanwhile.
    bool note(int32_t session_id, const FetchKey& key, const Seen& seen);

    size_t size() const { return sessions_.size(); }
    size_t partitions() const { return partitions_; }

    // A session that was unused for this long may be replaced by a new one.
    static constexpr Duration kKept = 2min;
    // Bounds all sessions together.
    static constexpr size_t kPartitionsMax = 1'000'000;

  private:
    struct Entry {
        FetchTarget target;
        int64_t high_watermark = -1;
        int64_t log_start_offset = -1;
        bool had_error = false;
    };
    struct Session {
        int32_t next_epoch = 1;
        bool by_id = false;
        Instant used;
        // Partitions are served in this order. One that gave data goes to the end, so that the
        // first does not starve the others.
        std::map<uint64_t, Entry> order;
        std::map<FetchKey, uint64_t> places;
        uint64_t next_place = 0;
    };
    void put(Session& session, FetchTarget target);
    void drop(Session& session, const FetchKey& key);
    void erase(int32_t id);
    bool make_room(size_t partitions, Instant now);

    size_t sessions_max_;
    size_t partitions_ = 0;
    std::map<int32_t, Session> sessions_;
};

}  // namespace weir::kafka

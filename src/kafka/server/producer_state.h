// ProducerStates: what one partition remembers of idempotent producers (KIP-98): for each its epoch
// and its last five batches, so that a batch sent again is answered with the offset that it has
// already, and a gap is refused. Pure; owned by the Partition, on its shard. What survives a crash:
// all of it. The states are a fold of the log's batch headers: saved with the log's checkpoints
// (encode), and brought up to date by the headers of the batches after it. Format:
// docs/formats/producer-state.md.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"

namespace weir::kafka {

struct BatchHeader;

class ProducerStates {
  public:
    static constexpr size_t kBatchesKept = 5;

    explicit ProducerStates(size_t producers_max) : producers_max_(producers_max) {}

    enum class Verdict : uint8_t {
        kAppend,
        kDuplicate,         // one of the last five: answered with its offset and timestamp
        kDuplicateUnknown,  // was appended, but longer ago: DUPLICATE_SEQUENCE_NUMBER
        kOutOfOrder,        // OUT_OF_ORDER_SEQUENCE_NUMBER
        kOldEpoch,          // INVALID_PRODUCER_EPOCH
    };
    struct Answer {
        Verdict verdict = Verdict::kAppend;
        int64_t base_offset = -1;  // of the original
        int64_t timestamp_ms = -1;
        int64_t next_offset = -1;  // the original is durable when the log is up to here
    };
    // For a batch with a producer id.
    Answer check(const BatchHeader& batch) const;
    // The batch was appended; its header has its offset. `now` is the time of the append, or of
    // replay.
    void append(const BatchHeader& batch, WallTime now);

    // Forgets producers whose last batch is older than `age_ms`.
    void expire(WallTime now, int64_t age_ms);

    struct Producer {
        int64_t id = 0;
        int16_t epoch = 0;
        int32_t last_sequence = -1;
        int64_t last_timestamp_ms = -1;
    };
    std::vector<Producer> list() const;  // by id
    size_t size() const { return producers_.size(); }
    size_t producers_max() const { return producers_max_; }

    std::vector<uint8_t> encode() const;
    static Result<ProducerStates> decode(Bytes bytes, size_t producers_max);

  private:
    struct Batch {
        int32_t first_sequence = 0;
        int32_t last_sequence = 0;
        int64_t base_offset = 0;
        int64_t timestamp_ms = 0;
        int64_t next_offset = 0;
    };
    struct State {
        int16_t epoch = 0;
        uint8_t count = 0;
        std::array<Batch, kBatchesKept> batches;  // the oldest first
        int64_t written_ms = 0;                   // when the last one came

        const Batch& last() const { return batches[count - 1u]; }
        void push(const Batch& batch);
    };
    void forget_one();

    size_t producers_max_;
    std::unordered_map<int64_t, State> producers_;
};

}  // namespace weir::kafka

// ProducerStates: what one partition remembers of idempotent producers (KIP-98): for each its epoch
// and its last five batches. So a batch that is sent again is answered with the offset that it has
// already, and a gap is refused. Pure; owned by the Partition, on its shard. All of it survives a
// crash: the states are a fold of the log's batch headers, saved with the log's checkpoints
// (encode) and caught up with the headers of the batches after them. Batches that are not committed
// yet can be reverted, exactly (truncate). Format: docs/formats/producer-state.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/fifo.h"
#include "base/result.h"
#include "base/time.h"

namespace weir::kafka {

struct BatchHeader;

// How many producers the partitions of a shard remember together, and how many they may: the node's
// share of memory for them. Owned by the PartitionTable; outlives the states.
struct ProducerShare {
    size_t used = 0;
    size_t limit = SIZE_MAX;
};

class ProducerStates {
  public:
    static constexpr size_t kBatchesKept = 5;
    // The approximate memory of one producer.
    static constexpr size_t kProducerBytes = 256;
    // A partition remembers this many even if the shard's share is used up.
    static constexpr size_t kProducersMin = 100;

    // Beyond `producers_max`, or when `share` is used up, a new producer replaces the one whose
    // last batch is oldest in the log.
    explicit ProducerStates(size_t producers_max, ProducerShare* share = nullptr)
        : producers_max_(producers_max), counted_(share) {}

    enum class Verdict : uint8_t {
        kAppend,
        kDuplicate,   // one of the last five: answered with its offset and timestamp
        kOutOfOrder,  // OUT_OF_ORDER_SEQUENCE_NUMBER
        kOldEpoch,    // INVALID_PRODUCER_EPOCH
    };
    struct Answer {
        Verdict verdict = Verdict::kAppend;
        int64_t base_offset = -1;  // of the original
        int64_t timestamp_ms = -1;
        int64_t next_offset = -1;  // the original is durable when the log is up to here
    };
    // For a batch with a producer id.
    Answer check(const BatchHeader& batch) const;
    // The batch was appended; its header has its offset. `now` is the time of the append or of the
    // replay. The batch can be reverted until commit() has passed it.
    void append(const BatchHeader& batch, WallTime now);
    // Batches below this offset stay.
    void commit(int64_t offset);
    // Batches at and after this offset are gone: the states become what they were before the first
    // of them. Below floor(), where a relaxed log lost what was committed, they are what is still
    // known of the batches before it; a producer without any is forgotten.
    void truncate(int64_t end);
    // Batches at and after this offset can be reverted.
    int64_t floor() const { return floor_; }

    // Forgets producers whose last batch is committed and older than `age_ms`. The log does not say
    // when, so replicas may differ in it.
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

    // Empty if there is no producer.
    std::vector<uint8_t> encode() const;
    // Without the effects of batches at and after `state_end`.
    static Result<ProducerStates> decode(Bytes bytes, size_t producers_max, int64_t state_end,
                                         ProducerShare* share = nullptr);

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
    using States = std::unordered_map<int64_t, State>;
    // What a new batch can't show by itself: for the first batch of a producer or of an epoch.
    struct Before {
        std::optional<State> state;                          // nothing: the producer was not known
        std::optional<std::pair<int64_t, State>> forgotten;  // gave way to it
    };
    // A batch that is not committed, and how to revert it.
    struct Uncommitted {
        int64_t id = 0;
        int16_t epoch = 0;
        Batch batch;
        int64_t written_ms = 0;
        int64_t written_ms_before = 0;
        bool has_evicted = false;
        Batch evicted;  // the oldest of five, which gave way
        std::unique_ptr<Before> before;
    };
    // These states' part of the share.
    class Counted {
      public:
        explicit Counted(ProducerShare* share) : share_(share) {}
        Counted(Counted&& other) noexcept
            : share_(other.share_), count_(std::exchange(other.count_, 0)) {}
        Counted& operator=(Counted&& other) noexcept {
            std::swap(share_, other.share_);
            std::swap(count_, other.count_);
            return *this;
        }
        ~Counted() { set(0); }
        void set(size_t count) {
            if (share_ != nullptr) share_->used += count - count_;
            count_ = count;
        }
        bool share_is_used_up() const { return share_ != nullptr && share_->used >= share_->limit; }

      private:
        ProducerShare* share_;
        size_t count_ = 0;
    };

    void apply(Uncommitted batch);
    bool is_full() const;
    std::optional<std::pair<int64_t, State>> forget_one();
    static void revert(States& states, const Uncommitted& batch);

    size_t producers_max_;
    Counted counted_;
    int64_t floor_ = 0;
    States producers_;
    // By offset. As long as the log's uncommitted tail; after a start, as long as what recovery
    // read.
    Fifo<Uncommitted> uncommitted_;
};

}  // namespace weir::kafka

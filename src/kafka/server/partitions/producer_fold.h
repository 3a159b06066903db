// ProducerFold: ProducerStates as a fold of the partition's log.
#pragma once

#include <utility>

#include "kafka/records/batch.h"
#include "kafka/server/partitions/folds.h"
#include "kafka/server/partitions/producer_state.h"

namespace weir::kafka {

class ProducerFold final : public LogFold {
  public:
    // `share`: see ProducerStates; it outlives the fold.
    explicit ProducerFold(size_t producers_max, ProducerShare* share = nullptr)
        : states_(producers_max, share), share_(share) {}

    ProducerStates& states() { return states_; }
    const ProducerStates& states() const { return states_; }

    Kind kind() const override { return Kind::kProducers; }
    Result<void> restore(Bytes snapshot, int64_t end_offset) override {
        TRY_ASSIGN(states_,
                   ProducerStates::decode(snapshot, states_.producers_max(), end_offset, share_));
        return {};
    }
    void append(const BatchHeader& batch, WallTime now) override {
        if (batch.has_producer_id() && !batch.is_control()) states_.append(batch, now);
    }
    void commit(int64_t offset) override { states_.commit(offset); }
    void truncate(int64_t end_offset) override { states_.truncate(end_offset); }
    int64_t floor() const override { return states_.floor(); }
    std::vector<uint8_t> snapshot() const override { return states_.encode(); }

  private:
    ProducerStates states_;
    ProducerShare* share_;
};

}  // namespace weir::kafka

#include "kafka/server/partitions/folds.h"

#include <gtest/gtest.h>

#include <string>

#include "base/byte_writer.h"
#include "kafka/records/batch.h"
#include "kafka/server/partitions/producer_fold.h"

namespace weir::kafka {
namespace {

BatchHeader batch_of(int64_t producer, int32_t sequence, int64_t offset) {
    BatchHeader header;
    header.producer_id = producer;
    header.producer_epoch = 0;
    header.base_sequence = sequence;
    header.base_offset = offset;
    header.last_offset_delta = 0;
    header.records_count = 1;
    return header;
}

// Remembers the offset of the last batch.
class LastOffset final : public LogFold {
  public:
    Kind kind() const override { return static_cast<Kind>(77); }
    Result<void> restore(Bytes snapshot, int64_t end_offset) override {
        offset = snapshot.empty() ? -1 : snapshot.front();
        if (offset >= end_offset) offset = -1;
        return {};
    }
    void append(const BatchHeader& batch, WallTime) override { offset = batch.base_offset; }
    void commit(int64_t to) override { floor_ = to; }
    void truncate(int64_t end_offset) override {
        if (offset >= end_offset) offset = -1;
    }
    int64_t floor() const override { return floor_; }
    std::vector<uint8_t> snapshot() const override {
        if (offset < 0) return {};
        return {static_cast<uint8_t>(offset)};
    }

    int64_t offset = -1;

  private:
    int64_t floor_ = 0;
};

TEST(LogFolds, producers_alone_are_saved_in_the_bytes_of_producer_states) {
    ProducerFold producers(10);
    LogFolds folds;
    folds.add(producers);
    EXPECT_TRUE(folds.capture().bytes.empty());
    folds.append(batch_of(7, 0, 0), {1000});
    folds.commit(1);
    const auto captured = folds.capture();
    EXPECT_EQ(captured.bytes, producers.states().encode());
    EXPECT_EQ(captured.floor_offset, producers.states().floor());
    // ... also where another fold has nothing to tell.
    LastOffset last;
    folds.add(last);
    EXPECT_EQ(folds.capture().bytes, producers.states().encode());

    ProducerFold again(10);
    LogFolds old;
    old.add(again);
    ASSERT_TRUE(old.restore(captured.bytes, 1));
    EXPECT_EQ(again.states().encode(), captured.bytes);
}

TEST(LogFolds, each_fold_gets_its_own_bytes_back_and_all_see_each_batch) {
    ProducerFold producers(10);
    LastOffset last;
    LogFolds folds;
    folds.add(producers);
    folds.add(last);
    folds.append(batch_of(7, 0, 3), {1000});
    EXPECT_EQ(last.offset, 3);
    const auto captured = folds.capture();

    ProducerFold producers_again(10);
    LastOffset last_again;
    LogFolds again;
    again.add(last_again);  // in another order
    again.add(producers_again);
    ASSERT_TRUE(again.restore(captured.bytes, 4));
    EXPECT_EQ(last_again.offset, 3);
    EXPECT_EQ(producers_again.states().list().size(), 1u);
    // What was cut off since is taken back by each.
    ASSERT_TRUE(again.restore(captured.bytes, 3));
    EXPECT_EQ(last_again.offset, -1);
    EXPECT_EQ(producers_again.states().list().size(), 0u);
}

TEST(LogFolds, the_highest_floor_counts_for_all) {
    ProducerFold producers(10);
    LastOffset last;
    LogFolds folds;
    folds.add(producers);
    folds.add(last);
    last.commit(12);
    EXPECT_EQ(folds.capture().floor_offset, 12);
}

TEST(LogFolds, bytes_that_no_fold_wrote_are_an_error) {
    ProducerFold producers(10);
    LogFolds folds;
    folds.add(producers);
    const auto refused = [&](std::vector<uint8_t> bytes) {
        return !folds.restore(bytes, 10).has_value();
    };
    EXPECT_TRUE(refused({0x80}));                       // no count
    EXPECT_TRUE(refused({0x80, 1}));                    // no fold
    EXPECT_TRUE(refused({0x80, 1, 1, 5, 0}));           // shorter than it says
    EXPECT_TRUE(refused({0x80, 1, 99, 1, 0}));          // a kind of a later version
    EXPECT_TRUE(refused({0x80, 0, 0}));                 // more than it says
    EXPECT_TRUE(refused({0x80, 2, 1, 1, 2, 1, 1, 2}));  // one kind twice
    EXPECT_TRUE(refused({0x33}));
    EXPECT_FALSE(refused({}));
}

}  // namespace
}  // namespace weir::kafka

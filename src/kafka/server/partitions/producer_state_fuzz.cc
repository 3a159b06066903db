// Producer state as checkpoints keep it: any bytes. What is read is written and read again as the
// same; then batches of any numbers are asked for and appended, and what was appended is known as a
// duplicate, until it is taken back.
#include "base/byte_reader.h"
#include "base/check.h"
#include "kafka/records/batch.h"
#include "kafka/server/partitions/producer_state.h"

namespace weir::kafka {
namespace {

constexpr size_t kProducersMax = 16;

BatchHeader batch_from(ByteReader& in, int64_t next_offset) {
    BatchHeader batch;
    batch.base_offset = next_offset;
    batch.last_offset_delta = in.read_u8();
    batch.records_count = batch.last_offset_delta + 1;
    batch.producer_id = in.read_u8() % 32;
    batch.producer_epoch = static_cast<int16_t>(in.read_u8() % 4);
    batch.base_sequence = in.read_i32() & INT32_MAX;
    batch.max_timestamp = {in.read_u16()};
    return batch;
}

void fuzz(Bytes input) {
    ByteReader in(input);
    const Bytes saved = in.read_bytes(std::min<size_t>(in.read_u16(), in.remaining()));
    auto states = ProducerStates::decode(saved, kProducersMax, INT64_MAX);
    if (!states) return;
    const std::vector<uint8_t> written = states->encode();
    const auto again = ProducerStates::decode(written, kProducersMax, INT64_MAX);
    CHECK(again && again->encode() == written);
    CHECK(states->size() <= kProducersMax);
    (void)states->list();

    WallTime now{1'000};
    // Behind everything that the bytes tell of, and far from the largest offset.
    int64_t next_offset = INT64_MAX / 2;
    if (states->floor() > next_offset) return;
    states->truncate(next_offset);
    while (in.remaining() >= 12) {
        const uint8_t step = in.read_u8();
        now.ms += step;
        if (step == 0xff) states->expire(now, 500);
        const BatchHeader batch = batch_from(in, next_offset);
        const auto answer = states->check(batch);
        if (answer.verdict != ProducerStates::Verdict::kAppend) continue;
        states->append(batch, now);
        next_offset = batch.next_offset();
        const auto repeated = states->check(batch);
        CHECK(repeated.verdict == ProducerStates::Verdict::kDuplicate);
        CHECK(repeated.base_offset == batch.base_offset);
        CHECK(states->size() <= kProducersMax);
        if (step % 8 == 1) states->commit(next_offset);
        if (step % 8 == 2) {
            states->truncate(batch.base_offset);
            next_offset = batch.base_offset;
            CHECK(states->check(batch).verdict == ProducerStates::Verdict::kAppend);
        }
    }
}

}  // namespace
}  // namespace weir::kafka

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    weir::kafka::fuzz({data, size});
    return 0;
}

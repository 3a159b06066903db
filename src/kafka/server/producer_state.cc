#include "kafka/server/producer_state.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"
#include "kafka/records/batch.h"

namespace weir::kafka {
namespace {

constexpr uint8_t kFormat = 1;

// Sequence numbers count from 0 to INT32_MAX and around: the distance from `from` on to `to`, in
// [0, 2^31).
uint32_t distance(int32_t from, int32_t to) {
    return (static_cast<uint32_t>(to) - static_cast<uint32_t>(from)) & 0x7fffffffu;
}
// Behind is whatever takes less than half of the way around back.
bool is_at_or_before(int32_t sequence, int32_t reference) {
    return distance(sequence, reference) < 0x40000000u;
}

}  // namespace

void ProducerStates::State::push(const Batch& batch) {
    if (count == kBatchesKept) {
        std::shift_left(batches.begin(), batches.end(), 1);
        --count;
    }
    batches[count++] = batch;
}

ProducerStates::Answer ProducerStates::check(const BatchHeader& batch) const {
    CHECK(batch.has_producer_id());
    const auto found = producers_.find(batch.producer_id);
    // State may be gone by retention or expiry, so an unknown producer may go on where it is.
    if (found == producers_.end()) return {};
    const State& state = found->second;
    if (batch.producer_epoch < state.epoch) return {Verdict::kOldEpoch};
    if (batch.producer_epoch > state.epoch) {
        return {batch.base_sequence == 0 ? Verdict::kAppend : Verdict::kOutOfOrder};
    }
    for (size_t i = 0; i < state.count; ++i) {
        const Batch& seen = state.batches[i];
        if (seen.first_sequence == batch.base_sequence &&
            seen.last_sequence == batch.last_sequence()) {
            return {Verdict::kDuplicate, seen.base_offset, seen.timestamp_ms, seen.next_offset};
        }
    }
    const int32_t last = state.last().last_sequence;
    if (distance(last, batch.base_sequence) == 1) return {};
    const bool is_behind =
        is_at_or_before(batch.base_sequence, last) && is_at_or_before(batch.last_sequence(), last);
    const bool is_older = is_behind &&
                          is_at_or_before(batch.last_sequence(), state.batches[0].first_sequence) &&
                          batch.last_sequence() != state.batches[0].first_sequence;
    return {is_older ? Verdict::kDuplicateUnknown : Verdict::kOutOfOrder};
}

void ProducerStates::append(const BatchHeader& batch, WallTime now) {
    CHECK(batch.has_producer_id());
    auto found = producers_.find(batch.producer_id);
    if (found == producers_.end()) {
        if (producers_.size() >= producers_max_) forget_one();
        found = producers_.emplace(batch.producer_id, State{.epoch = batch.producer_epoch}).first;
    }
    State& state = found->second;
    if (state.epoch != batch.producer_epoch) {
        state.epoch = batch.producer_epoch;
        state.count = 0;
    }
    state.written_ms = now.ms;
    state.push({.first_sequence = batch.base_sequence,
                .last_sequence = batch.last_sequence(),
                .base_offset = batch.base_offset,
                .timestamp_ms = batch.max_timestamp.ms,
                .next_offset = batch.next_offset()});
}

void ProducerStates::forget_one() {
    // Rare, so a scan; ties go by id, so that what is forgotten does not depend on the table's
    // order.
    auto oldest = producers_.begin();
    for (auto at = producers_.begin(); at != producers_.end(); ++at) {
        if (std::pair(at->second.written_ms, at->first) <
            std::pair(oldest->second.written_ms, oldest->first))
            oldest = at;
    }
    if (oldest != producers_.end()) producers_.erase(oldest);
}

void ProducerStates::expire(WallTime now, int64_t age_ms) {
    std::erase_if(producers_,
                  [&](const auto& entry) { return now.ms - entry.second.written_ms >= age_ms; });
}

std::vector<ProducerStates::Producer> ProducerStates::list() const {
    std::vector<Producer> all;
    all.reserve(producers_.size());
    for (const auto& [id, state] : producers_) {
        all.push_back({id, state.epoch, state.last().last_sequence, state.last().timestamp_ms});
    }
    std::ranges::sort(all, {}, &Producer::id);
    return all;
}

std::vector<uint8_t> ProducerStates::encode() const {
    if (producers_.empty()) return {};
    std::vector<const std::pair<const int64_t, State>*> ordered;
    ordered.reserve(producers_.size());
    for (const auto& entry : producers_) ordered.push_back(&entry);
    std::ranges::sort(ordered, {}, [](const auto* entry) { return entry->first; });
    ByteWriter out;
    out.write_u8(kFormat);
    out.write_unsigned_varlong(ordered.size());
    for (const auto* entry : ordered) {
        const State& state = entry->second;
        out.write_varlong(entry->first);
        out.write_i16(state.epoch);
        out.write_varlong(state.written_ms);
        out.write_u8(state.count);
        for (size_t i = 0; i < state.count; ++i) {
            const Batch& batch = state.batches[i];
            out.write_varint(batch.first_sequence);
            out.write_varint(batch.last_sequence);
            out.write_varlong(batch.base_offset);
            out.write_varlong(batch.next_offset - batch.base_offset);
            out.write_varlong(batch.timestamp_ms);
        }
    }
    return out.flatten();
}

Result<ProducerStates> ProducerStates::decode(Bytes bytes, size_t producers_max) {
    ProducerStates states(producers_max);
    if (bytes.empty()) return states;
    ByteReader in(bytes);
    if (in.read_u8() != kFormat)
        return fail(ErrorCode::kUnsupported, "producer state of an unknown format");
    const uint64_t count = in.read_unsigned_varlong();
    for (uint64_t i = 0; i < count && in.ok(); ++i) {
        const int64_t id = in.read_varlong();
        State state;
        state.epoch = in.read_i16();
        state.written_ms = in.read_varlong();
        const uint8_t batches = in.read_u8();
        if (batches == 0 || batches > kBatchesKept) in.set_failed();
        for (uint8_t b = 0; b < batches && in.ok(); ++b) {
            Batch batch;
            batch.first_sequence = in.read_varint();
            batch.last_sequence = in.read_varint();
            batch.base_offset = in.read_varlong();
            const int64_t width = in.read_varlong();
            if (batch.base_offset < 0 || width <= 0 || width > INT64_MAX - batch.base_offset)
                in.set_failed();
            else
                batch.next_offset = batch.base_offset + width;
            batch.timestamp_ms = in.read_varlong();
            state.push(batch);
        }
        if (in.ok() && !states.producers_.emplace(id, state).second) in.set_failed();
    }
    if (!in.ok() || in.remaining() != 0)
        return fail(ErrorCode::kMalformed, "producer state does not parse");
    while (states.producers_.size() > producers_max) states.forget_one();
    return states;
}

}  // namespace weir::kafka

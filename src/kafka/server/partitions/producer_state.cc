#include "kafka/server/partitions/producer_state.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"
#include "kafka/records/batch.h"

namespace weir::kafka {
namespace {

constexpr uint8_t kFormat = 2;
constexpr uint8_t kFormatOfOneNode = 1;  // knows nothing that could be taken back

// Sequence numbers count from 0 to INT32_MAX and around: the distance from `from` on to `to`, in
// [0, 2^31).
uint32_t distance(int32_t from, int32_t to) {
    return (static_cast<uint32_t>(to) - static_cast<uint32_t>(from)) & 0x7fffffffu;
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
    // Also for one that is older than the five: DUPLICATE_SEQUENCE_NUMBER would tell the client
    // that it was written, and that is not known. A producer may have begun in the middle.
    return {Verdict::kOutOfOrder};
}

void ProducerStates::append(const BatchHeader& batch, WallTime now) {
    CHECK(batch.has_producer_id());
    Uncommitted added;
    added.id = batch.producer_id;
    added.epoch = batch.producer_epoch;
    added.batch = {.first_sequence = batch.base_sequence,
                   .last_sequence = batch.last_sequence(),
                   .base_offset = batch.base_offset,
                   .timestamp_ms = batch.max_timestamp.ms,
                   .next_offset = batch.next_offset()};
    added.written_ms = now.ms;
    apply(std::move(added));
}

void ProducerStates::apply(Uncommitted added) {
    auto found = producers_.find(added.id);
    if (found == producers_.end()) {
        added.before = std::make_unique<Before>();
        if (is_full()) added.before->forgotten = forget_one();
        found = producers_.emplace(added.id, State{.epoch = added.epoch}).first;
    } else if (found->second.epoch != added.epoch) {
        added.before = std::make_unique<Before>(Before{.state = found->second, .forgotten = {}});
        found->second.epoch = added.epoch;
        found->second.count = 0;
    }
    State& state = found->second;
    added.written_ms_before = state.written_ms;
    added.has_evicted = state.count == kBatchesKept;
    if (added.has_evicted) added.evicted = state.batches[0];
    state.written_ms = added.written_ms;
    state.push(added.batch);
    uncommitted_.push_back(std::move(added));
    counted_.set(producers_.size());
}

bool ProducerStates::is_full() const {
    return producers_.size() >= producers_max_ ||
           (producers_.size() >= kProducersMin && counted_.share_is_used_up());
}

void ProducerStates::revert(States& states, const Uncommitted& batch) {
    if (batch.before) {
        if (batch.before->state)
            states.insert_or_assign(batch.id, *batch.before->state);
        else
            states.erase(batch.id);
        if (batch.before->forgotten) states.insert(*batch.before->forgotten);
        return;
    }
    const auto found = states.find(batch.id);
    CHECK(found != states.end());
    State& state = found->second;
    CHECK(state.count > 0);
    CHECK(state.last().base_offset == batch.batch.base_offset);
    --state.count;
    state.written_ms = batch.written_ms_before;
    if (!batch.has_evicted) return;
    std::shift_right(state.batches.begin(), state.batches.end(), 1);
    state.batches[0] = batch.evicted;
    ++state.count;
}

void ProducerStates::commit(int64_t offset) {
    while (!uncommitted_.empty() && uncommitted_.front().batch.base_offset < offset)
        uncommitted_.pop_front();
    floor_ = std::max(floor_, offset);
}

void ProducerStates::truncate(int64_t end) {
    while (!uncommitted_.empty() && uncommitted_.back().batch.base_offset >= end) {
        revert(producers_, uncommitted_.back());
        uncommitted_.pop_back();
    }
    if (end < floor_) {
        for (auto at = producers_.begin(); at != producers_.end();) {
            State& state = at->second;
            while (state.count > 0 && state.last().base_offset >= end) --state.count;
            at = state.count == 0 ? producers_.erase(at) : std::next(at);
        }
        floor_ = end;
    }
    counted_.set(producers_.size());
}

std::optional<std::pair<int64_t, ProducerStates::State>> ProducerStates::forget_one() {
    // The one whose last batch lies furthest back in the log: the same on every replica. Rare, so
    // a scan; ties go by id, so that it does not depend on the table's order.
    auto oldest = producers_.begin();
    for (auto at = producers_.begin(); at != producers_.end(); ++at) {
        if (std::pair(at->second.last().base_offset, at->first) <
            std::pair(oldest->second.last().base_offset, oldest->first))
            oldest = at;
    }
    if (oldest == producers_.end()) return std::nullopt;
    std::pair<int64_t, State> forgotten = *oldest;
    producers_.erase(oldest);
    return forgotten;
}

void ProducerStates::expire(WallTime now, int64_t age_ms) {
    const int64_t committed =
        uncommitted_.empty() ? INT64_MAX : uncommitted_.front().batch.base_offset;
    std::erase_if(producers_, [&](const auto& entry) {
        return now.ms - entry.second.written_ms >= age_ms &&
               entry.second.last().base_offset < committed;
    });
    counted_.set(producers_.size());
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
    if (producers_.empty() && uncommitted_.empty()) return {};
    // What is committed, then what is not: whoever reads this leaves out what was cut off since.
    States taken_back;
    if (!uncommitted_.empty()) {
        taken_back = producers_;
        for (size_t i = uncommitted_.size(); i-- > 0;) revert(taken_back, uncommitted_[i]);
    }
    const States& committed = uncommitted_.empty() ? producers_ : taken_back;
    std::vector<const std::pair<const int64_t, State>*> ordered;
    ordered.reserve(committed.size());
    for (const auto& entry : committed) ordered.push_back(&entry);
    std::ranges::sort(ordered, {}, [](const auto* entry) { return entry->first; });
    ByteWriter out;
    const auto write_batch = [&out](const Batch& batch) {
        out.write_varint(batch.first_sequence);
        out.write_varint(batch.last_sequence);
        out.write_varlong(batch.base_offset);
        out.write_varlong(batch.next_offset - batch.base_offset);
        out.write_varlong(batch.timestamp_ms);
    };
    out.write_u8(kFormat);
    out.write_varlong(floor_);
    out.write_unsigned_varlong(ordered.size());
    for (const auto* entry : ordered) {
        const State& state = entry->second;
        out.write_varlong(entry->first);
        out.write_i16(state.epoch);
        out.write_varlong(state.written_ms);
        out.write_u8(state.count);
        for (size_t i = 0; i < state.count; ++i) write_batch(state.batches[i]);
    }
    out.write_unsigned_varlong(uncommitted_.size());
    for (size_t i = 0; i < uncommitted_.size(); ++i) {
        const Uncommitted& batch = uncommitted_[i];
        out.write_varlong(batch.id);
        out.write_i16(batch.epoch);
        out.write_varlong(batch.written_ms);
        write_batch(batch.batch);
    }
    return out.flatten();
}

Result<ProducerStates> ProducerStates::decode(Bytes bytes, size_t producers_max, int64_t state_end,
                                              ProducerShare* share) {
    ProducerStates states(producers_max, share);
    if (bytes.empty()) return states;
    ByteReader in(bytes);
    const uint8_t format = in.read_u8();
    if (format != kFormat && format != kFormatOfOneNode)
        return fail(ErrorCode::kUnsupported, "producer state of an unknown format");
    const auto read_batch = [&in] {
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
        return batch;
    };
    states.floor_ = format == kFormatOfOneNode ? state_end : in.read_varlong();
    if (states.floor_ < 0) in.set_failed();
    const uint64_t count = in.read_unsigned_varlong();
    for (uint64_t i = 0; i < count && in.ok(); ++i) {
        const int64_t id = in.read_varlong();
        State state;
        state.epoch = in.read_i16();
        state.written_ms = in.read_varlong();
        const uint8_t batches = in.read_u8();
        if (batches == 0 || batches > kBatchesKept) in.set_failed();
        for (uint8_t b = 0; b < batches && in.ok(); ++b) state.push(read_batch());
        if (in.ok() && !states.producers_.emplace(id, state).second) in.set_failed();
    }
    while (in.ok() && states.producers_.size() > producers_max) (void)states.forget_one();
    const uint64_t uncommitted = format == kFormat ? in.read_unsigned_varlong() : 0;
    int64_t next_offset = states.floor_;
    for (uint64_t i = 0; i < uncommitted && in.ok(); ++i) {
        Uncommitted batch;
        batch.id = in.read_varlong();
        batch.epoch = in.read_i16();
        batch.written_ms = in.read_varlong();
        batch.batch = read_batch();
        if (batch.batch.base_offset < next_offset) in.set_failed();
        next_offset = batch.batch.next_offset;
        if (in.ok() && batch.batch.base_offset < state_end) states.apply(std::move(batch));
    }
    if (!in.ok() || in.remaining() != 0)
        return fail(ErrorCode::kMalformed, "producer state does not parse");
    states.counted_.set(states.producers_.size());
    return states;
}

}  // namespace weir::kafka

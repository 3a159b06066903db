#include "cluster/leader_table.h"

#include <algorithm>
#include <utility>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"
#include "cluster/records.h"

namespace weir::cluster {
namespace {

constexpr uint8_t kFormat = 1;
constexpr size_t kStateSizeMin = 5;  // bytes

// As a step from the log before: statements come in runs of neighbours.
uint64_t step_to(storage::LogId log, storage::LogId before) { return log.v - before.v; }

int32_t read_bounded(ByteReader& in) {
    const uint64_t wide = in.read_unsigned_varlong();
    if (wide > INT32_MAX) in.set_failed();
    return in.ok() ? static_cast<int32_t>(wide) : 0;
}

}  // namespace

bool LeaderTable::learn(LeaderState state) {
    const auto found = states_.find(state.log);
    if (found == states_.end()) {
        if (states_.size() >= size_max_) return false;
        const storage::LogId log = state.log;
        states_.emplace(log, Heard{.state = std::move(state)});
        return true;
    }
    if (!state.is_newer_than(found->second.state)) return false;
    found->second.state = std::move(state);
    return true;
}

void LeaderTable::sweep(const std::function<bool(storage::LogId)>& is_known) {
    for (auto at = states_.begin(); at != states_.end();) {
        const bool is_unknown = !is_known(at->first);
        const bool was_unknown = std::exchange(at->second.was_unknown, is_unknown);
        at = is_unknown && was_unknown ? states_.erase(at) : std::next(at);
    }
}

const LeaderState* LeaderTable::find(storage::LogId log) const {
    const auto found = states_.find(log);
    return found == states_.end() ? nullptr : &found->second.state;
}

std::vector<uint8_t> encode_leader_update(const LeaderUpdate& update) {
    CHECK(update.states.size() <= kLeaderUpdateMax);
    ByteWriter out;
    out.write_u8(kFormat);
    out.write_unsigned_varlong(static_cast<uint64_t>(update.node));
    out.write_unsigned_varlong(update.after);
    out.write_unsigned_varlong(update.upto);
    out.write_unsigned_varlong(update.states.size());
    storage::LogId before;
    for (const LeaderState& state : update.states) {
        out.write_varlong(static_cast<int64_t>(step_to(state.log, before)));
        before = state.log;
        out.write_unsigned_varlong(static_cast<uint64_t>(int64_t{state.leader} + 1));
        out.write_unsigned_varlong(static_cast<uint64_t>(state.epoch));
        out.write_unsigned_varlong(state.revision);
        out.write_unsigned_varlong(state.in_sync.size());
        for (const int32_t node : state.in_sync)
            out.write_unsigned_varlong(static_cast<uint64_t>(node));
    }
    return out.flatten();
}

Result<LeaderUpdate> decode_leader_update(Bytes bytes) {
    ByteReader in(bytes);
    const uint8_t format = in.read_u8();
    if (in.ok() && format != kFormat) {
        return fail(ErrorCode::kUnsupported,
                    "a leader update of an unknown format " + std::to_string(format));
    }
    LeaderUpdate update;
    update.node = read_bounded(in);
    update.after = in.read_unsigned_varlong();
    update.upto = in.read_unsigned_varlong();
    const uint64_t count = in.read_unsigned_varlong();
    if (count > kLeaderUpdateMax || count > in.remaining() / kStateSizeMin) in.set_failed();
    storage::LogId log;
    for (uint64_t i = 0; i < count && in.ok(); ++i) {
        LeaderState& state = update.states.emplace_back();
        log.v += static_cast<uint64_t>(in.read_varlong());
        state.log = log;
        const uint64_t leader = in.read_unsigned_varlong();
        if (leader > uint64_t{INT32_MAX} + 1) in.set_failed();
        state.leader = static_cast<int32_t>(static_cast<int64_t>(leader) - 1);
        state.epoch = read_bounded(in);
        const uint64_t revision = in.read_unsigned_varlong();
        if (revision > UINT32_MAX) in.set_failed();
        state.revision = static_cast<uint32_t>(revision);
        const uint64_t in_sync = in.read_unsigned_varlong();
        if (in_sync > kReplicasMax) in.set_failed();
        for (uint64_t j = 0; j < in_sync && in.ok(); ++j) state.in_sync.push_back(read_bounded(in));
    }
    if (!in.ok() || in.remaining() != 0)
        return fail(ErrorCode::kMalformed, "a leader update does not parse");
    return update;
}

void LeaderPublisher::say(LeaderState state) {
    Said& said = states_[state.log];
    if (said.sequence != 0) by_sequence_.erase(said.sequence);
    said.sequence = ++sequence_;
    by_sequence_.emplace(said.sequence, state.log);
    said.state = std::move(state);
}

bool LeaderPublisher::lead(storage::LogId log, int32_t epoch, std::vector<int32_t> in_sync) {
    LeaderState state{
        .log = log, .leader = node_, .epoch = epoch, .revision = 0, .in_sync = std::move(in_sync)};
    const auto found = states_.find(log);
    if (found != states_.end()) {
        const LeaderState& before = found->second.state;
        if (epoch < before.epoch) return false;
        if (epoch == before.epoch) {
            // Who stepped down does not lead again in the same term.
            CHECK(before.leader == node_);
            if (before.in_sync == state.in_sync) return false;
            state.revision = before.revision + 1;
        }
    }
    say(std::move(state));
    return true;
}

bool LeaderPublisher::resign(storage::LogId log, int32_t epoch) {
    const auto found = states_.find(log);
    if (found == states_.end()) return false;
    LeaderState state = found->second.state;
    if (state.epoch != epoch || state.leader == -1) return false;
    state.leader = -1;
    ++state.revision;
    say(std::move(state));
    return true;
}

void LeaderPublisher::note_statement(const LeaderState& state) {
    const auto found = states_.find(state.log);
    if (found != states_.end() && state.is_newer_than(found->second.state)) forget(state.log);
}

void LeaderPublisher::forget(storage::LogId log) {
    const auto found = states_.find(log);
    if (found == states_.end()) return;
    by_sequence_.erase(found->second.sequence);
    states_.erase(found);
}

std::optional<LeaderUpdate> LeaderPublisher::next_for(int32_t peer, size_t size_max) const {
    const auto known = peers_.find(peer);
    const uint64_t after = known == peers_.end() ? 0 : known->second.acknowledged;
    LeaderUpdate update{.node = node_, .after = after, .upto = after, .states = {}};
    for (auto at = by_sequence_.upper_bound(after);
         at != by_sequence_.end() && update.states.size() < std::min(size_max, kLeaderUpdateMax);
         ++at) {
        update.states.push_back(states_.at(at->second).state);
        update.upto = at->first;
    }
    if (update.states.empty()) return std::nullopt;
    return update;
}

void LeaderPublisher::acknowledged(int32_t peer, uint64_t incarnation, uint64_t after,
                                   uint64_t upto) {
    Peer& known = peers_[peer];
    if (known.incarnation != incarnation) known = {.incarnation = incarnation, .acknowledged = 0};
    // One that was made for the incarnation before: what lies below is not known to this one.
    if (after > known.acknowledged || upto > sequence_) return;
    known.acknowledged = std::max(known.acknowledged, upto);
}

}  // namespace weir::cluster

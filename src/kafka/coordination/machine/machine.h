// What all coordinators have in common: a pure state machine whose durable state is the fold of the
// records of one partition, in log order. Its inputs are requests, replayed records, results of
// appends and the passing of time; its outputs are effects. It has no I/O, no clock and no runtime;
// kafka/coordination/coordinator_log.h drives it. kafka/groups/coordinator.h states the contract in
// full, for groups.
#pragma once

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"

namespace weir::kafka {

// Names one waiting request; the driver chooses it, and never uses one twice while it waits for the
// reply.
struct RequestId {
    uint64_t v = 0;
    auto operator<=>(const RequestId&) const = default;
};

// Names one append; never used twice by one coordinator.
struct AppendToken {
    uint64_t v = 0;
    auto operator<=>(const AppendToken&) const = default;
};

// Both clocks at one moment: the monotonic one for timeouts, the wall clock for what is stored.
struct Moment {
    Instant instant;
    WallTime wall;
};

// The bytes of a record in a batch besides its key and value: varints of its lengths and deltas.
inline constexpr size_t kRecordOverheadBytesMax = 32;

// A record that a machine writes to its partition.
struct LogRecord {
    std::vector<uint8_t> key;
    std::optional<std::vector<uint8_t>> value;  // nullopt: a tombstone
    // At least the record's size in a batch.
    size_t bytes() const {
        return kRecordOverheadBytesMax + key.size() + (value ? value->size() : 0);
    }
    bool operator==(const LogRecord&) const = default;
};

// The outputs of a call of the machine, for its driver. Each append is one record batch, written in
// the order of the list and reported with on_append_done(). Each reply answers one request. Notes
// are lines for the log.
template <class E>
concept CoordinatorEffects = requires(E effects) {
    { effects.replies.front().request } -> std::convertible_to<RequestId>;
    { effects.appends.front().token } -> std::convertible_to<AppendToken>;
    { effects.appends.front().records } -> std::convertible_to<std::vector<LogRecord>>;
    { effects.notes } -> std::convertible_to<std::vector<std::string>>;
};

template <class M>
using EffectsOf = decltype(std::declval<M&>().close());
template <class M>
using ReplyOf = typename decltype(EffectsOf<M>::replies)::value_type;

template <class M>
concept CoordinatorMachine =
    CoordinatorEffects<EffectsOf<M>> &&
    requires(M machine, const M& read, Bytes bytes, std::optional<Bytes> value, AppendToken token,
             Moment now, std::function<void(LogRecord)> visit) {
        // begin_load(), replay() of each record in order, finish_load(): it serves. After close()
        // it may be loaded again.
        machine.begin_load();
        { machine.replay(bytes, value) } -> std::same_as<Result<>>;  // an error: it was skipped
        { machine.finish_load(now) } -> std::same_as<EffectsOf<M>>;
        { machine.tick(now) } -> std::same_as<EffectsOf<M>>;
        { read.next_deadline() } -> std::same_as<Instant>;
        { machine.on_append_done(token, true, now) } -> std::same_as<EffectsOf<M>>;
        // For a rewrite of the log: all that is alive, while no append is outstanding.
        { read.appends_outstanding() } -> std::convertible_to<size_t>;
        read.for_each_live_record(visit);
    };

}  // namespace weir::kafka

// LogModel: what one log must hold, as its caller knows it. Lives outside of the simulated node and
// survives its kills.
//
// The model is told of each operation before it starts and after it succeeded. What began and was
// not confirmed leaves more than one allowed state; the next recovery says which it was, and from
// then on the model holds the log to it. That makes recovery's idempotence a part of every check:
// what one recovery showed, the next must show again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/log.h"

namespace weir::sim {

struct ModelEntry {
    storage::EntryInfo info;
    std::string payload;
    uint32_t summary_bytes = 0;
};
using ModelEntryRef = std::shared_ptr<const ModelEntry>;

// Words for what is wrong; empty: nothing.
using Complaint = std::string;

class LogModel {
  public:
    enum class Presence : uint8_t {
        kMaybe,  // its creation or its removal began
        kPresent,
        kGone,
    };

    LogModel(storage::LogId log, storage::LogConfig config) : id(log), config(config) {}

    const storage::LogId id;
    storage::LogConfig config;
    Presence presence = Presence::kMaybe;

    // All entries since the log was made, as of the last append or truncation; those below the
    // start stay for reference.
    std::vector<ModelEntryRef> history;
    // The entries below are there for ever (unless they are truncated).
    storage::Position acknowledged;
    int64_t start_acknowledged = 0;                  // start_offset() was moved to here
    int64_t start_attempted = 0;                     // ... or maybe to here
    std::optional<storage::Position> cut_attempted;  // a suffix truncation began
    std::vector<storage::HardState> hard_states{
        {}};                   // the first is acknowledged, the others were attempted
    uint32_t truncations = 0;  // of the suffix, that took effect

    storage::Position end() const {
        return history.empty() ? storage::Position{} : history.back()->info.end();
    }
    // The index of the first entry that begins at or after `position`.
    size_t index_of(storage::Position position) const;

    void acknowledge(storage::Position position) {
        acknowledged = std::max(acknowledged, position);
    }
    void cut(storage::Position at);

    // A state machine over the data entries below `end`: a hash chain, in the form that the log's
    // checkpoints keep.
    std::vector<uint8_t> state_at(int64_t end_offset) const;
    std::vector<uint8_t> state() const { return state_at(end().offset); }

    // --- what is seen of the log against the model

    // After recovery. When nothing is wrong, the model takes over what was seen.
    struct Seen {
        int64_t start_offset;
        storage::Position end;
        storage::Position durable_end;
        storage::HardState hard_state;
        int32_t last_term;
    };
    Complaint recovered(const Seen& seen, const storage::RecoveredState& state, int64_t wall_ms);
    // After recovery of a log that says that it may lack entries: it is what it was at some moment
    // before, without cuts of its suffix since. When that is so, the model takes over what was
    // seen.
    Complaint went_back(const Seen& seen, const storage::RecoveredState& state);
    // start_offset() at any time: it may have been moved by retention.
    Complaint started_at(int64_t start_offset, int64_t wall_ms);
    // end_of_term() for `term`, at this moment.
    Complaint check_term(int32_t term, const std::optional<storage::Log::TermEnd>& seen,
                         int64_t start_offset) const;

    // Against entries that the log held during the read.
    static Complaint check_read(const std::vector<ModelEntryRef>& entries, int64_t offset,
                                const storage::ReadLimits& limits,
                                const storage::ReadResult& result);
    static Complaint check_found(const std::vector<ModelEntryRef>& entries, int64_t start_offset,
                                 int64_t end_offset, std::optional<int64_t> timestamp_ms,
                                 const std::optional<storage::FoundEntry>& found);
    // Data entries that hold offsets of [start_offset, ...).
    std::vector<ModelEntryRef> data_from(int64_t start_offset) const;

  private:
    // Of the suffixes cut since the start last moved: retention may have counted them.
    uint64_t cut_bytes_ = 0;

    Complaint check_retention(int64_t from, int64_t to, int64_t wall_ms) const;
    Complaint check_state(const storage::RecoveredState& state, const Seen& seen) const;
    int32_t last_term_below(storage::Position end) const;
    std::string about(std::string_view what, const Seen& seen) const;
    Complaint check_end(const Seen& seen) const;
    void take_over(const Seen& seen);
};

std::string to_string(storage::Position position);

}  // namespace weir::sim

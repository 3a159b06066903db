// The bytes of a checkpoint: for each log of a shard what recovery needs besides the journal's
// tail. Pure code over bytes. Format, with an example in hex: docs/formats/checkpoint.md.
#pragma once

#include <map>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "storage/log_state.h"

namespace weir::storage {

inline constexpr uint32_t kCheckpointMagic = 0x31504357;  // "WCP1"
inline constexpr uint16_t kCheckpointVersion = 1;
inline constexpr size_t kCheckpointHeaderBytes = 64;

struct CheckpointHeader {
    uint64_t journal_id = 0;
    uint64_t generation = 0;
    uint32_t shard = 0;
    uint32_t shards = 0;
    uint64_t start_file = 0;   // replay begins at this file of the journal ...
    uint64_t start_block = 0;  // ... whose first block this is
    uint32_t logs = 0;
    int64_t written_ms = 0;
    // The journal has its file start_file, and each file from there on has its mark.
    bool marked = false;
    bool mended = false;  // mend.h: the journal ends with what was whole before some damage
};

// One log as a checkpoint holds it.
struct LogSnapshot {
    LogState log;  // without entries in memory: those from flushed_end to end are in the journal
    uint64_t applied_block = 0;  // the journal's effects up to this block are in it
    Position state_end;          // the state machine's bytes cover the entries below
    int64_t state_floor = -1;    // CapturedState::floor_offset
    std::vector<uint8_t> state;
};

// The state machine's part of a section.
struct SectionState {
    Position end;
    int64_t floor = -1;
    Bytes bytes;
};
// A cut of the log at `cut`: the state covers no more than what is left, or is dropped.
void cut_state(Position cut, Position* state_end, int64_t floor, std::vector<uint8_t>* state);

// Appends the section of a log: its state as of the entries below `durable_end`.
void append_section(std::vector<uint8_t>& to, const LogState& log, Position durable_end,
                    uint64_t applied_block, const SectionState& state);
// `checkpoint` begins with kCheckpointHeaderBytes that are filled in here; sections follow.
void finish_checkpoint(std::vector<uint8_t>& checkpoint, const CheckpointHeader& header);

struct Checkpoint {
    CheckpointHeader header;
    std::map<LogId, LogSnapshot> logs;
};
// kCorrupt when anything does not hold. `bytes` may be longer than the checkpoint (padding).
Result<Checkpoint> parse_checkpoint(Bytes bytes);

}  // namespace weir::storage

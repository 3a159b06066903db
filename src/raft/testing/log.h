// A model of a partition's log for tests, in memory or on a disk: entries with a number for a
// payload, and what is left of what was before the first one.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "raft/core.h"

namespace weir::raft {

struct LogEntry {
    EntryInfo info;
    uint64_t value = 0;  // the payload; unique, but for control entries
    uint32_t bytes = 0;
    std::shared_ptr<const Configuration> configuration;

    bool same(const LogEntry& other) const;
};

struct ModelLog {
    Position start;
    std::vector<LogEntry> entries;
    std::vector<TermStart> base_terms;  // that begin below `start`
    Configuration base_configuration;   // in force at `start`
    uint64_t base_hash = 0;             // of all values below `start`: the state machine's state

    Position end() const { return entries.empty() ? start : entries.back().info.end(); }
    size_t index_of(Position position) const;  // of the first entry at or behind it
    const LogEntry* find(Position first) const;
    bool boundary(Position position) const;  // an entry begins or ends there
    void append(LogEntry entry);             // CHECKs that it begins at end()
    bool cut(Position end);                  // false: not at a boundary
    void drop_below(Position start);
    std::vector<TermStart> terms() const;
    std::vector<ConfigurationAt> configurations() const;
    const Configuration& configuration() const;
};

uint64_t chain(uint64_t hash, const LogEntry& entry);

// A disk with a journal: operations become durable in their order; a crash loses some of the last.
struct ModelDisk {
    struct Op {
        enum class Kind : uint8_t { kAppend, kCut, kDropBelow, kSave, kInstall } kind;
        LogEntry entry;
        Position position;
        HardState hard_state;
        std::shared_ptr<const ModelLog> log;
    };

    ModelLog log;
    HardState hard_state;
    std::deque<Op> pending;

    void apply_first();
};

}  // namespace weir::raft

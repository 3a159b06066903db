// What a core asks of its driver. Each call of the core fills one empty Effects. The driver carries
// all of it out before the next call to the same core, in the order of the members here. What takes
// time (truncate, install, save, entries to read) is only started in that order; the driver reports
// its end (on_truncated() ...), and the core accepts other calls meanwhile. Every message can leave
// at once: the core itself holds back what relies on a save in progress. The Effects is reused, so
// that the steady path allocates nothing.
#pragma once

#include <optional>
#include <vector>

#include "raft/messages.h"

namespace weir::raft {

enum class ControlKind : uint8_t { kTermStart, kConfiguration };

// A control entry of this leader, to be appended.
struct ControlEntry {
    EntryInfo info;
    ControlKind kind = ControlKind::kTermStart;
    Configuration configuration;  // of kConfiguration
};

// Entries for a peer. Read the log from `prev` on, up to `until` and about `bytes_max` (at least
// one entry); pass the end of that to on_sent(), and send what it returns with the entries.
struct SendEntries {
    NodeId to;
    Term term = 0;
    Term prev_term = 0;
    Position prev;
    Position until;
    uint64_t bytes_max = 0;
};

struct Outgoing {
    NodeId to;
    Message message;  // an AppendRequest in here has no entries
};

struct RoleChange {
    Role role = Role::kFollower;
    Term term = 0;
    NodeId leader;  // kNoNode: not known
};

struct ReadReady {
    uint64_t id = 0;
    bool confirmed = false;  // false: this node can't tell (it leads no more); ask the leader
    Position position;       // what the read must see: everything committed below it
};

struct Effects {
    // Cut the log here; then on_truncated(). Never together with entries to append.
    std::optional<Position> truncate_to;
    // Replace the log durably by an empty one that starts at this head's start, with its term
    // table, its configuration and the state that came with it; then on_installed().
    std::optional<SnapshotHead> install;
    // Append these entries of the AppendRequest that was stepped: [append_begin, append_end).
    size_t append_begin = 0;
    size_t append_end = 0;
    // Append these entries of the core's own.
    std::vector<ControlEntry> control;
    // Save this; then call on_saved() with it. A later save replaces earlier ones.
    std::optional<HardState> save;

    std::vector<Outgoing> messages;
    std::vector<SendEntries> entries;
    // These peers need a snapshot: make one with snapshot_head(), send it, then on_snapshot_sent().
    std::vector<NodeId> snapshots;

    std::optional<Position> commit;      // advanced to
    std::optional<RoleChange> role;      // role, term or leader are others than before
    bool configuration_changed = false;  // see Core::configuration()
    std::vector<ReadReady> reads;
    std::optional<bool> change_done;    // change_configuration() ended: with success?
    std::optional<bool> transfer_done;  // transfer() ended: did this node hand over?
    bool recovered = false;             // see Core::recovering()
    // This node leads because all voters said so, not a majority of those that lost nothing:
    // entries that were acknowledged from memory, and lost by all that had them, are gone.
    bool elected_by_all = false;

    void clear();
    bool empty() const;
};

}  // namespace weir::raft

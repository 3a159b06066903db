// What cores say to each other: values without bytes of payload. The driver carries them, with the
// group's id and the payloads of entries beside them. Losing, doubling, delaying and reordering any
// of them is harmless, but where a replica is dropped and its node gets another one, nothing of the
// first arrives after anything of the second.
#pragma once

#include <span>
#include <variant>

#include "raft/types.h"

namespace weir::raft {

// Raft §5.2, §9.6 (pre-vote). In a pre-vote `term` is the one that the sender would campaign in.
struct VoteRequest {
    Term term = 0;
    Term last_term = 0;  // of the sender's last entry ...
    Position end;        // ... and where its log ends
    bool pre_vote = false;
    bool transfer = false;  // its leader asked for it: followers need not be loyal to that leader
};

struct VoteReply {
    Term term = 0;  // of the request when granted, else the sender's own
    bool granted = false;
    bool pre_vote = false;
    bool recovering = false;  // granted by one whose log may lack what it acknowledged
};

struct EntryView {
    EntryInfo info;
    const Configuration* configuration = nullptr;  // of a control entry that holds one
};

// Raft §5.3. The entries follow each other and the first begins at `prev`; none: a probe.
struct AppendRequest {
    Term term = 0;
    Term prev_term = 0;  // of the entry that ends at `prev`
    Position prev;
    Position commit;
    std::span<const EntryView> entries;  // the caller's, for the time of the call
};

struct AppendReply {
    Term term = 0;
    bool accepted = false;
    Position match;     // accepted: the same as the leader's and durable, up to here
    Position received;  // accepted: the same as the leader's up to here, durable or not
    // Not accepted: the `prev` of the request, where the sender's log ends, and its largest term
    // <= prev_term with that term's end: what OffsetForLeaderEpoch answers. The leader goes on
    // from there.
    Position prev;
    Position end;
    Term hint_term = 0;
    Position hint_end;
};

// Small and of fixed size: the driver sends those of all groups of a node pair in one frame.
struct Heartbeat {
    Term term = 0;
    bool quiet = false;   // the leader would like the group to sleep; `end` is its log's
    int64_t context = 0;  // comes back in the reply; ascends within a term
    Position commit;
    Position end;
};

struct HeartbeatReply {
    Term term = 0;
    bool quiet = false;  // the sender's election timer has stopped
    int64_t context = 0;
    Position match;  // as in AppendReply; {} when nothing is known to match
};

// The driver has carried the whole snapshot here, state included, before the core sees this.
// Answered by an AppendReply.
struct InstallSnapshot {
    Term term = 0;
    SnapshotHead head;
};

// Dissertation §3.10: campaign now, your leader wants you to.
struct TimeoutNow {
    Term term = 0;
};

// From a replica that may have lost entries which it had acknowledged, to its leader: how far must
// it come to have them all again? `id` is of this start of the replica, so that no answer to an
// earlier one counts.
struct RecoveryRequest {
    Term term = 0;
    uint64_t id = 0;
    Position end;  // of its log
};

struct RecoveryReply {
    Term term = 0;
    uint64_t id = 0;
    Position end;  // of the leader's log, when it had heard of this start
};

using Message = std::variant<VoteRequest, VoteReply, AppendRequest, AppendReply, Heartbeat,
                             HeartbeatReply, TimeoutNow, RecoveryRequest, RecoveryReply>;

}  // namespace weir::raft

// What cores send each other: values without payload bytes. The driver carries them with the
// group's id and the entries' payloads. Any of them may be lost, duplicated, delayed or reordered
// without harm, with one exception: where a replica is dropped and its node gets another one, no
// message of the first may arrive after one of the second.
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

// Raft §5.3. The entries are contiguous and the first begins at `prev`; without entries it is a
// probe.
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
    // If not accepted: the `prev` of the request, where the sender's log ends, and its largest term
    // <= prev_term with that term's end (what OffsetForLeaderEpoch answers). The leader continues
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

// The core sees this when the driver has received the whole snapshot, state included. The answer is
// an AppendReply.
struct InstallSnapshot {
    Term term = 0;
    SnapshotHead head;
};

// Dissertation §3.10: campaign now, your leader wants you to.
struct TimeoutNow {
    Term term = 0;
};

// A replica that may have lost entries that it had acknowledged asks its leader how far it must
// come to have them all again. `id` is drawn at each start of the replica, so that an answer to an
// earlier start does not count.
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

// The vocabulary of a Raft group: nodes, terms, members, and what a core must know of a log. Values
// without I/O. Positions are storage's: (offset, ordinal), DESIGN.md rule 5.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "base/node_id.h"
#include "base/time.h"
#include "storage/entry.h"

namespace weir::raft {

using storage::EntryInfo;
using storage::EntryKind;
using storage::HardState;
using storage::Position;
using storage::TermStart;  // its entries end where the next row begins
using weir::NodeId;

inline constexpr NodeId kNoNode{};

// A term is Kafka's leader epoch. 0: before the first election.
using Term = int32_t;
inline constexpr Term kTermMax = INT32_MAX - 1;
// Bounds by how much other nodes' messages may raise a replica's term: kTermLeapMax at once, and in
// the long run one per kTermPace. A message with a term beyond that is invalid. Elections raise
// terms by a few per second, so no wild number, and no series of them in half a year, uses up the
// terms.
inline constexpr Term kTermLeapMax = 1'000'000;
inline constexpr Duration kTermPace = std::chrono::milliseconds(10);
// The largest term of versions that believed any term. A group whose terms reached it continues
// above it.
inline constexpr Term kTermOldMax = 1 << 30;
// Whether a group that is known to have reached the term `known` may have reached `term`. If
// `known` is 0, only the group's existence is known.
bool within_reach(Term known, Term term);
// A message with a larger offset is invalid: no log reaches it.
inline constexpr int64_t kOffsetMax = int64_t{1} << 62;
inline constexpr int64_t kEntryOffsetsMax = int64_t{1} << 31;  // that one entry may hold

inline constexpr size_t kMembersMax = 16;       // of one configuration, old and new together
inline constexpr size_t kTermRowsMax = 16'384;  // a core forgets the oldest terms beyond
inline constexpr size_t kEntriesPerAppendMax = 4'096;

// Whether this replica could do a leader's work, as its driver knows. Impaired: a part of its log
// can't be read; it leads only if no better replica stands for election. Unable: it can't append.
enum class Fitness : uint8_t { kWhole, kImpaired, kUnable };

enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };

// One member of a group. In a joint configuration it may be one of the old voters, of the new ones,
// or of both; otherwise `old_voter` is false. A learner receives the log and never counts.
struct Member {
    NodeId node;
    bool voter = false;      // of the (new) configuration
    bool old_voter = false;  // of the configuration that is being left
    bool learner = false;    // stays (or becomes) a learner
    uint8_t priority = 1;    // the larger, the sooner it campaigns
    bool operator==(const Member&) const = default;
};

// The voters decide by majority; in a joint configuration (Raft §6) the old voters must agree by
// majority too. Members ascend by node.
struct Configuration {
    std::vector<Member> members;
    // The number of the decision about members that made this configuration. A change to an older
    // decision than the one in force is refused, so that a leader that has not learned of a
    // decision can't undo it. 0: there was none.
    uint32_t revision = 0;

    const Member* find(NodeId node) const;
    bool is_voter(NodeId node) const;  // old or new
    bool joint() const;
    bool valid() const;  // ascending, bounded, at least one voter, each member is something
    // The configuration that follows a joint one: members that were only old voters are gone.
    Configuration without_old() const;
    bool operator==(const Configuration&) const = default;
};

// Simple configurations, for tests and the first start.
Configuration voters(std::initializer_list<int32_t> nodes);

// A configuration and the position where its control entry begins; it is in force from there on.
// The first one that a core is given is never rolled back: it is the group's first one, which has
// no entry, or a committed one.
struct ConfigurationAt {
    Position at;
    Configuration configuration;
};

// What a replica needs before its first entry when it is too far behind for entries alone: it then
// begins as an empty log that starts at `start`. The driver sends the state machine's bytes at
// `start` (producer state) along.
struct SnapshotHead {
    Position start;
    std::vector<TermStart> terms;  // rows that begin before `start`, ascending; the last counts
    // The committed configuration in force at `start` or later. Empty if the sender never knew the
    // group's first one: then the one that counts is in an entry behind `start`.
    Configuration configuration;
};

// A core's log, vote and members as found at a start; all of it is durable.
struct CoreStart {
    NodeId self;
    HardState hard_state;
    Position start;                // of the log
    Position end;                  // of the log
    Position commit;               // known to be committed; start <= commit <= end
    std::vector<TermStart> terms;  // ascending; also the row of the entry that ends at `start`
    std::vector<ConfigurationAt> configurations;  // ascending; the last one is in force; one at
                                                  // least, unless the replica waits to be added
    // The replica is to be added. It may have been a member before and have forgotten it, so it
    // gives no vote without a configuration.
    bool joins = false;
    // The decision about members for which the replica was made (Configuration::revision). While
    // its log has entries of older ones alone, the members that those name are not the members any
    // more, and it may have been one of them and have forgotten what it acknowledged: it neither
    // votes nor campaigns. 0: it was there from the beginning.
    uint32_t joined_by = 0;
    uint64_t seed = 0;  // of the group's draws; another on each node and at each start
    // The log may lack entries that this replica acknowledged: they were only in memory, and it
    // stopped without flushing them. See Core::recovering().
    bool recovering = false;
    // The disk also lost what was flushed: `hard_state` may be older than the one that was saved
    // last. `recovering` holds as well. See recovery.cc.
    bool terms_lost = false;
    Fitness fitness = Fitness::kWhole;
    // The group is new, and this founder shall be its first leader: it campaigns at once. The
    // others wait for their election timeout in case it is not there. Ignored if the replica has
    // voted or has entries.
    bool leads_first = false;
};

}  // namespace weir::raft

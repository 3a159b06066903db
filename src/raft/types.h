// The vocabulary of a Raft group: nodes, terms, who is a member, and what a core must be told of a
// log. Values; they know no I/O. Positions are storage's: (offset, ordinal), DESIGN.md rule 5.
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
// What the words of others may raise a replica's term by: so much at once, and in the long run one
// in kTermPace. A message with a term beyond that is invalid. Elections raise terms by a few a
// second, so no wild number, and no number of them in half a year, uses up the terms.
inline constexpr Term kTermLeapMax = 1'000'000;
inline constexpr Duration kTermPace = std::chrono::milliseconds(10);
// Versions that believed any term had this for the largest. A group whose terms were run up to it
// goes on above it.
inline constexpr Term kTermOldMax = 1 << 30;
// Whether a group that is known to have come to the term `known` may have come to `term`. 0: all
// that is known is that there is such a group.
bool within_reach(Term known, Term term);
// No log reaches it: a larger offset in a message is invalid.
inline constexpr int64_t kOffsetMax = int64_t{1} << 62;
inline constexpr int64_t kEntryOffsetsMax = int64_t{1} << 31;  // that one entry may hold

inline constexpr size_t kMembersMax = 16;       // of one configuration, old and new together
inline constexpr size_t kTermRowsMax = 16'384;  // a core forgets the oldest terms beyond
inline constexpr size_t kEntriesPerAppendMax = 4'096;

// Whether this replica could do a leader's work, as its driver knows. Impaired: some of its log
// can't be read; it leads only where nobody better stands for election. Unable: it can't append.
enum class Fitness : uint8_t { kWhole, kImpaired, kUnable };

enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };

// One member of a group. In a joint configuration it may belong to the old voters, the new ones or
// both; outside of one `old_voter` is false. A learner gets the log and is never counted.
struct Member {
    NodeId node;
    bool voter = false;      // of the (new) configuration
    bool old_voter = false;  // of the configuration that is being left
    bool learner = false;    // stays (or becomes) a learner
    uint8_t priority = 1;    // the larger, the sooner it campaigns
    bool operator==(const Member&) const = default;
};

// Who decides: a majority of the voters, and in a joint configuration (Raft §6) of the old ones
// too. Members ascend by node.
struct Configuration {
    std::vector<Member> members;
    // Whoever decides about members numbers its decisions: a change to an older one than that in
    // force is refused, so a decision that was carried out is not undone by a leader that has not
    // heard of it. 0: none was.
    uint32_t revision = 0;

    const Member* find(NodeId node) const;
    bool is_voter(NodeId node) const;  // old or new
    bool joint() const;
    bool valid() const;  // ascending, bounded, at least one voter, each member is something
    // The configuration that follows a joint one: old voters that are nothing else are gone.
    Configuration without_old() const;
    bool operator==(const Configuration&) const = default;
};

// Simple configurations, for tests and the first start.
Configuration voters(std::initializer_list<int32_t> nodes);

// A configuration and where its control entry begins; it is in force from there on. The first that
// a core is given is never rolled back: the group's first one, which has no entry, or a committed
// one.
struct ConfigurationAt {
    Position at;
    Configuration configuration;
};

// What a replica needs before the first entry that it gets, when it is too far behind for entries
// alone: it then begins as a log that starts at `start` and is empty. The state machine's bytes at
// `start` (producer state) travel with it; they are the driver's.
struct SnapshotHead {
    Position start;
    std::vector<TermStart> terms;  // rows that begin before `start`, ascending; the last counts
    // Committed; in force at `start` or later. Empty if the sender never knew the group's first
    // one: then the one that counts is in an entry behind `start`.
    Configuration configuration;
};

// How a core's log, vote and members are found at a start; all of it is durable.
struct CoreStart {
    NodeId self;
    HardState hard_state;
    Position start;                // of the log
    Position end;                  // of the log
    Position commit;               // known to be committed; start <= commit <= end
    std::vector<TermStart> terms;  // ascending; also the row of the entry that ends at `start`
    std::vector<ConfigurationAt> configurations;  // ascending; the last one is in force; one at
                                                  // least, unless the replica waits to be added
    // It is to be added, and may have been a member before and have forgotten it: without a
    // configuration it gives no vote.
    bool joins = false;
    uint64_t seed = 0;  // of the group's draws; another on each node and at each start
    // Its log may lack entries that it acknowledged: they were in memory alone, and it stopped
    // without flushing them. See Core::recovering().
    bool recovering = false;
    // Its disk lost what was flushed, too: `hard_state` may be an older one than that it saved
    // last. `recovering` as well. See recovery.cc.
    bool terms_lost = false;
    Fitness fitness = Fitness::kWhole;
    // The group is new, and this founder is the one that shall lead it first: it campaigns at once.
    // The others wait for their election timeout, should it not be there. Of a replica that has
    // voted or has entries it is ignored.
    bool leads_first = false;
};

}  // namespace weir::raft

// Conversations of a group with itself, as text that a person reads. A line is a command; the lines
// that follow it, indented, are what happened. Nodes share a clock that moves by @ alone, messages
// arrive at once and in order, disks flush at once, unless a command says otherwise.
//
//   options KEY=VALUE..       quiet_after, lease (1: reads by lease), window, beats (1: show them),
//                             relaxed (1: what is in memory counts; who crashed is recovering)
//   group 1 2 3 [learners 4]  the group's first members; nodes start with empty logs
//   node 5                    a further node, that knows of no group
//   log 1 2 2 4               before a start: node 1 has terms 2, 2, 4, an entry of width 1 each
//   term 3 5                  before a start: node 3 has been in term 5
//   @1.5s [COMMAND]           time passes, timers fire; then the command
//   expire 1                  node 1's timer fires early
//   propose 1 [COUNT]         entries of width 1 at leader 1
//   cut 1 | 2 3, join         the links between the two sides are cut; all are whole again
//   lose KIND..               messages of these kinds are lost from now on (append, vote, ...)
//   keep                      none are lost any more
//   hold 1, flush 1 [N]       the disk of 1 stops flushing; flushes and goes on, or N writes alone
//   crash 1, restart 1        what was not flushed is lost
//   stop 1                    in good order: all is flushed
//   trim 1 5                  node 1's log begins at offset 5
//   transfer 1 2              leader 1 hands over to 2
//   change 1 voters 1 2 [learners 3]
//   read 1                    a quorum read at 1
//   down 1 2, up 1 2          1 is told that node 2 is down, or back
//   show                      a line for each node
#pragma once

#include <string>
#include <string_view>

namespace weir::raft {

// The same text with what happened now.
std::string run_transcript(std::string_view transcript);

}  // namespace weir::raft

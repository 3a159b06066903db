// Runs a conversation with a GroupCoordinator that is written down as text, and writes down what it
// answered: the scenario tests of kafka/groups/. A transcript is lines of input, each followed by
// what came out (two spaces in). Inputs:
//
//   config initial_delay=0s group_size_max=2 ...       before anything else
//   @12.5s INPUT                                       first lets time pass; what the timers do is
//                                                      shown at its own time
//   join G client=c1 [member=M instance=I v=3 session=10s rebalance=30s type=consumer
//          protocols=range:[t],rr:[t] reason=R]
//   sync G member=M gen=1 [instance=I type=T name=N assign=M:text,M:text]
//   heartbeat G member=M gen=1 [instance=I]
//   leave G [M | M/I | /I]... [reason=R]
//   commit G [member=M gen=1 instance=I retention=1h]
//          topic/partition=offset[@epoch][:metadata][!REFUSED]...
//   fetch G all | topic/partition...
//   delete-offsets G topic/partition...
//   delete-group G
//   list [states=A,B types=A,B]
//   describe G
//   topic-deleted T...
//   live
//   hold, release, done a1, fail a1                    appends wait for their result (else they are
//                                                      durable at once)
//   close, load, serve, restart                        restart: all three, and the log is replayed
//
// Replies are `r1 <- ...` (requests are numbered), appends `a1 -> record`, notes `-- text`. A
// member id that the coordinator made reads as client#number. Metadata [t,u]x is a subscription to
// t and u with user data x; other text is itself.
#pragma once

#include <string>
#include <string_view>

namespace weir::kafka {

// The transcript with its outputs as they are now; equal to the input if nothing changed.
std::string run_transcript(std::string_view transcript);

}  // namespace weir::kafka

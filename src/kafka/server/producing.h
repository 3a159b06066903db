// Producing: appends batches to partitions wherever on this node they are led, in order, and waits
// for them as `acks` says. Produce requests use it, and so do producers inside the node
// (procedures, markers, the registry, the web API), with the same checks, order and waits, and
// without the wire. Runs on any shard.
//
//   Producer producer(server);  // lives as long as the order of its batches matters
//   auto results = co_await producer.produce(
//       {{.topic = "t", .partition = 0, .records = batch}}, {});
//   co_await producer.close();
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/time.h"
#include "kafka/server/intake.h"
#include "kafka/server/net/turns.h"
#include "kafka/server/partitions/partition.h"
#include "runtime/buffer.h"
#include "runtime/driver.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "storage/entry.h"

namespace weir::kafka {

class Server;

// A checked batch and the log that it is for.
struct AppendItem {
    storage::LogId log;
    runtime::ShardId owner = 0;
    CheckedBatch batch;
    AppendOptions options;
};

struct AppendWants {
    int16_t acks =
        -1;  // -1: wait until it is committed; 1: until it is on this node's disk; 0: not
    Duration timeout{};  // for room to append, and for the commit
};

// Appends the items of one caller and waits as `acks` says. The caller's `tickets` keep the order
// of its calls: items for one shard are appended in that order. `turn`, if given, is passed on as
// soon as the tickets keep the order. Returns an outcome for each item, in order.
runtime::Task<std::vector<AppendOutcome>> append_items(Server& server,
                                                       std::vector<AppendItem> items,
                                                       AppendWants wants, AppendTickets& tickets,
                                                       Turn* turn);
// Removes, at each owner, what kept the order of these tickets. No call may be in progress.
runtime::Task<void> forget_tickets(Server& server, const AppendTickets& tickets);

// A producer inside the node. Its calls append in the order in which they were made, even if they
// wait at the same time. Used on the shard where it was made.
class Producer {
  public:
    explicit Producer(Server& server);
    ~Producer();  // after close()
    Producer(const Producer&) = delete;
    Producer& operator=(const Producer&) = delete;

    struct Batch {
        std::string topic;
        int32_t partition = 0;
        runtime::SharedBytes records;  // one record batch; nobody else writes to these bytes
    };
    struct Options {
        int16_t acks = -1;
        Duration timeout = 30s;
        bool internal_topics = false;  // the node's own, which no client may write to
        runtime::StopToken stop = {};
    };
    struct Result {
        AppendOutcome outcome;
        std::vector<RecordFault> record_faults;  // of a batch that was refused for its records
    };
    // Returns a result for each batch, in order. The errors are those of a Produce request.
    runtime::Task<std::vector<Result>> produce(std::vector<Batch> batches, Options options);
    // Call it when no produce() is in progress.
    runtime::Task<void> close();

  private:
    Server& server_;
    TurnQueue turns_;
    AppendTickets tickets_;
    bool closed_ = false;
};

}  // namespace weir::kafka

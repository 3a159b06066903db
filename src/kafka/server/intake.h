// Intake: what becomes of a batch from its arrival until it can be appended: it is validated,
// converted where it is an old message set, packed anew where the topic stores in another codec.
// For all who append: Produce requests, and those inside of the node (producing.h). Runs on the
// shard that the bytes arrived at; yields between its steps.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "cluster/config_view.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/records/record_scanner.h"
#include "kafka/server/partitions/partition.h"
#include "kafka/server/partitions/unpacking.h"
#include "runtime/buffer.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"

namespace weir::kafka {

struct BatchRefusal {
    KafkaError error = KafkaError::kNone;
    std::string message;
    std::vector<RecordFault> records;  // those at fault, where it is theirs
};

struct IntakeOptions {
    bool old_formats = false;  // message sets of magic 0 and 1 are converted; else refused
    bool zstd_allowed = true;
};

// The batch as it will be stored, or why it is refused. `records` lies within `frame`, and what is
// stored as it came shares its bytes. For what a codec or a conversion needs of the node's memory
// it waits in line at `unpacking` (REQUEST_TIMED_OUT). `settings` by value: the topic may change or
// go while this yields.
runtime::Task<std::expected<CheckedBatch, BatchRefusal>> check_batch(
    Unpacking& unpacking, runtime::SharedBytes frame, Bytes records,
    cluster::TopicSettings settings, IntakeOptions options, runtime::StopToken stop);

}  // namespace weir::kafka

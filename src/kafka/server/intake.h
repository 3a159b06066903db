// Intake: takes a batch from its arrival to the point where it can be appended. The batch is
// validated; an old message set is converted; a batch for a topic with another codec is
// recompressed. Used by Produce requests and by producers inside the node (producing.h). Runs on
// the shard where the bytes arrived; yields between its steps.
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

// The batch as it will be stored, or why it is refused. `records` lies within `frame`; a batch that
// is stored unchanged shares its bytes. Memory for a codec or a conversion is requested from
// `unpacking`, in line (REQUEST_TIMED_OUT). `settings` is a copy: the topic may change or vanish
// while this yields.
runtime::Task<std::expected<CheckedBatch, BatchRefusal>> check_batch(
    Unpacking& unpacking, runtime::SharedBytes frame, Bytes records,
    cluster::TopicSettings settings, IntakeOptions options, runtime::StopToken stop);

}  // namespace weir::kafka

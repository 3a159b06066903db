// AdminError: why something that an administrator or a client asked of the cluster was not done, in
// words of the cluster's own. Kafka's error codes and the admin API's statuses are made from it.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace weir::cluster {

// Each is answered with its own error code of Kafka's.
enum class AdminFault : uint8_t {
    kNone,
    kInvalidRequest,
    kInvalidTopicName,
    kTopicExists,
    kUnknownTopic,  // or partition
    kUnknownTopicId,
    kInvalidPartitions,
    kInvalidReplicationFactor,
    kInvalidReplicaAssignment,
    kInvalidConfig,
    kPolicyViolation,
    kDeletionDisabled,
    kResourceNotFound,
    kNoReassignment,  // there is none to cancel
    kUnknownNode,
    kInvalidFeatureLevel,
    kStorage,        // the log of the metadata, or of a new partition, could not be written
    kUnavailable,    // stopping, or too long in the queue
    kNotController,  // ask the node that is; what became of the change may not be known
};

struct AdminError {
    AdminFault fault = AdminFault::kNone;
    std::string message;
    bool ok() const { return fault == AdminFault::kNone; }
};

// Of what the controller's lock() and commit() give.
AdminError admin_error(const Error& error);

}  // namespace weir::cluster

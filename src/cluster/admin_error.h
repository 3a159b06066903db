// AdminError: why a change that an administrator or a client asked for was not made, in the
// cluster's own terms. Kafka's error codes and the admin API's statuses follow from it.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace weir::cluster {

// Each fault has its own Kafka error code.
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

// The fault for an error of the controller's lock() and commit().
AdminError admin_error(const Error& error);

}  // namespace weir::cluster

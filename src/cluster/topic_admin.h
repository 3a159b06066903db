// What administrators and clients may do to topics: the rules of CreateTopics, DeleteTopics and
// CreatePartitions, as changes of the metadata log. Runs on shard 0 of the controller's node. Each
// item of a request succeeds or fails on its own. Configuration: config_admin.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/admin_error.h"
#include "cluster/controller.h"

namespace weir::cluster {

// Empty if `name` is a valid topic name; else why not.
std::string check_topic_name(std::string_view name);
bool is_internal_topic(std::string_view name);

struct NewTopic {
    std::string name;
    int32_t partitions = -1;          // -1: the broker's default
    int32_t replication_factor = -1;  // -1: the broker's default
    // Partition -> nodes; instead of the two above.
    std::vector<std::pair<int32_t, std::vector<int32_t>>> assignments;
    std::vector<std::pair<std::string, std::optional<std::string>>> configs;
};

struct TopicOutcome {
    AdminError error;
    TopicImage topic;  // as it is now, or would be
};

// Outcomes are in the order of the topics. With validate_only nothing changes.
runtime::Task<std::vector<TopicOutcome>> create_topics(Controller& controller,
                                                       std::vector<NewTopic> topics,
                                                       bool validate_only,
                                                       runtime::WaitOptions options);

// A topic by name, or by id where the name is empty.
struct TopicRef {
    std::string name;
    Uuid id;
};
runtime::Task<std::vector<TopicOutcome>> delete_topics(Controller& controller,
                                                       std::vector<TopicRef> topics,
                                                       runtime::WaitOptions options);

struct MorePartitions {
    std::string topic;
    int32_t count = 0;                                             // in all
    std::optional<std::vector<std::vector<int32_t>>> assignments;  // of the new ones
};
runtime::Task<std::vector<TopicOutcome>> create_partitions(Controller& controller,
                                                           std::vector<MorePartitions> topics,
                                                           bool validate_only,
                                                           runtime::WaitOptions options);

}  // namespace weir::cluster

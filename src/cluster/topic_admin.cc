#include "cluster/topic_admin.h"

#include <algorithm>
#include <set>
#include <span>

#include "cluster/config_admin.h"
#include "runtime/driver.h"
#include "runtime/shard.h"

namespace weir::cluster {
namespace {

using runtime::Shard;
using runtime::Task;
using runtime::WaitOptions;

constexpr size_t kTopicNameMax = 249;
constexpr int32_t kPartitionsPerTopicMax = 100'000;

AdminError fault(AdminFault fault, std::string message) { return {fault, std::move(message)}; }

Uuid random_topic_id(const MetadataImage& image) {
    while (true) {
        std::array<uint8_t, 16> entropy;
        Shard::current().driver().fill_entropy(entropy);
        const Uuid id =
            Uuid::random(load_be<uint64_t>(entropy.data()), load_be<uint64_t>(entropy.data() + 8));
        if (image.find(id) == nullptr) return id;
    }
}

AdminError check_replicas(const Controller& controller, const std::vector<int32_t>& replicas) {
    std::set<int32_t> known;
    std::set<int32_t> decommissioning;
    for (const PlacementNode& node : controller.placement_nodes()) known.insert(node.id);
    for (const auto& [id, node] : controller.image().nodes()) {
        if (node.state == NodeState::kDecommissioning) decommissioning.insert(id);
    }
    if (const auto checked = check_assignment(replicas, known, decommissioning); !checked)
        return fault(AdminFault::kInvalidReplicaAssignment, checked.error().message);
    return {};
}

// Where partitions go that nobody said it of. Where ties fall is another each time, and the same in
// each run of the same changes.
AdminError place_replicas(const Controller& controller, size_t replication_factor,
                          std::span<PartitionAssignment> partitions) {
    std::vector<PlacementNode> nodes = controller.placement_nodes();
    // Nodes that do not answer are used when there are too few without them, as in Kafka.
    const auto accepting =
        static_cast<size_t>(std::ranges::count(nodes, true, &PlacementNode::accepts));
    for (PlacementNode& node : nodes) {
        const NodeImage* known = controller.image().find_node(node.id);
        if (accepting < replication_factor && known != nullptr)
            node.accepts = known->state == NodeState::kActive;
    }
    Placement placement(std::move(nodes), {}, controller.image().partition_count());
    auto placed = placement.place(partitions.size(), replication_factor);
    if (!placed) return fault(AdminFault::kInvalidReplicationFactor, placed.error().message);
    for (size_t i = 0; i < partitions.size(); ++i) partitions[i].replicas = std::move((*placed)[i]);
    return {};
}

// Gives each partition its log, and makes those that this node has replicas of.
Task<Result<void>> make_logs(Controller& controller, const ConfigMap& configs,
                             std::vector<PartitionAssignment>& partitions) {
    const std::vector<storage::LogId> ids =
        co_await runtime::try_(controller.allocate_log_ids(partitions.size()));
    const storage::LogConfig config = topic_settings(controller.local().configs(), configs).log;
    std::vector<NewLog> logs;
    for (size_t i = 0; i < ids.size(); ++i) {
        partitions[i].log = ids[i];
        // In a cluster each node makes its own when it hears of them; alone a topic whose logs
        // can't be made must not come to be.
        if (!controller.image().nodes().empty()) continue;
        const auto& replicas = partitions[i].replicas;
        if (std::ranges::find(replicas, controller.local().node_id()) != replicas.end())
            logs.push_back({ids[i], config});
    }
    co_return co_await controller.create_logs(std::move(logs));
}

// Fills outcome.topic but for its ids.
AdminError plan_topic(Controller& controller, const NewTopic& wanted, TopicImage& topic) {
    const MetadataImage& image = controller.image();
    const MetadataShard& shard = controller.local();
    const BrokerSettings& settings = shard.broker();
    if (std::string problem = check_topic_name(wanted.name); !problem.empty())
        return fault(AdminFault::kInvalidTopicName, std::move(problem));
    if (image.find(wanted.name) != nullptr)
        return fault(AdminFault::kTopicExists, "Topic '" + wanted.name + "' already exists.");
    if (const TopicImage* other = image.find_collision(wanted.name)) {
        return fault(AdminFault::kInvalidTopicName,
                     "Topic '" + wanted.name + "' collides with existing topic: " + other->name);
    }
    topic.name = wanted.name;
    if (!wanted.assignments.empty()) {
        if (wanted.partitions != -1 || wanted.replication_factor != -1) {
            return fault(AdminFault::kInvalidRequest,
                         "A topic with a replica assignment can't have a number of partitions or a "
                         "replication factor too.");
        }
        topic.partitions.resize(wanted.assignments.size());
        std::set<int32_t> seen;
        for (const auto& [index, replicas] : wanted.assignments) {
            if (index < 0 || static_cast<size_t>(index) >= topic.partitions.size() ||
                !seen.insert(index).second) {
                return fault(AdminFault::kInvalidReplicaAssignment,
                             "Partitions are numbered from 0 without gaps.");
            }
            if (AdminError error = check_replicas(controller, replicas); !error.ok()) return error;
            if (replicas.size() != wanted.assignments.front().second.size()) {
                return fault(AdminFault::kInvalidReplicaAssignment,
                             "All partitions of a topic have equally many replicas.");
            }
            topic.partitions[static_cast<size_t>(index)].replicas = replicas;
        }
    } else {
        const int32_t count =
            wanted.partitions == -1 ? settings.partitions_default : wanted.partitions;
        if (count <= 0)
            return fault(AdminFault::kInvalidPartitions,
                         "Number of partitions was set to an invalid non-positive value.");
        if (count > kPartitionsPerTopicMax) {
            return fault(AdminFault::kInvalidPartitions,
                         "Number of partitions must be at most " +
                             std::to_string(kPartitionsPerTopicMax) + ".");
        }
        const int32_t replication_factor = wanted.replication_factor == -1
                                               ? settings.replication_factor_default
                                               : wanted.replication_factor;
        if (replication_factor <= 0) {
            return fault(AdminFault::kInvalidReplicationFactor,
                         "Replication factor was set to an invalid non-positive value.");
        }
        topic.partitions.resize(static_cast<size_t>(count));
        AdminError error =
            place_replicas(controller, static_cast<size_t>(replication_factor), topic.partitions);
        if (!error.ok()) return error;
    }
    if (image.partition_count() + topic.partitions.size() >
        static_cast<size_t>(settings.partitions_max)) {
        return fault(AdminFault::kPolicyViolation, "The node holds at most " +
                                                       std::to_string(settings.partitions_max) +
                                                       " partitions (max.partitions).");
    }
    if (AdminError error = check_topic_configs(shard.configs(), wanted.configs, topic.configs);
        !error.ok())
        return error;
    return check_durability(image, wanted.name, topic.configs);
}

Task<Result<void>> make_topic(Controller& controller, TopicImage& topic) {
    co_await runtime::try_(make_logs(controller, topic.configs, topic.partitions));
    std::vector<MetadataRecord> records;
    records.emplace_back(TopicCreated{topic.name, topic.id, topic.partitions, topic.configs});
    co_return co_await controller.commit(std::move(records));
}

template <class T>
void fail_all(std::vector<T>& outcomes, size_t count, const Error& error) {
    outcomes.resize(count);
    for (T& outcome : outcomes) outcome.error = admin_error(error);
}

}  // namespace

std::string check_topic_name(std::string_view name) {
    const std::string invalid = "Topic name is invalid: ";
    if (name.empty()) return invalid + "the empty string is not allowed";
    const std::string quoted = "'" + std::string(name.substr(0, kTopicNameMax)) + "'";
    if (name == "." || name == "..") return invalid + "'.' or '..'";
    if (name.size() > kTopicNameMax) {
        return invalid + "the length of " + quoted + " is longer than the max allowed length " +
               std::to_string(kTopicNameMax);
    }
    for (const char c : name) {
        const bool legal = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!legal) {
            return invalid + quoted +
                   " contains one or more characters other than ASCII alphanumerics, '.', '_' and "
                   "'-'";
        }
    }
    return {};
}

bool is_internal_topic(std::string_view name) {
    return name == "__consumer_offsets" || name == "__transaction_state" ||
           name == "__share_group_state";
}

Task<std::vector<TopicOutcome>> create_topics(Controller& controller, std::vector<NewTopic> topics,
                                              bool validate_only, WaitOptions options) {
    std::vector<TopicOutcome> outcomes;
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) {
        fail_all(outcomes, topics.size(), lock.error());
        co_return outcomes;
    }
    std::map<std::string_view, size_t> named;
    for (const NewTopic& topic : topics) ++named[topic.name];
    for (const NewTopic& wanted : topics) {
        TopicOutcome& outcome = outcomes.emplace_back();
        outcome.topic.name = wanted.name;
        if (named[wanted.name] > 1) {
            outcome.error = fault(AdminFault::kInvalidRequest, "Duplicate topic name.");
            continue;
        }
        outcome.error = plan_topic(controller, wanted, outcome.topic);
        if (!outcome.error.ok()) continue;
        outcome.topic.id = random_topic_id(controller.image());
        if (validate_only) continue;
        if (const auto made = co_await make_topic(controller, outcome.topic); !made)
            outcome.error = admin_error(made.error());
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return outcomes;
}

Task<std::vector<TopicOutcome>> delete_topics(Controller& controller, std::vector<TopicRef> topics,
                                              WaitOptions options) {
    std::vector<TopicOutcome> outcomes;
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) {
        fail_all(outcomes, topics.size(), lock.error());
        co_return outcomes;
    }
    std::map<std::string_view, size_t> named;
    std::map<Uuid, size_t> identified;
    for (const TopicRef& ref : topics) ++(ref.name.empty() ? identified[ref.id] : named[ref.name]);
    for (const TopicRef& ref : topics) {
        TopicOutcome& outcome = outcomes.emplace_back();
        outcome.topic.name = ref.name;
        outcome.topic.id = ref.id;
        // Which of the two it would be that succeeds, nobody could tell from the answer.
        if ((ref.name.empty() ? identified[ref.id] : named[ref.name]) > 1) {
            outcome.error = fault(AdminFault::kInvalidRequest, "Duplicate topic in request.");
            continue;
        }
        if (!ref.name.empty() && !ref.id.is_zero()) {
            outcome.error = fault(AdminFault::kInvalidRequest,
                                  "A topic is named by its name or its id, not by both.");
            continue;
        }
        if (!controller.local().broker().delete_topics) {
            outcome.error = fault(AdminFault::kDeletionDisabled,
                                  "Topic deletion is disabled (delete.topic.enable).");
            continue;
        }
        const TopicImage* topic =
            ref.name.empty() ? controller.image().find(ref.id) : controller.image().find(ref.name);
        if (topic == nullptr) {
            outcome.error =
                ref.name.empty()
                    ? fault(AdminFault::kUnknownTopicId, "This server does not host this topic ID.")
                    : fault(AdminFault::kUnknownTopic,
                            "This server does not host this topic-partition.");
            continue;
        }
        outcome.topic = *topic;
        std::vector<MetadataRecord> records;
        records.emplace_back(TopicDeleted{topic->id});
        if (const auto done = co_await controller.commit(std::move(records)); !done)
            outcome.error = admin_error(done.error());
    }
    co_return outcomes;
}

Task<std::vector<TopicOutcome>> create_partitions(Controller& controller,
                                                  std::vector<MorePartitions> topics,
                                                  bool validate_only, WaitOptions options) {
    std::vector<TopicOutcome> outcomes;
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) {
        fail_all(outcomes, topics.size(), lock.error());
        co_return outcomes;
    }
    std::map<std::string_view, size_t> named;
    for (const MorePartitions& more : topics) ++named[more.topic];
    for (const MorePartitions& more : topics) {
        TopicOutcome& outcome = outcomes.emplace_back();
        outcome.topic.name = more.topic;
        const MetadataShard& shard = controller.local();
        const TopicImage* topic = controller.image().find(more.topic);
        if (named[more.topic] > 1) {
            outcome.error = fault(AdminFault::kInvalidRequest, "Duplicate topic in request.");
            continue;
        }
        if (topic == nullptr) {
            outcome.error =
                fault(AdminFault::kUnknownTopic, "The topic '" + more.topic + "' does not exist.");
            continue;
        }
        outcome.topic = *topic;
        const size_t before = topic->partitions.size();
        if (more.count <= 0 || static_cast<size_t>(more.count) <= before) {
            outcome.error =
                fault(AdminFault::kInvalidPartitions,
                      static_cast<size_t>(std::max(more.count, 0)) == before
                          ? "Topic already has " + std::to_string(before) + " partition(s)."
                          : "The topic " + topic->name + " currently has " +
                                std::to_string(before) + " partition(s); " +
                                std::to_string(more.count) + " would not be an increase.");
            continue;
        }
        // A key's partition follows from their number: all that was kept there would be lost.
        if (is_internal_topic(topic->name)) {
            outcome.error = fault(AdminFault::kInvalidPartitions,
                                  "The number of partitions of the internal topic " + topic->name +
                                      " can't change: what it holds is found by it.");
            continue;
        }
        const size_t added = static_cast<size_t>(more.count) - before;
        if (controller.image().partition_count() + added >
                static_cast<size_t>(shard.broker().partitions_max) ||
            more.count > kPartitionsPerTopicMax) {
            outcome.error = fault(AdminFault::kPolicyViolation,
                                  "More partitions than the node may hold (max.partitions).");
            continue;
        }
        std::vector<PartitionAssignment> partitions(added);
        if (more.assignments) {
            if (more.assignments->size() != added) {
                outcome.error = fault(AdminFault::kInvalidReplicaAssignment,
                                      "There are " + std::to_string(added) +
                                          " new partitions, and assignments of " +
                                          std::to_string(more.assignments->size()) + ".");
                continue;
            }
            for (size_t i = 0; i < added && outcome.error.ok(); ++i) {
                outcome.error = check_replicas(controller, (*more.assignments)[i]);
                partitions[i].replicas = (*more.assignments)[i];
            }
        } else {
            outcome.error = place_replicas(
                controller, topic->partitions.empty() ? 1 : topic->partitions[0].replicas.size(),
                partitions);
        }
        if (!outcome.error.ok() || validate_only) continue;
        const auto make = [](Controller& c, TopicImage& topic,
                             std::vector<PartitionAssignment> partitions) -> Task<Result<void>> {
            co_await runtime::try_(make_logs(c, topic.configs, partitions));
            topic.partitions.insert(topic.partitions.end(), partitions.begin(), partitions.end());
            std::vector<MetadataRecord> records;
            records.emplace_back(PartitionsAdded{topic.id, std::move(partitions)});
            co_return co_await c.commit(std::move(records));
        };
        if (const auto made = co_await make(controller, outcome.topic, std::move(partitions));
            !made) {
            outcome.error = admin_error(made.error());
        }
    }
    co_return outcomes;
}

}  // namespace weir::cluster

#include "cluster/topic_admin.h"

#include <algorithm>
#include <set>
#include <span>

#include "cluster/features.h"
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
        co_await runtime::try_(controller.take_log_ids(partitions.size()));
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

// What is stored of a topic must be understood by all nodes that may get a replica of it.
AdminError check_durability(const MetadataImage& image, std::string_view topic,
                            const ConfigMap& configs) {
    const auto set = configs.find("weir.durability");
    if (set == configs.end() || set->second != "relaxed") return {};
    if (is_internal_topic(topic)) {
        return fault(AdminFault::kInvalidConfig,
                     "weir.durability=relaxed is not for internal topics.");
    }
    constexpr auto kNeeded = static_cast<int32_t>(WeirLevel::kRelaxed);
    const int32_t level = image.feature_level(kWeirVersion);
    // A node alone has nobody to be understood by, and becomes a cluster of a newer level.
    if (image.nodes().empty() || level >= kNeeded) return {};
    return fault(AdminFault::kInvalidConfig,
                 "weir.durability=relaxed needs level " + std::to_string(kNeeded) + " of " +
                     std::string(kWeirVersion) + ", and the cluster is at level " +
                     std::to_string(level) + ": finalize it when all nodes run this version.");
}

AdminError check_configs(
    const std::vector<std::pair<std::string, std::optional<std::string>>>& configs,
    ConfigMap& checked) {
    for (const auto& [name, value] : configs) {
        const ConfigKey* key = find_topic_config(name);
        if (key == nullptr)
            return fault(AdminFault::kInvalidConfig, "Unknown topic config name: " + name);
        if (!value)
            return fault(AdminFault::kInvalidConfig,
                         "Null value not supported for topic configs: " + name);
        if (const auto valid = validate_config(*key, *value); !valid)
            return fault(AdminFault::kInvalidConfig, valid.error().message);
        checked[name] = *value;
    }
    return {};
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
            return fault(
                AdminFault::kInvalidPartitions,
                "Number of partitions must be larger than 0, or -1 to use the default value.");
        if (count > kPartitionsPerTopicMax) {
            return fault(AdminFault::kInvalidPartitions,
                         "Number of partitions must be at most " +
                             std::to_string(kPartitionsPerTopicMax) + ".");
        }
        const int32_t replication_factor = wanted.replication_factor == -1
                                               ? settings.replication_factor_default
                                               : wanted.replication_factor;
        if (replication_factor <= 0) {
            return fault(
                AdminFault::kInvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.");
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
    if (AdminError error = check_configs(wanted.configs, topic.configs); !error.ok()) return error;
    return check_durability(image, wanted.name, topic.configs);
}

Task<Result<void>> make_topic(Controller& controller, TopicImage& topic) {
    topic.id = random_topic_id(controller.image());
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
    if (name.empty()) return "Topic name is invalid: the empty string is not allowed";
    if (name == "." || name == "..") return "Topic name cannot be \".\" or \"..\"";
    if (name.size() > kTopicNameMax) return "Topic name is longer than 249 characters";
    for (const char c : name) {
        const bool legal = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!legal)
            return "Topic name contains one or more characters other than ASCII alphanumerics, "
                   "'.', '_' and '-'";
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
        if (!outcome.error.ok() || validate_only) continue;
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
            outcome.error = fault(AdminFault::kInvalidPartitions,
                                  "Topic currently has " + std::to_string(before) +
                                      " partitions, which is at least the requested " +
                                      std::to_string(more.count) + ".");
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

namespace {

// The resource's configuration of its own after the change; `error` if it can't be.
ConfigMap changed_configs(const ConfigChange& change, const ConfigMap& before,
                          const ConfigView& view, AdminError& error) {
    ConfigMap after = change.replace_all ? ConfigMap{} : before;
    std::set<std::string_view> seen;
    for (const ConfigChange::Item& item : change.items) {
        const bool is_topic = change.resource == ConfigResource::kTopic;
        const ConfigKey* key = nullptr;
        if (is_topic) key = find_topic_config(item.key);
        if (change.resource == ConfigResource::kBroker) key = find_broker_config(item.key);
        const bool free_form = change.resource == ConfigResource::kClientMetrics ||
                               change.resource == ConfigResource::kGroup;
        if (!seen.insert(item.key).second) {
            error =
                fault(AdminFault::kInvalidRequest, "Duplicate configuration key " + item.key + ".");
            return after;
        }
        if (key == nullptr && !free_form) {
            error = fault(AdminFault::kInvalidConfig, (is_topic ? "Unknown topic config name: "
                                                                : "Unknown broker config name: ") +
                                                          item.key);
            return after;
        }
        if (key != nullptr && key->update == ConfigUpdate::kStart) {
            error = fault(AdminFault::kInvalidRequest,
                          "Cannot update these configs dynamically: " + item.key);
            return after;
        }
        if (item.op == ConfigOp::kDelete) {
            after.erase(item.key);
            continue;
        }
        if (!item.value) {
            error =
                fault(AdminFault::kInvalidRequest, "Null value not supported for : " + item.key);
            return after;
        }
        std::string value = *item.value;
        if (item.op == ConfigOp::kAppend || item.op == ConfigOp::kSubtract) {
            if (key == nullptr || key->type != ConfigType::kList) {
                error = fault(AdminFault::kInvalidConfig,
                              "Config value append and subtract need a list: " + item.key);
                return after;
            }
            const std::string now = is_topic                   ? view.topic_value(after, item.key)
                                    : after.contains(item.key) ? after[item.key]
                                                               : view.broker_value(item.key);
            std::vector<std::string_view> elements = config_list(now);
            for (const std::string_view element : config_list(*item.value)) {
                const auto found = std::ranges::find(elements, element);
                if (item.op == ConfigOp::kAppend && found == elements.end())
                    elements.push_back(element);
                if (item.op == ConfigOp::kSubtract && found != elements.end())
                    elements.erase(found);
            }
            value.clear();
            for (const std::string_view element : elements) {
                if (!value.empty()) value += ',';
                value += element;
            }
        }
        if (key != nullptr) {
            if (const auto valid = validate_config(*key, value); !valid) {
                error = fault(AdminFault::kInvalidConfig, valid.error().message);
                return after;
            }
        }
        after[item.key] = value;
    }
    return after;
}

// In the cluster, or the one that answers, which need not be registered if it is alone.
bool is_node(Controller& controller, const std::string& name) {
    const auto is_named = [&](int32_t id) { return name == std::to_string(id); };
    return is_named(controller.local().node_id()) ||
           std::ranges::any_of(controller.image().nodes(),
                               [&](const auto& each) { return is_named(each.first); });
}

AdminError plan_change(Controller& controller, const ConfigChange& change,
                       std::vector<MetadataRecord>& records) {
    const TopicImage* topic = nullptr;
    switch (change.resource) {
        case ConfigResource::kTopic:
            topic = controller.image().find(change.name);
            if (topic == nullptr) {
                if (std::string problem = check_topic_name(change.name); !problem.empty()) {
                    return fault(AdminFault::kInvalidTopicName, std::move(problem));
                }
                return fault(AdminFault::kUnknownTopic,
                             "The topic '" + change.name + "' does not exist.");
            }
            break;
        case ConfigResource::kBroker:
            if (!change.name.empty() && !is_node(controller, change.name)) {
                return fault(AdminFault::kInvalidRequest,
                             "Unexpected broker id " + change.name + ".");
            }
            break;
        case ConfigResource::kGroup:
        case ConfigResource::kClientMetrics:
            if (change.name.empty())
                return fault(AdminFault::kInvalidRequest, "The resource needs a name.");
            break;
        default:
            return fault(AdminFault::kInvalidRequest,
                         "Unknown resource type " + std::to_string(change.resource_type) + ".");
    }
    const ConfigMap before = topic != nullptr
                                 ? topic->configs
                                 : controller.image().configs(change.resource, change.name);
    AdminError error;
    const ConfigMap after = changed_configs(change, before, controller.local().configs(), error);
    if (error.ok() && topic != nullptr)
        error = check_durability(controller.image(), topic->name, after);
    if (!error.ok()) return error;
    const auto note = [&](const std::string& key, std::optional<std::string> value) {
        if (topic != nullptr) {
            records.emplace_back(TopicConfigChanged{topic->id, key, std::move(value)});
        } else {
            records.emplace_back(
                ResourceConfigChanged{change.resource, change.name, key, std::move(value)});
        }
    };
    for (const auto& [key, value] : before) {
        if (!after.contains(key)) note(key, std::nullopt);
    }
    for (const auto& [key, value] : after) {
        const auto old = before.find(key);
        if (old == before.end() || old->second != value) note(key, value);
    }
    return {};
}

}  // namespace

Task<std::vector<AdminError>> alter_configs(Controller& controller,
                                            std::vector<ConfigChange> changes, bool validate_only,
                                            WaitOptions options) {
    std::vector<AdminError> errors;
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) {
        errors.assign(changes.size(), admin_error(lock.error()));
        co_return errors;
    }
    for (const ConfigChange& change : changes) {
        std::vector<MetadataRecord> records;
        AdminError& error = errors.emplace_back(plan_change(controller, change, records));
        if (!error.ok() || validate_only || records.empty()) continue;
        if (const auto done = co_await controller.commit(std::move(records)); !done)
            error = admin_error(done.error());
    }
    co_return errors;
}

}  // namespace weir::cluster

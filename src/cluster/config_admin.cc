#include "cluster/config_admin.h"

#include <algorithm>
#include <set>

#include "cluster/features.h"
#include "cluster/topic_admin.h"

namespace weir::cluster {
namespace {

using runtime::Task;
using runtime::WaitOptions;

constexpr std::string_view kInSyncMin = "min.insync.replicas";

// Names and values are a client's, and longer than an answer's text may be.
constexpr size_t kMessageBytesMax = 1024;

AdminError fault(AdminFault fault, std::string message) {
    if (message.size() > kMessageBytesMax) {
        size_t end = kMessageBytesMax;
        // Not within a character.
        while (end > 0 && (static_cast<uint8_t>(message[end]) & 0xc0) == 0x80) --end;
        message.resize(end);
    }
    return {fault, std::move(message)};
}

std::string resource_text(const ConfigChange& change) {
    const std::string_view type = change.resource == ConfigResource::kTopic    ? "TOPIC"
                                  : change.resource == ConfigResource::kBroker ? "BROKER"
                                  : change.resource == ConfigResource::kGroup  ? "GROUP"
                                                                               : "CLIENT_METRICS";
    return "ConfigResource(type=" + std::string(type) + ", name='" + change.name + "')";
}

const ConfigKey* find_key(ConfigResource resource, std::string_view name) {
    switch (resource) {
        case ConfigResource::kTopic:
            return find_topic_config(name);
        case ConfigResource::kBroker: {
            const ConfigKey* key = find_broker_config(name);
            return key != nullptr ? key : find_listener_config(name);
        }
        case ConfigResource::kGroup:
            return find_group_config(name);
        case ConfigResource::kClientMetrics:
            return find_client_metrics_config(name);
        default:
            return nullptr;
    }
}

AdminError unknown_name(ConfigResource resource, const std::string& name) {
    switch (resource) {
        case ConfigResource::kTopic:
            return fault(AdminFault::kInvalidConfig, "Unknown topic config name: " + name);
        case ConfigResource::kGroup:
            return fault(AdminFault::kInvalidConfig, "Unknown group config name: " + name);
        default:
            return fault(AdminFault::kInvalidRequest,
                         "Unknown client metrics configuration: " + name);
    }
}

// A bad value is an invalid request of a broker's and of a subscription's interval, as in Kafka.
AdminError bad_value(const ConfigChange& change, const ConfigKey& key, std::string message) {
    if (change.resource == ConfigResource::kBroker) {
        return fault(AdminFault::kInvalidRequest,
                     "Invalid config value for resource " + resource_text(change) + ": " + message);
    }
    if (change.resource == ConfigResource::kClientMetrics && key.check != ConfigCheck::kClientMatch)
        return fault(AdminFault::kInvalidRequest, std::move(message));
    return fault(AdminFault::kInvalidConfig, std::move(message));
}

AdminError check_unknown(const ConfigMap& after, const std::string& name, std::string_view value) {
    if (name.empty() || name.size() > kUnknownNameBytesMax)
        return fault(AdminFault::kInvalidRequest, "A configuration's name has 1 to 512 bytes.");
    if (value.size() > kUnknownValueBytesMax) {
        return fault(AdminFault::kInvalidRequest,
                     "The value of " + name + " is longer than 32767 bytes.");
    }
    if (!after.contains(name) && after.size() >= kUnknownNamesMax) {
        return fault(AdminFault::kInvalidRequest,
                     "The broker has " + std::to_string(after.size()) + " options set already.");
    }
    return {};
}

// `name` is known to be settable; "": for all brokers.
AdminError check_broker_item(const ConfigChange& change, const ConfigKey& key,
                             const std::string& name) {
    const auto refuse = [&](std::string_view why) {
        return fault(AdminFault::kInvalidRequest, "Invalid config value for resource " +
                                                      resource_text(change) + ": " +
                                                      std::string(why) + ": [" + name + "]");
    };
    const bool for_listener = key.name != name;
    if (key.update == ConfigUpdate::kStart && !for_listener)
        return refuse("Cannot update these configs dynamically");
    if (name.starts_with("ssl.keystore.") || name.starts_with("ssl.truststore.") ||
        name == "ssl.key.password") {
        return refuse(
            "These security configs can be dynamically updated only per-listener using the "
            "listener "
            "prefix");
    }
    const bool for_one = key.update == ConfigUpdate::kPerBroker ||
                         (for_listener && key.update == ConfigUpdate::kStart);
    if (for_one && change.name.empty()) {
        return refuse(
            "Cannot update these configs at default cluster level, broker id must be specified");
    }
    if (name == kInSyncMin && !change.name.empty()) {
        return fault(AdminFault::kInvalidConfig,
                     "Broker-level min.insync.replicas cannot be altered while ELR is enabled.");
    }
    return {};
}

std::string join(const std::vector<std::string_view>& elements) {
    std::string text;
    for (const std::string_view element : elements)
        text += (text.empty() ? "" : ",") + std::string(element);
    return text;
}

// What a list is after an append or a subtraction.
std::string changed_list(std::string_view now, ConfigOp op, std::string_view value) {
    std::vector<std::string_view> elements = config_list(now);
    for (const std::string_view element : config_list(value)) {
        const auto found = std::ranges::find(elements, element);
        if (op == ConfigOp::kAppend && found == elements.end()) elements.push_back(element);
        if (op == ConfigOp::kSubtract && found != elements.end()) elements.erase(found);
    }
    return join(elements);
}

std::string value_now(const ConfigChange& change, const ConfigView& view, const ConfigMap& after,
                      const ConfigKey& key, const std::string& name) {
    const auto set = after.find(name);
    if (set != after.end()) return set->second;
    switch (change.resource) {
        case ConfigResource::kTopic:
            return view.topic({}, key).value.value_or("");
        case ConfigResource::kBroker:
            return view.broker(key).value.value_or("");
        default:
            return std::string(key.default_value.value_or(""));
    }
}

// The resource's configuration of its own after the change; `error` if it can't be.
ConfigMap changed_configs(const ConfigChange& change, const ConfigMap& before,
                          const ConfigView& view, AdminError& error) {
    ConfigMap after = change.replace_all ? ConfigMap{} : before;
    std::set<std::string_view> seen;
    for (const ConfigChange::Item& item : change.items) {
        if (!seen.insert(item.key).second) {
            error =
                fault(AdminFault::kInvalidRequest, "Duplicate configuration key " + item.key + ".");
            return after;
        }
        // What is not set, or is no longer known, may be deleted all the same.
        if (item.op == ConfigOp::kDelete) {
            if (change.resource == ConfigResource::kBroker && change.name.empty() &&
                item.key == kInSyncMin) {
                error = fault(
                    AdminFault::kInvalidConfig,
                    "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.");
                return after;
            }
            after.erase(item.key);
            continue;
        }
        const ConfigKey* key = find_key(change.resource, item.key);
        if (key == nullptr && change.resource != ConfigResource::kBroker) {
            error = unknown_name(change.resource, item.key);
            return after;
        }
        if (!item.value) {
            error =
                fault(AdminFault::kInvalidRequest, "Null value not supported for : " + item.key);
            return after;
        }
        std::string value = *item.value;
        if (item.op == ConfigOp::kAppend || item.op == ConfigOp::kSubtract) {
            if (key == nullptr || key->type != ConfigType::kList) {
                error = fault(
                    AdminFault::kInvalidConfig,
                    "Can't " +
                        std::string(item.op == ConfigOp::kAppend ? "append to" : "subtract from") +
                        " key " + item.key + " because its type is not LIST.");
                return after;
            }
            value =
                changed_list(value_now(change, view, after, *key, item.key), item.op, *item.value);
        }
        if (key == nullptr) {
            error = check_unknown(after, item.key, value);
        } else {
            if (change.resource == ConfigResource::kBroker)
                error = check_broker_item(change, *key, item.key);
            if (error.ok()) {
                if (const auto valid = validate_config(*key, value); !valid)
                    error = bad_value(change, *key, valid.error().message);
            }
        }
        if (!error.ok()) return after;
        after[item.key] = value;
    }
    return after;
}

// What options of a topic must be to each other.
AdminError check_topic(const ConfigView& view, const ConfigMap& after) {
    const std::string least = view.topic_value(after, "min.compaction.lag.ms");
    const std::string most = view.topic_value(after, "max.compaction.lag.ms");
    if (config_integer(least) > config_integer(most)) {
        return fault(AdminFault::kInvalidConfig,
                     "conflict topic config setting min.compaction.lag.ms (" + least +
                         ") > max.compaction.lag.ms (" + most + ")");
    }
    return {};
}

// What options of a group must be to each other and to the broker's bounds.
AdminError check_group(const ConfigView& view, const ConfigMap& after) {
    const auto own = [&](std::string_view name) {
        return config_integer(view.group(after, *find_group_config(name)).value.value_or("0"));
    };
    const auto bound = [&](std::string_view name) {
        return config_integer(view.broker_value(name));
    };
    // As "PROTOCOL.OPTION" of the group, with "group.PROTOCOL.min.OPTION" and "….max.…" of the
    // broker.
    static constexpr std::pair<std::string_view, std::string_view> kBounded[] = {
        {"consumer", "assignment.interval.ms"},  {"consumer", "heartbeat.interval.ms"},
        {"consumer", "session.timeout.ms"},      {"share", "assignment.interval.ms"},
        {"share", "delivery.count.limit"},       {"share", "heartbeat.interval.ms"},
        {"share", "partition.max.record.locks"}, {"share", "record.lock.duration.ms"},
        {"share", "session.timeout.ms"},         {"streams", "assignment.interval.ms"},
        {"streams", "heartbeat.interval.ms"},    {"streams", "session.timeout.ms"}};
    for (const auto& [protocol, option] : kBounded) {
        const std::string name = std::string(protocol) + "." + std::string(option);
        if (!after.contains(name)) continue;
        const std::string prefix = "group." + std::string(protocol);
        const int64_t min = bound(prefix + ".min." + std::string(option));
        const int64_t max = bound(prefix + ".max." + std::string(option));
        if (own(name) < min || own(name) > max) {
            return fault(AdminFault::kInvalidConfig, name + " must be in the range " +
                                                         std::to_string(min) + " to " +
                                                         std::to_string(max) + " inclusive.");
        }
    }
    for (const std::string_view option : {"num.standby.replicas", "num.warmup.replicas"}) {
        const std::string name = "streams." + std::string(option);
        const int64_t max =
            bound("group.streams.max." + std::string(option.substr(option.find('.') + 1)));
        if (after.contains(name) && own(name) > max) {
            return fault(AdminFault::kInvalidConfig,
                         name + " must be less than or equal to " + std::to_string(max));
        }
    }
    if (const int64_t min = bound("group.streams.min.task.offset.interval.ms");
        after.contains("streams.task.offset.interval.ms") &&
        own("streams.task.offset.interval.ms") < min) {
        return fault(AdminFault::kInvalidConfig,
                     "streams.task.offset.interval.ms must be greater than or equal to " +
                         std::to_string(min));
    }
    for (const std::string_view protocol : {"consumer", "share", "streams"}) {
        const std::string timeout = std::string(protocol) + ".session.timeout.ms";
        const std::string heartbeat = std::string(protocol) + ".heartbeat.interval.ms";
        if (own(timeout) <= own(heartbeat)) {
            return fault(AdminFault::kInvalidConfig,
                         timeout + " must be greater than " + heartbeat);
        }
    }
    const auto reset = after.find("share.auto.offset.reset");
    if (reset != after.end() && reset->second != "earliest" && reset->second != "latest" &&
        !reset->second.starts_with("by_duration:P")) {
        return fault(AdminFault::kInvalidConfig,
                     "Invalid value " + reset->second +
                         " for configuration share.auto.offset.reset: must be earliest, latest or "
                         "by_duration:<ISO 8601 duration>");
    }
    return {};
}

// In the cluster, or the one that answers, which need not be registered if it is alone.
bool is_node(Controller& controller, const std::string& name) {
    const auto is_named = [&](int32_t id) { return name == std::to_string(id); };
    return is_named(controller.local().node_id()) ||
           std::ranges::any_of(controller.image().nodes(),
                               [&](const auto& each) { return is_named(each.first); });
}

AdminError check_resource(Controller& controller, const ConfigChange& change) {
    switch (change.resource) {
        case ConfigResource::kTopic:
            if (controller.image().find(change.name) != nullptr) return {};
            if (std::string problem = check_topic_name(change.name); !problem.empty())
                return fault(AdminFault::kInvalidTopicName, std::move(problem));
            return fault(AdminFault::kUnknownTopic,
                         "The topic '" + change.name + "' does not exist.");
        case ConfigResource::kBroker:
            if (change.name.empty() || is_node(controller, change.name)) return {};
            return fault(AdminFault::kInvalidRequest, "Unexpected broker id " + change.name + ".");
        case ConfigResource::kGroup:
        case ConfigResource::kClientMetrics:
            if (change.name.empty()) {
                return fault(AdminFault::kInvalidRequest,
                             change.resource == ConfigResource::kGroup
                                 ? "Group name must not be empty."
                                 : "Client metrics subscription name must not be empty.");
            }
            if (change.name.size() > kUnknownNameBytesMax)
                return fault(AdminFault::kInvalidRequest, "The name is longer than 512 bytes.");
            if (controller.image().configs(change.resource, change.name).empty() &&
                controller.image().configured(change.resource).size() >= kConfiguredResourcesMax) {
                return fault(AdminFault::kInvalidRequest,
                             "Too many groups or subscriptions have configuration.");
            }
            return {};
        case ConfigResource::kBrokerLogger:
            return fault(AdminFault::kInvalidRequest,
                         "Levels of loggers can't change while running: log.level is read when the "
                         "node starts.");
        default:
            return fault(AdminFault::kInvalidRequest,
                         "Unknown resource type " + std::to_string(change.resource_type) + ".");
    }
}

AdminError plan_change(Controller& controller, const ConfigChange& change,
                       std::vector<MetadataRecord>& records) {
    if (AdminError error = check_resource(controller, change); !error.ok()) return error;
    const TopicImage* topic =
        change.resource == ConfigResource::kTopic ? controller.image().find(change.name) : nullptr;
    const ConfigMap before = topic != nullptr
                                 ? topic->configs
                                 : controller.image().configs(change.resource, change.name);
    const ConfigView view = controller.local().configs();
    AdminError error;
    const ConfigMap after = changed_configs(change, before, view, error);
    if (error.ok() && topic != nullptr) error = check_topic(view, after);
    if (error.ok() && topic != nullptr)
        error = check_durability(controller.image(), topic->name, after);
    if (error.ok() && change.resource == ConfigResource::kGroup) error = check_group(view, after);
    if (!error.ok()) return error;
    const auto record = [&](const std::string& key, std::optional<std::string> value) {
        if (topic != nullptr) {
            records.emplace_back(TopicConfigChanged{topic->id, key, std::move(value)});
        } else {
            records.emplace_back(
                ResourceConfigChanged{change.resource, change.name, key, std::move(value)});
        }
    };
    for (const auto& [key, value] : before) {
        if (!after.contains(key)) record(key, std::nullopt);
    }
    for (const auto& [key, value] : after) {
        const auto old = before.find(key);
        if (old == before.end() || old->second != value) record(key, value);
    }
    return {};
}

}  // namespace

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

AdminError check_topic_configs(
    const ConfigView& view,
    const std::vector<std::pair<std::string, std::optional<std::string>>>& configs,
    ConfigMap& checked) {
    for (const auto& [name, value] : configs) {
        const ConfigKey* key = find_topic_config(name);
        if (key == nullptr) return unknown_name(ConfigResource::kTopic, name);
        if (!value)
            return fault(AdminFault::kInvalidConfig,
                         "Null value not supported for topic configs: " + name);
        if (const auto valid = validate_config(*key, *value); !valid)
            return fault(AdminFault::kInvalidConfig, valid.error().message);
        checked[name] = *value;
    }
    return check_topic(view, checked);
}

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

// The one definition of every option: of a node (the flags and the file of weir start, and what
// Kafka's tools see as broker configuration), of a topic, of a group and of a client metrics
// subscription. Help, docs/reference/configuration.md, the file's parser, DescribeConfigs and
// AlterConfigs are made from these tables. Names, defaults and meaning are Kafka's (4.4) where
// Kafka has the option. Kafka's options without effect in Weir are accepted, stored and shown,
// since tools set them unasked. An option that would promise something that Weir does not have
// (`only`) is refused.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace weir::cluster {

// The numbers are those of DescribeConfigs.
enum class ConfigType : uint8_t {
    kUnknown = 0,  // of a broker option that only a plug-in could know
    kBoolean = 1,
    kString = 2,
    kInt = 3,
    kShort = 4,
    kLong = 5,
    kDouble = 6,
    kList = 7,
    kClass = 8,
    kPassword = 9,
};

// When an option takes effect. Topic options are all kDynamic.
enum class ConfigUpdate : uint8_t {
    kStart,      // read when the node starts; read-only to AlterConfigs
    kDynamic,    // by IncrementalAlterConfigs too, for one broker or all
    kPerBroker,  // likewise, and never for all
};

// Constraints on a value beyond its type, range and choices.
enum class ConfigCheck : uint8_t {
    kNone,
    kThrottledReplicas,  // "PARTITION:BROKER,..." or "*"
    kIpOverrides,        // "HOST:COUNT,..."
    kClientMatch,        // "NAME=PATTERN,..." (KIP-714)
    kIdle,               // -1, or at least kIdleMsMin
};

// The smallest idle time: a connection that closes sooner could not even change it back.
inline constexpr int64_t kIdleMsMin = 1000;

struct ConfigKey {
    std::string_view name;
    ConfigType type = ConfigType::kString;
    std::optional<std::string_view> default_value;  // nothing: null
    std::string_view doc;
    // What a value must be, beside its type.
    int64_t min = std::numeric_limits<int64_t>::min();
    int64_t max = std::numeric_limits<int64_t>::max();
    std::string_view choices = {};  // "a|b|c"; of each element of a list. Empty: anything
    ConfigUpdate update = ConfigUpdate::kDynamic;
    std::string_view flag = {};     // of weir start, without dashes; empty: none
    std::string_view metavar = {};  // what stands for the value in help
    // A topic option's defaults at the broker, in order of precedence:
    // "log.retention.ms|log.retention.minutes|log.retention.hours". The ending (.minutes, .hours)
    // names another unit.
    std::string_view broker_keys = {};
    bool effect = true;  // false: stored and shown, and nothing else
    // Why there is no effect, or why only the value `only` is accepted; a sentence. Empty if the
    // description says it.
    std::string_view reason = {};
    // The one value that does not need a part that Weir lacks; nothing: any value.
    std::optional<std::string_view> only = {};
    ConfigCheck check = ConfigCheck::kNone;
    bool internal = false;  // for tests: accepted, and not shown
};

std::span<const ConfigKey> topic_config_keys();  // by name
std::span<const ConfigKey> group_config_keys();  // by name
std::span<const ConfigKey> client_metrics_config_keys();
// A node's options: first those that Weir acts on, or shows its own values for, in the order in
// which a person should read them; then Kafka's others, by name.
std::span<const ConfigKey> broker_config_keys();
std::span<const ConfigKey> other_broker_config_keys();
// nullptr if there is none. A broker's option is found in either table.
const ConfigKey* find_topic_config(std::string_view name);
const ConfigKey* find_broker_config(std::string_view name);
const ConfigKey* find_group_config(std::string_view name);
const ConfigKey* find_client_metrics_config(std::string_view name);
// The option that "listener.name.NAME.OPTION" or "listener.name.NAME.MECHANISM.OPTION" sets for one
// listener; nullptr if `name` has no such form.
const ConfigKey* find_listener_config(std::string_view name);

// The names that a broker option's value may come from, in order of precedence: those of
// log.retention.ms are itself, log.retention.minutes and log.retention.hours.
std::vector<std::string_view> broker_config_synonyms(std::string_view name);

// Whether `value` is valid for this option; kInvalidArgument with a sentence that says which values
// are, in Kafka's words where Kafka has some.
Result<void> validate_config(const ConfigKey& key, std::string_view value);
// The description and why there is no effect, as one text.
std::string describe_config(const ConfigKey& key);

// Numbers and booleans as Kafka's configuration writes them. The value must have been validated;
// else 0, false.
int64_t config_integer(std::string_view value);
double config_double(std::string_view value);
bool config_boolean(std::string_view value);
std::vector<std::string_view> config_list(std::string_view value);
// "512MiB", "1GiB", "1048576"; nothing if the text is not a size.
std::optional<uint64_t> config_size(std::string_view value);

// `value` of the option `from` (…hours, …minutes, …ms) in the topic option's unit: milliseconds or
// bytes.
std::string convert_broker_value(std::string_view from, std::string_view value);

std::vector<std::string_view> split(std::string_view text, char separator);

}  // namespace weir::cluster

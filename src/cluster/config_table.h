// The one definition of every option: of a node (weir start's flags, its file, and what Kafka's
// tools see as broker configuration) and of a topic. Help, docs/reference/configuration.md, the
// file's parser, DescribeConfigs and AlterConfigs are all made from these tables. Names, defaults
// and meaning are Kafka's where Kafka has the option; options of Kafka's that have no effect in
// Weir are accepted, stored and shown, since tools set them without asking.
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
    kBoolean = 1,
    kString = 2,
    kInt = 3,
    kShort = 4,
    kLong = 5,
    kDouble = 6,
    kList = 7,
    kPassword = 9,
};

// When an option takes effect. Topic options are all kDynamic.
enum class ConfigUpdate : uint8_t {
    kStart,    // read when the node starts; read-only to AlterConfigs
    kDynamic,  // by IncrementalAlterConfigs too, for one broker or all
};

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
    // "log.retention.ms|log.retention.minutes|log.retention.hours". Of another unit by its ending
    // (.minutes, .hours).
    std::string_view broker_keys = {};
    bool effect = true;  // false: stored and shown, and nothing else
};

std::span<const ConfigKey> topic_config_keys();   // by name
std::span<const ConfigKey> broker_config_keys();  // in the order in which a person should read them
const ConfigKey* find_topic_config(std::string_view name);
const ConfigKey* find_broker_config(std::string_view name);

// Whether `value` is one of this option's values; kInvalidArgument with a sentence that says what
// would be.
Result<void> validate_config(const ConfigKey& key, std::string_view value);

// Numbers and booleans in the ways that Kafka's configuration writes them. For values that were
// validated; else 0, false.
int64_t config_integer(std::string_view value);
double config_double(std::string_view value);
bool config_boolean(std::string_view value);
std::vector<std::string_view> config_list(std::string_view value);
// "512MiB", "1GiB", "1048576": nothing if it is no size.
std::optional<uint64_t> config_size(std::string_view value);

// `value` of `from` (…hours, …minutes, …ms) as the milliseconds or bytes that a topic option counts
// in.
std::string convert_broker_value(std::string_view from, std::string_view value);

std::vector<std::string_view> split(std::string_view text, char separator);

}  // namespace weir::cluster

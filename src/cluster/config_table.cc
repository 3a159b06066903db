#include "cluster/config_table.h"

#include <algorithm>
#include <charconv>

#include "base/units.h"

namespace weir::cluster {
namespace {

// As Java reads numbers: a plus sign is one.
std::string_view without_plus(std::string_view text) {
    if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
    return text;
}

std::optional<int64_t> parse_integer(std::string_view text) {
    text = without_plus(text);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<double> parse_double(std::string_view text) {
    text = without_plus(text);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string_view trim(std::string_view text) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    return text;
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) {
        return (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y);
    });
}

std::unexpected<Error> bad_value(const ConfigKey& key, std::string_view value,
                                 std::string_view wanted) {
    return fail(ErrorCode::kInvalidArgument, "Invalid value " + std::string(value) +
                                                 " for configuration " + std::string(key.name) +
                                                 ": " + std::string(wanted));
}

Result<void> validate_choice(const ConfigKey& key, std::string_view value, std::string_view whole) {
    if (key.choices.empty()) return {};
    std::string all;
    for (const std::string_view choice : split(key.choices, '|')) {
        if (choice == value) return {};
        all += (all.empty() ? "" : ", ") + std::string(choice);
    }
    return bad_value(key, whole, "String must be one of: " + all);
}

std::string_view type_name(ConfigType type) {
    switch (type) {
        case ConfigType::kShort:
            return "SHORT";
        case ConfigType::kInt:
            return "INT";
        case ConfigType::kLong:
            return "LONG";
        default:
            return "DOUBLE";
    }
}

template <class Number>
Result<void> validate_range(const ConfigKey& key, std::string_view text,
                            std::optional<Number> value, int64_t min, int64_t max) {
    if (!value)
        return bad_value(key, text, "Not a number of type " + std::string(type_name(key.type)));
    min = std::max(min, key.min);
    max = std::min(max, key.max);
    // Written so that what compares with nothing is refused.
    if (min != std::numeric_limits<int64_t>::min() && !(*value >= static_cast<Number>(min)))
        return bad_value(key, text, "Value must be at least " + std::to_string(min));
    if (max != std::numeric_limits<int64_t>::max() && !(*value <= static_cast<Number>(max)))
        return bad_value(key, text, "Value must be no more than " + std::to_string(max));
    return {};
}

bool is_number(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// As Kafka's ThrottledReplicaListValidator.
Result<void> check_throttled_replicas(const ConfigKey& key, std::string_view value) {
    if (value == "*") return {};
    for (const std::string_view element : config_list(value)) {
        const size_t colon = element.find(':');
        if (colon == std::string_view::npos || !is_number(element.substr(0, colon)) ||
            !is_number(element.substr(colon + 1))) {
            return bad_value(key, value,
                             "must be the literal '*' or a list of replicas in the following "
                             "format: [partitionId]:[brokerId],[partitionId]:[brokerId],...");
        }
    }
    return {};
}

Result<void> check_ip_overrides(const ConfigKey& key, std::string_view value) {
    for (const std::string_view element : config_list(value)) {
        const size_t colon = element.rfind(':');
        const auto count = colon == std::string_view::npos
                               ? std::nullopt
                               : parse_integer(trim(element.substr(colon + 1)));
        if (colon == 0 || !count || *count < 1 || *count > INT32_MAX) {
            return bad_value(
                key, value,
                "must be a list of HOST:COUNT with counts of at least 1: with 0 nobody "
                "from there could connect to set it back");
        }
    }
    return {};
}

// KIP-714. The patterns are not compiled: nothing matches against them yet.
Result<void> check_client_match(const ConfigKey& key, std::string_view value) {
    static constexpr std::string_view kNames[] = {
        "client_instance_id",    "client_id",
        "client_software_name",  "client_software_version",
        "client_source_address", "client_source_port"};
    for (const std::string_view element : config_list(value)) {
        const size_t equals = element.find('=');
        if (equals == std::string_view::npos || equals + 1 == element.size() ||
            std::ranges::find(kNames, trim(element.substr(0, equals))) == std::end(kNames))
            return bad_value(key, value,
                             "Illegal client matching pattern: " + std::string(element));
    }
    return {};
}

Result<void> check_value(const ConfigKey& key, std::string_view value) {
    switch (key.check) {
        case ConfigCheck::kNone:
            return {};
        case ConfigCheck::kThrottledReplicas:
            return check_throttled_replicas(key, value);
        case ConfigCheck::kIpOverrides:
            return check_ip_overrides(key, value);
        case ConfigCheck::kClientMatch:
            return check_client_match(key, value);
        case ConfigCheck::kIdle:
            if (config_integer(value) == -1 || config_integer(value) >= kIdleMsMin) return {};
            return bad_value(key, value,
                             "must be -1 or at least " + std::to_string(kIdleMsMin) +
                                 ": sooner, no client could set it back");
    }
    return {};
}

Result<void> validate_type(const ConfigKey& key, std::string_view raw) {
    const std::string_view value = trim(raw);
    switch (key.type) {
        case ConfigType::kBoolean:
            if (equals_ignoring_case(value, "true") || equals_ignoring_case(value, "false"))
                return {};
            return bad_value(key, raw, "Expected value to be either true or false");
        case ConfigType::kShort:
            return validate_range(key, raw, parse_integer(value), INT16_MIN, INT16_MAX);
        case ConfigType::kInt:
            return validate_range(key, raw, parse_integer(value), INT32_MIN, INT32_MAX);
        case ConfigType::kLong:
            return validate_range(key, raw, parse_integer(value), INT64_MIN, INT64_MAX);
        case ConfigType::kDouble:
            return validate_range(key, raw, parse_double(value), INT64_MIN, INT64_MAX);
        case ConfigType::kList:
            for (const std::string_view element : config_list(value))
                TRY(validate_choice(key, element, raw));
            return {};
        case ConfigType::kUnknown:
        case ConfigType::kString:
        case ConfigType::kClass:
        case ConfigType::kPassword:
            return validate_choice(key, value, raw);
    }
    return {};
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (true) {
        const size_t at = text.find(separator);
        parts.push_back(text.substr(0, at));
        if (at == std::string_view::npos) return parts;
        text.remove_prefix(at + 1);
    }
}

std::vector<std::string_view> config_list(std::string_view value) {
    std::vector<std::string_view> parts;
    for (const std::string_view part : split(value, ',')) {
        if (!trim(part).empty()) parts.push_back(trim(part));
    }
    return parts;
}

int64_t config_integer(std::string_view value) { return parse_integer(trim(value)).value_or(0); }
double config_double(std::string_view value) { return parse_double(trim(value)).value_or(0); }
bool config_boolean(std::string_view value) { return equals_ignoring_case(trim(value), "true"); }

std::optional<uint64_t> config_size(std::string_view value) {
    value = trim(value);
    uint64_t unit = 1;
    static constexpr std::pair<std::string_view, uint64_t> kUnits[] = {
        {"KiB", 1_KiB}, {"MiB", 1_MiB}, {"GiB", 1_GiB}, {"TiB", 1024 * 1_GiB}};
    for (const auto& [suffix, size] : kUnits) {
        if (value.ends_with(suffix)) {
            unit = size;
            value.remove_suffix(suffix.size());
        }
    }
    const auto count = parse_integer(trim(value));
    if (!count || *count < 0 || static_cast<uint64_t>(*count) > (uint64_t{1} << 50) / unit)
        return std::nullopt;
    return static_cast<uint64_t>(*count) * unit;
}

Result<void> validate_config(const ConfigKey& key, std::string_view raw) {
    TRY(validate_type(key, raw));
    const std::string_view value = trim(raw);
    if (key.only && !equals_ignoring_case(value, *key.only)) return bad_value(key, raw, key.reason);
    return check_value(key, value);
}

std::string describe_config(const ConfigKey& key) {
    std::string text(key.doc);
    if (key.reason.empty()) {
        if (!key.effect) text += " Accepted and shown; has no effect in Weir.";
    } else {
        text += key.only ? " Nothing else is accepted: " : " No effect in Weir: ";
        text += key.reason;
    }
    return text;
}

std::string convert_broker_value(std::string_view from, std::string_view value) {
    int64_t factor = 1;
    if (from.ends_with(".minutes")) factor = 60'000;
    if (from.ends_with(".hours")) factor = 3'600'000;
    if (factor == 1) return std::string(value);
    const int64_t count = config_integer(value);
    if (count < 0) return "-1";
    return std::to_string(count > INT64_MAX / factor ? INT64_MAX : count * factor);
}

namespace {

// Of a table that is sorted by name.
const ConfigKey* find_sorted(std::span<const ConfigKey> keys, std::string_view name) {
    const auto found = std::ranges::lower_bound(keys, name, {}, &ConfigKey::name);
    return found != keys.end() && found->name == name ? &*found : nullptr;
}

const ConfigKey* find_in_order(std::span<const ConfigKey> keys, std::string_view name) {
    const auto found = std::ranges::find(keys, name, &ConfigKey::name);
    return found != keys.end() ? &*found : nullptr;
}

}  // namespace

const ConfigKey* find_topic_config(std::string_view name) {
    return find_sorted(topic_config_keys(), name);
}

const ConfigKey* find_broker_config(std::string_view name) {
    const ConfigKey* key = find_in_order(broker_config_keys(), name);
    return key != nullptr ? key : find_sorted(other_broker_config_keys(), name);
}

const ConfigKey* find_group_config(std::string_view name) {
    return find_sorted(group_config_keys(), name);
}

const ConfigKey* find_client_metrics_config(std::string_view name) {
    return find_in_order(client_metrics_config_keys(), name);
}

const ConfigKey* find_listener_config(std::string_view name) {
    static constexpr std::string_view kPrefix = "listener.name.";
    if (!name.starts_with(kPrefix)) return nullptr;
    name.remove_prefix(kPrefix.size());
    // After the listener's name, or after a mechanism's too.
    for (int cut = 0; cut < 2; ++cut) {
        const size_t dot = name.find('.');
        if (dot == std::string_view::npos) return nullptr;
        name.remove_prefix(dot + 1);
        if (const ConfigKey* key = find_broker_config(name)) return key;
    }
    return nullptr;
}

std::vector<std::string_view> broker_config_synonyms(std::string_view name) {
    static constexpr std::string_view kChains[] = {
        "log.roll.ms|log.roll.hours", "log.roll.jitter.ms|log.roll.jitter.hours",
        "log.flush.interval.ms|log.flush.scheduler.interval.ms",
        "log.retention.ms|log.retention.minutes|log.retention.hours"};
    for (const std::string_view chain : kChains) {
        auto names = split(chain, '|');
        if (std::ranges::find(names, name) != names.end() &&
            name != "log.flush.scheduler.interval.ms")
            return names;
    }
    return {name};
}

}  // namespace weir::cluster

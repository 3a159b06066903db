#include "cluster/config_table.h"

#include <algorithm>
#include <charconv>

#include "base/units.h"

namespace weir::cluster {
namespace {

std::optional<int64_t> parse_integer(std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<double> parse_double(std::string_view text) {
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
    for (const std::string_view choice : split(key.choices, '|')) {
        if (choice == value) return {};
    }
    return bad_value(key, whole, "must be one of " + std::string(key.choices));
}

Result<void> validate_range(const ConfigKey& key, std::string_view text,
                            std::optional<int64_t> value, int64_t min, int64_t max) {
    if (!value) return bad_value(key, text, "not a number of its type");
    min = std::max(min, key.min);
    max = std::min(max, key.max);
    if (*value < min) return bad_value(key, text, "must be at least " + std::to_string(min));
    if (*value > max) return bad_value(key, text, "must be at most " + std::to_string(max));
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
    const std::string_view value = trim(raw);
    switch (key.type) {
        case ConfigType::kBoolean:
            if (equals_ignoring_case(value, "true") || equals_ignoring_case(value, "false"))
                return {};
            return bad_value(key, raw, "must be true or false");
        case ConfigType::kShort:
            return validate_range(key, raw, parse_integer(value), INT16_MIN, INT16_MAX);
        case ConfigType::kInt:
            return validate_range(key, raw, parse_integer(value), INT32_MIN, INT32_MAX);
        case ConfigType::kLong:
            return validate_range(key, raw, parse_integer(value), INT64_MIN, INT64_MAX);
        case ConfigType::kDouble: {
            const auto number = parse_double(value);
            if (!number) return bad_value(key, raw, "not a number of its type");
            if (key.min != std::numeric_limits<int64_t>::min() &&
                *number < static_cast<double>(key.min)) {
                return bad_value(key, raw, "must be at least " + std::to_string(key.min));
            }
            if (key.max != std::numeric_limits<int64_t>::max() &&
                *number > static_cast<double>(key.max)) {
                return bad_value(key, raw, "must be at most " + std::to_string(key.max));
            }
            return {};
        }
        case ConfigType::kList:
            for (const std::string_view element : config_list(value))
                TRY(validate_choice(key, element, raw));
            return {};
        case ConfigType::kString:
        case ConfigType::kPassword:
            return validate_choice(key, value, raw);
    }
    return {};
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

const ConfigKey* find_topic_config(std::string_view name) {
    const auto keys = topic_config_keys();
    const auto found = std::ranges::lower_bound(keys, name, {}, &ConfigKey::name);
    return found != keys.end() && found->name == name ? &*found : nullptr;
}

const ConfigKey* find_broker_config(std::string_view name) {
    for (const ConfigKey& key : broker_config_keys()) {
        if (key.name == name) return &key;
    }
    return nullptr;
}

}  // namespace weir::cluster

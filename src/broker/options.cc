#include "broker/options.h"

#include <fmt/format.h>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>

#include "base/units.h"
#include "cluster/config_table.h"
#include "cluster/node_identity.h"

namespace weir::broker {
namespace {

using cluster::ConfigMap;

constexpr uint64_t kMemoryMin = 32_MiB;
// A hundred years: what a Duration holds.
constexpr int64_t kCheckMsMax = int64_t{100} * 365 * 24 * 3600 * 1000;
constexpr uint64_t kMemoryDefaultMin = 256_MiB;
constexpr uint64_t kMemoryDefaultMax = 8_GiB;

Result<std::string> scalar_text(const toml::node& node, const std::string& name) {
    if (const auto* text = node.as_string()) return std::string(text->get());
    if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
    if (const auto* boolean = node.as_boolean())
        return std::string(boolean->get() ? "true" : "false");
    if (const auto* real = node.as_floating_point()) return fmt::format("{}", real->get());
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: dates and nested lists are no values here", name));
}

Result<void> flatten(const toml::table& table, const std::string& prefix, ConfigMap* into) {
    for (const auto& [key, node] : table) {
        const std::string name =
            prefix.empty() ? std::string(key.str()) : fmt::format("{}.{}", prefix, key.str());
        if (const toml::table* inner = node.as_table()) {
            TRY(flatten(*inner, name, into));
            continue;
        }
        std::string value;
        if (const toml::array* list = node.as_array()) {
            for (const toml::node& element : *list) {
                TRY_ASSIGN(const std::string text, scalar_text(element, name));
                value += (value.empty() ? "" : ",") + text;
            }
        } else {
            TRY_ASSIGN(value, scalar_text(node, name));
        }
        (*into)[name] = value;
    }
    return {};
}

class Reader {
  public:
    explicit Reader(const ConfigMap& given) : given_(given) {}
    std::optional<std::string> text(std::string_view name) const {
        const auto found = given_.find(std::string(name));
        if (found != given_.end()) return found->second;
        const cluster::ConfigKey* key = cluster::find_broker_config(name);
        CHECK(key != nullptr);
        if (!key->default_value) return std::nullopt;
        return std::string(*key->default_value);
    }
    int64_t integer(std::string_view name) const {
        return cluster::config_integer(text(name).value_or("0"));
    }

  private:
    const ConfigMap& given_;
};

LogLevel log_level_of(std::string_view name) {
    for (const LogLevel level :
         {LogLevel::kTrace, LogLevel::kDebug, LogLevel::kWarn, LogLevel::kError}) {
        if (to_string(level) == name) return level;
    }
    return LogLevel::kInfo;
}

std::string_view type_name(cluster::ConfigType type) {
    switch (type) {
        case cluster::ConfigType::kBoolean:
            return "boolean";
        case cluster::ConfigType::kInt:
        case cluster::ConfigType::kShort:
        case cluster::ConfigType::kLong:
            return "integer";
        case cluster::ConfigType::kDouble:
            return "number";
        case cluster::ConfigType::kList:
            return "list";
        default:
            return "text";
    }
}

std::string markdown_row(const cluster::ConfigKey& key, bool with_flag) {
    std::string doc(key.doc);
    if (!key.choices.empty()) {
        std::string choices(key.choices);
        std::ranges::replace(choices, '|', ' ');
        doc += fmt::format(" One of: {}.", choices);
    }
    if (!key.effect) doc += " Accepted and shown; has no effect in Weir.";
    const std::string flag = key.flag.empty() ? "" : fmt::format("`--{}`", key.flag);
    const std::string default_value =
        key.default_value
            ? (key.default_value->empty() ? "empty" : fmt::format("`{}`", *key.default_value))
            : "none";
    const std::string_view changes =
        key.update == cluster::ConfigUpdate::kStart ? "at start" : "while running";
    if (!with_flag)
        return fmt::format("| `{}` | {} | {} | {} |\n", key.name, type_name(key.type),
                           default_value, doc);
    return fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", key.name, flag, type_name(key.type),
                       default_value, changes, doc);
}

// An address that other nodes can be told.
Result<void> check_reachable(std::string_view option, const std::string& address) {
    const auto parsed = parse_host_port(address);
    if (!parsed)
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--{}: {}", option, parsed.error().message));
    if (parsed->port == 0 || parsed->host == "0.0.0.0" || parsed->host == "::") {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--{}: other nodes cannot connect to {}", option, address));
    }
    return {};
}

Result<void> check_cluster_options(const BrokerOptions& options) {
    if (options.rpc) TRY(check_reachable("rpc", *options.rpc));
    if (options.seeds.empty()) return {};
    if (!options.rpc) {
        return fail(ErrorCode::kInvalidArgument,
                    "--seeds needs --rpc HOST:PORT: the others must reach this node too");
    }
    if (options.seeds.size() > cluster::kSeedsMax) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--seeds: at most {} addresses", cluster::kSeedsMax));
    }
    for (const std::string& seed : options.seeds) TRY(check_reachable("seeds", seed));
    const auto twice = std::ranges::adjacent_find(options.seeds);
    if (twice != options.seeds.end()) {
        return fail(ErrorCode::kInvalidArgument, fmt::format("--seeds: {} is there twice", *twice));
    }
    return {};
}

}  // namespace

Result<ConfigMap> parse_options_file(std::string_view text) {
    ConfigMap options;
    try {
        const toml::table table = toml::parse(text);
        TRY(flatten(table, "", &options));
    } catch (const toml::parse_error& error) {
        // What TOML makes of max.connections beside max.connections.per.ip.
        const bool redefines = error.description().find("redefine") != std::string_view::npos;
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("line {}: {}{}", error.source().begin.line, error.description(),
                                redefines ? "; where one option's name is the beginning of "
                                            "another's, both need quotes"
                                          : ""));
    }
    return options;
}

Result<BrokerOptions> make_options(ConfigMap file, ConfigMap flags, uint64_t machine_memory_bytes) {
    BrokerOptions options;
    options.given = std::move(file);
    for (auto& [name, value] : flags) options.given[name] = std::move(value);
    for (const auto& [name, value] : options.given) {
        const cluster::ConfigKey* key = cluster::find_broker_config(name);
        if (key == nullptr)
            return fail(ErrorCode::kInvalidArgument, fmt::format("there is no option '{}'", name));
        TRY(cluster::validate_config(*key, value));
    }
    const Reader reader(options.given);
    options.data = *reader.text("data");
    options.kafka = *reader.text("kafka");
    options.admin = *reader.text("admin");
    options.advertised = reader.text("advertised");
    options.shards = static_cast<uint32_t>(reader.integer("shards"));
    options.driver = *reader.text("driver");
    options.log_level = log_level_of(*reader.text("log.level"));
    if (const auto node_id = reader.text("node.id"))
        options.node_id = static_cast<int32_t>(cluster::config_integer(*node_id));
    options.rpc = reader.text("rpc");
    for (const std::string_view seed : cluster::config_list(reader.text("seeds").value_or("")))
        options.seeds.emplace_back(seed);
    std::ranges::sort(options.seeds);
    options.rack = reader.text("broker.rack");
    options.journal_bytes = static_cast<uint64_t>(reader.integer("journal.bytes"));
    options.journal_file_bytes = static_cast<uint64_t>(reader.integer("journal.file.bytes"));
    options.cache_bytes = static_cast<uint64_t>(reader.integer("cache.bytes"));
    options.retention_check_ms =
        std::min(reader.integer("log.retention.check.interval.ms"), kCheckMsMax);
    if (const auto memory = reader.text("memory")) {
        const auto bytes = cluster::config_size(*memory);
        if (!bytes || *bytes < kMemoryMin)
            return fail(ErrorCode::kInvalidArgument,
                        fmt::format("memory: '{}' is no size of at least 32MiB", *memory));
        options.memory = *bytes;
    } else {
        options.memory = std::clamp(machine_memory_bytes / 4, kMemoryDefaultMin, kMemoryDefaultMax);
    }
    for (const auto* address : {&options.kafka, &options.admin}) TRY(parse_host_port(*address));
    if (options.advertised) TRY(parse_host_port(*options.advertised));
    TRY(check_cluster_options(options));
    TRY_ASSIGN(const HostPort kafka, parse_host_port(options.kafka));
    const bool any_address = kafka.host == "0.0.0.0" || kafka.host == "::";
    if (any_address && !options.advertised) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("listening on {} needs --advertised HOST:PORT: clients cannot be "
                                "told to connect to every address",
                                options.kafka));
    }
    return options;
}

Result<HostPort> parse_host_port(std::string_view text) {
    const size_t colon = text.rfind(':');
    const auto malformed = [&] {
        return fail(ErrorCode::kInvalidArgument, fmt::format("'{}' is not HOST:PORT", text));
    };
    if (colon == std::string_view::npos || colon == 0) return malformed();
    std::string_view host = text.substr(0, colon);
    const std::string_view digits = text.substr(colon + 1);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    HostPort result{std::string(host), 0};
    const auto [end, problem] =
        std::from_chars(digits.data(), digits.data() + digits.size(), result.port);
    if (problem != std::errc() || end != digits.data() + digits.size() || result.port < 0 ||
        result.port > 65535)
        return malformed();
    return result;
}

std::string options_as_markdown() {
    std::string text =
        "# Configuration\n\n"
        "Made from the one table of options (`src/cluster/broker_configs.cc`, `topic_configs.cc`); "
        "`./dev test` checks that this page is what the table says.\n\n"
        "An option is given to `weir start` by its flag, by `-c NAME=VALUE`, or in a TOML file "
        "(`--config FILE`) as `NAME = VALUE`; flags win over\n"
        "`-c`, and `-c` over the file. Where one option's name is the beginning of another's, "
        "quote it in the file: `\"max.connections\" = 1000`.\n"
        "Kafka's names, defaults and meanings hold where Kafka has the option.\n\n"
        "## Of a node\n\n"
        "| name | flag | type | default | changes | what |\n|---|---|---|---|---|---|\n";
    for (const cluster::ConfigKey& key : cluster::broker_config_keys())
        text += markdown_row(key, true);
    text +=
        "\n## Of a topic\n\nAll change while running (`kafka-configs`, "
        "IncrementalAlterConfigs).\n\n| name | type | default | what |\n|---|---|---|---|\n";
    for (const cluster::ConfigKey& key : cluster::topic_config_keys())
        text += markdown_row(key, false);
    return text;
}

}  // namespace weir::broker

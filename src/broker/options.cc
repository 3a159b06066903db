#include "broker/options.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <array>
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
    std::string doc = cluster::describe_config(key);
    if (!key.choices.empty()) {
        std::string choices(key.choices);
        std::ranges::replace(choices, '|', ' ');
        doc += fmt::format(" One of: {}.", choices);
    }
    const std::string flag = key.flag.empty() ? "" : fmt::format("`--{}`", key.flag);
    const std::string default_value =
        key.default_value
            ? (key.default_value->empty() ? "empty" : fmt::format("`{}`", *key.default_value))
            : "none";
    const std::string_view changes = key.update == cluster::ConfigUpdate::kStart ? "at start"
                                     : key.update == cluster::ConfigUpdate::kPerBroker
                                         ? "while running, one broker"
                                         : "while running";
    if (!with_flag)
        return fmt::format("| `{}` | {} | {} | {} |\n", key.name, type_name(key.type),
                           default_value, doc);
    return fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", key.name, flag, type_name(key.type),
                       default_value, changes, doc);
}

bool is_any_address(std::string_view host) { return host == "0.0.0.0" || host == "::"; }

// A name as DNS has them (with "_", as containers have), or an address.
Result<void> check_host(std::string_view host) {
    const auto refuse = [&](std::string_view why) {
        const std::string_view shown = host.substr(0, 64);
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("'{}{}' is no host: {}", shown,
                                shown.size() < host.size() ? "..." : "", why));
    };
    if (host.empty()) return refuse("it is empty");
    std::array<uint8_t, sizeof(in6_addr)> address{};
    if (host.find(':') != std::string_view::npos) {
        if (inet_pton(AF_INET6, std::string(host).c_str(), address.data()) == 1) return {};
        return refuse("it is no IPv6 address");
    }
    if (host.size() > 253) return refuse("a name has at most 253 characters");
    bool numbers_alone = true;
    for (const std::string_view label : cluster::split(host, '.')) {
        if (label.empty() || label.size() > 63)
            return refuse("a name's parts have 1 to 63 characters");
        if (label.front() == '-' || label.back() == '-')
            return refuse("a name's parts begin and end with a letter or a digit");
        for (const char c : label) {
            const bool is_digit = c >= '0' && c <= '9';
            numbers_alone = numbers_alone && is_digit;
            if (!is_digit && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '-' &&
                c != '_')
                return refuse("names have letters, digits, '-', '_' and '.'");
        }
    }
    if (numbers_alone && inet_pton(AF_INET, std::string(host).c_str(), address.data()) != 1)
        return refuse("it is no IPv4 address");
    return {};
}

// "host:port" of one listener as Kafka writes it; other text as it is.
Result<std::string> without_scheme(std::string_view text) {
    if (text.find(',') != std::string_view::npos) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("'{}': a node has one listener", text));
    }
    const size_t scheme = text.find("://");
    if (scheme == std::string_view::npos) return std::string(text);
    // As in Kafka, the case of a listener's name does not count.
    const bool is_plaintext = std::ranges::equal(
        text.substr(0, scheme), std::string_view("PLAINTEXT"),
        [](char c, char wanted) { return c == wanted || c - ('a' - 'A') == wanted; });
    if (!is_plaintext) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("'{}': the one listener is PLAINTEXT", text));
    }
    return std::string(text.substr(scheme + 3));
}

// Kafka's names of options, where Weir's own are not given.
Result<void> adopt_kafka_names(ConfigMap& given) {
    const auto adopt = [&](const std::string& from, const std::string& to, std::string value) {
        if (given.contains(from) && !given.contains(to)) given[to] = std::move(value);
    };
    for (const std::string name : {"log.dirs", "log.dir"}) {
        if (!given.contains(name)) continue;
        if (cluster::config_list(given[name]).size() != 1) {
            return fail(ErrorCode::kInvalidArgument,
                        fmt::format("{}: a node has one data directory", name));
        }
        adopt(name, "data", given[name]);
    }
    if (given.contains("broker.id") && cluster::config_integer(given["broker.id"]) >= 0)
        adopt("broker.id", "node.id", given["broker.id"]);
    if (given.contains("listeners")) {
        TRY_ASSIGN(std::string kafka, without_scheme(given["listeners"]));
        // Kafka's way to say every address.
        if (kafka.starts_with(':')) kafka = "0.0.0.0" + kafka;
        adopt("listeners", "kafka", std::move(kafka));
    }
    if (given.contains("advertised.listeners"))
        adopt("advertised.listeners", "advertised", given["advertised.listeners"]);
    return {};
}

// An address that other nodes can be told.
Result<void> check_reachable(std::string_view option, const std::string& address) {
    const auto parsed = parse_host_port(address);
    if (!parsed)
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--{}: {}", option, parsed.error().message));
    if (parsed->port == 0 || is_any_address(parsed->host)) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--{}: other nodes cannot connect to {}", option, address));
    }
    return {};
}

// Whether nobody but this machine reaches it.
bool is_loopback(const std::string& address) {
    const auto parsed = parse_host_port(address);
    if (!parsed) return false;
    const std::string& host = parsed->host;
    if (host == "localhost" || host == "::1") return true;
    // Numbers alone: 127.example.com is a name.
    return host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos;
}

Result<void> check_secret(const BrokerOptions& options) {
    if (options.cluster_secret_optional && !options.cluster_secret) {
        return fail(ErrorCode::kInvalidArgument,
                    "--cluster-secret-optional needs --cluster-secret FILE");
    }
    if (!options.rpc || options.cluster_secret || options.insecure) return {};
    const auto refuse = [](std::string_view option, const std::string& address) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--{} {}: others than this machine's programs reach the nodes "
                                "there: give --cluster-secret FILE, the same on every node, or "
                                "--insecure if the network keeps all others out",
                                option, address));
    };
    if (!is_loopback(*options.rpc)) return refuse("rpc", *options.rpc);
    for (const std::string& seed : options.seeds) {
        if (!is_loopback(seed)) return refuse("seeds", seed);
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
    TRY(adopt_kafka_names(options.given));
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
    for (const std::string_view name :
         cluster::config_list(reader.text("admin.names").value_or("")))
        options.admin_names.emplace_back(name);
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
    options.cluster_secret = reader.text("cluster.secret.file");
    options.cluster_secret_optional =
        cluster::config_boolean(*reader.text("cluster.secret.optional"));
    options.insecure = cluster::config_boolean(*reader.text("insecure"));
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
        // On a small machine more than a quarter, but the kernel and the process itself need
        // theirs.
        const uint64_t least = std::clamp(machine_memory_bytes / 2, kMemoryMin, kMemoryDefaultMin);
        options.memory = std::clamp(machine_memory_bytes / 4, least, kMemoryDefaultMax);
    }
    for (const auto* address : {&options.kafka, &options.admin}) TRY(parse_host_port(*address));
    if (options.advertised) {
        const auto advertised = parse_advertised(*options.advertised);
        if (!advertised) {
            return fail(ErrorCode::kInvalidArgument,
                        fmt::format("--advertised: {}", advertised.error().message));
        }
        options.advertised = to_text(*advertised);
    }
    TRY(check_cluster_options(options));
    TRY(check_secret(options));
    TRY_ASSIGN(const HostPort kafka, parse_host_port(options.kafka));
    if (is_any_address(kafka.host) && !options.advertised) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("listening on {} needs --advertised HOST:PORT: clients cannot be "
                                "told to connect to every address",
                                options.kafka));
    }
    return options;
}

Result<std::shared_ptr<const rpc::Credentials>> make_credentials(const BrokerOptions& options,
                                                                 std::string_view file) {
    auto secret = rpc::ClusterSecret::parse(file);
    if (!secret) return fail(std::move(secret).error().with(options.cluster_secret.value_or("")));
    return std::make_shared<rpc::ClusterSecret>(std::move(*secret),
                                                !options.cluster_secret_optional);
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

std::string to_text(const HostPort& address) {
    return address.host.find(':') == std::string::npos
               ? fmt::format("{}:{}", address.host, address.port)
               : fmt::format("[{}]:{}", address.host, address.port);
}

Result<HostPort> parse_advertised(std::string_view text) {
    TRY_ASSIGN(const std::string plain, without_scheme(text));
    TRY_ASSIGN(HostPort address, parse_host_port(plain));
    if (address.host.find(':') != std::string::npos && !plain.starts_with('[')) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("'{}': an IPv6 address needs brackets: [ADDRESS]:PORT", plain));
    }
    TRY(check_host(address.host));
    if (is_any_address(address.host)) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("clients cannot connect to {}", address.host));
    }
    return address;
}

std::string options_as_markdown() {
    std::string text =
        "# Configuration\n\n"
        "Made from the one table of options (`src/cluster/config_table.h`); `./dev test` checks "
        "that this page is what the table says.\n\n"
        "An option is given to `weir start` by its flag, by `-c NAME=VALUE`, or in a TOML file "
        "(`--config FILE`) as `NAME = VALUE`; flags win over\n"
        "`-c`, and `-c` over the file. Where one option's name is the beginning of another's, "
        "quote it in the file: `\"max.connections\" = 1000`.\n"
        "Kafka's names, defaults and meanings hold where Kafka has the option.\n\n"
        "## Of a node\n\n"
        "| name | flag | type | default | changes | what |\n|---|---|---|---|---|---|\n";
    for (const cluster::ConfigKey& key : cluster::broker_config_keys())
        text += markdown_row(key, true);
    const auto section = [&](std::string_view head, std::span<const cluster::ConfigKey> keys) {
        text += head;
        text += "\n\n| name | type | default | what |\n|---|---|---|---|\n";
        for (const cluster::ConfigKey& key : keys) {
            if (!key.internal) text += markdown_row(key, false);
        }
    };
    section(
        "\n## Of a topic\n\nAll change while running (`kafka-configs`, "
        "IncrementalAlterConfigs).",
        cluster::topic_config_keys());
    section("\n## Of a group\n\nAll change while running.", cluster::group_config_keys());
    section("\n## Of a client metrics subscription\n\nAll change while running.",
            cluster::client_metrics_config_keys());
    text +=
        "\n## What else Kafka's brokers have\n\n"
        "Known, so that files and tools that name them work: accepted, checked, stored and shown. "
        "Names that Kafka does not know\n"
        "either are accepted from tools (not at start), and their values are not shown, as in "
        "Kafka.\n\n"
        "| name | type | default | changes | what |\n|---|---|---|---|---|\n";
    for (const cluster::ConfigKey& key : cluster::other_broker_config_keys()) {
        // Without the column of flags.
        std::string row = markdown_row(key, true);
        text += row.erase(row.find("|  |"), 3);
    }
    return text;
}

}  // namespace weir::broker

// weir start: runs a node until SIGTERM.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "broker/broker.h"
#include "cli/client_command.h"
#include "cluster/config_table.h"
#include "runtime/heap.h"
#include "runtime/real/real_node.h"
#include "runtime/wait.h"

namespace weir::cli {

using runtime::RealNode;
using runtime::Task;

namespace {

struct StartFlags {
    std::string file;
    std::vector<std::string> assignments;          // -c name=value
    std::map<std::string, std::string> by_option;  // what flags were given, by the option's name
};

uint64_t machine_memory_bytes() {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGE_SIZE);
    return pages > 0 && page_bytes > 0
               ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes)
               : 0;
}

// Before there is a node there is no shard to read with.
std::optional<std::string> read_text_file(const std::string& path, size_t bytes_max = SIZE_MAX) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) return std::nullopt;
    std::string text;
    char chunk[4096];
    while (const size_t got = std::fread(chunk, 1, sizeof chunk, file)) {
        text.append(chunk, got);
        if (text.size() > bytes_max) break;
    }
    const bool ok = std::ferror(file) == 0;
    std::fclose(file);
    if (!ok) return std::nullopt;
    return text;
}

std::string absolute_path(const std::string& path) {
    std::error_code problem;
    const auto absolute = std::filesystem::absolute(path, problem).lexically_normal();
    if (problem) return path;
    return absolute.has_filename() ? absolute.string() : absolute.parent_path().string();
}

Result<void> read_secret(broker::BrokerOptions& options) {
    const std::string& path = *options.cluster_secret;
    struct stat info{};
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode))
        return fail(ErrorCode::kNotFound, fmt::format("cannot read the cluster secret {}", path));
    if ((info.st_mode & S_IWOTH) != 0)
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("every user can write the cluster secret {}: chmod 600 it", path));
    if ((info.st_mode & (S_IRWXG | S_IROTH)) != 0) {
        fmt::print(stderr, "weir: other users can read the cluster secret {}: chmod 600 it\n",
                   path);
    }
    const auto text = read_text_file(path, rpc::ClusterSecret::kBytesMax + 16);
    if (!text)
        return fail(ErrorCode::kNotFound, fmt::format("cannot read the cluster secret {}", path));
    TRY_ASSIGN(options.credentials, broker::make_credentials(options, *text));
    return {};
}

Result<broker::BrokerOptions> read_options(const StartFlags& flags) {
    cluster::ConfigMap from_file;
    if (!flags.file.empty()) {
        const auto text = read_text_file(flags.file);
        if (!text) return fail(ErrorCode::kNotFound, fmt::format("cannot read {}", flags.file));
        auto parsed = broker::parse_options_file(*text);
        if (!parsed) return fail(std::move(parsed).error().with(flags.file));
        from_file = std::move(*parsed);
    }
    cluster::ConfigMap from_flags;
    for (const std::string& text : flags.assignments) {
        TRY_ASSIGN(const auto assignment, parse_assignment(text));
        from_flags[assignment.first] = assignment.second;
    }
    for (const auto& [name, value] : flags.by_option) from_flags[name] = value;
    TRY_ASSIGN(auto options, broker::make_options(std::move(from_file), std::move(from_flags),
                                                  machine_memory_bytes()));
    // As clients are told of it.
    options.data = absolute_path(options.data);
    if (options.cluster_secret) TRY(read_secret(options));
    return options;
}

// Each connection and each open segment is a descriptor; the usual soft limit of 1,024 is for
// programs that call select(2). Returns how many there may be.
uint64_t raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    const rlim_t soft = std::exchange(limit.rlim_cur, limit.rlim_max);
    const rlim_t got = setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : soft;
    return got == RLIM_INFINITY ? 0 : got;
}

// Operators ask the admin port by it.
void add_machine_name(broker::BrokerOptions& options) {
    char name[256] = {};
    if (gethostname(name, sizeof name - 1) == 0 && name[0] != 0)
        options.admin_names.emplace_back(name);
}

Task<int> serve(RealNode* node, const broker::BrokerOptions* options) {
    bool storage_failed = false;
    broker::Broker broker(*options,
                          {.version = WEIR_VERSION,
                           .driver = std::string(node->driver_name()),
                           .stalls = [node](runtime::ShardId id) { return node->stalls(id); }},
                          [&](const Error&) {
                              storage_failed = true;
                              node->request_stop();
                          });
    Result<void> started = co_await broker.start(node->stop_token());
    if (started) {
        runtime::give_back_free_memory();  // of recovery
        fmt::print("ready kafka={} admin={} shards={} driver={} node={}\n", broker.kafka_address(),
                   broker.admin_address(), node->shard_count(), node->driver_name(),
                   broker.node_id());
        std::fflush(stdout);
        (void)co_await runtime::sleep_until(Instant::never(), node->stop_token());
    } else if (!node->stop_token().stop_requested()) {
        fmt::print(stderr, "weir: {}\n", started.error().to_string());
    }
    const bool was_asked_to_stop = started || node->stop_token().stop_requested();
    co_await broker.stop();
    co_return was_asked_to_stop && !storage_failed ? 0 : 1;
}

int start(const StartFlags& flags) {
    auto options = read_options(flags);
    if (!options) {
        fmt::print(stderr, "weir: {}\n", options.error().message);
        return 1;
    }
    options->descriptors = raise_descriptor_limit();
    add_machine_name(*options);
    runtime::RealNodeOptions node_options;
    node_options.shards = options->shards;
    node_options.driver = *runtime::parse_driver_choice(options->driver);
    node_options.log_level = options->log_level;
    const Result<int> exit_code = runtime::run_real_node(
        std::move(node_options), [&](RealNode& node) { return serve(&node, &*options); });
    if (exit_code) return *exit_code;
    fmt::print(stderr, "weir: {}\n", exit_code.error().to_string());
    return 1;
}

}  // namespace

void add_start_command(CLI::App& app, int* exit_code) {
    auto flags = std::make_shared<StartFlags>();
    CLI::App* command = app.add_subcommand("start", "run a node");
    for (const cluster::ConfigKey& key : cluster::broker_config_keys()) {
        if (key.flag.empty()) continue;
        const std::string name(key.name);
        std::string help(key.doc);
        if (key.type == cluster::ConfigType::kBoolean) {
            command->add_flag_callback(
                fmt::format("--{}", key.flag), [flags, name] { flags->by_option[name] = "true"; },
                help);
            continue;
        }
        if (key.default_value) help += fmt::format(" [{}]", *key.default_value);
        command
            ->add_option_function<std::string>(
                fmt::format("--{}", key.flag),
                [flags, name](const std::string& value) { flags->by_option[name] = value; }, help)
            ->type_name(std::string(key.metavar))
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
    command->add_option("--config", flags->file, "a TOML file of options; flags win over it")
        ->type_name("FILE");
    command
        ->add_option("-c,--set", flags->assignments,
                     "any option of docs/reference/configuration.md; repeatable")
        ->type_name("NAME=VALUE");
    command->callback([=] { *exit_code = start(*flags); });
}

}  // namespace weir::cli

// What the commands that talk to a broker share: where the brokers are, how output looks, and a
// one-shard runtime to run on.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kafka/client/client.h"
#include "runtime/task.h"

namespace CLI {
class App;
}

namespace weir::cli {

struct ClientFlags {
    std::string brokers;          // "host:port[,host:port…]"
    std::string output = "text";  // or "json"
    bool json() const { return output == "json"; }
};

// Adds --brokers (default $WEIR_BROKERS, then 127.0.0.1:9092) and --output to a subcommand. `flags`
// outlives the parse.
void add_client_flags(CLI::App* command, ClientFlags* flags);

// Runs `body` with an open client and gives the process's exit code: 0, or 1 with the error on
// stderr. `body` is called on the shard.
int run_client(const ClientFlags& flags,
               std::function<runtime::Task<Result<void>>(kafka::Client&)> body);

// Text in columns, as wide as they need to be. The first row is the heading.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

// "key=value"; kInvalidArgument without a '='.
Result<std::pair<std::string, std::string>> parse_assignment(const std::string& text);

// The subcommands, one function a file. Each adds itself with its callback, which leaves the exit
// code in *exit_code.
void add_start_command(CLI::App& app, int* exit_code);
void add_topic_commands(CLI::App& app, int* exit_code);
void add_group_commands(CLI::App& app, int* exit_code);
void add_bench_commands(CLI::App& app, int* exit_code);
void add_debug_commands(CLI::App& app, int* exit_code);

}  // namespace weir::cli

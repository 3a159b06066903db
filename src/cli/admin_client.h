// What the commands that use a node's admin port share (docs/reference/admin-api.md).
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "base/time.h"
#include "runtime/task.h"

namespace CLI {
class App;
}

namespace weir::cli {

struct AdminFlags {
    std::string admin;            // "host:port"
    std::string output = "text";  // or "json"
    uint32_t timeout_seconds = 600;
    bool json() const { return output == "json"; }
};

// Adds --admin (default $WEIR_ADMIN, then 127.0.0.1:9644), --output and, for a command that waits,
// --timeout. `flags` outlives the parse.
void add_admin_flags(CLI::App* command, AdminFlags* flags, bool waits = false);

// Runs `body` on a shard of its own and gives the process's exit code: 0, or 1 with the error on
// stderr.
int run_admin(std::function<runtime::Task<Result<void>>()> body);

// The answer's JSON. kInvalidArgument, kNotFound, kUnavailable with the node's sentence; kIo for
// any other status.
runtime::Task<Result<nlohmann::ordered_json>> ask_admin(const AdminFlags* flags, std::string method,
                                                        std::string target);
// As ask_admin(), repeated while the answer is "not now", until --timeout has passed.
runtime::Task<Result<nlohmann::ordered_json>> insist_admin(const AdminFlags* flags,
                                                           std::string method, std::string target,
                                                           Instant deadline);

// Prints one line of progress to stderr if it differs from the last one.
class Progress {
  public:
    void say(const std::string& line);

  private:
    std::string last_;
};

// Polls `done` twice a second until it gives true; until then it reports what is left.
using Check = std::function<runtime::Task<Result<bool>>(Progress*)>;
runtime::Task<Result<void>> wait_until_done(Check done, Instant deadline, std::string what);

void add_cluster_commands(CLI::App& app, int* exit_code);
void add_partition_commands(CLI::App& app, int* exit_code);

}  // namespace weir::cli

// The `weir` command: its subcommands, each in a file of its own.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "cli/admin_client.h"
#include "cli/client_command.h"

int main(int argc, char** argv) {
    CLI::App app{"Weir: a Kafka-compatible broker in one binary"};
    app.require_subcommand(1);
    int exit_code = 0;
    weir::cli::add_start_command(app, &exit_code);
    weir::cli::add_topic_commands(app, &exit_code);
    weir::cli::add_group_commands(app, &exit_code);
    weir::cli::add_cluster_commands(app, &exit_code);
    weir::cli::add_partition_commands(app, &exit_code);
    weir::cli::add_bench_commands(app, &exit_code);
    weir::cli::add_debug_commands(app, &exit_code);
    std::string output = "text";
    CLI::App* version = app.add_subcommand("version", "print the version");
    version->add_option("--output", output, "how to print")
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
    version->callback([&output] {
        if (output == "json") {
            fmt::print("{{\"version\":\"{}\"}}\n", WEIR_VERSION);
        } else {
            fmt::print("weir {}\n", WEIR_VERSION);
        }
    });
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        // --help ends here too. A mistake is one line, and the exit code of any start-up error.
        if (error.get_exit_code() == 0) return app.exit(error);
        fmt::print(stderr, "weir: {}\n", error.what());
        return 1;
    }
    return exit_code;
}

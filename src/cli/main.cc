// The `weir` command: its subcommands, each in a file of its own.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "cli/client_command.h"

int main(int argc, char** argv) {
    CLI::App app{"Weir: a Kafka-compatible broker in one binary"};
    app.require_subcommand(1);
    int exit_code = 0;
    weir::cli::add_start_command(app, &exit_code);
    weir::cli::add_topic_commands(app, &exit_code);
    weir::cli::add_group_commands(app, &exit_code);
    weir::cli::add_bench_commands(app, &exit_code);
    weir::cli::add_debug_commands(app, &exit_code);
    app.add_subcommand("version", "print the version")->callback([] {
        fmt::print("weir {}\n", WEIR_VERSION);
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

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
    app.add_subcommand("version", "print the version")->callback([] {
        fmt::print("weir {}\n", WEIR_VERSION);
    });
    CLI11_PARSE(app, argc, argv);
    return exit_code;
}

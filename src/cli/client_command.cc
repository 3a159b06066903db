#include "cli/client_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "runtime/real/real_node.h"

namespace weir::cli {

using runtime::Task;

void add_client_flags(CLI::App* command, ClientFlags* flags) {
    flags->brokers = "127.0.0.1:9092";
    command->add_option("--brokers", flags->brokers, "brokers to ask first")
        ->envname("WEIR_BROKERS")
        ->type_name("HOST:PORT[,…]")
        ->capture_default_str();
    command->add_option("--output", flags->output, "how to print")
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
}

namespace {

std::vector<std::string> split_brokers(const std::string& text) {
    std::vector<std::string> addresses;
    size_t from = 0;
    while (from <= text.size()) {
        const size_t end = std::min(text.find(',', from), text.size());
        if (end > from) addresses.push_back(text.substr(from, end - from));
        from = end + 1;
    }
    return addresses;
}

Task<Result<void>> with_client(const ClientFlags* flags,
                               const std::function<Task<Result<void>>(kafka::Client&)>* body) {
    kafka::Client client({.bootstrap = split_brokers(flags->brokers), .connection = {}});
    Result<void> result = co_await client.open();
    if (result) result = co_await (*body)(client);
    co_await client.close();
    co_return result;
}

Task<int> report(const ClientFlags* flags,
                 const std::function<Task<Result<void>>(kafka::Client&)>* body) {
    const Result<void> result = co_await with_client(flags, body);
    if (result) co_return 0;
    fmt::print(
        stderr, "weir: {}\n",
        result.error().message.empty() ? result.error().to_string() : result.error().message);
    co_return 1;
}

}  // namespace

int run_client(const ClientFlags& flags, std::function<Task<Result<void>>(kafka::Client&)> body) {
    const Result<int> exit_code =
        runtime::run_on_one_shard([&](runtime::RealNode&) { return report(&flags, &body); });
    if (exit_code) return *exit_code;
    fmt::print(stderr, "weir: {}\n", exit_code.error().to_string());
    return 1;
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
    std::vector<size_t> widths;
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows) {
        std::string line;
        for (size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + '\n';
    }
    return text;
}

Result<std::pair<std::string, std::string>> parse_assignment(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
        return fail(ErrorCode::kInvalidArgument, fmt::format("'{}' is not key=value", text));
    }
    return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

}  // namespace weir::cli

#include "cli/admin_client.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "http/client.h"
#include "runtime/real/real_node.h"
#include "runtime/wait.h"

namespace weir::cli {

using runtime::Task;
using runtime::try_;
using Json = nlohmann::ordered_json;

void add_admin_flags(CLI::App* command, AdminFlags* flags, bool waits) {
    flags->admin = "127.0.0.1:9644";
    command->add_option("--admin", flags->admin, "the admin address of any node")
        ->envname("WEIR_ADMIN")
        ->type_name("HOST:PORT")
        ->capture_default_str();
    command->add_option("--output", flags->output, "how to print")
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
    if (!waits) return;
    command
        ->add_option("--timeout", flags->timeout_seconds,
                     "how many seconds to wait until it is done; it goes on without the command")
        ->capture_default_str();
}

namespace {

Task<int> report(const std::function<Task<Result<void>>()>* body) {
    const Result<void> result = co_await (*body)();
    if (result) co_return 0;
    fmt::print(
        stderr, "weir: {}\n",
        result.error().message.empty() ? result.error().to_string() : result.error().message);
    co_return 1;
}

ErrorCode code_of(int status) {
    switch (status) {
        case 400:
            return ErrorCode::kInvalidArgument;
        case 404:
            return ErrorCode::kNotFound;
        case 409:
        case 503:
            return ErrorCode::kUnavailable;
        default:
            return ErrorCode::kIo;
    }
}

}  // namespace

int run_admin(std::function<Task<Result<void>>()> body) {
    const Result<int> exit_code =
        runtime::run_on_one_shard([&](runtime::RealNode&) { return report(&body); });
    if (exit_code) return *exit_code;
    fmt::print(stderr, "weir: {}\n", exit_code.error().to_string());
    return 1;
}

Task<Result<Json>> ask_admin(const AdminFlags* flags, std::string method, std::string target) {
    const auto answer =
        co_await try_(http::ask({.address = flags->admin, .method = method, .target = target}));
    Json body = Json::parse(answer.body, nullptr, false);
    if (answer.status == 200) {
        if (body.is_discarded())
            co_return fail(ErrorCode::kMalformed,
                           fmt::format("{}: the answer is no JSON", flags->admin));
        co_return body;
    }
    std::string sentence = answer.body;
    while (sentence.ends_with('\n')) sentence.pop_back();
    if (body.is_object() && body.contains("error") && body["error"].is_string())
        sentence = body["error"].get<std::string>();
    co_return fail(code_of(answer.status),
                   fmt::format("{} {}: {}{}", method, target, sentence,
                               answer.status == 404 && !body.is_object()
                                   ? fmt::format(" ({} has no such path)", flags->admin)
                                   : ""));
}

Task<Result<Json>> insist_admin(const AdminFlags* flags, std::string method, std::string target,
                                Instant deadline) {
    Progress progress;
    while (true) {
        auto answer = co_await ask_admin(flags, method, target);
        if (answer || answer.error().code != ErrorCode::kUnavailable ||
            runtime::Shard::current().now() >= deadline)
            co_return answer;
        progress.say(answer.error().message);
        co_await try_(runtime::sleep_for(std::chrono::milliseconds(500)));
    }
}

void Progress::say(const std::string& line) {
    if (line == last_) return;
    last_ = line;
    fmt::print(stderr, "{}\n", line);
}

Task<Result<void>> wait_until_done(Check done, Instant deadline, std::string what) {
    Progress progress;
    Error last{ErrorCode::kTimedOut, "", 0};
    while (true) {
        // A node that is asked may be the one that stops.
        const Result<bool> now = co_await done(&progress);
        if (now && *now) co_return Result<void>{};
        if (!now) {
            last = now.error();
            if (last.code == ErrorCode::kInvalidArgument) co_return fail(last);
            progress.say(last.message.empty() ? last.to_string() : last.message);
        }
        if (runtime::Shard::current().now() >= deadline)
            co_return fail(ErrorCode::kTimedOut,
                           fmt::format("{} is not done yet; it goes on by itself", what));
        co_await try_(runtime::sleep_for(std::chrono::milliseconds(500)));
    }
}

}  // namespace weir::cli

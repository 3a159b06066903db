// weir debug journal|segment|checkpoint FILE: prints stored files for a person. Reads them as they
// are; the node that owns them may be running.
// weir debug repair --data DIR: what is damaged in the journals of a node that does not run, and
// what it lost; with --apply the node can go on without that.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/units.h"
#include "cli/client_command.h"
#include "runtime/file.h"
#include "runtime/real/real_node.h"
#include "storage/describe.h"
#include "storage/mend.h"

namespace weir::cli {

namespace {

// A segment is 1 GiB by default; a person looks at one file at a time.
constexpr uint64_t kFileBytesMax = 4_GiB;

struct DebugFlags {
    std::string file;
    std::string output = "text";
};

int describe_file(const DebugFlags& flags, std::string (*describe)(Bytes)) {
    const auto content = runtime::run_on_one_shard(
        [&](runtime::RealNode&) { return runtime::read_small_file(flags.file, kFileBytesMax); });
    if (!content || !*content) {
        fmt::print(stderr, "weir: {}\n",
                   (content ? content->error() : content.error()).to_string());
        return 1;
    }
    const std::string text = describe(as_bytes(**content));
    if (flags.output == "json") {
        nlohmann::ordered_json lines = nlohmann::ordered_json::array();
        for (size_t from = 0; from < text.size();) {
            const size_t end = text.find('\n', from);
            lines.push_back(text.substr(from, end - from));
            from = end == std::string::npos ? text.size() : end + 1;
        }
        fmt::print("{}\n", nlohmann::ordered_json{{"file", flags.file}, {"lines", lines}}.dump());
    } else {
        fmt::print("{}", text);
    }
    return 0;
}

struct RepairFlags {
    std::string data;
    bool apply = false;
    std::string output = "text";
};

struct ShardReport {
    storage::ShardDamage damage;
    bool mended = false;
    uint64_t unaccepted = 0;  // logs of an earlier damage that wait for an operator
};

runtime::Task<Result<ShardReport>> repair_shard(storage::OfflineData* data, uint32_t shard,
                                                bool apply) {
    ShardReport report;
    report.damage = co_await runtime::try_(storage::find_damage(data->shard(shard)));
    if (apply && report.damage.can_be_mended()) {
        co_await runtime::try_(
            storage::mend(data->shard(shard), report.damage, {.accepted = true}));
        report.mended = true;
        co_return report;
    }
    report.unaccepted =
        co_await runtime::try_(apply ? data->accept_losses(shard) : data->count_unaccepted(shard));
    co_return report;
}

runtime::Task<Result<std::vector<ShardReport>>> repair_data(RepairFlags flags) {
    storage::OfflineData data = co_await runtime::try_(storage::OfflineData::open(flags.data));
    std::vector<ShardReport> reports;
    Result<void> done;
    for (uint32_t i = 0; done && i < data.layout().shards; ++i) {
        auto report = co_await repair_shard(&data, i, flags.apply);
        if (report) {
            reports.push_back(std::move(*report));
        } else {
            done = fail(std::move(report).error());
        }
    }
    co_await data.close();
    co_await runtime::try_(std::move(done));
    co_return reports;
}

nlohmann::ordered_json to_json(const ShardReport& report) {
    using Json = nlohmann::ordered_json;
    const storage::ShardDamage& damage = report.damage;
    Json places = Json::array();
    for (const storage::DamagedPlace& place : damage.places)
        places.push_back({{"file", place.file}, {"offset", place.offset}, {"what", place.what}});
    Json logs = Json::array();
    if (!damage.places.empty()) {
        for (const auto& [id, loss] : damage.logs) {
            logs.push_back({{"log", id.v},
                            {"whole_end", loss.end.offset},
                            {"known_end", std::max(loss.last_known, loss.end.offset)}});
        }
    }
    return {{"shard", damage.shard},
            {"damage", places},
            {"mended", report.mended},
            {"can_be_mended", damage.can_be_mended()},
            {"blocks_lost", damage.whole_blocks_lost},
            {"logs_waiting_for_consent", report.unaccepted},
            {"logs", logs}};
}

void print_report(const ShardReport& report, bool apply) {
    const storage::ShardDamage& damage = report.damage;
    if (damage.places.empty()) {
        fmt::print("shard {}: whole\n", damage.shard);
        if (report.unaccepted > 0)
            fmt::print("  {} logs lack entries since an earlier damage{}\n", report.unaccepted,
                       apply ? ": accepted" : ", and wait for --apply where they have no replica");
        return;
    }
    fmt::print("shard {}: damaged{}\n", damage.shard,
               report.mended            ? ", mended"
               : damage.can_be_mended() ? ""
                                        : ", and this command can't mend it");
    for (const storage::DamagedPlace& place : damage.places)
        fmt::print("  {} offset {}: {}\n", place.file, place.offset, place.what);
    if (!damage.can_be_mended()) return;
    fmt::print("  {} whole commits after the damage are given up\n", damage.whole_blocks_lost);
    for (const auto& [id, loss] : damage.logs) {
        if (loss.last_known > loss.end.offset) {
            fmt::print("  log {}: offsets {} to {} are lost, and perhaps some after them\n", id.v,
                       loss.end.offset, loss.last_known - 1);
        } else {
            fmt::print(
                "  log {}: whole up to offset {}; what came after it, if anything, is lost\n", id.v,
                loss.end.offset);
        }
    }
}

// 0: whole, or mended; 1: damaged.
int repair(const RepairFlags& flags) {
    const auto reports =
        runtime::run_on_one_shard([&](runtime::RealNode&) { return repair_data(flags); });
    if (!reports || !*reports) {
        fmt::print(stderr, "weir: {}\n",
                   (reports ? reports->error() : reports.error()).to_string());
        return 1;
    }
    bool whole = true;
    bool may_apply = false;
    nlohmann::ordered_json shards = nlohmann::ordered_json::array();
    for (const ShardReport& report : **reports) {
        whole = whole && (report.damage.places.empty() || report.mended);
        may_apply = may_apply || report.damage.can_be_mended();
        if (flags.output == "json") {
            shards.push_back(to_json(report));
        } else {
            print_report(report, flags.apply);
        }
    }
    if (flags.output == "json") {
        fmt::print("{}\n",
                   nlohmann::ordered_json{
                       {"data", flags.data}, {"applied", flags.apply}, {"shards", shards}}
                       .dump());
    } else if (!flags.apply && may_apply) {
        fmt::print(
            "Nothing was changed. With --apply the node goes on without what is lost; files that "
            "change are copied to {}/damaged first.\n",
            flags.data);
    }
    return whole ? 0 : 1;
}

void add_repair_command(CLI::App& debug, int* exit_code) {
    auto flags = std::make_shared<RepairFlags>();
    CLI::App* command = debug.add_subcommand(
        "repair", "what damaged journals of a stopped node lost; --apply: go on without it");
    command->add_option("--data", flags->data, "the node's data directory")->required();
    command->add_flag("--apply", flags->apply, "change the files; else they are only read");
    command->add_option("--output", flags->output)
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
    command->callback([=] { *exit_code = repair(*flags); });
}

}  // namespace

void add_debug_commands(CLI::App& app, int* exit_code) {
    CLI::App* debug = app.add_subcommand("debug", "print stored files for a person");
    debug->require_subcommand(1);
    add_repair_command(*debug, exit_code);
    struct Kind {
        const char* name;
        const char* help;
        std::string (*describe)(Bytes);
    };
    for (const Kind kind :
         {Kind{"journal", "the commits of a journal file", storage::describe_journal},
          Kind{"segment", "the runs of a segment file", storage::describe_segment},
          Kind{"checkpoint", "the logs of a checkpoint file", storage::describe_checkpoint}}) {
        auto flags = std::make_shared<DebugFlags>();
        CLI::App* command = debug->add_subcommand(kind.name, kind.help);
        command->add_option("file", flags->file)->required();
        command->add_option("--output", flags->output)
            ->check(CLI::IsMember({"text", "json"}))
            ->capture_default_str();
        command->callback([=] { *exit_code = describe_file(*flags, kind.describe); });
    }
}

}  // namespace weir::cli

// weir debug journal|segment|checkpoint FILE: prints stored files for a person. Reads them as they
// are; the node that owns them may be running.
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

}  // namespace

void add_debug_commands(CLI::App& app, int* exit_code) {
    CLI::App* debug = app.add_subcommand("debug", "print stored files for a person");
    debug->require_subcommand(1);
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

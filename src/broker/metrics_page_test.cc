#include "broker/metrics_page.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "broker/broker.h"

namespace weir::broker {
namespace {

constexpr std::string_view kHead =
    "# Metrics\n\n"
    "What `/metrics` on the admin address (`--admin`) shows, in Prometheus's text format. Made "
    "from the page itself; `./dev test` "
    "checks that\nthis table is what the page says.\n\n"
    "All are of the whole node since its start. A counter only grows; a histogram has `_bucket` "
    "(by `le`, in seconds), `_sum` and "
    "`_count`.\n\n"
    "| name | type | labels | what |\n|---|---|---|---|\n";

// The names of labels in `name{a="1",b="2"} 3`, but for a histogram's own.
std::set<std::string> labels_of(const std::string& sample) {
    std::set<std::string> labels;
    const size_t open = sample.find('{');
    if (open == std::string::npos) return labels;
    for (size_t at = open + 1;;) {
        const size_t equals = sample.find("=\"", at);
        const std::string label = sample.substr(at, equals - at);
        if (label != "le") labels.insert(label);
        const size_t end = sample.find('"', equals + 2);
        if (sample.at(end + 1) != ',') return labels;
        at = end + 2;
    }
}

std::string as_markdown(const std::string& page) {
    std::string text(kHead);
    std::istringstream lines(page);
    std::string name, help, type;
    std::set<std::string> labels;
    const auto row = [&] {
        if (name.empty()) return;
        std::string all;
        for (const std::string& label : labels)
            all += fmt::format("{}`{}`", all.empty() ? "" : ", ", label);
        text += fmt::format("| `{}` | {} | {} | {} |\n", name, type, all, help);
        labels.clear();
    };
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("# HELP ")) {
            row();
            const size_t space = line.find(' ', 7);
            name = line.substr(7, space - 7);
            help = line.substr(space + 1);
        } else if (line.starts_with("# TYPE ")) {
            type = line.substr(line.rfind(' ') + 1);
        } else {
            labels.merge(labels_of(line));
        }
    }
    row();
    return text;
}

// Repeat with WEIR_UPDATE_DOCS=1 to write the reference anew.
TEST(MetricsPage, the_reference_is_what_the_page_says) {
    ShardMetrics shard;
    shard.server.requests.fill(1);
    const std::vector<MemoryShare> memory{{.name = "requests", .used = 1, .limit = 2}};
    const std::string wanted = as_markdown(
        render_metrics({shard, shard}, memory, {}, {.version = "1", .driver = "uring"}));
    const std::string path = WEIR_SOURCE_DIR "/docs/reference/metrics.md";
    if (std::getenv("WEIR_UPDATE_DOCS") != nullptr) std::ofstream(path) << wanted;
    std::stringstream page;
    page << std::ifstream(path).rdbuf();
    EXPECT_EQ(page.str(), wanted);
}

}  // namespace
}  // namespace weir::broker

#include "http/prometheus.h"

#include <fmt/format.h>

#include <cmath>

#include "base/histogram.h"

namespace weir::http {
namespace {

std::string escaped(std::string_view value) {
    std::string text;
    for (const char c : value) {
        if (c == '\\' || c == '"') text += '\\';
        if (c == '\n') {
            text += "\\n";
        } else {
            text += c;
        }
    }
    return text;
}

std::string number(double value) {
    // Counters of bytes must not lose their low digits.
    if (value == std::floor(value) && std::abs(value) < 9e15)
        return fmt::format("{}", static_cast<int64_t>(value));
    return fmt::format("{}", value);
}

}  // namespace

void PrometheusPage::begin(std::string_view name, MetricType type, std::string_view help) {
    name_ = name;
    constexpr std::string_view kKinds[] = {"counter", "gauge", "summary", "histogram"};
    const std::string_view kind = kKinds[static_cast<size_t>(type)];
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, kind);
}

void PrometheusPage::sample(std::string_view suffix, const Labels& labels, double value) {
    text_ += name_;
    text_ += suffix;
    if (!labels.empty()) {
        text_ += '{';
        for (size_t i = 0; i < labels.size(); ++i) {
            text_ += fmt::format("{}{}=\"{}\"", i == 0 ? "" : ",", labels[i].first,
                                 escaped(labels[i].second));
        }
        text_ += '}';
    }
    text_ += ' ';
    text_ += number(value);
    text_ += '\n';
}

void PrometheusPage::add(double value, const Labels& labels) { sample("", labels, value); }

void PrometheusPage::add_summary(const Histogram& nanoseconds, const Labels& labels) {
    for (const double quantile : {0.5, 0.9, 0.99, 0.999}) {
        Labels with_quantile = labels;
        with_quantile.emplace_back("quantile", fmt::format("{}", quantile));
        sample("", with_quantile, static_cast<double>(nanoseconds.quantile(quantile)) / 1e9);
    }
    sample("_sum", labels, nanoseconds.mean() * static_cast<double>(nanoseconds.count()) / 1e9);
    sample("_count", labels, static_cast<double>(nanoseconds.count()));
}

void PrometheusPage::add_histogram(std::span<const double> upper_bounds,
                                   std::span<const uint64_t> counts, double sum,
                                   const Labels& labels) {
    uint64_t below = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
        below += counts[i];
        Labels with_bound = labels;
        with_bound.emplace_back(
            "le", i < upper_bounds.size() ? fmt::format("{}", upper_bounds[i]) : "+Inf");
        sample("_bucket", with_bound, static_cast<double>(below));
    }
    sample("_sum", labels, sum);
    sample("_count", labels, static_cast<double>(below));
}

}  // namespace weir::http

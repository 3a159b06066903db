// Metrics as Prometheus reads them: the text exposition format, version 0.0.4.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weir {
class Histogram;
}

namespace weir::http {

enum class MetricType { kCounter, kGauge, kSummary, kHistogram };

// A page of metrics. Samples of one metric follow one another: begin() it, then add its samples.
class PrometheusPage {
  public:
    using Labels = std::vector<std::pair<std::string_view, std::string>>;

    // `help` is one sentence. Names are letters, digits and '_', begin with "weir_" and end with
    // their unit.
    void begin(std::string_view name, MetricType type, std::string_view help);
    void add(double value, const Labels& labels = {});
    // A whole distribution in nanoseconds, as a summary in seconds: p50, p90, p99, p99.9, sum and
    // count.
    void add_summary(const Histogram& nanoseconds, const Labels& labels = {});

    // Counts by upper bounds in seconds, ascending; counts has one element more, for what is above
    // the last bound.
    void add_histogram(std::span<const double> upper_bounds, std::span<const uint64_t> counts,
                       double sum, const Labels& labels = {});

    // One line for a metric with a single sample.
    void counter(std::string_view name, std::string_view help, double value) {
        begin(name, MetricType::kCounter, help);
        add(value);
    }
    void gauge(std::string_view name, std::string_view help, double value) {
        begin(name, MetricType::kGauge, help);
        add(value);
    }

    const std::string& text() const { return text_; }
    static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

  private:
    void sample(std::string_view suffix, const Labels& labels, double value);
    std::string text_;
    std::string name_;
};

}  // namespace weir::http

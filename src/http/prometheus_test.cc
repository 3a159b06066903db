#include "http/prometheus.h"

#include <gtest/gtest.h>

#include "base/histogram.h"

namespace weir::http {
namespace {

TEST(Prometheus, a_page_reads_as_the_exposition_format_asks) {
    PrometheusPage page;
    page.counter("weir_bytes_total", "Bytes that came in.", 9007199254740991.0 - 1);
    page.begin("weir_requests_total", MetricType::kCounter, "Requests by API.");
    page.add(3, {{"api", "Fetch"}, {"client", "a\"b\\c\nd"}});
    EXPECT_EQ(page.text(),
              "# HELP weir_bytes_total Bytes that came in.\n"
              "# TYPE weir_bytes_total counter\n"
              "weir_bytes_total 9007199254740990\n"
              "# HELP weir_requests_total Requests by API.\n"
              "# TYPE weir_requests_total counter\n"
              "weir_requests_total{api=\"Fetch\",client=\"a\\\"b\\\\c\\nd\"} 3\n");
}

TEST(Prometheus, a_histogram_becomes_a_summary_in_seconds) {
    Histogram latency;
    latency.record(2'000'000'000, 10);
    PrometheusPage page;
    page.begin("weir_seconds", MetricType::kSummary, "Time.");
    page.add_summary(latency);
    EXPECT_NE(page.text().find("weir_seconds{quantile=\"0.5\"} 2\n"), std::string::npos)
        << page.text();
    EXPECT_NE(page.text().find("weir_seconds_sum 20\n"), std::string::npos);
    EXPECT_NE(page.text().find("weir_seconds_count 10\n"), std::string::npos);
}

TEST(Prometheus, a_histogram_counts_what_is_at_or_below_each_bound) {
    const double bounds[] = {0.5, 1};
    const uint64_t counts[] = {1, 2, 4};
    PrometheusPage page;
    page.begin("weir_x_seconds", MetricType::kHistogram, "Time.");
    page.add_histogram(bounds, counts, 9.5);
    EXPECT_NE(
        page.text().find("weir_x_seconds_bucket{le=\"0.5\"} 1\nweir_x_seconds_bucket{le=\"1\"} "
                         "3\nweir_x_seconds_bucket{le=\"+Inf\"} 7\n"),
        std::string::npos)
        << page.text();
    EXPECT_NE(page.text().find("weir_x_seconds_count 7\n"), std::string::npos);
}

}  // namespace
}  // namespace weir::http

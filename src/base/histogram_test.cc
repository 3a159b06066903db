#include "base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/prng.h"

namespace weir {
namespace {

TEST(Histogram, quantiles_are_within_two_per_cent_of_the_sorted_values) {
    Prng prng(11);
    Histogram histogram;
    std::vector<int64_t> values;
    for (int i = 0; i < 20000; ++i) {
        values.push_back(static_cast<int64_t>(prng.exponential(1e6)) +
                         static_cast<int64_t>(prng.below(50)));
        histogram.record(values.back());
    }
    std::ranges::sort(values);
    for (const double q : {0.0001, 0.5, 0.9, 0.99, 0.999, 1.0}) {
        const auto exact =
            static_cast<double>(values[static_cast<size_t>(std::ceil(q * 20000)) - 1]);
        EXPECT_NEAR(static_cast<double>(histogram.quantile(q)), exact, exact * 0.02 + 1) << q;
    }
    EXPECT_EQ(histogram.max(), values.back());
    EXPECT_EQ(histogram.min(), values.front());
}

TEST(Histogram, merging_equals_recording_all_in_one) {
    Histogram a, b, both;
    for (int64_t v = 0; v < 1000; ++v) {
        (v % 3 == 0 ? a : b).record(v * v);
        both.record(v * v);
    }
    a.merge(b);
    EXPECT_EQ(a.count(), both.count());
    EXPECT_EQ(a.quantile(0.9), both.quantile(0.9));
    uint64_t sum = 0;
    for (const auto& bucket : a.buckets()) sum += bucket.count;
    EXPECT_EQ(sum, 1000u);
}

TEST(Histogram, a_huge_value_does_not_fall_outside) {
    Histogram histogram;
    histogram.record(INT64_MAX);
    EXPECT_EQ(histogram.quantile(0.5), histogram.quantile(1.0));
    EXPECT_EQ(histogram.count(), 1u);
}

}  // namespace
}  // namespace weir

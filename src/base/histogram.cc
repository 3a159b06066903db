#include "base/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace weir {

// Values below 64 have a bucket each; above, the top bit chooses the row and the next six bits the
// column.
std::size_t Histogram::index_of(int64_t value) {
    const auto v = static_cast<uint64_t>(std::max<int64_t>(value, 0));
    if (v < (1u << kSubBits)) return v;
    const int exponent = 63 - std::countl_zero(v) - kSubBits;
    if (exponent >= kExponents) return ((kExponents + 1) << kSubBits) - 1;
    return (static_cast<size_t>(exponent + 1) << kSubBits) +
           ((v >> exponent) & ((1u << kSubBits) - 1));
}

int64_t Histogram::upper_of(size_t index) {
    const size_t row = index >> kSubBits;
    const size_t column = index & ((1u << kSubBits) - 1);
    if (row == 0) return static_cast<int64_t>(column);
    const size_t exponent = row - 1;
    return static_cast<int64_t>((((uint64_t{1} << kSubBits) + column + 1) << exponent) - 1);
}

void Histogram::record(int64_t value, uint64_t count) {
    counts_[index_of(value)] += count;
    count_ += count;
    max_ = std::max(max_, value);
    min_ = std::min(min_, value);
    sum_ += static_cast<double>(value) * static_cast<double>(count);
}

void Histogram::merge(const Histogram& other) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
    min_ = std::min(min_, other.min_);
    sum_ += other.sum_;
}

int64_t Histogram::quantile(double quantile) const {
    const auto rank = static_cast<uint64_t>(std::ceil(quantile * static_cast<double>(count_)));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
        seen += counts_[i];
        if (seen >= rank && seen > 0) return std::min(upper_of(i), max_);
    }
    return max_;
}

std::vector<Histogram::Bucket> Histogram::buckets() const {
    std::vector<Bucket> result;
    for (size_t i = 0; i < counts_.size(); ++i) {
        if (counts_[i] > 0) result.push_back({upper_of(i), counts_[i]});
    }
    return result;
}

}  // namespace weir

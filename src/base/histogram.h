// Histogram: a whole latency distribution in bounded memory. Buckets are log-linear (64 linear
// steps in each power of two), so that any quantile is right within 1.6 %. Values are nanoseconds
// up to about 18 minutes; larger ones count as the largest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weir {

class Histogram {
  public:
    void record(int64_t value, uint64_t count = 1);
    void merge(const Histogram& other);

    uint64_t count() const { return count_; }
    int64_t max() const { return max_; }
    int64_t min() const { return count_ == 0 ? 0 : min_; }
    double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
    // The smallest value that at least `quantile` (0..1) of the values do not exceed, as the upper
    // end of its bucket.
    int64_t quantile(double quantile) const;

    // Each bucket that holds something, in order: {upper end, how many}.
    struct Bucket {
        int64_t upper;
        uint64_t count;
    };
    std::vector<Bucket> buckets() const;

  private:
    static constexpr int kSubBits = 6;
    static constexpr int kExponents = 35;
    static std::size_t index_of(int64_t value);
    static int64_t upper_of(std::size_t index);

    std::array<uint64_t, (kExponents + 1) << kSubBits> counts_{};
    uint64_t count_ = 0;
    int64_t max_ = 0;
    int64_t min_ = INT64_MAX;
    double sum_ = 0;
};

}  // namespace weir

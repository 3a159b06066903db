#include "base/fifo.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>

#include "base/prng.h"

namespace weir {
namespace {

TEST(Fifo, any_order_of_pushes_and_pops_is_that_of_a_deque) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        Prng prng(seed);
        Fifo<std::unique_ptr<int>> fifo;
        std::deque<int> model;
        for (int i = 0; i < 3000; ++i) {
            // Drifts up and down, so that it is long and empty in turns.
            const bool grows = (i / 300) % 2 == 0;
            if (model.empty() || prng.below(10) < (grows ? 7u : 3u)) {
                fifo.push_back(std::make_unique<int>(i));
                model.push_back(i);
            } else if (prng.below(4) == 0) {
                fifo.pop_back();
                model.pop_back();
            } else {
                fifo.pop_front();
                model.pop_front();
            }
            ASSERT_EQ(fifo.size(), model.size());
            ASSERT_EQ(fifo.empty(), model.empty());
            if (model.empty()) continue;
            ASSERT_EQ(*fifo.front(), model.front());
            ASSERT_EQ(*fifo.back(), model.back());
            const size_t at = prng.below(model.size());
            ASSERT_EQ(*fifo[at], model[at]);
        }
    }
}

}  // namespace
}  // namespace weir

#include "runtime/block_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "base/prng.h"

namespace weir::runtime {
namespace {

TEST(BlockPool, blocks_hold_what_was_asked_for_and_lie_apart) {
    Prng prng(1);
    struct Held {
        uint8_t* block;
        size_t size;
        uint8_t mark;
    };
    std::vector<Held> held;
    for (int step = 0; step < 2000; ++step) {
        if (held.size() < 20 && prng.chance(0.6)) {
            const size_t size =
                prng.between(block_pool::kBlockBytesMin, prng.chance(0.1) ? 9 << 20 : 300'000);
            const auto mark = static_cast<uint8_t>(prng.next());
            held.push_back({block_pool::allocate(size), size, mark});
            EXPECT_EQ(reinterpret_cast<uintptr_t>(held.back().block) % 4096, 0u);
            std::memset(held.back().block, mark, size);
        } else if (!held.empty()) {
            const Held gone = held[prng.below(held.size())];
            std::erase_if(held, [&](const Held& each) { return each.block == gone.block; });
            for (size_t at = 0; at < gone.size; at += 1000) ASSERT_EQ(gone.block[at], gone.mark);
            ASSERT_EQ(gone.block[gone.size - 1], gone.mark);
            block_pool::free(gone.block, gone.size);
        }
        ASSERT_LE(block_pool::idle_bytes(), block_pool::kIdleBytesMax);
    }
    for (const Held& each : held) block_pool::free(each.block, each.size);
}

TEST(BlockPool, a_freed_block_is_used_again) {
    uint8_t* block = block_pool::allocate(100'000);
    block_pool::free(block, 100'000);
    uint8_t* again = block_pool::allocate(120'000);
    EXPECT_EQ(again, block) << "of the same class";
    block_pool::free(again, 120'000);
}

TEST(BlockPool, blocks_that_come_and_go_are_kept_before_larger_ones_that_nobody_wants) {
    constexpr size_t kLarge = 1 << 20;
    constexpr size_t kSmall = 100'000;
    std::vector<uint8_t*> large;
    for (size_t bytes = 0; bytes <= block_pool::kIdleBytesMax; bytes += kLarge)
        large.push_back(block_pool::allocate(kLarge));
    uint8_t* small = block_pool::allocate(kSmall);
    for (uint8_t* block : large) block_pool::free(block, kLarge);
    block_pool::free(small, kSmall);
    EXPECT_EQ(block_pool::allocate(kSmall), small);
    block_pool::free(small, kSmall);
    EXPECT_LE(block_pool::idle_bytes(), block_pool::kIdleBytesMax);
}

TEST(BlockPool, a_block_that_another_thread_freed_is_used_again) {
    uint8_t* block = block_pool::allocate(64 << 10);
    std::thread([block] { block_pool::free(block, 64 << 10); }).join();
    uint8_t* again = block_pool::allocate(64 << 10);
    EXPECT_EQ(again, block);
    block_pool::free(again, 64 << 10);
}

// Each block belongs to one thread at a time: what it wrote is there when the one that frees it
// looks.
TEST(BlockPool, blocks_that_threads_hand_to_each_other_are_never_two_threads_own) {
    constexpr size_t kThreads = 4;
    constexpr size_t kSize = 64 << 10;
    std::array<size_t, kThreads> wrong{};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([t, &wrong] {
            for (int i = 0; i < 300; ++i) {
                uint8_t* block = block_pool::allocate(kSize);
                const auto mark =
                    static_cast<uint8_t>(1 + t + kThreads * (static_cast<size_t>(i) % 50));
                std::memset(block, mark, kSize);
                std::thread([block, mark, t, &wrong] {
                    for (size_t at = 0; at < kSize; at += 512) wrong[t] += block[at] != mark;
                    block_pool::free(block, kSize);
                }).join();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, (std::array<size_t, kThreads>{}));
    EXPECT_LE(block_pool::idle_bytes(), block_pool::kIdleBytesMax);
}

}  // namespace
}  // namespace weir::runtime

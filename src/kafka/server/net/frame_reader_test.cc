#include "kafka/server/net/frame_reader.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "base/units.h"
#include "kafka/server/test_node.h"
#include "runtime/copying.h"

namespace weir::kafka {
namespace {

using runtime::Task;

class FrameReaderTest : public testing::Test {
  public:
    FrameReaderTest() { limits.size_max = 100_MiB; }

    void feed(std::vector<uint8_t> bytes) { EXPECT_TRUE(loop.run(pipe->write(bytes, {}))); }
    void feed_size(int32_t size) {
        std::vector<uint8_t> prefix(4);
        store_be(prefix.data(), size);
        feed(prefix);
    }
    Result<runtime::SharedBytes> read() { return loop.run(reader.next(limits, {})); }
    // Begins to read, waits a while, and says how much memory is taken then.
    uint64_t memory_after_beginning() {
        uint64_t used = 0;
        loop.run(begin_and_measure(&used));
        return used;
    }
    Task<void> begin_and_measure(uint64_t* used) {
        runtime::Scope scope;
        scope.spawn(drop_frame(scope.stop_token()));
        (void)co_await runtime::sleep_for(1s);
        *used = memory.used();
        co_await scope.close();
    }
    Task<void> drop_frame(runtime::StopToken stop) { (void)co_await reader.next(limits, stop); }

    runtime::TestLoop loop;
    runtime::MemoryBudget memory{64_MiB};
    std::shared_ptr<MemoryPipe> pipe = std::make_shared<MemoryPipe>(256_MiB);
    MemoryStream stream{pipe, std::make_shared<MemoryPipe>(1)};
    FrameLimits limits;
    FrameReader reader{stream, memory};
};

std::vector<uint8_t> random_bytes(size_t size) {
    Prng prng(size);
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(prng.next());
    return bytes;
}

TEST_F(FrameReaderTest, frames_of_all_sizes_come_whole_and_give_their_memory_back) {
    for (const size_t size : {size_t{8}, kFrameChunk - 1, kFrameChunk, kFrameChunk + 1,
                              size_t{1_MiB}, size_t{20_MiB}}) {
        const auto bytes = random_bytes(size);
        feed_size(static_cast<int32_t>(size));
        feed(bytes);
        {
            const auto frame = read();
            ASSERT_TRUE(frame) << size;
            EXPECT_TRUE(std::ranges::equal(frame->bytes(), bytes)) << size;
            EXPECT_GE(memory.used(), size);
        }
        EXPECT_EQ(memory.used(), 0u);
    }
}

// Its buffer grows by eights; what came so far is copied each time.
TEST_F(FrameReaderTest, a_frame_of_megabytes_moves_to_its_larger_buffer_in_pieces) {
    const size_t before = 2_MiB * kFrameGrowth;
    const auto bytes = random_bytes(before + 1_MiB);
    feed_size(static_cast<int32_t>(bytes.size()));
    feed(bytes);
    const uint64_t steps = runtime::Shard::current().steps();
    const auto frame = read();
    ASSERT_TRUE(frame);
    EXPECT_TRUE(std::ranges::equal(frame->bytes(), bytes));
    EXPECT_GE(runtime::Shard::current().steps() - steps, before / runtime::kCopyPiece);
}

TEST_F(FrameReaderTest, frames_that_come_together_are_told_apart) {
    std::vector<std::vector<uint8_t>> frames;
    std::vector<uint8_t> all;
    for (size_t i = 0; i < 500; ++i) {
        frames.push_back(random_bytes(8 + i * 7 % 1500));
        uint8_t prefix[4];
        store_be(prefix, static_cast<int32_t>(frames.back().size()));
        all.insert(all.end(), prefix, prefix + 4);
        all.insert(all.end(), frames.back().begin(), frames.back().end());
    }
    feed(all);
    for (const auto& expected : frames) {
        const auto frame = read();
        ASSERT_TRUE(frame);
        ASSERT_TRUE(std::ranges::equal(frame->bytes(), expected));
    }
}

TEST_F(FrameReaderTest, frames_of_a_fast_client_share_pieces_and_memory_comes_back_with_the_last) {
    std::vector<std::vector<uint8_t>> frames;
    std::vector<uint8_t> all;
    Prng prng(7);
    for (size_t i = 0; i < 800; ++i) {
        // Small ones, some at the bound of what is sliced, and large ones between.
        const uint64_t kind = prng.below(20);
        const size_t size = kind == 0   ? kSliceMax - 6 + prng.below(12)
                            : kind == 1 ? 20'000 + prng.below(100'000)
                                        : 8 + prng.below(3'000);
        frames.push_back(random_bytes(size));
        uint8_t prefix[4];
        store_be(prefix, static_cast<int32_t>(size));
        all.insert(all.end(), prefix, prefix + 4);
        all.insert(all.end(), frames.back().begin(), frames.back().end());
    }
    feed(all);
    size_t in_shared_blocks = 0;
    {
        std::vector<runtime::SharedBytes> kept;
        for (size_t i = 0; i < frames.size(); ++i) {
            auto frame = read();
            ASSERT_TRUE(frame);
            if (frame->block_size() > frame->size() + 4) ++in_shared_blocks;
            kept.push_back(std::move(*frame));
            // Those before it are as they were: nothing is received into what was handed out.
            ASSERT_TRUE(std::ranges::equal(kept.back().bytes(), frames[i]));
        }
        for (size_t i = 0; i < frames.size(); ++i)
            ASSERT_TRUE(std::ranges::equal(kept[i].bytes(), frames[i])) << i;
    }
    EXPECT_GT(in_shared_blocks, 500u);
    EXPECT_EQ(memory.used(), 0u);
}

TEST_F(FrameReaderTest, without_memory_for_a_piece_a_frame_comes_alone) {
    auto others = memory.try_reserve(64_MiB - 2000);
    std::vector<uint8_t> all;
    for (int i = 0; i < 50; ++i) {
        uint8_t prefix[4];
        store_be(prefix, 1500);
        all.insert(all.end(), prefix, prefix + 4);
        const auto bytes = random_bytes(1500);
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    feed(all);
    for (int i = 0; i < 50; ++i) {
        const auto frame = read();
        ASSERT_TRUE(frame);
        EXPECT_TRUE(std::ranges::equal(frame->bytes(), random_bytes(1500)));
    }
}

TEST_F(FrameReaderTest, a_size_that_cannot_be_is_refused_before_anything_is_allocated) {
    for (const int32_t size : {-1, INT32_MIN, 0, 7, static_cast<int32_t>(100_MiB) + 1, INT32_MAX}) {
        feed_size(size);
        const auto frame = read();
        ASSERT_FALSE(frame) << size;
        EXPECT_EQ(frame.error().code, ErrorCode::kMalformed) << size;
        EXPECT_EQ(memory.used(), 0u);
    }
}

TEST_F(FrameReaderTest, a_frame_that_the_node_could_never_hold_is_refused) {
    feed_size(static_cast<int32_t>(65_MiB));
    EXPECT_EQ(read().error().code, ErrorCode::kResourceExhausted);
}

TEST_F(FrameReaderTest, the_largest_frame_comes_and_a_larger_one_is_refused_at_once) {
    // The buffer grows by eights: the last one is held beside the whole frame.
    size_t before = kFrameChunk;
    while (before * kFrameGrowth < memory.total()) before *= kFrameGrowth;
    const size_t largest = memory.total() - before;
    const auto bytes = random_bytes(largest);
    feed_size(static_cast<int32_t>(bytes.size()));
    feed(bytes);
    {
        const auto frame = read();
        ASSERT_TRUE(frame);
        EXPECT_TRUE(std::ranges::equal(frame->bytes(), bytes));
    }
    feed_size(static_cast<int32_t>(largest + 1));
    EXPECT_EQ(read().error().code, ErrorCode::kResourceExhausted);
    EXPECT_EQ(memory.used(), 0u);
}

TEST_F(FrameReaderTest, a_claim_takes_no_memory_that_bytes_did_not_fill) {
    feed_size(static_cast<int32_t>(30_MiB));
    EXPECT_LE(memory_after_beginning(), kFrameChunk);
    pipe = std::make_shared<MemoryPipe>(256_MiB);
    MemoryStream other(pipe, std::make_shared<MemoryPipe>(1));
    stream = std::move(other);
    feed_size(static_cast<int32_t>(30_MiB));
    feed(random_bytes(1_MiB));
    EXPECT_LE(memory_after_beginning(), kFrameGrowth * 1_MiB + 1_MiB);
}

TEST_F(FrameReaderTest, reading_waits_while_the_budget_is_used_up) {
    auto others = memory.try_reserve(64_MiB);
    feed_size(100);
    feed(random_bytes(100));
    std::optional<Result<runtime::SharedBytes>> frame;
    loop.run([](FrameReaderTest* self, std::optional<runtime::Reservation>* others,
                std::optional<Result<runtime::SharedBytes>>* frame) -> Task<void> {
        runtime::Scope scope;
        scope.spawn([](FrameReaderTest* self,
                       std::optional<Result<runtime::SharedBytes>>* frame) -> Task<void> {
            frame->emplace(co_await self->reader.next(self->limits, {}));
        }(self, frame));
        (void)co_await runtime::sleep_for(1s);
        EXPECT_FALSE(frame->has_value());
        others->reset();
        co_await scope.join();
    }(this, &others, &frame));
    ASSERT_TRUE(frame && frame->has_value());
    EXPECT_EQ((*frame)->size(), 100u);
}

TEST_F(FrameReaderTest, an_end_in_the_middle_of_a_piece_gives_memory_back) {
    std::vector<uint8_t> all;
    for (int i = 0; i < 3; ++i) {
        uint8_t prefix[4];
        store_be(prefix, 1500);
        all.insert(all.end(), prefix, prefix + 4);
        const auto bytes = random_bytes(i == 2 ? 700 : 1500);
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    feed(all);
    pipe->close();
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(read());
    EXPECT_EQ(read().error().code, ErrorCode::kEndOfStream);
    EXPECT_EQ(memory.used(), 0u);
}

TEST_F(FrameReaderTest, an_end_in_the_middle_is_an_end_and_gives_memory_back) {
    feed_size(100);
    feed(random_bytes(50));
    pipe->close();
    EXPECT_EQ(read().error().code, ErrorCode::kEndOfStream);
    EXPECT_EQ(memory.used(), 0u);
}

}  // namespace
}  // namespace weir::kafka

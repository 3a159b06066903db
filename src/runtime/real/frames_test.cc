#include "runtime/real/frames.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace weir::runtime {
namespace {

// A stack of words. A frame of it is two: the caller's frame, and the place that the call returns
// to.
struct Stack {
    alignas(16) std::array<uintptr_t, 16> words{};

    uintptr_t at(size_t word) const { return reinterpret_cast<uintptr_t>(words.data() + word); }
    std::vector<uintptr_t> follow(uintptr_t frame, size_t frames_max = 10) const {
        std::vector<uintptr_t> frames(frames_max);
        frames.resize(follow_frames(1000, frame, {at(0), at(words.size())}, frames));
        return frames;
    }
};

using Frames = std::vector<uintptr_t>;

TEST(Frames, are_followed_to_the_outmost) {
    Stack stack;
    stack.words[2] = stack.at(6);
    stack.words[3] = 2001;
    stack.words[6] = stack.at(14);
    stack.words[7] = 3001;
    stack.words[15] = 4001;
    EXPECT_EQ(stack.follow(stack.at(2)), (Frames{1000, 2000, 3000, 4000}));
    EXPECT_EQ(stack.follow(stack.at(2), 2), (Frames{1000, 2000}));
    EXPECT_EQ(stack.follow(stack.at(2), 0), Frames{});
}

TEST(Frames, end_where_the_chain_leaves_the_stack_or_does_not_go_up) {
    Stack stack;
    stack.words[2] = stack.at(2);
    stack.words[3] = 2001;
    EXPECT_EQ(stack.follow(stack.at(2)), (Frames{1000, 2000}));
    stack.words[2] = stack.at(0);
    EXPECT_EQ(stack.follow(stack.at(2)), (Frames{1000, 2000}));
    stack.words[2] = stack.at(16);
    EXPECT_EQ(stack.follow(stack.at(2)), (Frames{1000, 2000}));
}

// A library's function may count down to -8 in the register of the frame pointer. With the size of
// a frame added that is a small address, which a bound from above lets pass.
TEST(Frames, a_register_that_holds_no_frame_is_not_followed) {
    const Stack stack;
    for (const uintptr_t frame : {uintptr_t{0}, uintptr_t{8}, UINTPTR_MAX, UINTPTR_MAX - 7,
                                  UINTPTR_MAX - 15, stack.at(15), stack.at(16), stack.at(2) + 1}) {
        EXPECT_EQ(stack.follow(frame), Frames{1000}) << frame;
    }
    std::vector<uintptr_t> frames(4);
    EXPECT_EQ(follow_frames(1000, 0, {}, frames), 1);
}

}  // namespace
}  // namespace weir::runtime

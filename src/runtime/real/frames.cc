#include "runtime/real/frames.h"

namespace weir::runtime {

// The stack is read as it lies, red zones of a sanitizer included.
__attribute__((no_sanitize("address", "thread"))) size_t
follow_frames(uintptr_t pc, uintptr_t frame, StackBounds stack, std::span<uintptr_t> frames) {
    constexpr size_t kFrameSize =
        2 * sizeof(uintptr_t);  // the caller's frame, and where it goes on
    size_t count = 0;
    if (frames.empty()) return count;
    frames[count++] = pc;
    if (stack.high - stack.low < kFrameSize) return count;
    uintptr_t low = stack.low;
    // Subtracted from the bound, not added to the frame: that could be the last word there is.
    while (count < frames.size() && frame >= low && frame <= stack.high - kFrameSize &&
           frame % sizeof(uintptr_t) == 0) {
        const auto* words = reinterpret_cast<const uintptr_t*>(frame);
        if (words[1] == 0) break;
        frames[count++] = words[1] - 1;  // in the call, not behind it
        low = frame + 1;
        frame = words[0];
    }
    return count;
}

}  // namespace weir::runtime

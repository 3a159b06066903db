// Who called whom on a thread's stack, from its frame pointers. For a signal handler: no
// allocation, no lock, and whatever the registers hold, nothing outside the stack is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace weir::runtime {

struct StackBounds {
    uintptr_t low = 0;
    uintptr_t high = 0;  // the first byte that is not the stack's
};

// Fills `frames` with `pc` and then the places that called it, inmost first, as far as the chain
// that begins at `frame` stays in the stack and goes up. All of Weir is compiled with frame
// pointers; a library may keep anything in that register, and then the chain ends there.
size_t follow_frames(uintptr_t pc, uintptr_t frame, StackBounds stack, std::span<uintptr_t> frames);

}  // namespace weir::runtime

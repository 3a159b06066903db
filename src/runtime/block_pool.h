// BlockPool: memory for large buffers, straight from the kernel, by size classes. malloc keeps what
// was freed in heaps that never shrink once small blocks lie between large ones: a node that had
// its budget full of requests once took 45 % more than the budget (glibc 2.36, 900 KB requests from
// twenty producers). Here a block is a mapping of its own, a few freed ones wait to be used again,
// so that a steady stream costs no page faults, and the others go back to the kernel at once. One a
// process, any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weir::runtime::block_pool {

// Smaller blocks are malloc's.
inline constexpr size_t kBlockBytesMin = size_t{32} << 10;
// Of freed blocks that wait, in all.
inline constexpr size_t kIdleBytesMax = size_t{16} << 20;

// At least `size` bytes, aligned to a page. Out of memory terminates.
uint8_t* allocate(size_t size);
// With the size that was asked for.
void free(uint8_t* block, size_t size);

// Of freed blocks that wait now; for tests.
size_t idle_bytes();

}  // namespace weir::runtime::block_pool

// BlockPool: memory for large buffers, straight from the kernel, by size classes. malloc keeps
// freed memory in heaps that never shrink once small blocks lie between large ones: a node whose
// budget was full of requests once took 45 % more than the budget (glibc 2.36, 900 KB requests from
// twenty producers). Here each block is a mapping of its own. A few freed blocks are kept for
// reuse, so that a steady stream costs no page faults; the others return to the kernel at once. One
// pool per process, used by any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weir::runtime::block_pool {

// malloc serves smaller blocks.
inline constexpr size_t kBlockBytesMin = size_t{32} << 10;
// The freed blocks that are kept, in all.
inline constexpr size_t kIdleBytesMax = size_t{16} << 20;

// At least `size` bytes, aligned to a page. Out of memory terminates.
uint8_t* allocate(size_t size);
// `size` is the size that was asked for.
void free(uint8_t* block, size_t size);

// Bytes of freed blocks that are kept now; for tests.
size_t idle_bytes();

}  // namespace weir::runtime::block_pool

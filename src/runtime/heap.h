// The process's heap.
#pragma once

namespace weir::runtime {

// Returns freed memory that lies between used memory to the kernel; malloc alone keeps it for ever.
// Costs about a third of a millisecond per megabyte, and allocations of the process wait meanwhile:
// call it after a start, or when much was freed at once. Any thread.
void give_back_free_memory();

}  // namespace weir::runtime

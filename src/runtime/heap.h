// The process's heap.
#pragma once

namespace weir::runtime {

// What was freed and lies between what is in use goes back to the kernel; malloc by itself keeps it
// for ever. Costs about a third of a millisecond a megabyte, and allocations of the process wait
// for it: after a start, and when much was let go at once. Any thread.
void give_back_free_memory();

}  // namespace weir::runtime

#include "runtime/heap.h"

#include <malloc.h>

namespace weir::runtime {

void give_back_free_memory() { (void)malloc_trim(0); }

}  // namespace weir::runtime

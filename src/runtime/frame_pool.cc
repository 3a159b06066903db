// Coroutine frames by size class, a free list a thread: a frame is made and destroyed on the thread of its shard, so no lock.
// Sanitizer builds go to the allocator each time, so that a use after free is seen.
#include <cstdlib>
#include <new>

#include "runtime/task.h"

namespace weir::runtime::task_detail {
namespace {

[[maybe_unused]] constexpr size_t kClassBytes = 64;
constexpr size_t kClasses = 32;            // frames up to 2 KiB are pooled
[[maybe_unused]] constexpr size_t kFreeFramesMax = 256;     // of each class

struct FreeFrame {
    FreeFrame* next;
};

struct Pool {
    FreeFrame* free[kClasses + 1] = {};
    size_t count[kClasses + 1] = {};
    ~Pool() {
        for (FreeFrame* frame : free) {
            while (frame != nullptr) std::free(std::exchange(frame, frame->next));
        }
    }
};
thread_local Pool pool;

[[maybe_unused]] size_t size_class(size_t size) { return (size + kClassBytes - 1) / kClassBytes; }

}  // namespace

void* allocate_frame(size_t size) {
#if !defined(WEIR_ASAN) && !defined(WEIR_TSAN)
    const size_t cls = size_class(size);
    if (cls <= kClasses) {
        if (FreeFrame* frame = pool.free[cls]) {
            pool.free[cls] = frame->next;
            --pool.count[cls];
            return frame;
        }
        size = cls * kClassBytes;
    }
#endif
    void* frame = std::malloc(size);
    if (frame == nullptr) std::abort();
    return frame;
}

void free_frame(void* frame, [[maybe_unused]] size_t size) noexcept {
#if !defined(WEIR_ASAN) && !defined(WEIR_TSAN)
    const size_t cls = size_class(size);
    if (cls <= kClasses && pool.count[cls] < kFreeFramesMax) {
        auto* entry = static_cast<FreeFrame*>(frame);
        entry->next = pool.free[cls];
        pool.free[cls] = entry;
        ++pool.count[cls];
        return;
    }
#endif
    std::free(frame);
}

}  // namespace weir::runtime::task_detail

#include "runtime/block_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>

#include "base/check.h"
#include "base/units.h"

namespace weir::runtime::block_pool {
namespace {

constexpr size_t kPage = 4096;
// Powers of two from kBlockBytesMin on; what is larger than the last is mapped and unmapped each
// time.
constexpr size_t kClasses = 8;

size_t class_of(size_t size) {
    return static_cast<size_t>(std::bit_width((size - 1) / kBlockBytesMin));
}
size_t class_bytes(size_t size_class) { return kBlockBytesMin << size_class; }

struct FreeBlock {
    FreeBlock* next;
};

struct Pool {
    std::mutex mutex;
    std::array<FreeBlock*, kClasses> free{};
    std::array<size_t, kClasses> idle{};  // bytes of each class
    size_t idle_bytes = 0;

    uint8_t* take(size_t size_class);
    void put(size_t size_class, uint8_t* block);
};

Pool& pool() {
    static Pool instance;
    return instance;
}

uint8_t* Pool::take(size_t size_class) {
    FreeBlock* block = free[size_class];
    if (block == nullptr) return nullptr;
    free[size_class] = block->next;
    idle[size_class] -= class_bytes(size_class);
    idle_bytes -= class_bytes(size_class);
    return reinterpret_cast<uint8_t*>(block);
}

void Pool::put(size_t size_class, uint8_t* block) {
    auto* freed = reinterpret_cast<FreeBlock*>(block);
    freed->next = free[size_class];
    free[size_class] = freed;
    idle[size_class] += class_bytes(size_class);
    idle_bytes += class_bytes(size_class);
}

uint8_t* map(size_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    return static_cast<uint8_t*>(memory);
}

void unmap(uint8_t* block, size_t size) { CHECK(munmap(block, size) == 0); }

}  // namespace

uint8_t* allocate(size_t size) {
    CHECK(size >= kBlockBytesMin);
    const size_t size_class = class_of(size);
    if (size_class >= kClasses) return map(round_up(size, kPage));
    Pool& shared = pool();
    {
        const std::lock_guard lock(shared.mutex);
        if (uint8_t* block = shared.take(size_class)) return block;
    }
    return map(class_bytes(size_class));
}

void free(uint8_t* block, size_t size) {
    const size_t size_class = class_of(size);
    if (size_class >= kClasses) return unmap(block, round_up(size, kPage));
    Pool& shared = pool();
    size_t unmap_bytes = class_bytes(size_class);
    {
        const std::lock_guard lock(shared.mutex);
        if (shared.idle_bytes + class_bytes(size_class) <= kIdleBytesMax) {
            shared.put(size_class, block);
            return;
        }
        // The class with the most gives way, so that blocks of a size that nobody wants any more
        // do not keep out those that come and go.
        const auto most =
            static_cast<size_t>(std::ranges::max_element(shared.idle) - shared.idle.begin());
        if (most != size_class && class_bytes(most) >= class_bytes(size_class)) {
            uint8_t* other = shared.take(most);
            shared.put(size_class, block);
            block = other;
            unmap_bytes = class_bytes(most);
        }
    }
    unmap(block, unmap_bytes);
}

size_t idle_bytes() {
    const std::lock_guard lock(pool().mutex);
    return pool().idle_bytes;
}

}  // namespace weir::runtime::block_pool

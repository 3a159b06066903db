#include "runtime/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/units.h"
#include "runtime/block_pool.h"

namespace weir::runtime {
namespace buffer_detail {
namespace {

// AddressSanitizer sees a use after free only of malloc's memory.
#ifdef WEIR_ASAN
bool is_pooled(size_t) { return false; }
#else
bool is_pooled(size_t capacity) { return capacity >= block_pool::kBlockBytesMin; }
#endif

}  // namespace

Block* Block::allocate(size_t capacity, size_t alignment, Reservation reservation) {
    // Large or strictly aligned data gets its own allocation, so that the header costs no page.
    const size_t header = round_up(sizeof(Block), 64);
    const bool pooled = is_pooled(capacity);
    const bool apart = alignment > 64 || pooled;
    CHECK(alignment <= 4096);
    void* memory = std::malloc(apart ? header : header + capacity);
    if (memory == nullptr) std::abort();
    auto* block = new (memory) Block;
    block->capacity = capacity;
    block->charged = MemoryBudget::detach(std::move(reservation), &block->budget);
    if (pooled) {
        block->data = block_pool::allocate(capacity);
    } else if (apart) {
        block->data = static_cast<uint8_t*>(
            std::aligned_alloc(alignment, round_up(capacity == 0 ? 1 : capacity, alignment)));
        if (block->data == nullptr) std::abort();
    } else {
        block->data = static_cast<uint8_t*>(memory) + header;
    }
    return block;
}

void Block::drop() {
    if (references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    discharge(UINT64_MAX);
    const auto* after_header = reinterpret_cast<uint8_t*>(this) + round_up(sizeof(Block), 64);
    if (is_pooled(capacity)) {
        block_pool::free(data, capacity);
    } else if (data != after_header) {
        std::free(data);
    }
    this->~Block();
    std::free(this);
}

void Block::discharge(uint64_t bytes) {
    uint64_t charge = charged.load(std::memory_order_relaxed);
    uint64_t part = 0;
    do {
        part = std::min(bytes, charge);
        if (part == 0) return;
    } while (!charged.compare_exchange_weak(charge, charge - part, std::memory_order_relaxed));
    budget->give_back(part);
}

}  // namespace buffer_detail

SharedBytes SharedBytes::copy_of(Bytes bytes) {
    IoBuffer buffer = IoBuffer::allocate(bytes.size(), {}, 16);
    if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
    buffer.set_size(bytes.size());
    return std::move(buffer).share();
}

IoBuffer IoBuffer::allocate(size_t capacity, Reservation reservation, size_t alignment) {
    IoBuffer buffer;
    buffer.block_ = buffer_detail::Block::allocate(capacity, alignment, std::move(reservation));
    return buffer;
}

}  // namespace weir::runtime

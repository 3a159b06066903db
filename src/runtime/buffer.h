// Memory for I/O and for bytes that travel between shards.
//   IoBuffer     move-only, aligned for O_DIRECT, writable; becomes SharedBytes when it is full.
//   SharedBytes  immutable bytes with an atomic reference count, since shards pass them on; a slice
//                keeps the whole block alive.
// Both may carry a Reservation of a memory budget. It is returned when the last reference goes, or
// earlier by a holder that counts the bytes in its own share from then on (discharge()).
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/bytes.h"
#include "runtime/memory.h"

namespace weir::runtime {

namespace buffer_detail {

struct Block {
    std::atomic<uint32_t> references{1};
    size_t capacity = 0;
    // What is left of the block's reservation, and whose it is.
    MemoryBudget* budget = nullptr;
    std::atomic<uint64_t> charged{0};
    // The bytes follow at the next multiple of the alignment.
    uint8_t* data = nullptr;

    static Block* allocate(size_t capacity, size_t alignment, Reservation reservation);
    void add() { references.fetch_add(1, std::memory_order_relaxed); }
    void drop();
    void discharge(uint64_t bytes);
};

}  // namespace buffer_detail

class SharedBytes {
  public:
    SharedBytes() = default;
    SharedBytes(const SharedBytes& other) : block_(other.block_), bytes_(other.bytes_) {
        if (block_ != nullptr) block_->add();
    }
    SharedBytes(SharedBytes&& other) noexcept
        : block_(std::exchange(other.block_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}
    SharedBytes& operator=(SharedBytes other) noexcept {
        std::swap(block_, other.block_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~SharedBytes() {
        if (block_ != nullptr) block_->drop();
    }

    static SharedBytes copy_of(Bytes bytes);

    Bytes bytes() const { return bytes_; }
    const uint8_t* data() const { return bytes_.data(); }
    size_t size() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }
    SharedBytes slice(size_t from, size_t size) const {
        SharedBytes part(*this);
        part.bytes_ = bytes_.subspan(from, size);
        return part;
    }
    // `part` lies within bytes().
    SharedBytes slice(Bytes part) const {
        return slice(static_cast<size_t>(part.data() - data()), part.size());
    }
    // The memory of the whole block behind this slice.
    size_t block_size() const { return block_ == nullptr ? 0 : block_->capacity; }
    // Returns the part of the block's charge that covers this slice: its holder counts these bytes
    // in another share from now on, for as long as it holds them. At most once for the same bytes.
    // Any shard.
    void discharge() const {
        if (block_ != nullptr) block_->discharge(bytes_.size());
    }
    // What the block is charged for now.
    uint64_t charged() const {
        return block_ == nullptr ? 0 : block_->charged.load(std::memory_order_relaxed);
    }
    // Writable access for a holder that knows that it is the only one (a received frame whose base
    // offsets are patched before it is shared).
    uint8_t* mutable_data_unshared() {
        CHECK(block_ != nullptr && block_->references.load(std::memory_order_relaxed) == 1);
        return const_cast<uint8_t*>(bytes_.data());
    }

  private:
    friend class IoBuffer;
    SharedBytes(buffer_detail::Block* block, Bytes bytes) : block_(block), bytes_(bytes) {}
    buffer_detail::Block* block_ = nullptr;
    Bytes bytes_;
};

class IoBuffer {
  public:
    IoBuffer() = default;
    IoBuffer(IoBuffer&& other) noexcept
        : block_(std::exchange(other.block_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    IoBuffer& operator=(IoBuffer&& other) noexcept {
        std::swap(block_, other.block_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~IoBuffer() {
        if (block_ != nullptr) block_->drop();
    }

    // `capacity` bytes, not cleared. Aligned to kDirectAlign unless told otherwise.
    static IoBuffer allocate(size_t capacity, Reservation reservation = {},
                             size_t alignment = 4096);

    uint8_t* data() { return block_ == nullptr ? nullptr : block_->data; }
    const uint8_t* data() const { return block_ == nullptr ? nullptr : block_->data; }
    size_t capacity() const { return block_ == nullptr ? 0 : block_->capacity; }
    size_t size() const { return size_; }  // how much of it is filled; set by who fills it
    void set_size(size_t size) {
        CHECK(size <= capacity());
        size_ = size;
    }
    MutableBytes all() { return {data(), capacity()}; }
    Bytes filled() const { return {data(), size_}; }

    // The filled part, from now on immutable.
    SharedBytes share() && {
        buffer_detail::Block* block = std::exchange(block_, nullptr);
        return block == nullptr ? SharedBytes()
                                : SharedBytes(block, Bytes(block->data, std::exchange(size_, 0)));
    }

  private:
    buffer_detail::Block* block_ = nullptr;
    size_t size_ = 0;
};

}  // namespace weir::runtime

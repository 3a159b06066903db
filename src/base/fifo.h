// A queue that costs four words while it is empty and one allocation while it is not: for what
// every partition has one of, and few use at a time. Elements lie in a row, so that they can be
// walked and taken from both ends.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"

namespace weir {

template <class T>
class Fifo {
  public:
    bool empty() const { return first_ == items_.size(); }
    size_t size() const { return items_.size() - first_; }
    T& front() {
        CHECK(!empty());
        return items_[first_];
    }
    const T& front() const {
        CHECK(!empty());
        return items_[first_];
    }
    T& back() {
        CHECK(!empty());
        return items_.back();
    }
    const T& operator[](size_t i) const {
        CHECK(i < size());
        return items_[first_ + i];
    }
    void push_back(T item) { items_.push_back(std::move(item)); }
    void pop_front() {
        CHECK(!empty());
        ++first_;
        // Moved down when half is free, so that each element moves once at the most.
        if (first_ == items_.size()) {
            clear();
        } else if (first_ >= kKept && first_ * 2 >= items_.size()) {
            items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(first_));
            first_ = 0;
        }
    }
    void pop_back() {
        CHECK(!empty());
        items_.pop_back();
        if (empty()) clear();
    }
    // What a burst needed is given back; a little stays for the next.
    void clear() {
        first_ = 0;
        if (items_.capacity() > kKept)
            std::vector<T>().swap(items_);
        else
            items_.clear();
    }

  private:
    static constexpr size_t kKept = 16;
    std::vector<T> items_;
    size_t first_ = 0;
};

}  // namespace weir

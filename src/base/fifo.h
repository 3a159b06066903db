// A queue that costs four words while it is empty and one allocation while it is not. It suits what
// every partition has one of and few use at a time. Elements lie in a row, so they can be walked,
// and removed at both ends.
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
        // When half is free, the elements move down; so each moves at most once.
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
    // Releases what a burst needed; a little stays for the next one.
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

// A doubly linked list whose links live in the elements: no allocation, and an element leaves its
// list when it is destroyed. Used by one shard only.
#pragma once

#include "base/check.h"

namespace weir {

class ListHook {
  public:
    ListHook() = default;
    ListHook(const ListHook&) = delete;
    ListHook& operator=(const ListHook&) = delete;
    ~ListHook() { unlink(); }

    bool linked() const { return next_ != nullptr; }
    void unlink() {
        if (next_ == nullptr) return;
        prev_->next_ = next_;
        next_->prev_ = prev_;
        prev_ = next_ = nullptr;
    }

  private:
    template <class T>
    friend class IntrusiveList;
    ListHook* prev_ = nullptr;
    ListHook* next_ = nullptr;
};

// T derives from ListHook.
template <class T>
class IntrusiveList {
  public:
    IntrusiveList() { head_.prev_ = head_.next_ = &head_; }
    ~IntrusiveList() {
        while (!empty()) head_.next_->unlink();
        head_.prev_ = head_.next_ = nullptr;
    }
    IntrusiveList(const IntrusiveList&) = delete;
    IntrusiveList& operator=(const IntrusiveList&) = delete;

    bool empty() const { return head_.next_ == &head_; }
    T& front() {
        CHECK(!empty());
        return static_cast<T&>(*head_.next_);
    }
    void push_back(T& element) { insert_before(head_, element); }
    void push_front(T& element) { insert_before(*head_.next_, element); }
    T& pop_front() {
        T& element = front();
        element.unlink();
        return element;
    }
    // Calls f(T&) for each; f may unlink the element that it is given, and no other.
    template <class F>
    void for_each(F f) {
        for (ListHook* at = head_.next_; at != &head_;) {
            ListHook* next = at->next_;
            f(static_cast<T&>(*at));
            at = next;
        }
    }

    // Returns the first element, from the front, for which is_wanted(const T&) holds; nullptr if
    // there is none. It looks no further than that element.
    template <class F>
    T* find_if(F is_wanted) {
        for (ListHook* at = head_.next_; at != &head_; at = at->next_) {
            if (is_wanted(static_cast<T&>(*at))) return static_cast<T*>(at);
        }
        return nullptr;
    }
    // Inserts the element behind the last one that belongs before it, looked for from the back: in
    // a sorted list that grows at its end this is one look.
    template <class F>
    void insert_sorted(T& element, F belongs_before) {
        ListHook* behind = head_.prev_;
        while (behind != &head_ && !belongs_before(static_cast<T&>(*behind), element))
            behind = behind->prev_;
        insert_before(*behind->next_, element);
    }

  private:
    void insert_before(ListHook& position, ListHook& element) {
        CHECK(!element.linked());
        element.prev_ = position.prev_;
        element.next_ = &position;
        position.prev_->next_ = &element;
        position.prev_ = &element;
    }

    ListHook head_;
};

}  // namespace weir

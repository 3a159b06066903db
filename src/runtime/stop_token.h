// Cancellation within one shard. A StopSource outlives its tokens and callbacks (whoever stops also waits for what it stopped).
#pragma once

#include "base/intrusive_list.h"

namespace weir::runtime {

class StopSource;

// Runs `call` when stop is requested, on the requester's stack; it wakes or cancels something, and never runs user code.
class StopCallback : public ListHook {
  public:
    using Call = void (*)(StopCallback&);
    explicit StopCallback(Call call) : call_(call) {}

  private:
    friend class StopSource;
    Call call_;
};

class StopToken {
  public:
    StopToken() = default;  // never stops
    explicit StopToken(StopSource* source) : source_(source) {}
    bool stop_requested() const;
    // Links the callback; if stop was requested already, the caller must have asked stop_requested() before.
    void subscribe(StopCallback& callback) const;

  private:
    StopSource* source_ = nullptr;
};

class StopSource {
  public:
    StopToken token() { return StopToken(this); }
    bool stop_requested() const { return stopped_; }
    void request_stop() {
        if (stopped_) return;
        stopped_ = true;
        while (!callbacks_.empty()) {
            StopCallback& callback = callbacks_.pop_front();
            callback.call_(callback);
        }
    }

  private:
    friend class StopToken;
    IntrusiveList<StopCallback> callbacks_;
    bool stopped_ = false;
};

inline bool StopToken::stop_requested() const { return source_ != nullptr && source_->stop_requested(); }
inline void StopToken::subscribe(StopCallback& callback) const {
    if (source_ != nullptr) source_->callbacks_.push_back(callback);
}

}  // namespace weir::runtime

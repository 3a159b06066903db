// A Shard is one pinned thread's world: its driver, run queue, timers, message rings to the node's
// other shards, randomness and log. Everything above runtime/ reaches time, randomness, I/O and
// other cores through the shard that it runs on.
//
// The owner of the loop (runtime/real's thread, or the simulator's world) calls turn() again and
// again; nothing else resumes coroutines.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/prng.h"
#include "base/time.h"
#include "runtime/driver.h"
#include "runtime/message_ring.h"
#include "runtime/scheduler.h"
#include "runtime/timer.h"

namespace weir::runtime {

class Shard;
class Scope;

// The shards of one node, fixed at its start.
struct ShardGroup {
    std::vector<Shard*> shards;
    uint32_t count() const { return static_cast<uint32_t>(shards.size()); }
};

class Shard {
  public:
    struct Options {
        ShardId id = 0;
        Driver* driver = nullptr;  // outlives the shard
        ShardGroup* group =
            nullptr;  // outlives the shard; must hold all shards of the node before the first turn
        Logger log;
        uint64_t seed = 0;  // of prng()
    };

    explicit Shard(Options options);
    ~Shard();
    Shard(const Shard&) = delete;
    Shard& operator=(const Shard&) = delete;

    // The shard whose turn it is on this thread. CHECKs that there is one.
    static Shard& current();
    // Set by the owner of the loop around turn(), and by the simulator around kill; nullptr when
    // none.
    static void set_current(Shard* shard);
    // Whether there is a current shard and it is dying: then its coroutines are being destroyed, in
    // any order, and what one of them holds of another may be gone.
    static bool current_is_dying();

    ShardId id() const { return id_; }
    uint32_t count() const { return group_.count(); }
    ShardGroup& group() { return group_; }
    Driver& driver() { return driver_; }
    const Logger& log() const { return log_; }
    Prng& prng() { return prng_; }

    // The time at the start of this turn or later; refreshed often enough that it lags by less than
    // a millisecond.
    Instant now() const { return driver_.now(); }
    WallTime wall_now() const { return driver_.wall_now(); }

    // now(), less the time in which this shard did not run although it was due: the process was
    // stopped, the machine stood still, a step took long. Never goes back. Use it to measure the
    // silence of others: a shard that did not run did not listen, and finds what came meanwhile in
    // its sockets. Do not use it for leases, which others measure by their own clocks.
    Instant awake_now();
    // When awake_now() reaches `awake` if the shard keeps running: what to arm a timer for. never()
    // stays never().
    Instant when_awake(Instant awake) const {
        return awake == Instant::never() ? awake : awake + asleep_;
    }
    // The time that awake_now() leaves out.
    Duration asleep() const { return asleep_; }
    uint64_t sleeps() const { return sleeps_; }

    TimerQueue& timers() { return timers_; }

    // Puts a waiter on the run queue under its class.
    void make_runnable(Waiter& waiter) { scheduler_.push(waiter); }
    Scheduler& scheduler() { return scheduler_; }

    // The class that the running coroutine works in; what it waits for, it resumes in.
    WorkClass work_class() const { return work_class_; }
    void set_work_class(WorkClass work_class) { work_class_ = work_class; }

    // True when the running coroutine has used up its slice and should co_await yield().
    bool need_preempt() const;

    // Called by drivers: op.result is set.
    void complete(Op& op);

    // Sends a message to another shard of the node. Messages between two shards arrive in order.
    // Never blocks: what does not fit the ring waits here, and is bounded by the number of
    // coroutines that wait for answers.
    void send(ShardId to, Message& message);

    // Makes the rings from each shard of the node. Once, by the loop's owner, when the group is
    // complete and before any turn.
    void open_rings(uint32_t shard_count);

    // Runs what is runnable for at most about a slice: messages, due timers, coroutines. Returns
    // true if there is more to do at once.
    bool turn();
    // When the next timer is due; the loop may park until then when turn() gave false.
    Instant next_deadline() const { return timers_.next(); }
    // Before parking: says that senders must ring the doorbell from now on, and returns false if a
    // message came in meanwhile.
    bool prepare_to_park();
    void unpark() { parked_.store(false, std::memory_order_relaxed); }
    bool parked() const { return parked_.load(std::memory_order_relaxed); }

    // Coroutines resumed so far, and whether one runs now: the watchdog of the stall detector reads
    // both from its own thread.
    uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }
    bool in_step() const { return in_step_.load(std::memory_order_relaxed); }

    // Owns coroutines that run here for other shards (on(), see remote.h). Closed when the node
    // stops.
    Scope& remote_scope() { return *remote_scope_; }

    // The simulator destroys what runs here for other shards before it destroys what waits for it
    // there.
    void drop_remote_scope();

    // True while the simulator destroys this node's coroutines: destructors then do not insist on
    // an orderly end.
    bool dying() const { return dying_; }
    void set_dying() { dying_ = true; }

  private:
    bool receive();
    void flush_overflow();
    void wake(ShardId to);
    void observe(Instant now);

    ShardId id_;
    Driver& driver_;
    ShardGroup& group_;
    Logger log_;
    Prng prng_;
    Scheduler scheduler_;
    TimerQueue timers_;
    WorkClass work_class_ = WorkClass::kNetwork;
    Instant slice_end_;
    mutable uint32_t preempt_asks_ = 0;
    mutable bool preempt_ = false;
    Instant observed_ =
        Instant::never();  // the clock when this shard last looked at it; never: no turn yet
    Instant due_ = Instant::never();  // when it was to run again at the latest
    Duration asleep_{0};
    uint64_t sleeps_ = 0;

    std::vector<std::unique_ptr<MessageRing>> inbox_;  // from shard i
    std::vector<IntrusiveList<Message>> overflow_;     // to shard i
    bool overflowing_ = false;
    std::atomic<bool> parked_{false};
    std::atomic<uint64_t> steps_{0};
    std::atomic<bool> in_step_{false};
    bool dying_ = false;
    std::unique_ptr<Scope> remote_scope_;
};

}  // namespace weir::runtime

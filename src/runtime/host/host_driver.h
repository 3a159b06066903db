// HostDriver: what the two drivers of a real kernel share. It checks operations, sends blocking
// ones to the helper thread, orders those for the device, and delivers completions to the shard in
// one place: deliver(), from poll(). The derived driver starts the other operations and calls
// finish() once for each that it started, at any time.
//
// Made, used and destroyed on its shard's thread; it finds the shard by Shard::current().
#pragma once

#include <memory>
#include <vector>

#include "base/log.h"
#include "runtime/driver.h"
#include "runtime/host/blocking_ops.h"
#include "runtime/host/blocking_pool.h"
#include "runtime/host/clock.h"
#include "runtime/host/device_queue.h"
#include "runtime/host/doorbells.h"

namespace weir::runtime {

struct HostOptions {
    ShardId shard = 0;
    const HostClock* clock = nullptr;      // outlives the driver
    const Doorbells* doorbells = nullptr;  // outlives the driver
    Logger log;
};

class HostDriver : public Driver {
  public:
    ~HostDriver() override;

    Instant now() const final { return clock_.now(); }
    WallTime wall_now() const final { return HostClock::wall_now(); }
    void submit(Op& op) final;
    void cancel(Op& op) final;
    void abandon(Op& op) final;
    void ring_doorbell(ShardId to) override { doorbells_.ring(to); }
    void fill_entropy(MutableBytes bytes) final;
    void release_socket(Fd fd) override;
    void adopt_socket(Fd fd) override;

  protected:
    // `socket_flags` for every socket made here: SOCK_NONBLOCK or 0.
    HostDriver(const HostOptions& options, int socket_flags);

    // --- the derived driver's part
    // Starts kRead, kWrite, kFdatasync (aligned, ordered), kAccept, kRecv, kSend, one connect(2) of
    // a kConnect (to current_address(), on plan_of(op).fd), and those of kOpen, kClose (of files),
    // kFallocate, kRename, kUnlink, kMakeDir, kRemoveDir that use_helper() does not claim.
    virtual void start(Op& op) = 0;
    // Asks a started socket operation to end.
    virtual void cancel_started(Op& op) = 0;
    // Whether the operation goes to the helper thread.
    virtual bool use_helper(const Op& op) const = 0;
    // The descriptor is about to be closed: nothing uses it any more.
    virtual void forget(Fd) {}
    // The socket moves to another shard, open: as forget(), and no event of it may reach this
    // driver any more.
    virtual void let_go(Fd fd) { forget(fd); }

    // --- for the derived driver
    // The operation's result is known. Delivered at the next deliver().
    void finish(Op& op, int result);
    // As finish(), for kRead, kWrite and kFdatasync that went through start().
    void finish_device(Op& op, int result);
    // Instead of finish_device(): the helper performs the operation.
    void device_to_helper(Op& op);
    uint32_t device_in_flight() const { return device_.in_flight(); }
    // Starts what waited for the device. After a batch of finish_device().
    void start_waiting();
    // As finish(), for one connect(2): tries the next address if there is one.
    void finish_connect(Op& op, int result);
    // Delivers the finished operations in order. From poll() alone.
    void deliver();
    bool has_finished() const { return !finished_.empty(); }
    // The doorbell rang: collects the helper's results.
    void finish_helper_work();

    enum class FdKind : uint8_t { kNone, kDirect, kDirectEmulated, kBuffered, kSocket };
    FdKind kind_of(Fd fd) const;
    void note_opened(int fd, FdKind kind);

    static ConnectPlan& plan_of(const Op& op) { return *static_cast<ConnectPlan*>(op.driver_data); }
    static const SocketAddress& current_address(const Op& op) {
        return plan_of(op).addresses[plan_of(op).next];
    }
    const Logger& log() const { return log_; }
    int socket_flags() const { return socket_flags_; }
    ShardId shard_id() const { return shard_id_; }
    int doorbell_fd() const { return doorbells_.fd(shard_id_); }
    // Says once that the disk has no O_DIRECT.
    void warn_no_direct(const char* path);

  private:
    void start_data(Op& op);
    void start_connect(Op& op);
    void connect_next(Op& op);
    void end_connect(Op& op, int result);
    void to_helper(Op& op);
    void helper_done(const BlockingPool::Done& done);

    const ShardId shard_id_;
    const HostClock& clock_;
    const Doorbells& doorbells_;
    const Logger log_;
    const int socket_flags_;
    BlockingPool pool_;
    DeviceQueue device_;
    std::vector<FdKind> fds_;    // by descriptor: those that this shard opened
    std::vector<Op*> finished_;  // bounded by the operations in flight
    std::vector<Op*> delivering_;
    std::vector<BlockingPool::Done> helped_;
    size_t in_flight_ = 0;
    bool warned_no_direct_ = false;
};

}  // namespace weir::runtime

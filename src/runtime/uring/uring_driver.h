// UringDriver: one io_uring a shard (Linux 6.1 or newer). One io_uring_enter an iteration of the
// loop submits everything that the turn asked for and, when there is nothing to run, waits in the
// kernel for the first completion, the doorbell or the next timer.
//
// The ring is SINGLE_ISSUER | DEFER_TASKRUN: made and used on the shard's thread alone, and
// completions appear only when that thread enters with GETEVENTS. TASKRUN_FLAG tells when an enter
// is due, so that a poll with nothing to do costs no system call.
#pragma once

#include <liburing.h>

#include <deque>
#include <memory>
#include <vector>

#include "base/result.h"
#include "runtime/host/host_driver.h"

namespace weir::runtime {

class UringDriver final : public HostDriver {
  public:
    // kUnavailable, with the likely cause, where the kernel or the container's profile refuses it.
    static Result<std::unique_ptr<UringDriver>> create(const HostOptions& options);
    ~UringDriver() override;

    std::string_view name() const override { return "uring"; }
    void poll(Instant park_until) override;

  private:
    static constexpr unsigned kSubmissions = 512;
    static constexpr unsigned kCompletions = 4096;

    explicit UringDriver(const HostOptions& options);
    Result<void> set_up();

    void start(Op& op) override;
    void cancel_started(Op& op) override;
    bool use_helper(const Op& op) const override;

    io_uring_sqe* get_sqe();
    void drain_backlog();
    void prepare(io_uring_sqe* sqe, Op& op);
    void prepare_send(io_uring_sqe* sqe, const Op& op);
    void arm_doorbell();
    void submit_now();
    void enter(Instant park_until);
    void check_entered(int result) const;
    void reap();
    void completed(uint64_t user_data, int result);
    void opened(Op& op, int result);
    void doorbell_rang(int result);

    io_uring ring_ = {};
    bool ring_made_ = false;
    std::vector<msghdr> headers_;  // by submission slot: the kernel has taken what it needs when
                                   // the submission is consumed
    std::deque<Op*>
        backlog_;  // found the submission queue full; bounded by the operations in flight
    std::deque<Op*> cancels_;  // the same, for cancellations
    uint64_t doorbell_count_ = 0;
    bool doorbell_armed_ = false;
    bool leaving_ = false;
};

}  // namespace weir::runtime

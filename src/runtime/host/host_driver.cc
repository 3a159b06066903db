#include "runtime/host/host_driver.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/shard.h"

namespace weir::runtime {
namespace {

bool is_aligned(const Op& op) {
    const auto address = reinterpret_cast<uintptr_t>(op.data);
    return (address | op.offset | op.size) % kDirectAlign == 0;
}

}  // namespace

HostDriver::HostDriver(const HostOptions& options, int socket_flags)
    : shard_id_(options.shard),
      clock_(*options.clock),
      doorbells_(*options.doorbells),
      log_(options.log),
      socket_flags_(socket_flags),
      pool_(socket_flags, [this] { doorbells_.ring(shard_id_); }) {}

HostDriver::~HostDriver() { CHECK(in_flight_ == 0); }

void HostDriver::abandon(Op&) {
    // The kernel may still write into the operation's memory: only the simulator destroys
    // coroutines that wait.
    CHECK(false);
}

void HostDriver::fill_entropy(MutableBytes bytes) {
    while (!bytes.empty()) {
        const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
        if (got < 0) {
            CHECK(errno == EINTR);
            continue;
        }
        bytes = bytes.subspan(static_cast<size_t>(got));
    }
}

void HostDriver::submit(Op& op) {
    ++in_flight_;
    op.driver_data = nullptr;
    op.driver_state = 0;
    switch (op.kind) {
        case OpKind::kRead:
        case OpKind::kWrite:
        case OpKind::kFdatasync:
            return start_data(op);
        case OpKind::kConnect:
            return start_connect(op);
        case OpKind::kShutdown:
            return finish(op, ::shutdown(op.fd.v, SHUT_RDWR) == 0 ? 0 : -errno);
        case OpKind::kListen: {
            const auto address = parse_numeric_address(op.path);
            if (!address) return to_helper(op);
            const int fd = make_listener(*address, static_cast<int>(op.size), socket_flags_);
            if (fd >= 0) *op.text_out = local_address(fd);
            return finish(op, fd);
        }
        case OpKind::kAccept:
        case OpKind::kRecv:
        case OpKind::kSend:
            return start(op);
        case OpKind::kClose: {
            const FdKind kind = kind_of(op.fd);
            CHECK(kind != FdKind::kNone);
            fds_[static_cast<size_t>(op.fd.v)] = FdKind::kNone;
            forget(op.fd);
            // A file's last close may free its extents; a socket's never blocks.
            if (kind == FdKind::kSocket) return finish(op, ::close(op.fd.v) == 0 ? 0 : -errno);
            break;
        }
        default:
            break;
    }
    return use_helper(op) ? to_helper(op) : start(op);
}

void HostDriver::start_data(Op& op) {
    const FdKind kind = kind_of(op.fd);
    if (kind == FdKind::kNone || kind == FdKind::kSocket) return finish(op, -EBADF);
    // The kernel itself lets some misaligned accesses pass, through the page cache.
    if (kind != FdKind::kBuffered && op.kind != OpKind::kFdatasync && !is_aligned(op))
        return finish(op, -EINVAL);
    if (use_helper(op)) return to_helper(op);
    if (device_.enter(op)) start(op);
}

void HostDriver::cancel(Op& op) {
    CHECK(op.in_flight);
    switch (op.kind) {
        case OpKind::kRead:
        case OpKind::kWrite:
        case OpKind::kFdatasync:
            // What the device has can't be taken back.
            if (device_.remove(op)) finish(op, -ECANCELED);
            return;
        case OpKind::kConnect:
            if (op.driver_data == nullptr) return;  // finished already
            plan_of(op).cancelled = true;
            if (plan_of(op).fd >= 0) cancel_started(op);
            return;
        case OpKind::kAccept:
        case OpKind::kRecv:
        case OpKind::kSend:
            return cancel_started(op);
        default:
            return;  // short, and done soon
    }
}

void HostDriver::finish(Op& op, int result) {
    op.result = result;
    finished_.push_back(&op);
    if (result >= 0) {
        switch (op.kind) {
            case OpKind::kAccept:
                *op.text_out = peer_address(result);
                [[fallthrough]];
            case OpKind::kListen:
            case OpKind::kConnect:
                note_opened(result, FdKind::kSocket);
                break;
            default:
                break;
        }
    }
}

void HostDriver::finish_device(Op& op, int result) {
    device_.leave(op);
    finish(op, result);
}

void HostDriver::device_to_helper(Op& op) {
    device_.leave(op);
    to_helper(op);
}

void HostDriver::start_waiting() {
    while (Op* op = device_.next()) start(*op);
}

void HostDriver::deliver() {
    if (finished_.empty()) return;
    Shard& shard = Shard::current();
    delivering_.swap(finished_);
    for (Op* op : delivering_) {
        --in_flight_;
        shard.complete(*op);
    }
    delivering_.clear();
}

void HostDriver::to_helper(Op& op) { pool_.submit(op); }

void HostDriver::finish_helper_work() {
    helped_.clear();
    pool_.take_done(&helped_);
    for (const BlockingPool::Done& done : helped_) helper_done(done);
}

void HostDriver::helper_done(const BlockingPool::Done& done) {
    Op& op = *done.op;
    if (op.kind == OpKind::kConnect) {
        if (done.result < 0) return end_connect(op, done.result);
        return connect_next(op);
    }
    if (op.kind == OpKind::kOpen && done.result >= 0) {
        const bool asked = (op.flags & kOpenBuffered) != 0;
        if (done.opened_buffered && !asked) warn_no_direct(op.path);
        note_opened(done.result, asked                  ? FdKind::kBuffered
                                 : done.opened_buffered ? FdKind::kDirectEmulated
                                                        : FdKind::kDirect);
    }
    finish(op, done.result);
}

void HostDriver::start_connect(Op& op) {
    // The plan lives from here to end_connect().
    auto plan = std::make_unique<ConnectPlan>();
    const auto address = parse_numeric_address(op.path);
    if (address) plan->addresses.push_back(*address);
    op.driver_data = plan.release();
    return address ? connect_next(op) : to_helper(op);
}

void HostDriver::connect_next(Op& op) {
    ConnectPlan& plan = plan_of(op);
    if (plan.cancelled) return end_connect(op, -ECANCELED);
    if (plan.next == plan.addresses.size()) return end_connect(op, plan.last_error);
    const int fd = make_stream_socket(current_address(op).family(), socket_flags_);
    if (fd < 0) {
        // No IPv6 here, say.
        plan.last_error = fd;
        ++plan.next;
        return connect_next(op);
    }
    plan.fd = fd;
    start(op);
}

void HostDriver::finish_connect(Op& op, int result) {
    ConnectPlan& plan = plan_of(op);
    if (result >= 0) return end_connect(op, std::exchange(plan.fd, -1));
    forget(Fd{plan.fd});
    ::close(std::exchange(plan.fd, -1));
    plan.last_error = result;
    ++plan.next;
    connect_next(op);
}

void HostDriver::end_connect(Op& op, int result) {
    const std::unique_ptr<ConnectPlan> plan(&plan_of(op));
    CHECK(plan->fd < 0);
    op.driver_data = nullptr;
    finish(op, result);
}

HostDriver::FdKind HostDriver::kind_of(Fd fd) const {
    const auto index = static_cast<size_t>(fd.v);
    return fd.valid() && index < fds_.size() ? fds_[index] : FdKind::kNone;
}

void HostDriver::release_socket(Fd fd) {
    CHECK(kind_of(fd) == FdKind::kSocket);
    fds_[static_cast<size_t>(fd.v)] = FdKind::kNone;
    let_go(fd);
}

void HostDriver::adopt_socket(Fd fd) { note_opened(fd.v, FdKind::kSocket); }

void HostDriver::note_opened(int fd, FdKind kind) {
    const auto index = static_cast<size_t>(fd);
    if (fds_.size() <= index) fds_.resize(index + 1, FdKind::kNone);
    fds_[index] = kind;
}

void HostDriver::warn_no_direct(const char* path) {
    if (std::exchange(warned_no_direct_, true)) return;
    log_.warn("runtime", "the file system has no O_DIRECT: going through the page cache", "path={}",
              path);
}

}  // namespace weir::runtime

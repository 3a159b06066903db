#include "runtime/uring/uring_driver.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace weir::runtime {
namespace {

// Records are nobody else's to read.
constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

// Workers of the kernel that serve what can't be done without blocking (a flush, a growing file, an
// open): bounded, since each takes a processor from the shards.
constexpr unsigned kWorkersBounded = 16;
constexpr unsigned kWorkersUnbounded = 8;

// A length in a submission has 32 bits.
constexpr uint64_t kReceiveMax = 1 << 30;

// Tokens in user_data beside the addresses of operations.
constexpr uint64_t kDoorbellToken = 1;
constexpr uint64_t kIgnoredToken = 2;

constexpr int kNeededOpcodes[] = {
    IORING_OP_READ,    IORING_OP_WRITE,  IORING_OP_FSYNC,        IORING_OP_FALLOCATE,
    IORING_OP_OPENAT,  IORING_OP_CLOSE,  IORING_OP_RENAMEAT,     IORING_OP_UNLINKAT,
    IORING_OP_MKDIRAT, IORING_OP_ACCEPT, IORING_OP_CONNECT,      IORING_OP_RECV,
    IORING_OP_SENDMSG, IORING_OP_SEND,   IORING_OP_ASYNC_CANCEL,
};

// Where a kOpen is: opening with O_DIRECT, opening without it, or extending what it opened.
enum OpenStage : uint64_t {
    kOpening = 0,
    kOpeningBuffered = 1,
    kExtending = 2,
    kExtendingBuffered = 3
};
// The descriptor of a kOpen that is being extended lies above the stage.
constexpr int kFdShift = 8;

std::string_view cause_of(int error) {
    switch (error) {
        case ENOSYS:
            return "the kernel has no io_uring, or a sandbox hides it";
        case EPERM:
        case EACCES:
            return "refused by kernel.io_uring_disabled or by the container's seccomp profile "
                   "(Docker's default refuses it)";
        case EINVAL:
            return "the kernel is older than 6.1";
        case ENOMEM:
            return "not enough memory, or the limit of locked memory (ulimit -l) is too small";
        case EMFILE:
        case ENFILE:
            return "too many open files (ulimit -n)";
        default:
            return "unexpected";
    }
}

std::unexpected<Error> refuse(std::string_view what, int error) {
    Error result = Error::from_errno(error, what);
    result.code = ErrorCode::kUnavailable;
    return fail(std::move(result).with(
        fmt::format("io_uring is not available, likely cause: {}", cause_of(error))));
}

void set_fsync(io_uring_sqe* sqe, int fd) { io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC); }

}  // namespace

Result<std::unique_ptr<UringDriver>> UringDriver::create(const HostOptions& options) {
    std::unique_ptr<UringDriver> driver(new UringDriver(options));
    if (Result<void> made = driver->set_up(); !made) return fail(std::move(made).error());
    return driver;
}

UringDriver::UringDriver(const HostOptions& options) : HostDriver(options, 0) {}

Result<void> UringDriver::set_up() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = kCompletions;
    if (const int error = io_uring_queue_init_params(kSubmissions, &ring_, &params); error != 0) {
        return refuse("io_uring_setup", -error);
    }
    ring_made_ = true;
    constexpr unsigned kNeededFeatures = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
                                         IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL;
    if ((params.features & kNeededFeatures) != kNeededFeatures) return refuse("features", EINVAL);

    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    if (probe == nullptr) return refuse("probe", EINVAL);
    const bool complete = std::ranges::all_of(
        kNeededOpcodes, [&](int opcode) { return io_uring_opcode_supported(probe, opcode); });
    io_uring_free_probe(probe);
    if (!complete) return refuse("operations", EINVAL);

    // Saves a look-up of the ring's descriptor an enter; works without.
    (void)io_uring_register_ring_fd(&ring_);
    unsigned workers[2] = {kWorkersBounded, kWorkersUnbounded};
    (void)io_uring_register_iowq_max_workers(&ring_, workers);
    headers_.resize(ring_.sq.ring_entries);
    return {};
}

UringDriver::~UringDriver() {
    if (!ring_made_) return;
    // The kernel may write the doorbell's count into this object until the read ended.
    leaving_ = true;
    if (doorbell_armed_) {
        io_uring_sqe* sqe = get_sqe();
        while (sqe == nullptr) {
            submit_now();
            reap();
            sqe = get_sqe();
        }
        io_uring_prep_cancel64(sqe, kDoorbellToken, 0);
        sqe->user_data = kIgnoredToken;
        while (doorbell_armed_) {
            check_entered(io_uring_submit_and_wait(&ring_, 1));
            reap();
        }
    }
    io_uring_queue_exit(&ring_);
}

bool UringDriver::use_helper(const Op& op) const {
    switch (op.kind) {
        case OpKind::kTruncate:
        case OpKind::kSyncDir:
        case OpKind::kStat:
        case OpKind::kListDir:
        case OpKind::kLock:
        case OpKind::kDiskUsage:
            return true;
        default:
            return false;
    }
}

io_uring_sqe* UringDriver::get_sqe() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe != nullptr) return sqe;
    submit_now();
    return io_uring_get_sqe(&ring_);
}

void UringDriver::start(Op& op) {
    // In order behind those that wait for room: sends of one socket, say.
    io_uring_sqe* sqe = backlog_.empty() ? get_sqe() : nullptr;
    if (sqe == nullptr) {
        backlog_.push_back(&op);
        return;
    }
    prepare(sqe, op);
}

void UringDriver::drain_backlog() {
    while (!backlog_.empty()) {
        io_uring_sqe* sqe = get_sqe();
        if (sqe == nullptr) return;
        Op& op = *backlog_.front();
        backlog_.pop_front();
        prepare(sqe, op);
    }
    while (!cancels_.empty()) {
        io_uring_sqe* sqe = get_sqe();
        if (sqe == nullptr) return;
        io_uring_prep_cancel(sqe, cancels_.front(), 0);
        sqe->user_data = kIgnoredToken;
        cancels_.pop_front();
    }
}

void UringDriver::prepare(io_uring_sqe* sqe, Op& op) {
    const int fd = op.fd.v;
    switch (op.kind) {
        case OpKind::kRead:
            io_uring_prep_read(sqe, fd, op.data, DeviceQueue::transfer_size(op), op.offset);
            break;
        case OpKind::kWrite:
            io_uring_prep_write(sqe, fd, op.data, DeviceQueue::transfer_size(op), op.offset);
            break;
        case OpKind::kFdatasync:
            set_fsync(sqe, fd);
            break;
        case OpKind::kFallocate:
            io_uring_prep_fallocate(sqe, fd, 0, static_cast<off_t>(op.offset),
                                    static_cast<off_t>(op.size));
            break;
        case OpKind::kOpen: {
            const auto stage = static_cast<OpenStage>(op.driver_state & ((1 << kFdShift) - 1));
            if (stage == kExtending || stage == kExtendingBuffered) {
                io_uring_prep_fallocate(sqe, static_cast<int>(op.driver_state >> kFdShift), 0, 0,
                                        static_cast<off_t>(op.size));
                break;
            }
            int flags = open_flags(op.flags);
            // The first attempt may have created the file, so exclusive creation must not be asked
            // for twice.
            if (stage == kOpeningBuffered) flags &= ~(O_DIRECT | O_EXCL);
            io_uring_prep_openat(sqe, AT_FDCWD, op.path, flags, kFileMode);
            break;
        }
        case OpKind::kClose:
            io_uring_prep_close(sqe, fd);
            break;
        case OpKind::kRename:
            io_uring_prep_renameat(sqe, AT_FDCWD, op.path, AT_FDCWD, op.path2, 0);
            break;
        case OpKind::kUnlink:
            io_uring_prep_unlinkat(sqe, AT_FDCWD, op.path, 0);
            break;
        case OpKind::kRemoveDir:
            io_uring_prep_unlinkat(sqe, AT_FDCWD, op.path, AT_REMOVEDIR);
            break;
        case OpKind::kMakeDir:
            io_uring_prep_mkdirat(sqe, AT_FDCWD, op.path, kDirectoryMode);
            break;
        case OpKind::kAccept:
            io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
            break;
        case OpKind::kConnect:
            io_uring_prep_connect(sqe, plan_of(op).fd, current_address(op).get(),
                                  current_address(op).size);
            break;
        case OpKind::kRecv:
            io_uring_prep_recv(sqe, fd, op.data, std::min(op.size, kReceiveMax), 0);
            break;
        case OpKind::kSend:
            prepare_send(sqe, op);
            break;
        default:
            CHECK(false);
    }
    io_uring_sqe_set_data(sqe, &op);
}

void UringDriver::prepare_send(io_uring_sqe* sqe, const Op& op) {
    if (op.iov_count == 1) {
        io_uring_prep_send(sqe, op.fd.v, op.iov->iov_base, op.iov->iov_len, MSG_NOSIGNAL);
        return;
    }
    const auto slot = static_cast<size_t>(sqe - ring_.sq.sqes);
    msghdr& header = headers_[slot];
    header = {};
    header.msg_iov = const_cast<iovec*>(op.iov);
    header.msg_iovlen = op.iov_count;
    io_uring_prep_sendmsg(sqe, op.fd.v, &header, MSG_NOSIGNAL);
}

void UringDriver::cancel_started(Op& op) {
    if (const auto at = std::ranges::find(backlog_, &op); at != backlog_.end()) {
        backlog_.erase(at);
        completed(reinterpret_cast<uint64_t>(&op), -ECANCELED);
        return;
    }
    io_uring_sqe* sqe = cancels_.empty() ? get_sqe() : nullptr;
    if (sqe == nullptr) {
        cancels_.push_back(&op);
        return;
    }
    // Finds nothing if the operation is done. It can't find a later one at the same address: that
    // one is submitted after it.
    io_uring_prep_cancel(sqe, &op, 0);
    sqe->user_data = kIgnoredToken;
}

void UringDriver::arm_doorbell() {
    if (doorbell_armed_ || leaving_) return;
    io_uring_sqe* sqe = get_sqe();
    if (sqe == nullptr) return;
    io_uring_prep_read(sqe, doorbell_fd(), &doorbell_count_, sizeof doorbell_count_, 0);
    sqe->user_data = kDoorbellToken;
    doorbell_armed_ = true;
}

void UringDriver::doorbell_rang(int result) {
    doorbell_armed_ = false;
    if (result == -ECANCELED && leaving_) return;
    CHECK(result == sizeof doorbell_count_ || result == -EINTR || result == -EAGAIN);
    finish_helper_work();
}

void UringDriver::check_entered(int result) const {
    switch (-result) {
        // A signal, a timeout, a completion queue that wants to be reaped first, or a moment
        // without memory: what was not submitted stays in the queue for the next enter.
        case EINTR:
        case ETIME:
        case EBUSY:
        case EAGAIN:
            return;
        default:
            CHECK(result >= 0);
    }
}

void UringDriver::submit_now() { check_entered(io_uring_submit(&ring_)); }

void UringDriver::poll(Instant park_until) {
    drain_backlog();
    arm_doorbell();
    enter(park_until);
    reap();
    start_waiting();
    deliver();
}

void UringDriver::enter(Instant park_until) {
    const bool park = !has_finished() && backlog_.empty() && doorbell_armed_;
    const Duration left = park ? park_until - now() : Duration(0);
    if (left <= Duration(0)) {
        const unsigned flags = IO_URING_READ_ONCE(*ring_.sq.kflags);
        if (io_uring_sq_ready(&ring_) == 0 &&
            (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0)
            return;
        check_entered(io_uring_submit_and_get_events(&ring_));
        return;
    }
    __kernel_timespec timeout{.tv_sec = left / 1s, .tv_nsec = (left % 1s).count()};
    io_uring_cqe* first = nullptr;
    check_entered(io_uring_submit_and_wait_timeout(
        &ring_, &first, 1, park_until == Instant::never() ? nullptr : &timeout, nullptr));
}

void UringDriver::reap() {
    struct Completion {
        uint64_t user_data;
        int result;
    };
    constexpr size_t kBatch = 64;
    Completion batch[kBatch];
    while (true) {
        size_t count = 0;
        unsigned head = 0;
        io_uring_cqe* cqe = nullptr;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            batch[count++] = {cqe->user_data, cqe->res};
            if (count == kBatch) break;
        }
        if (count == 0) return;
        // Handed back before the handlers run: they may submit.
        io_uring_cq_advance(&ring_, static_cast<unsigned>(count));
        for (size_t i = 0; i < count; ++i) completed(batch[i].user_data, batch[i].result);
    }
}

void UringDriver::completed(uint64_t user_data, int result) {
    if (user_data == kIgnoredToken) return;
    if (user_data == kDoorbellToken) return doorbell_rang(result);
    Op& op = *reinterpret_cast<Op*>(user_data);
    if (!cancels_.empty()) std::erase(cancels_, &op);
    switch (op.kind) {
        case OpKind::kOpen:
            return opened(op, result);
        case OpKind::kConnect:
            return finish_connect(op, result);
        case OpKind::kRead:
        case OpKind::kWrite:
        case OpKind::kFdatasync:
            return finish_device(op, result);
        case OpKind::kFallocate:
            return finish(
                op, result == -EOPNOTSUPP ? extend_sparsely(op.fd.v, op.offset + op.size) : result);
        default:
            return finish(op, result);
    }
}

void UringDriver::opened(Op& op, int result) {
    const auto stage = static_cast<OpenStage>(op.driver_state & ((1 << kFdShift) - 1));
    int fd = result;
    if (stage == kExtending || stage == kExtendingBuffered) {
        fd = static_cast<int>(op.driver_state >> kFdShift);
        if (result == -EOPNOTSUPP) result = extend_sparsely(fd, op.size);
        if (result < 0) {
            ::close(fd);
            return finish(op, result);
        }
    } else if (stage == kOpening && may_lack_direct(op.flags, result)) {
        op.driver_state = kOpeningBuffered;
        return start(op);
    } else if (result < 0) {
        return finish(op, result);
    } else if (op.size > 0) {
        op.driver_state = (static_cast<uint64_t>(fd) << kFdShift) |
                          (stage == kOpening ? kExtending : kExtendingBuffered);
        return start(op);
    }
    const bool emulated = stage == kOpeningBuffered || stage == kExtendingBuffered;
    if (emulated) warn_no_direct(op.path);
    note_opened(fd, (op.flags & kOpenBuffered) != 0 ? FdKind::kBuffered
                    : emulated                      ? FdKind::kDirectEmulated
                                                    : FdKind::kDirect);
    finish(op, fd);
}

}  // namespace weir::runtime

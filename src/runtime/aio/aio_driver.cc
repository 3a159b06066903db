#include "runtime/aio/aio_driver.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace weir::runtime {
namespace {

constexpr uint64_t kDoorbellToken = UINT64_MAX;
constexpr uint64_t kCompletionsToken = UINT64_MAX - 1;
constexpr uint64_t kReceiveMax = 1 << 30;
constexpr unsigned kContextEventsMin = 16;

int io_setup(unsigned events, aio_context_t* context) {
    return syscall(SYS_io_setup, events, context) == 0 ? 0 : -errno;
}
void io_destroy(aio_context_t context) { syscall(SYS_io_destroy, context); }
int io_submit(aio_context_t context, long count, iocb** blocks) {
    const long result = syscall(SYS_io_submit, context, count, blocks);
    return result < 0 ? -errno : static_cast<int>(result);
}
int io_getevents(aio_context_t context, long min, long max, io_event* events) {
    timespec zero{};
    const long result = syscall(SYS_io_getevents, context, min, max, events, &zero);
    return result < 0 ? -errno : static_cast<int>(result);
}

// The head of the completion ring that the kernel maps at the context's address (fs/aio.c, struct
// aio_ring).
struct CompletionRing {
    uint32_t id;
    uint32_t count;
    uint32_t head;
    uint32_t tail;
    uint32_t magic;
};
constexpr uint32_t kRingMagic = 0xa10a10a1;

Op& op_of(uint64_t data) { return *reinterpret_cast<Op*>(data); }

}  // namespace

Result<std::unique_ptr<AioDriver>> AioDriver::create(const HostOptions& options) {
    std::unique_ptr<AioDriver> driver(new AioDriver(options));
    if (Result<void> made = driver->set_up(); !made) return fail(std::move(made).error());
    return driver;
}

AioDriver::AioDriver(const HostOptions& options)
    : HostDriver(options, SOCK_NONBLOCK), events_(kEventsMax) {}

Result<void> AioDriver::set_up() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) return fail(Error::from_errno(errno, "epoll_create1"));
    completions_ = eventfd(0, EFD_CLOEXEC);
    if (completions_ < 0) return fail(Error::from_errno(errno, "eventfd"));
    // Edge-triggered eventfds need no read: each write is an edge.
    for (const auto& [fd, token] :
         {std::pair(doorbell_fd(), kDoorbellToken), std::pair(completions_, kCompletionsToken)}) {
        epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = token}};
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0)
            return fail(Error::from_errno(errno, "epoll_ctl"));
    }
    set_up_native();
    return {};
}

void AioDriver::set_up_native() {
    // fs.aio-max-nr bounds the events of all processes together: take fewer where little is left.
    int result = 0;
    for (unsigned events = DeviceQueue::kDepth; events >= kContextEventsMin; events /= 2) {
        result = io_setup(events, &context_);
        if (result != -EAGAIN) break;
    }
    native_ = result == 0;
    if (!native_) {
        log().warn("runtime", "no native AIO: files are served by one thread a shard",
                   "because=\"{}\"",
                   Error::from_errno(-result, "io_setup, limited by fs.aio-max-nr").message);
    }
}

AioDriver::~AioDriver() {
    if (native_) io_destroy(context_);
    if (completions_ >= 0) ::close(completions_);
    if (epoll_ >= 0) ::close(epoll_);
}

bool AioDriver::use_helper(const Op& op) const {
    switch (op.kind) {
        case OpKind::kAccept:
        case OpKind::kConnect:
        case OpKind::kRecv:
        case OpKind::kSend:
            return false;
        case OpKind::kFdatasync:
            return !native_ || !native_sync_;
        case OpKind::kRead:
        case OpKind::kWrite:
            return !native_ || kind_of(op.fd) != FdKind::kDirect;  // else io_submit would block
        default:
            return true;
    }
}

void AioDriver::start(Op& op) {
    switch (op.kind) {
        case OpKind::kRead:
        case OpKind::kWrite:
        case OpKind::kFdatasync:
            return queue_file_op(op);
        case OpKind::kConnect:
            return begin_connect(op);
        default:
            return start_socket(op, op.fd.v);
    }
}

// --- sockets

AioDriver::Socket& AioDriver::socket_of(int fd) {
    const auto index = static_cast<size_t>(fd);
    if (sockets_.size() <= index) sockets_.resize(index + 1);
    return sockets_[index];
}

int AioDriver::watch(int fd, Socket& socket) {
    if (socket.watched) return 0;
    // An edge that came before is reported when the socket is added.
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                      .data = {.u64 = static_cast<uint64_t>(fd)}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return -errno;
    socket.watched = true;
    return 0;
}

void AioDriver::forget(Fd fd) {
    const auto index = static_cast<size_t>(fd.v);
    if (sockets_.size() <= index) return;
    CHECK(sockets_[index].receiver == nullptr);
    CHECK(sockets_[index].sender == nullptr);
    sockets_[index] = Socket{};
}

void AioDriver::let_go(Fd fd) {
    const auto index = static_cast<size_t>(fd.v);
    if (index < sockets_.size() && sockets_[index].watched) {
        CHECK(epoll_ctl(epoll_, EPOLL_CTL_DEL, fd.v, nullptr) == 0);
    }
    forget(fd);
}

void AioDriver::start_socket(Op& op, int fd) {
    if (kind_of(op.fd) != FdKind::kSocket) return finish(op, -EBADF);
    Socket& socket = socket_of(fd);
    const bool sends = op.kind == OpKind::kSend;
    Op*& waiting = sends ? socket.sender : socket.receiver;
    CHECK(waiting == nullptr);
    switch (op.kind) {
        case OpKind::kRecv:
            if (socket.readable && try_receive(op, socket)) return;
            break;
        case OpKind::kAccept:
            if (socket.readable && try_accept(op)) return;
            break;
        case OpKind::kSend:
            if (try_send(op)) return;
            break;
        default:
            CHECK(false);
    }
    if (const int result = watch(fd, socket); result < 0) return finish(op, result);
    if (!sends) socket.readable = false;
    waiting = &op;
}

bool AioDriver::try_receive(Op& op, Socket& socket) {
    const ssize_t got = ::recv(op.fd.v, op.data, std::min(op.size, kReceiveMax), MSG_DONTWAIT);
    if (got < 0) {
        if (errno == EAGAIN) return false;
        finish(op, -errno);
        return true;
    }
    // Less than asked for: the socket is empty, and what comes next is a new edge, unless the
    // peer's end was reported already.
    if (got > 0 && static_cast<uint64_t>(got) < op.size && socket.watched && !socket.ended)
        socket.readable = false;
    finish(op, static_cast<int>(got));
    return true;
}

bool AioDriver::try_accept(Op& op) {
    const int fd = accept4(op.fd.v, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && errno == EAGAIN) return false;
    finish(op, fd < 0 ? -errno : fd);
    return true;
}

bool AioDriver::try_send(Op& op) {
    msghdr header{};
    header.msg_iov = const_cast<iovec*>(op.iov);
    header.msg_iovlen = op.iov_count;
    const ssize_t sent = ::sendmsg(op.fd.v, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) return false;
    finish(op, sent < 0 ? -errno : static_cast<int>(sent));
    return true;
}

void AioDriver::begin_connect(Op& op) {
    const int fd = plan_of(op).fd;
    const SocketAddress& address = current_address(op);
    if (::connect(fd, address.get(), address.size) == 0) return finish_connect(op, 0);
    // Interrupted, it goes on by itself, like one in progress.
    if (errno != EINPROGRESS && errno != EINTR) return finish_connect(op, -errno);
    Socket& socket = socket_of(fd);
    if (const int result = watch(fd, socket); result < 0) return finish_connect(op, result);
    socket.sender = &op;
}

void AioDriver::socket_event(int fd, uint32_t events) {
    Socket& socket = socket_of(fd);
    constexpr uint32_t kEnd = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    if ((events & kEnd) != 0) socket.ended = true;
    if ((events & (EPOLLIN | kEnd)) != 0) {
        socket.readable = true;
        if (Op* op = socket.receiver) {
            socket.receiver = nullptr;
            const bool finished =
                op->kind == OpKind::kAccept ? try_accept(*op) : try_receive(*op, socket);
            if (!finished) {
                socket.readable = false;
                socket.receiver = op;
            }
        }
    }
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) == 0 || socket.sender == nullptr) return;
    Op& op = *std::exchange(socket.sender, nullptr);
    if (op.kind == OpKind::kConnect) {
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
        return finish_connect(op, -error);
    }
    if (!try_send(op)) socket.sender = &op;
}

void AioDriver::cancel_started(Op& op) {
    const int fd = op.kind == OpKind::kConnect ? plan_of(op).fd : op.fd.v;
    Socket& socket = socket_of(fd);
    if (socket.receiver == &op) {
        socket.receiver = nullptr;
        finish(op, -ECANCELED);
    } else if (socket.sender == &op) {
        socket.sender = nullptr;
        if (op.kind == OpKind::kConnect) return finish_connect(op, -ECANCELED);
        finish(op, -ECANCELED);
    }
    // Else it is finished, and its result is on its way.
}

// --- files

void AioDriver::queue_file_op(Op& op) {
    iocb block{};
    block.aio_data = reinterpret_cast<uint64_t>(&op);
    block.aio_fildes = static_cast<uint32_t>(op.fd.v);
    block.aio_flags = IOCB_FLAG_RESFD;
    block.aio_resfd = static_cast<uint32_t>(completions_);
    if (op.kind == OpKind::kFdatasync) {
        block.aio_lio_opcode = IOCB_CMD_FDSYNC;
    } else {
        block.aio_lio_opcode = op.kind == OpKind::kRead ? IOCB_CMD_PREAD : IOCB_CMD_PWRITE;
        block.aio_buf = reinterpret_cast<uint64_t>(op.data);
        block.aio_nbytes = DeviceQueue::transfer_size(op);
        block.aio_offset = static_cast<int64_t>(op.offset);
    }
    queued_.push_back(block);
}

void AioDriver::submit_files() {
    size_t done = 0;
    while (done < queued_.size()) {
        pointers_.clear();
        for (size_t i = done; i < queued_.size(); ++i) pointers_.push_back(&queued_[i]);
        const int result =
            io_submit(context_, static_cast<long>(pointers_.size()), pointers_.data());
        if (result > 0) {
            done += static_cast<size_t>(result);
            continue;
        }
        if (result == -EAGAIN || result == 0) break;  // the context is full: after some completions
        if (result == -EINTR) continue;
        // The first one is at fault.
        Op& op = op_of(queued_[done].aio_data);
        ++done;
        if (op.kind == OpKind::kFdatasync && (result == -EINVAL || result == -EOPNOTSUPP)) {
            native_sync_ = false;  // before Linux 4.18
            device_to_helper(op);
        } else {
            finish_device(op, result);
        }
    }
    queued_.erase(queued_.begin(), queued_.begin() + static_cast<ptrdiff_t>(done));
}

bool AioDriver::files_completed() const {
    const auto* ring = reinterpret_cast<const CompletionRing*>(context_);
    if (ring->magic != kRingMagic) return true;  // not mapped as expected: ask the kernel
    return __atomic_load_n(&ring->head, __ATOMIC_RELAXED) !=
           __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
}

void AioDriver::reap_files() {
    if (!native_ || device_in_flight() == 0) return;
    io_event events[DeviceQueue::kDepth];
    while (files_completed()) {
        const int count = io_getevents(context_, 0, std::size(events), events);
        if (count == -EINTR) continue;
        CHECK(count >= 0);
        for (int i = 0; i < count; ++i)
            finish_device(op_of(events[i].data), static_cast<int>(events[i].res));
        if (count == 0) return;
    }
}

// --- the loop

int AioDriver::wait(Duration timeout) {
    if (precise_wait_) {
        const timespec ts{.tv_sec = timeout / 1s, .tv_nsec = (timeout % 1s).count()};
        const bool for_ever = timeout == Duration::max();
        const long result = syscall(SYS_epoll_pwait2, epoll_, events_.data(), kEventsMax,
                                    for_ever ? nullptr : &ts, nullptr, 0);
        if (result >= 0) return static_cast<int>(result);
        if (errno == EINTR) return 0;
        // Before Linux 5.11, or hidden by a sandbox.
        CHECK(errno == ENOSYS || errno == EPERM);
        precise_wait_ = false;
    }
    constexpr Duration kLongest = 1h;
    const int ms = timeout > kLongest
                       ? (timeout == Duration::max() ? -1 : static_cast<int>(kLongest / 1ms))
                       : static_cast<int>((timeout + 1ms - 1ns) / 1ms);
    const int result = epoll_wait(epoll_, events_.data(), kEventsMax, ms);
    CHECK(result >= 0 || errno == EINTR);
    return std::max(result, 0);
}

void AioDriver::poll(Instant park_until) {
    if (!queued_.empty()) submit_files();
    reap_files();
    Duration timeout{0};
    if (!has_finished() && park_until == Instant::never()) timeout = Duration::max();
    if (!has_finished() && park_until != Instant::never())
        timeout = std::max(Duration(0), park_until - now());
    const int count = wait(timeout);
    bool rang = false;
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events_[static_cast<size_t>(i)];
        if (event.data.u64 == kDoorbellToken) {
            rang = true;
        } else if (event.data.u64 != kCompletionsToken) {
            socket_event(static_cast<int>(event.data.u64), event.events);
        }
    }
    if (rang) finish_helper_work();
    if (timeout > Duration(0)) reap_files();
    start_waiting();
    deliver();
}

}  // namespace weir::runtime

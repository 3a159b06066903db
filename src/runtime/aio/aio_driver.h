// AioDriver: epoll for sockets and Linux native AIO for files, for kernels and container profiles
// that refuse io_uring.
//
// Sockets are non-blocking: an operation is tried at once, and waits for an edge of its socket when
// it would block. Reads, writes and flushes of O_DIRECT files go to the kernel in one io_submit an
// iteration of the loop; all other file operations go to the helper thread, since they may block.
// One epoll wait is where the shard parks: the doorbell and the completions of native AIO are
// eventfds in it.
#pragma once

#include <linux/aio_abi.h>
#include <sys/epoll.h>

#include <memory>
#include <vector>

#include "base/result.h"
#include "runtime/host/host_driver.h"

namespace weir::runtime {

class AioDriver final : public HostDriver {
  public:
    static Result<std::unique_ptr<AioDriver>> create(const HostOptions& options);
    ~AioDriver() override;

    std::string_view name() const override { return "aio"; }
    void poll(Instant park_until) override;

  private:
    static constexpr int kEventsMax = 256;

    struct Socket {
        Op* receiver = nullptr;  // kRecv or kAccept that waits for the socket
        Op* sender = nullptr;    // kSend or kConnect that waits
        bool watched = false;    // in the epoll set
        bool readable = true;    // as far as is known: false only while an edge is sure to come
        bool ended = false;      // the peer's end was seen: no edge will come any more
    };

    explicit AioDriver(const HostOptions& options);
    Result<void> set_up();
    void set_up_native();

    void start(Op& op) override;
    void cancel_started(Op& op) override;
    bool use_helper(const Op& op) const override;
    void forget(Fd fd) override;
    void let_go(Fd fd) override;

    // Sockets. try_*: true when the operation is finished.
    void start_socket(Op& op, int fd);
    bool try_receive(Op& op, Socket& socket);
    bool try_accept(Op& op);
    bool try_send(Op& op);
    void begin_connect(Op& op);
    void socket_event(int fd, uint32_t events);
    Socket& socket_of(int fd);
    int watch(int fd, Socket& socket);

    // Files.
    void queue_file_op(Op& op);
    void submit_files();
    void reap_files();
    bool files_completed() const;

    int wait(Duration timeout);

    int epoll_ = -1;
    int completions_ = -1;  // the eventfd that native AIO signals
    aio_context_t context_ = 0;
    bool native_ = false;
    bool native_sync_ = true;
    bool precise_wait_ = true;     // epoll_pwait2 is there
    std::vector<Socket> sockets_;  // by descriptor
    std::vector<iocb>
        queued_;  // for the next io_submit; bounded by DeviceQueue::kDepth, like what is in flight
    std::vector<iocb*> pointers_;
    std::vector<epoll_event> events_;
};

}  // namespace weir::runtime

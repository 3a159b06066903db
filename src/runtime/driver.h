// The seam: everything that the rest of Weir asks of the outside world is an Op given to a Driver, with the kernel's semantics and
// errors. Three drivers serve it: runtime/uring, runtime/aio and runtime/sim; one conformance suite runs against all three
// (runtime/conformance_test.cc). A driver belongs to one shard and is used on that shard's thread alone.
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/intrusive_list.h"
#include "base/time.h"
#include "runtime/work_class.h"

namespace weir::runtime {

// A suspended coroutine that is linked into what it waits for, or into the run queue. It lies in the coroutine's own frame, so
// destroying the frame takes it out of whatever list it is in.
struct Waiter : ListHook {
    std::coroutine_handle<> handle;
    WorkClass work_class = WorkClass::kNetwork;
};

struct Fd {
    int32_t v = -1;
    bool valid() const { return v >= 0; }
    bool operator==(const Fd&) const = default;
};

enum class OpKind : uint8_t {
    // Files. Data operations are O_DIRECT: memory, offset and size are multiples of kDirectAlign, or -EINVAL.
    kOpen,        // path, flags (OpenFlags), size (file size to preallocate or 0) -> fd. A regular file; O_DIRECT unless kBuffered
    kClose,       // fd
    kRead,        // fd, offset, data, size -> bytes read (short at the end of the file, may be short anywhere)
    kWrite,       // fd, offset, data, size -> bytes written (may be short)
    kFdatasync,   // fd: covers the writes that completed before it was submitted
    kFallocate,   // fd, offset, size: extends the file's size; -ENOSPC when the disk is full
    kTruncate,    // fd, size
    kRename,      // path -> path2; replaces the target
    kUnlink,      // path
    kMakeDir,     // path; one level; -EEXIST
    kRemoveDir,   // path; -ENOTEMPTY
    kSyncDir,     // path: makes the names in the directory durable
    kStat,        // path -> size in size_out; -ENOENT
    kListDir,     // path -> names_out (without . and ..), sorted
    kLock,        // fd: exclusive, advisory, non-blocking (flock); -EWOULDBLOCK when another process holds it
    kDiskUsage,   // path -> free bytes in size_out, total bytes in size2_out
    // Sockets (TCP over IPv4 and IPv6).
    kListen,      // path = "host:port" (port 0 picks one), size = backlog -> fd, text_out = the address bound
    kAccept,      // fd -> fd of the connection, text_out = the peer's address. TCP_NODELAY is set
    kConnect,     // path = "host:port" (names are looked up) -> fd
    kRecv,        // fd, data, size -> bytes received; 0 at the peer's end of stream
    kSend,        // fd, iov, iov_count -> bytes sent (may be short)
    kShutdown,    // fd: both directions; pending receives and sends of the socket complete
};

enum OpenFlags : uint32_t {
    kOpenRead = 1,
    kOpenWrite = 2,
    kOpenCreate = 4,
    kOpenExclusive = 8,  // with kOpenCreate: -EEXIST if it is there
    kOpenTruncate = 16,
    kOpenBuffered = 32,  // through the page cache, no alignment: small files that are written rarely (configuration, import, export)
};

inline constexpr size_t kDirectAlign = 4096;

// What an operation is asked to do, and where its outputs go.
struct OpArguments {
    OpKind kind;
    Fd fd = {};
    uint64_t offset = 0;
    uint8_t* data = nullptr;
    uint64_t size = 0;
    const iovec* iov = nullptr;
    uint32_t iov_count = 0;
    uint32_t flags = 0;
    const char* path = nullptr;
    const char* path2 = nullptr;
    std::string* text_out = nullptr;
    std::vector<std::string>* names_out = nullptr;
};

// One operation in flight. Lies in the awaiter's frame and stays there until it completed; the memory that it names belongs to the
// driver until then. The driver sets `result` (>= 0, or -errno) and calls Shard::complete(op), exactly once, never inside submit().
struct Op : OpArguments {
    explicit Op(const OpArguments& arguments) : OpArguments(arguments) {}

    WorkClass work_class = WorkClass::kNetwork;  // I/O class: drivers bound the depth and order of device operations by it
    int32_t result = 0;
    uint64_t size_out = 0;
    uint64_t size2_out = 0;

    bool in_flight = false;
    Waiter waiter;
    // For the driver's own use while the operation is in flight.
    ListHook driver_hook;
    void* driver_data = nullptr;
    uint64_t driver_state = 0;
};

using ShardId = uint32_t;

class Driver {
  public:
    virtual ~Driver() = default;

    virtual std::string_view name() const = 0;
    virtual Instant now() const = 0;
    virtual WallTime wall_now() const = 0;
    // Takes the operation. Never completes inline.
    virtual void submit(Op& op) = 0;
    // A request: the operation still completes exactly once, maybe with -ECANCELED, maybe with its result. Never completes inline.
    virtual void cancel(Op& op) = 0;
    // The awaiter of an operation in flight is being destroyed. Only the simulator's kill does that; a real driver CHECKs.
    virtual void abandon(Op& op) = 0;
    // Delivers completions (Shard::complete). Waits for one, for a doorbell, or until `park_until`, whichever is first; returns at
    // once if park_until is in the past.
    virtual void poll(Instant park_until) = 0;
    // Wakes the poll of another shard of this node. Callable on this driver's shard alone.
    virtual void ring_doorbell(ShardId to) = 0;
    virtual void fill_entropy(MutableBytes bytes) = 0;
    // A connected socket with no operation in flight leaves this driver, open, for another shard's, which adopts it there. Drivers that
    // keep nothing of a socket between operations have nothing to do.
    virtual void release_socket(Fd) {}
    virtual void adopt_socket(Fd) {}
};

}  // namespace weir::runtime

// The operations that a driver can't do asynchronously, done with plain system calls on the shard's
// helper thread. Touches nothing but the Op (and the ConnectPlan in its driver_data).
#pragma once

#include <vector>

#include "runtime/driver.h"
#include "runtime/host/address.h"

namespace weir::runtime {

// The addresses of a kConnect's name, tried one after the other until one answers.
struct ConnectPlan {
    std::vector<SocketAddress> addresses;
    size_t next = 0;
    int fd = -1;
    int last_error = 0;  // -errno
    bool cancelled = false;
};

// Flags for open(2), O_DIRECT included.
int open_flags(uint32_t flags);
// Whether `result` is the answer of a file system without O_DIRECT.
bool may_lack_direct(uint32_t flags, int result);

// Makes the file at least this long, with holes, where the file system has no fallocate. 0 or
// -errno.
int extend_sparsely(int fd, uint64_t end);

// >= 0 or -errno. kOpen sets *opened_buffered if O_DIRECT was not available; kConnect only resolves
// names; kListen uses `socket_flags`.
int perform_blocking(Op& op, int socket_flags, bool* opened_buffered);

}  // namespace weir::runtime

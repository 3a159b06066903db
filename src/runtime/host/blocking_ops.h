// The operations that a driver can't do asynchronously, done with plain system calls on the shard's
// helper thread. Touches nothing but the Op (and the ConnectPlan in its driver_data).
#pragma once

#include <vector>

#include "runtime/driver.h"
#include "runtime/host/address.h"

namespace weir::runtime {

// What a kConnect works through: the addresses of its name, one after the other until one answers.
struct ConnectPlan {
    std::vector<SocketAddress> addresses;
    size_t next = 0;
    int fd = -1;
    int last_error = 0;  // -errno
    bool cancelled = false;
};

// Flags for open(2), O_DIRECT included.
int open_flags(uint32_t flags);
// A file system without O_DIRECT answers this when it is asked for it.
bool may_lack_direct(uint32_t flags, int result);

// Where the file system has no fallocate: makes the file at least this long, with holes. 0 or
// -errno.
int extend_sparsely(int fd, uint64_t end);

// >= 0 or -errno. kOpen sets *opened_buffered when it had to do without O_DIRECT; kConnect only
// looks names up; kListen takes `socket_flags`.
int perform_blocking(Op& op, int socket_flags, bool* opened_buffered);

}  // namespace weir::runtime

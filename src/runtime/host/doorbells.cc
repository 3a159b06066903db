#include "runtime/host/doorbells.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace weir::runtime {

Result<Doorbells> Doorbells::create(uint32_t count) {
    Doorbells doorbells(std::vector<int>{});
    for (uint32_t i = 0; i < count; ++i) {
        const int fd = eventfd(0, EFD_CLOEXEC);
        if (fd < 0) return fail(Error::from_errno(errno, "eventfd"));
        doorbells.fds_.push_back(fd);
    }
    return doorbells;
}

Doorbells::~Doorbells() {
    for (const int fd : fds_) ::close(fd);
}

void Doorbells::ring(uint32_t shard) const {
    const uint64_t one = 1;
    // Fails only when the counter is full, and then the doorbell is ringing anyway.
    [[maybe_unused]] const ssize_t written = ::write(fds_[shard], &one, sizeof one);
}

}  // namespace weir::runtime

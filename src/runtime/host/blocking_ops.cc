#include "runtime/host/blocking_ops.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/check.h"

namespace weir::runtime {
namespace {

// Records are nobody else's to read.
constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

int or_errno(ssize_t result) { return result < 0 ? -errno : static_cast<int>(result); }

// What lies below the file's size stays as it is.
int extend(int fd, uint64_t offset, uint64_t size) {
    while (true) {
        if (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(size)) == 0) return 0;
        if (errno == EINTR) continue;
        return errno == EOPNOTSUPP ? extend_sparsely(fd, offset + size) : -errno;
    }
}

int open_file(const Op& op, bool* opened_buffered) {
    *opened_buffered = (op.flags & kOpenBuffered) != 0;
    int fd = or_errno(::open(op.path, open_flags(op.flags), kFileMode));
    if (may_lack_direct(op.flags, fd)) {
        *opened_buffered = true;
        // The failed open may have created the file, so exclusive creation must not be asked for
        // twice.
        fd = or_errno(::open(op.path, open_flags(op.flags) & ~(O_DIRECT | O_EXCL), kFileMode));
    }
    if (fd < 0 || op.size == 0) return fd;
    struct stat status{};
    int result = or_errno(fstat(fd, &status));
    if (result == 0 && static_cast<uint64_t>(status.st_size) < op.size)
        result = extend(fd, 0, op.size);
    if (result == 0) return fd;
    ::close(fd);
    return result;
}

int sync_directory_of(const char* path) {
    const int fd = ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    const int result = or_errno(fsync(fd));
    ::close(fd);
    return result;
}

int list(const Op& op) {
    DIR* directory = opendir(op.path);
    if (directory == nullptr) return -errno;
    errno = 0;
    while (const dirent* entry = readdir(directory)) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") op.names_out->emplace_back(name);
    }
    const int result = -errno;
    closedir(directory);
    std::ranges::sort(*op.names_out);
    return result;
}

// An io_uring keeps the files of a process that was killed for a moment after its death: ask again
// for a while before saying no.
int lock(int fd) {
    constexpr int kAttempts = 6;
    constexpr useconds_t kPauseMicroseconds = 50'000;
    for (int attempt = 1;; ++attempt) {
        const int result = or_errno(flock(fd, LOCK_EX | LOCK_NB));
        if (result == -EINTR) continue;
        if (result != -EWOULDBLOCK || attempt == kAttempts) return result;
        usleep(kPauseMicroseconds);
    }
}

int disk_usage_of(Op& op) {
    struct statvfs status{};
    if (statvfs(op.path, &status) != 0) return -errno;
    op.size_out = status.f_bavail * status.f_frsize;
    op.size2_out = status.f_blocks * status.f_frsize;
    return 0;
}

int stat_of(Op& op) {
    struct stat status{};
    if (::stat(op.path, &status) != 0) return -errno;
    op.size_out = static_cast<uint64_t>(status.st_size);
    return 0;
}

int listen_on(Op& op, int socket_flags) {
    std::vector<SocketAddress> addresses;
    int result = resolve_address(op.path, &addresses);
    for (const SocketAddress& address : addresses) {
        result = make_listener(address, static_cast<int>(op.size), socket_flags);
        if (result >= 0) {
            *op.text_out = local_address(result);
            break;
        }
    }
    return result;
}

}  // namespace

int open_flags(uint32_t flags) {
    int result = O_CLOEXEC;
    const bool writes = (flags & kOpenWrite) != 0;
    const bool reads = (flags & kOpenRead) != 0;
    result |= writes ? (reads ? O_RDWR : O_WRONLY) : O_RDONLY;
    if ((flags & kOpenCreate) != 0) result |= O_CREAT;
    if ((flags & kOpenExclusive) != 0) result |= O_EXCL;
    if ((flags & kOpenTruncate) != 0) result |= O_TRUNC;
    if ((flags & kOpenBuffered) == 0) result |= O_DIRECT;
    return result;
}

bool may_lack_direct(uint32_t flags, int result) {
    return (flags & kOpenBuffered) == 0 && result == -EINVAL;
}

int extend_sparsely(int fd, uint64_t end) {
    struct stat status{};
    if (fstat(fd, &status) != 0) return -errno;
    if (static_cast<uint64_t>(status.st_size) >= end) return 0;
    return or_errno(ftruncate(fd, static_cast<off_t>(end)));
}

int perform_blocking(Op& op, int socket_flags, bool* opened_buffered) {
    const int fd = op.fd.v;
    const auto offset = static_cast<off_t>(op.offset);
    switch (op.kind) {
        case OpKind::kOpen:
            return open_file(op, opened_buffered);
        case OpKind::kClose:
            return or_errno(::close(fd));
        case OpKind::kRead:
            return or_errno(pread(fd, op.data, op.size, offset));
        case OpKind::kWrite:
            return or_errno(pwrite(fd, op.data, op.size, offset));
        case OpKind::kFdatasync:
            return or_errno(fdatasync(fd));
        case OpKind::kFallocate:
            return extend(fd, op.offset, op.size);
        case OpKind::kTruncate:
            return or_errno(ftruncate(fd, static_cast<off_t>(op.size)));
        case OpKind::kRename:
            return or_errno(::rename(op.path, op.path2));
        case OpKind::kUnlink:
            return or_errno(::unlink(op.path));
        case OpKind::kMakeDir:
            return or_errno(::mkdir(op.path, kDirectoryMode));
        case OpKind::kRemoveDir:
            return or_errno(::rmdir(op.path));
        case OpKind::kSyncDir:
            return sync_directory_of(op.path);
        case OpKind::kStat:
            return stat_of(op);
        case OpKind::kListDir:
            return list(op);
        case OpKind::kLock:
            return lock(fd);
        case OpKind::kDiskUsage:
            return disk_usage_of(op);
        case OpKind::kListen:
            return listen_on(op, socket_flags);
        case OpKind::kConnect:
            return resolve_address(op.path, &static_cast<ConnectPlan*>(op.driver_data)->addresses);
        case OpKind::kAccept:
        case OpKind::kRecv:
        case OpKind::kSend:
        case OpKind::kShutdown:
            break;
    }
    CHECK(false);
    return -EINVAL;
}

}  // namespace weir::runtime

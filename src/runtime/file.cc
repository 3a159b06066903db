#include "runtime/file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "runtime/op_awaiter.h"

namespace weir::runtime {
namespace {

// One operation moves at most this much: kernels cap a single read or write near 2 GiB, and a large one would hold its I/O class.
constexpr size_t kTransferMax = 8 << 20;

Result<void> outcome(const OpResult& op, std::string_view what, std::string_view path) {
    if (op.result >= 0) return {};
    return fail(Error::from_errno(-op.result, fmt::format("{} {}", what, path)));
}

}  // namespace

File& File::operator=(File&& other) noexcept {
    CHECK(!fd_.valid());
    fd_ = std::exchange(other.fd_, Fd{});
    path_ = std::move(other.path_);
    buffered_ = other.buffered_;
    return *this;
}

File::~File() { CHECK(!fd_.valid() || Shard::current().dying()); }

Task<Result<File>> File::open(std::string path, FileOptions options) {
    const OpResult op = co_await perform({.kind = OpKind::kOpen,
                                     .size = options.preallocate_bytes,
                                     .flags = options.flags,
                                     .path = path.c_str()});
    const int32_t result = op.result;
    if (result < 0) co_return fail(Error::from_errno(-result, fmt::format("open {}", path)));
    co_return File(Fd{result}, std::move(path), (options.flags & kOpenBuffered) != 0);
}

Task<Result<size_t>> File::read(uint64_t offset, MutableBytes into) {
    size_t done = 0;      // filled so far
    size_t position = 0;  // where to read on: O_DIRECT continues only from an aligned position
    while (position < into.size()) {
        const size_t part = std::min(into.size() - position, kTransferMax);
        const OpResult op = co_await perform({.kind = OpKind::kRead,
                                         .fd = fd_,
                                         .offset = offset + position,
                                         .data = into.data() + position,
                                         .size = part});
        const int32_t result = op.result;
        if (result == -EINTR || result == -EAGAIN) continue;
        if (result < 0) co_return fail(Error::from_errno(-result, fmt::format("read {}", path_)));
        if (result == 0) break;
        const size_t end = position + static_cast<size_t>(result);
        if (buffered_ || end % kDirectAlign == 0) {
            position = done = end;
            continue;
        }
        // The end of the file, or a transfer that stopped within a block: reading the block again tells.
        if (end == done || end == into.size()) {
            done = end;
            break;
        }
        done = std::max(done, end);
        position = end / kDirectAlign * kDirectAlign;
    }
    co_return done;
}

Task<Result<void>> File::write(uint64_t offset, Bytes from) {
    size_t done = 0;
    while (done < from.size()) {
        const size_t part = std::min(from.size() - done, kTransferMax);
        const OpResult op = co_await perform({.kind = OpKind::kWrite,
                                         .fd = fd_,
                                         .offset = offset + done,
                                         .data = const_cast<uint8_t*>(from.data()) + done,
                                         .size = part});
        const int32_t result = op.result;
        if (result == -EINTR || result == -EAGAIN) continue;
        if (result < 0) co_return fail(Error::from_errno(-result, fmt::format("write {}", path_)));
        if (result == 0) co_return fail(ErrorCode::kIo, fmt::format("write {}: wrote nothing", path_));
        size_t written = static_cast<size_t>(result);
        if (!buffered_ && done + written < from.size()) written = written / kDirectAlign * kDirectAlign;
        done += written;
    }
    co_return Result<void>{};
}

Task<Result<void>> File::sync() {
    while (true) {
        const OpResult op = co_await perform({.kind = OpKind::kFdatasync, .fd = fd_});
        if (op.result == -EINTR) continue;
        co_return outcome(op, "fdatasync", path_);
    }
}

Task<Result<void>> File::preallocate(uint64_t offset, uint64_t size) {
    const OpResult op = co_await perform({.kind = OpKind::kFallocate, .fd = fd_, .offset = offset, .size = size});
    co_return outcome(op, "fallocate", path_);
}

Task<Result<void>> File::truncate(uint64_t size) {
    const OpResult op = co_await perform({.kind = OpKind::kTruncate, .fd = fd_, .size = size});
    co_return outcome(op, "truncate", path_);
}

Task<Result<uint64_t>> File::size() { return file_size(path_); }

Task<Result<void>> File::lock() {
    const OpResult op = co_await perform({.kind = OpKind::kLock, .fd = fd_});
    if (op.result == -EWOULDBLOCK) {
        co_return fail(ErrorCode::kUnavailable, fmt::format("{} is locked by another process", path_));
    }
    co_return outcome(op, "lock", path_);
}

Task<Result<void>> File::close() {
    const Fd fd = std::exchange(fd_, Fd{});
    const OpResult op = co_await perform({.kind = OpKind::kClose, .fd = fd});
    co_return outcome(op, "close", path_);
}

Task<Result<void>> rename_path(std::string from, std::string to) {
    const OpResult op = co_await perform({.kind = OpKind::kRename, .path = from.c_str(), .path2 = to.c_str()});
    co_return outcome(op, "rename", from);
}

Task<Result<void>> unlink_file(std::string path) {
    const OpResult op = co_await perform({.kind = OpKind::kUnlink, .path = path.c_str()});
    co_return outcome(op, "unlink", path);
}

Task<Result<void>> remove_directory(std::string path) {
    const OpResult op = co_await perform({.kind = OpKind::kRemoveDir, .path = path.c_str()});
    co_return outcome(op, "remove directory", path);
}

Task<Result<void>> make_directories(std::string path) {
    size_t end = 0;
    while (end < path.size()) {
        end = std::min(path.find('/', end + 1), path.size());
        const std::string prefix = path.substr(0, end);
        const OpResult op = co_await perform({.kind = OpKind::kMakeDir, .path = prefix.c_str()});
        const int32_t result = op.result;
        if (result == -EEXIST) continue;
        if (result < 0) co_return fail(Error::from_errno(-result, fmt::format("make directory {}", prefix)));
        const size_t slash = prefix.rfind('/');
        co_await try_(sync_directory(slash == std::string::npos ? "." : prefix.substr(0, std::max<size_t>(slash, 1))));
    }
    co_return Result<void>{};
}

Task<Result<void>> sync_directory(std::string path) {
    const OpResult op = co_await perform({.kind = OpKind::kSyncDir, .path = path.c_str()});
    co_return outcome(op, "sync directory", path);
}

Task<Result<std::vector<std::string>>> list_directory(std::string path) {
    std::vector<std::string> names;
    const OpResult op = co_await perform({.kind = OpKind::kListDir, .path = path.c_str(), .names_out = &names});
    if (op.result < 0) co_return fail(Error::from_errno(-op.result, fmt::format("list {}", path)));
    co_return names;
}

Task<Result<uint64_t>> file_size(std::string path) {
    const OpResult op = co_await perform({.kind = OpKind::kStat, .path = path.c_str()});
    if (op.result < 0) co_return fail(Error::from_errno(-op.result, fmt::format("stat {}", path)));
    co_return op.size_out;
}

Task<Result<DiskUsage>> disk_usage(std::string path) {
    const OpResult op = co_await perform({.kind = OpKind::kDiskUsage, .path = path.c_str()});
    if (op.result < 0) co_return fail(Error::from_errno(-op.result, fmt::format("statfs {}", path)));
    co_return DiskUsage{op.size_out, op.size2_out};
}

namespace {

Task<Result<void>> read_all(File* file, std::string* content) {
    const size_t filled = co_await try_(
        file->read(0, {reinterpret_cast<uint8_t*>(content->data()), content->size()}));
    content->resize(filled);
    co_return Result<void>{};
}

Task<Result<void>> write_and_sync(File* file, const std::string* content) {
    co_await try_(file->write(0, as_bytes(*content)));
    co_return co_await file->sync();
}

}  // namespace

Task<Result<std::string>> read_small_file(std::string path, uint64_t size_max) {
    const uint64_t size = co_await try_(file_size(path));
    if (size > size_max) co_return fail(ErrorCode::kOutOfRange, fmt::format("{} is larger than {} bytes", path, size_max));
    File file = co_await try_(File::open(path, {.flags = kOpenRead | kOpenBuffered}));
    std::string content(size, '\0');
    Result<void> read = co_await read_all(&file, &content);
    (void)co_await file.close();
    co_await try_(std::move(read));
    co_return content;
}

Task<Result<void>> replace_small_file(std::string path, std::string content) {
    const std::string temporary = path + ".tmp";
    File file = co_await try_(File::open(
        temporary, {.flags = kOpenWrite | kOpenCreate | kOpenTruncate | kOpenBuffered}));
    Result<void> written = co_await write_and_sync(&file, &content);
    (void)co_await file.close();
    co_await try_(std::move(written));
    co_await try_(rename_path(temporary, path));
    const size_t slash = path.rfind('/');
    co_return co_await sync_directory(slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1)));
}

}  // namespace weir::runtime

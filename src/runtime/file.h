// Files and directories over the driver's seam. Used on the shard that opened them. Memory given to read() and write() stays alive and untouched
// until the task ends: it belongs to the caller's frame or to something that outlives it.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "runtime/driver.h"
#include "runtime/task.h"

namespace weir::runtime {

struct FileOptions {
    uint32_t flags = kOpenRead;     // OpenFlags
    uint64_t preallocate_bytes = 0; // extends a new file to this size
};

class File {
  public:
    File() = default;
    File(File&& other) noexcept
        : fd_(std::exchange(other.fd_, Fd{})), path_(std::move(other.path_)), buffered_(other.buffered_) {}
    File& operator=(File&& other) noexcept;
    // Closed, or the shard is dying.
    ~File();

    static Task<Result<File>> open(std::string path, FileOptions options);

    bool is_open() const { return fd_.valid(); }
    const std::string& path() const { return path_; }

    // Fills `into` from `offset`; gives how much there was (less only at the end of the file). Retries short reads.
    // Alignment as for O_DIRECT (kDirectAlign) unless the file is buffered; at the end of an unaligned file a read may be short.
    Task<Result<size_t>> read(uint64_t offset, MutableBytes into);
    // Writes all of `from`; retries short writes. After an error any part may be written.
    Task<Result<void>> write(uint64_t offset, Bytes from);
    // What completed writes wrote is on stable storage. After an error nothing is known about them: fail-stop.
    Task<Result<void>> sync();
    Task<Result<void>> preallocate(uint64_t offset, uint64_t size);
    Task<Result<void>> truncate(uint64_t size);
    Task<Result<uint64_t>> size();
    // kUnavailable when another process holds it.
    Task<Result<void>> lock();
    Task<Result<void>> close();

  private:
    File(Fd fd, std::string path, bool buffered) : fd_(fd), path_(std::move(path)), buffered_(buffered) {}
    Fd fd_;
    std::string path_;
    bool buffered_ = false;
};

struct DiskUsage {
    uint64_t free_bytes;
    uint64_t total_bytes;
};

// Names. What was created, renamed or unlinked survives a crash only after sync_directory of its directory.
Task<Result<void>> rename_path(std::string from, std::string to);
Task<Result<void>> unlink_file(std::string path);
Task<Result<void>> remove_directory(std::string path);
// Makes it and its parents; existing ones are fine. Syncs each parent that got a new name.
Task<Result<void>> make_directories(std::string path);
Task<Result<void>> sync_directory(std::string path);
Task<Result<std::vector<std::string>>> list_directory(std::string path);
Task<Result<uint64_t>> file_size(std::string path);
Task<Result<DiskUsage>> disk_usage(std::string path);

// Small files, through the page cache. read fails with kOutOfRange beyond size_max. replace writes PATH.tmp, syncs, renames, syncs the directory:
// after a crash the file has its old or its new content.
Task<Result<std::string>> read_small_file(std::string path, uint64_t size_max);
Task<Result<void>> replace_small_file(std::string path, std::string content);

}  // namespace weir::runtime

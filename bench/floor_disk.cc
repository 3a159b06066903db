// The disk's own floor, with nothing of Weir's engine between: what the benchmarks are compared
// with.
//   weir_floor_disk append --file F [--size 4096] [--seconds 5] [--rate N]   pwrite O_DIRECT over
//   pre-written blocks + fdatasync, one at a time weir_floor_disk write  --file F [--size 1048576]
//   [--seconds 5]           large writes, a flush after each: durable throughput weir_floor_disk
//   read   --file F [--size 1048576] [--depth 4]             reads the file once, sequentially,
//   O_DIRECT, `depth` in flight
// Prints one line of JSON.
#include <fcntl.h>
#include <fmt/core.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/histogram.h"
#include "base/units.h"

namespace weir {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const char* what) {
    fmt::print(stderr, "weir_floor_disk: {}: {}\n", what, std::strerror(errno));
    std::exit(1);
}

double seconds_since(Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
}

uint8_t* aligned(size_t size) {
    auto* memory = static_cast<uint8_t*>(std::aligned_alloc(4096, size));
    for (size_t i = 0; i < size; ++i) memory[i] = static_cast<uint8_t>(i * 31);
    return memory;
}

// `bytes` already written, so that the measured writes overwrite.
int open_written(const std::string& path, uint64_t bytes) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    if (fd < 0) die("open");
    uint8_t* block = aligned(1_MiB);
    for (uint64_t at = 0; at < bytes; at += 1_MiB) {
        if (::pwrite(fd, block, 1_MiB, static_cast<off_t>(at)) < 0) die("pwrite");
    }
    if (::fdatasync(fd) != 0) die("fdatasync");
    std::free(block);
    return fd;
}

int append(const std::string& file, uint64_t size, double seconds, double rate) {
    constexpr uint64_t kFileBytes = 64_MiB;
    const int fd = open_written(file, kFileBytes);
    uint8_t* block = aligned(size);
    Histogram latency;
    uint64_t at = 0;
    const auto start = Clock::now();
    // Open loop: a late start counts against the operation that it delays.
    for (uint64_t n = 0; seconds_since(start) < seconds; ++n) {
        auto due = Clock::now();
        if (rate > 0) {
            due = start + std::chrono::nanoseconds(
                              static_cast<int64_t>(1e9 * static_cast<double>(n) / rate));
            std::this_thread::sleep_until(due);
        }
        if (::pwrite(fd, block, size, static_cast<off_t>(at)) < 0) die("pwrite");
        if (::fdatasync(fd) != 0) die("fdatasync");
        at = (at + size) % kFileBytes;
        latency.record((Clock::now() - due).count());
    }
    const double took = seconds_since(start);
    fmt::print(
        "{{\"operations\":{},\"per_second\":{:.1f},\"bytes_per_second\":{:.0f},\"p50_ns\":{},\"p99_"
        "ns\":{},\"p999_ns\":{},\"max_ns\":{}}}\n",
        latency.count(), static_cast<double>(latency.count()) / took,
        static_cast<double>(latency.count() * size) / took, latency.quantile(0.5),
        latency.quantile(0.99), latency.quantile(0.999), latency.max());
    return 0;
}

int read(const std::string& file, uint64_t size, unsigned depth) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) die("open");
    struct stat status{};
    if (::fstat(fd, &status) != 0) die("fstat");
    const auto total = static_cast<uint64_t>(status.st_size);
    io_uring ring{};
    if (const int error = io_uring_queue_init(depth * 2, &ring, 0); error < 0) {
        errno = -error;
        die("io_uring");
    }
    std::vector<uint8_t*> buffers;
    uint64_t next = 0;
    uint64_t done = 0;
    unsigned in_flight = 0;
    const auto submit = [&](unsigned slot) {
        if (next >= total) return;
        io_uring_sqe* sqe = io_uring_get_sqe(&ring);
        io_uring_prep_read(sqe, fd, buffers[slot], static_cast<unsigned>(size), next);
        sqe->user_data = slot;
        next += size;
        ++in_flight;
    };
    const auto start = Clock::now();
    for (unsigned slot = 0; slot < depth; ++slot) {
        buffers.push_back(aligned(size));
        submit(slot);
    }
    while (in_flight > 0) {
        io_uring_submit_and_wait(&ring, 1);
        io_uring_cqe* cqe = nullptr;
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            if (cqe->res < 0) {
                errno = -cqe->res;
                die("read");
            }
            done += static_cast<uint64_t>(cqe->res);
            const auto slot = static_cast<unsigned>(cqe->user_data);
            io_uring_cqe_seen(&ring, cqe);
            --in_flight;
            submit(slot);
        }
    }
    const double took = seconds_since(start);
    fmt::print("{{\"bytes\":{},\"seconds\":{:.3f},\"bytes_per_second\":{:.0f}}}\n", done, took,
               static_cast<double>(done) / took);
    return 0;
}

int main(int argc, char** argv) {
    CLI::App app{"the disk's own floor"};
    app.require_subcommand(1);
    std::string file;
    uint64_t size = 0;
    double seconds = 5;
    double rate = 0;
    unsigned depth = 4;
    const auto add = [&](const char* name, const char* help) {
        CLI::App* sub = app.add_subcommand(name, help);
        sub->add_option("--file", file, "made, or read")->required();
        sub->add_option("--size", size, "bytes of one operation, a multiple of 4096");
        return sub;
    };
    CLI::App* append_command = add("append", "small writes, a flush after each");
    append_command->add_option("--seconds", seconds);
    append_command->add_option("--rate", rate,
                               "operations a second, open loop; 0: one after another");
    CLI::App* write_command = add("write", "large writes, a flush after each");
    write_command->add_option("--seconds", seconds);
    CLI::App* read_command = add("read", "reads the file once");
    read_command->add_option("--depth", depth)->check(CLI::Range(1, 64));
    CLI11_PARSE(app, argc, argv);
    if (size == 0) size = append_command->parsed() ? 4096 : 1_MiB;
    if (size % 4096 != 0) {
        fmt::print(stderr, "--size must be a multiple of 4096\n");
        return 1;
    }
    if (append_command->parsed()) return append(file, size, seconds, rate);
    if (write_command->parsed()) return append(file, size, seconds, 0);
    return read(file, size, depth);
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::main(argc, argv); }

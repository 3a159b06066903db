// Compares the drivers of a real kernel with each other, in turns so that the machine's moods meet
// both: durable 4 KiB writes, echo over loopback between two shards, and calls between shards.
//
//   weir_bench_drivers DIRECTORY [ROUNDS]
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/file.h"
#include "runtime/real/real_node.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/socket.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

constexpr uint64_t kFileBytes = 64 << 20;
constexpr Duration kRun = 2s;

template <class T>
T must(Result<T> result) {
    if (!result) {
        fmt::print(stderr, "{}\n", result.error().to_string());
        std::exit(1);
    }
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// What one run measured: how many a second, and how long each took.
struct Figures {
    std::vector<int64_t> ns;
    Duration taken{};
    Duration processor{};  // of the whole process: what is comparable on a machine that does other
                           // things too

    double cpu_us() const {
        return std::chrono::duration<double, std::micro>(processor).count() /
               static_cast<double>(ns.size());
    }
    double per_second() const {
        return static_cast<double>(ns.size()) / std::chrono::duration<double>(taken).count();
    }
    double us(double quantile) {
        if (ns.empty()) return 0;
        const auto at =
            ns.begin() + static_cast<ptrdiff_t>(quantile * static_cast<double>(ns.size() - 1));
        std::ranges::nth_element(ns, at);
        return static_cast<double>(*at) / 1000;
    }
};

// --- durable writes over blocks that were written before, as in the journal
Task<void> write_loop(File* file, uint64_t first, uint64_t stride, Instant end, Figures* figures) {
    IoBuffer block = IoBuffer::allocate(4096);
    std::fill_n(block.data(), block.capacity(), uint8_t{7});
    Shard& shard = Shard::current();
    for (uint64_t i = first; shard.now() < end; i += stride) {
        const Instant began = shard.now();
        must(co_await file->write(i * 4096 % kFileBytes, block.all()));
        must(co_await file->sync());
        figures->ns.push_back((shard.now() - began).count());
    }
}

Task<int> durable_writes(std::string path, uint64_t writers, Figures* figures) {
    Shard::current().set_work_class(WorkClass::kProduce);
    File file = must(co_await File::open(path, {.flags = kOpenRead | kOpenWrite}));
    Scope scope;
    const Instant began = Shard::current().now();
    for (uint64_t i = 0; i < writers; ++i) {
        scope.spawn(write_loop(&file, i, writers, began + kRun, figures));
    }
    co_await scope.join();
    figures->taken = Shard::current().now() - began;
    must(co_await file.close());
    co_return 0;
}

Task<int> prepare_file(std::string path) {
    File file = must(co_await File::open(
        path, {.flags = kOpenRead | kOpenWrite | kOpenCreate, .preallocate_bytes = kFileBytes}));
    IoBuffer block = IoBuffer::allocate(1 << 20);
    std::fill_n(block.data(), block.capacity(), uint8_t{1});
    for (uint64_t at = 0; at < kFileBytes; at += block.capacity())
        must(co_await file.write(at, block.all()));
    must(co_await file.sync());
    must(co_await file.close());
    co_return 0;
}

// --- echo: the server on shard 0, the clients on shard 1
Task<void> serve(std::unique_ptr<TcpStream> stream) {
    std::vector<uint8_t> buffer(1 << 16);
    while (const Result<size_t> got = co_await stream->read_some(buffer, {})) {
        must(co_await stream->write_all({Bytes(buffer).first(*got)}, {}));
    }
    co_await stream->close();
}

Task<void> accept_all(TcpListener* listener, Scope* scope) {
    while (auto stream = co_await listener->accept(scope->stop_token()))
        scope->spawn(serve(std::move(*stream)));
}

Task<void> client(std::string address, size_t size, Instant end, Figures* figures) {
    auto stream = must(co_await TcpStream::connect(address));
    std::vector<uint8_t> bytes(size, 3);
    Shard& shard = Shard::current();
    while (shard.now() < end) {
        const Instant began = shard.now();
        must(co_await stream->write_all({bytes}, {}));
        must(co_await read_exactly(*stream, bytes));
        figures->ns.push_back((shard.now() - began).count());
    }
    co_await stream->close();
}

Task<int> clients(std::string address, size_t count, size_t size, Figures* figures) {
    Scope scope;
    const Instant began = Shard::current().now();
    for (size_t i = 0; i < count; ++i) scope.spawn(client(address, size, began + kRun, figures));
    co_await scope.join();
    figures->taken = Shard::current().now() - began;
    co_return 0;
}

Task<int> echo(size_t count, size_t size, Figures* figures) {
    TcpListener listener = must(co_await TcpListener::listen("127.0.0.1:0"));
    Scope scope;
    scope.spawn(accept_all(&listener, &scope));
    const std::string address = listener.address();
    co_await on(1, [&] { return clients(address, count, size, figures); });
    co_await scope.close();
    co_await listener.close();
    co_return 0;
}

// --- calls from shard 0 to shard 1
Task<void> answer() { co_return; }

Task<void> call_loop(Instant end, Figures* figures) {
    Shard& shard = Shard::current();
    while (shard.now() < end) {
        const Instant began = shard.now();
        co_await on(1, [] { return answer(); });
        figures->ns.push_back((shard.now() - began).count());
    }
}

Task<int> calls(size_t count, Figures* figures) {
    Scope scope;
    const Instant began = Shard::current().now();
    for (size_t i = 0; i < count; ++i) scope.spawn(call_loop(began + kRun, figures));
    co_await scope.join();
    figures->taken = Shard::current().now() - began;
    co_return 0;
}

void run(DriverChoice driver, uint32_t shards, NodeMain main) {
    must(
        run_real_node({.shards = shards, .driver = driver, .log_sink = {}, .handle_signals = false},
                      std::move(main)));
}

Duration processor_time() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](timeval time) {
        return time.tv_sec * Duration(1s) + time.tv_usec * Duration(1us);
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

using Measure = std::function<void(DriverChoice, Figures*)>;

void compare(const char* name, int rounds, const Measure& measure) {
    std::map<DriverChoice, std::vector<double>> rates, costs;
    for (int round = 0; round < rounds; ++round) {
        for (const DriverChoice driver : {DriverChoice::kUring, DriverChoice::kAio}) {
            Figures figures;
            const Duration before = processor_time();
            measure(driver, &figures);
            figures.processor = processor_time() - before;
            rates[driver].push_back(figures.per_second());
            costs[driver].push_back(figures.cpu_us());
            fmt::print(
                "{:<38} {:<6} {:>8.0f}/s  p50 {:>7.1f}  p99 {:>8.1f}  p99.9 {:>8.1f} us  processor "
                "{:>6.2f} us each\n",
                name, driver == DriverChoice::kUring ? "uring" : "aio", figures.per_second(),
                figures.us(0.5), figures.us(0.99), figures.us(0.999), figures.cpu_us());
        }
    }
    const auto median = [](std::vector<double>& v) {
        std::ranges::sort(v);
        return v[v.size() / 2];
    };
    fmt::print("{:<38} aio / uring: rate {:.2f}, processor time {:.2f}\n", name,
               median(rates[DriverChoice::kAio]) / median(rates[DriverChoice::kUring]),
               median(costs[DriverChoice::kAio]) / median(costs[DriverChoice::kUring]));
}

}  // namespace
}  // namespace weir::runtime

int main(int count, char** arguments) {
    using namespace weir::runtime;
    if (count < 2) {
        fmt::print(stderr, "usage: weir_bench_drivers DIRECTORY [ROUNDS]\n");
        return 1;
    }
    const std::string path = std::string(arguments[1]) + "/drivers-bench";
    const int rounds = count > 2 ? std::atoi(arguments[2]) : 3;
    run(DriverChoice::kAio, 1, [&](RealNode&) { return prepare_file(path); });
    for (const uint64_t writers : {1, 16}) {
        compare(fmt::format("4 KiB write + fdatasync, {} at once", writers).c_str(), rounds,
                [&](DriverChoice driver, Figures* figures) {
                    run(driver, 1,
                        [&](RealNode&) { return durable_writes(path, writers, figures); });
                });
    }
    std::remove(path.c_str());
    for (const auto& [connections, size] :
         {std::pair<size_t, size_t>{1, 100}, {64, 100}, {64, 16384}}) {
        compare(fmt::format("echo of {} bytes, {} connections", size, connections).c_str(), rounds,
                [&](DriverChoice driver, Figures* figures) {
                    run(driver, 2, [&](RealNode&) { return echo(connections, size, figures); });
                });
    }
    for (const size_t callers : {1, 64}) {
        compare(fmt::format("call to another shard, {} at once", callers).c_str(), rounds,
                [&](DriverChoice driver, Figures* figures) {
                    run(driver, 2, [&](RealNode&) { return calls(callers, figures); });
                });
    }
    return 0;
}

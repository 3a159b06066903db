// Measures the storage engine alone, beside what the disk gives to a bare program in the same process and with the same driver:
//   commit   one durable append at a time, against write + fdatasync of the same size over written blocks
//   stream   a large stream into one log (it bypasses the journal), against large writes with a flush after each
//   many     small appends into 1,000 logs, against the same into one
//   cold     a sequential read of one log from its segments, against a sequential read of its files' bytes
//   open     the time to open a directory with 10,000 logs after a kill
//
//   weir_bench_storage DIRECTORY [commit|stream|many|cold|open ...]
#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/units.h"
#include "runtime/buffer.h"
#include "runtime/file.h"
#include "runtime/real/real_node.h"
#include "runtime/scope.h"
#include "runtime/wait.h"
#include "storage/store.h"

namespace weir::storage {
namespace {

using runtime::Scope;
using runtime::Shard;
using runtime::Task;

constexpr Duration kRun = 4s;

template <class T>
T must(Result<T> result) {
    if (!result) {
        fmt::print(stderr, "{}\n", result.error().to_string());
        std::exit(1);
    }
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

double processor_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

struct Figures {
    Histogram latency;
    uint64_t bytes = 0;
    Duration taken{};
    double processor = 0;
    double bytes_per_second() const { return static_cast<double>(bytes) / seconds(taken); }
    double per_second() const { return static_cast<double>(latency.count()) / seconds(taken); }
};

void print(std::string_view name, const Figures& f) {
    fmt::print("{:<34} {:>9.0f}/s {:>8.1f} MB/s   p50 {:>7.3f} p99 {:>7.3f} p99.9 {:>7.3f} ms   cpu {:.2f} s/GB\n", name, f.per_second(),
               f.bytes_per_second() / 1e6, static_cast<double>(f.latency.quantile(0.5)) / 1e6, static_cast<double>(f.latency.quantile(0.99)) / 1e6,
               static_cast<double>(f.latency.quantile(0.999)) / 1e6, f.processor / (static_cast<double>(f.bytes) / 1e9));
    std::fflush(stdout);
}

void print_ratio(std::string_view name, double ours, double floor) {
    fmt::print("{:<34} {:.2f}\n", name, ours / floor);
}

runtime::SharedBytes some_bytes(size_t size) {
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(size);
    for (size_t i = 0; i < size; ++i) buffer.data()[i] = static_cast<uint8_t>(i * 131 + (i >> 8));
    buffer.set_size(size);
    return std::move(buffer).share();
}

// --- the floor

Task<void> write_loop(runtime::File* file, uint64_t file_bytes, uint64_t size, Figures* figures) {
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(size);
    std::memset(buffer.data(), 7, size);
    const Instant begin = Shard::current().now();
    const double processor = processor_seconds();
    uint64_t at = 0;
    while (Shard::current().now() - begin < kRun) {
        const Instant from = Shard::current().now();
        must(co_await file->write(at, buffer.all()));
        must(co_await file->sync());
        at = (at + size) % file_bytes;
        figures->latency.record((Shard::current().now() - from).count());
        figures->bytes += size;
    }
    figures->taken = Shard::current().now() - begin;
    figures->processor = processor_seconds() - processor;
}

Task<Figures> floor_writes(std::string path, uint64_t size) {
    constexpr uint64_t kFileBytes = 256_MiB;
    runtime::File file = must(co_await runtime::File::open(
        path, {.flags = runtime::kOpenRead | runtime::kOpenWrite | runtime::kOpenCreate, .preallocate_bytes = kFileBytes}));
    runtime::IoBuffer zeros = runtime::IoBuffer::allocate(4_MiB);
    std::memset(zeros.data(), 1, zeros.capacity());
    for (uint64_t at = 0; at < kFileBytes; at += 4_MiB) must(co_await file.write(at, zeros.all()));
    must(co_await file.sync());
    Figures figures;
    co_await write_loop(&file, kFileBytes, size, &figures);
    must(co_await file.close());
    must(co_await runtime::unlink_file(path));
    co_return figures;
}

// --- the engine

struct Load {
    std::vector<Log*> logs;
    uint64_t size = 4000;
    uint64_t outstanding = 1;
};

Task<void> appender(const Load* load, size_t index, runtime::SharedBytes payload, Instant until, Figures* figures) {
    for (size_t turn = index; Shard::current().now() < until; turn += load->outstanding) {
        Log* log = load->logs[turn % load->logs.size()];
        const Instant from = Shard::current().now();
        must(co_await log->admit(payload.size(), {}));
        Entry entry;
        entry.info = {.first = log->end(), .next_offset = log->end().offset + 1, .max_timestamp_ms = 1};
        entry.payload = payload;
        entry.summary_bytes = 61;
        must(log->append(std::move(entry)));
        must(co_await log->wait_durable(log->end()));
        figures->latency.record((Shard::current().now() - from).count());
        figures->bytes += payload.size();
    }
}

Task<Figures> run_load(Load load) {
    Figures figures;
    const runtime::SharedBytes payload = some_bytes(load.size);
    const Instant begin = Shard::current().now();
    const double processor = processor_seconds();
    Scope scope;
    for (size_t i = 0; i < load.outstanding; ++i) scope.spawn(appender(&load, i, payload, begin + kRun, &figures), runtime::WorkClass::kProduce);
    co_await scope.join();
    figures.taken = Shard::current().now() - begin;
    figures.processor = processor_seconds() - processor;
    co_return figures;
}

void print_metrics(const Store& store) {
    const StoreMetrics& m = store.metrics();
    fmt::print("  commits {} ({:.1f} appends each)  journal {} MB  bypass {} MB  handed over {} MB  checkpoints {}\n", m.journal_commits,
               static_cast<double>(m.appended_entries) / static_cast<double>(std::max<uint64_t>(m.journal_commits, 1)), m.journal_bytes / 1'000'000,
               m.bypass_bytes / 1'000'000, m.handed_over_bytes / 1'000'000, m.checkpoints);
}

Task<void> bench_commit(Store* store, std::string directory) {
    Log* log = must(co_await store->create_log({10}, {}));
    for (int round = 0; round < 2; ++round) {
        const Figures floor = co_await floor_writes(directory + "/floor", 4096);
        const Figures ours = co_await run_load({.logs = {log}, .size = 3000, .outstanding = 1});
        print("write + fdatasync, 4 KiB", floor);
        print("append of 3,000 bytes", ours);
        print_ratio("p50", static_cast<double>(ours.latency.quantile(0.5)), static_cast<double>(floor.latency.quantile(0.5)));
        print_ratio("p99.9", static_cast<double>(ours.latency.quantile(0.999)), static_cast<double>(floor.latency.quantile(0.999)));
    }
    for (const uint64_t outstanding : {16, 64, 256}) {
        print(fmt::format("append, {} outstanding", outstanding), co_await run_load({.logs = {log}, .size = 3000, .outstanding = outstanding}));
    }
    print_metrics(*store);
}

Task<void> bench_stream(Store* store, std::string directory) {
    Log* log = must(co_await store->create_log({20}, {}));
    for (int round = 0; round < 2; ++round) {
        const Figures floor = co_await floor_writes(directory + "/floor", 1_MiB);
        print("write + fdatasync, 1 MiB", floor);
        for (const uint64_t size : {16_KiB, 100_KiB}) {
            const Figures ours = co_await run_load({.logs = {log}, .size = size, .outstanding = 1_MiB / size});
            print(fmt::format("stream of {} KiB, 1 MiB in flight", size / 1024), ours);
            print_ratio("throughput", ours.bytes_per_second(), floor.bytes_per_second());
        }
        const Figures ours = co_await run_load({.logs = {log}, .size = 100_KiB, .outstanding = 80});
        print("stream of 100 KiB, 8 MiB in flight", ours);
        print_metrics(*store);
    }
}

Task<void> bench_many(Store* store, std::string) {
    std::vector<Log*> logs;
    for (uint64_t i = 0; i < 1000; ++i) logs.push_back(must(co_await store->create_log({1000 + i}, {})));
    for (int round = 0; round < 2; ++round) {
        const Figures one = co_await run_load({.logs = {logs[0]}, .size = 1100, .outstanding = 256});
        print("one log, 1,100 bytes, 256", one);
        const Figures many = co_await run_load({.logs = logs, .size = 1100, .outstanding = 256});
        print("1,000 logs, 1,100 bytes, 256", many);
        print_ratio("throughput", many.bytes_per_second(), one.bytes_per_second());
        print_ratio("p99", static_cast<double>(many.latency.quantile(0.99)), static_cast<double>(one.latency.quantile(0.99)));
        print_metrics(*store);
    }
}

Task<void> bench_cold(Store* store, std::string directory) {
    constexpr uint64_t kBytes = 1_GiB;
    Log* log = must(co_await store->create_log({30}, {}));
    uint64_t written = 0;
    while (written < kBytes) {
        const Figures part = co_await run_load({.logs = {log}, .size = 64_KiB, .outstanding = 64});
        written += part.bytes;
    }
    for (int round = 0; round < 2; ++round) {
        Instant begin = Shard::current().now();
        double processor = processor_seconds();
        uint64_t read = 0;
        for (int64_t at = log->start_offset(); at < log->end().offset;) {
            const ReadResult result = must(co_await log->read(at, {.bytes_max = 1 << 20}, {}));
            read += result.size;
            at = result.next_offset;
        }
        const double ours = static_cast<double>(read) / seconds(Shard::current().now() - begin);
        fmt::print("cold read of {} MB: {:.0f} MB/s, cpu {:.2f} s/GB\n", read / 1'000'000, ours / 1e6,
                   (processor_seconds() - processor) / (static_cast<double>(read) / 1e9));
        const std::string path = directory + "/floor";
        runtime::File file = must(co_await runtime::File::open(
            path, {.flags = runtime::kOpenRead | runtime::kOpenWrite | runtime::kOpenCreate, .preallocate_bytes = kBytes}));
        runtime::IoBuffer buffer = runtime::IoBuffer::allocate(4_MiB);
        std::memset(buffer.data(), 3, buffer.capacity());
        if (round == 0) {
            for (uint64_t at = 0; at < kBytes; at += 4_MiB) must(co_await file.write(at, buffer.all()));
            must(co_await file.sync());
        }
        begin = Shard::current().now();
        for (uint64_t at = 0; at < kBytes; at += 4_MiB) must(co_await file.read(at, buffer.all()));
        const double floor = static_cast<double>(kBytes) / seconds(Shard::current().now() - begin);
        fmt::print("sequential read, 4 MiB at a time: {:.0f} MB/s\n", floor / 1e6);
        print_ratio("cold read", ours, floor);
        must(co_await file.close());
    }
    must(co_await runtime::unlink_file(directory + "/floor"));
}

Task<int> bench(std::string directory, std::set<std::string> names, runtime::MemoryBudget* memory) {
    StoreOptions options;
    options.directory = directory + "/data";
    options.memory = memory;
    const Instant begin = Shard::current().now();
    std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
    fmt::print("open of an empty directory: {:.1f} ms\n", seconds(Shard::current().now() - begin) * 1e3);
    const auto wanted = [&](const char* name) { return names.empty() || names.contains(name); };
    if (wanted("commit")) co_await bench_commit(&set->local(), directory);
    if (wanted("stream")) co_await bench_stream(&set->local(), directory);
    if (wanted("many")) co_await bench_many(&set->local(), directory);
    if (wanted("cold")) co_await bench_cold(&set->local(), directory);
    if (wanted("open")) {
        Scope scope;
        for (uint64_t i = 0; i < 10'000; ++i) {
            scope.spawn([](Store* store, LogId id) -> Task<void> {
                Log* log = must(co_await store->create_log(id, {}));
                log->set_state_provider([] { return std::vector<uint8_t>(100); });
                Entry entry;
                entry.info = {.first = log->end(), .next_offset = 1, .max_timestamp_ms = 1};
                entry.payload = some_bytes(200);
                must(log->append(std::move(entry)));
                must(co_await log->wait_durable(log->end()));
            }(&set->local(), {100'000 + i}));
        }
        co_await scope.join();
    }
    Instant from = Shard::current().now();
    co_await set->close();
    fmt::print("close: {:.1f} ms\n", seconds(Shard::current().now() - from) * 1e3);
    from = Shard::current().now();
    set = must(co_await StoreSet::open(options));
    fmt::print("open again, {} logs: {:.1f} ms\n", set->local().logs().size(), seconds(Shard::current().now() - from) * 1e3);
    co_await set->close();
    co_return 0;
}

}  // namespace
}  // namespace weir::storage

int main(int argc, char** argv) {
    if (argc < 2) {
        fmt::print(stderr, "usage: weir_bench_storage DIRECTORY [commit|stream|many|cold|open ...]\n");
        return 2;
    }
    const std::set<std::string> names(argv + 2, argv + argc);
    weir::runtime::MemoryBudget memory(512ull << 20);
    auto driver = weir::runtime::DriverChoice::kAuto;
    if (const char* name = std::getenv("WEIR_DRIVER")) driver = *weir::runtime::parse_driver_choice(name);
    const auto result = weir::runtime::run_real_node(
        {.shards = 1, .driver = driver, .log_level = weir::LogLevel::kWarn, .log_sink = {}, .pin = false, .handle_signals = false},
        [&](weir::runtime::RealNode&) { return weir::storage::bench(argv[1], names, &memory); });
    if (!result) fmt::print(stderr, "{}\n", result.error().to_string());
    return result ? *result : 1;
}

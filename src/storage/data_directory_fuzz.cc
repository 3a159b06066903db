// A whole data directory with damage in it: journals, segments, checkpoint and layout of a node
// that was killed, changed as the input says, then opened, read, written to, closed and opened
// again. Opening may refuse; what is read is what was appended, or an error; nothing crashes or
// waits for ever. Where the input makes checksums right again, only the last of these holds.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/byte_reader.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "runtime/remote.h"
#include "storage/checkpoint_format.h"
#include "storage/segment_format.h"
#include "storage/test_store.h"

namespace weir::storage {
namespace {

using Files = std::map<std::string, std::vector<uint8_t>>;  // by path; those ending in '/' are
                                                            // directories
constexpr uint64_t kLogs = 4;
constexpr uint32_t kNewFile = runtime::kOpenRead | runtime::kOpenWrite | runtime::kOpenCreate;

StoreOptions options_for(runtime::MemoryBudget* memory) {
    StoreOptions options = small_options(memory);
    options.journal_file_bytes = 64_KiB;
    options.journal_bytes_max = 256_KiB;
    options.unflushed_bytes_max = 64_KiB;
    options.commit_bytes_max = 32_KiB;
    options.bypass_bytes_min = 12_KiB;
    return options;
}

Task<void> fill(StoreOptions options, bool* done) {
    const auto set = must(co_await StoreSet::open(options));
    Store& store = set->local();
    for (uint64_t id = 1; id <= kLogs + 1; ++id)
        (void)must(co_await store.create_log({id}, {.segment_bytes = 64_KiB, .retention_ms = -1}));
    must(co_await store.remove_log({kLogs + 1}));
    for (int round = 0; round < 30; ++round) {
        Log* log = store.find({1 + static_cast<uint64_t>(round) % kLogs});
        const int count = round % 5 == 0 ? 8 : 3;
        for (int i = 0; i < count; ++i) {
            const size_t size = round % 5 == 0 ? 4000 : 200u + static_cast<size_t>(i) * 300;
            must(co_await log->admit(size, {}));
            must(log->append(make_entry(*log, size, 1, 1 + round / 10)));
        }
        must(co_await log->wait_durable(log->end()));
        if (round % 6 == 0) must(log->append(make_control(*log, 2 + round / 10)));
        if (round == 12) must(co_await log->truncate_prefix(5));
        if (round == 13) must(co_await log->truncate_suffix({log->end().offset - 2, 0}));
        if (round == 14) must(co_await log->save_hard_state({.term = 3, .voted_for = 1}));
    }
    for (uint64_t id = 1; id <= kLogs; ++id)
        must(co_await store.find({id})->wait_durable(store.find({id})->end()));
    *done = true;
    (void)co_await runtime::sleep_for(1h);
}

void collect(const sim::Disk& disk, const std::string& path, Files* files) {
    std::vector<std::string> names;
    CHECK(disk.list(path, &names) >= 0);
    (*files)[path + "/"];
    for (const std::string& name : names) {
        const std::string child = path + "/" + name;
        const sim::InodeRef inode = disk.find(child);
        if (inode->directory) {
            collect(disk, child, files);
        } else {
            std::vector<uint8_t>& bytes = (*files)[child];
            bytes.resize(inode->size);
            if (!bytes.empty()) CHECK(disk.read(*inode, 0, bytes) >= 0);
        }
    }
}

// The directory of a node that did everything that a store does, and was killed.
const Files& damaged_by_nobody() {
    static const Files files = [] {
        sim::World world{{.plan = sim::Plan{.seed = 1}}};
        sim::Node& node = world.add_node({.name = "n1"});
        runtime::MemoryBudget memory(16_MiB);
        bool done = false;
        world.start(node, [&](Shard&) { return fill(options_for(&memory), &done); });
        CHECK(world.run_until([&] { return done; }, 10min) == sim::World::Outcome::kDone);
        world.kill(node, sim::Kill::kProcess);
        Files found;
        collect(node.disk(), "/data", &found);
        return found;
    }();
    return files;
}

// Makes the checksum of what begins at `at` right, whatever it is.
void seal(std::vector<uint8_t>& file, size_t at) {
    if (file.size() - at < 64) return;
    const size_t left = file.size() - at;
    uint8_t* begin = file.data() + at;
    size_t length = 0;
    switch (load_le<uint32_t>(begin)) {
        case kBlockMagic:
            length = load_le<uint32_t>(begin + 12);
            break;
        case kCheckpointMagic:
            length = load_le<uint64_t>(begin + 16);
            break;
        case kFooterMagic:
            length = kFooterHeaderBytes + size_t{load_le<uint32_t>(begin + 32)} * kFooterItemBytes;
            break;
        case kRunMagic: {
            length = kRunHeaderBytes;
            const size_t table = size_t{load_le<uint32_t>(begin + 36)} * kTableItemBytes;
            const size_t payloads = load_le<uint32_t>(begin + 40);
            if (length + table + payloads <= left) {
                store_le<uint32_t>(begin + 44, crc32c(Bytes(begin + length, table)));
                store_le<uint32_t>(begin + 48, crc32c(Bytes(begin + length + table, payloads)));
            }
            break;
        }
    }
    if (length >= 8 && length <= left)
        store_le<uint32_t>(begin + 4, crc32c(Bytes(begin + 8, length - 8)));
}

// Whether the checksums are still to be trusted.
bool damage(Files& files, ByteReader& in) {
    constexpr int kChangesMax = 8;
    bool honest = true;
    std::vector<Files::value_type*> all;
    for (auto& file : files) {
        if (!file.first.ends_with('/')) all.push_back(&file);
    }
    for (int i = 0; i < kChangesMax && in.ok() && in.remaining() > 0; ++i) {
        const uint8_t what = in.read_u8();
        std::vector<uint8_t>& file = all[in.read_u8() % all.size()]->second;
        const uint32_t where = in.read_u32();
        if (file.empty()) continue;
        const size_t at = where % file.size();
        const size_t page = at / kPage * kPage;
        switch (what % 8) {
            case 0:
                file[at] ^= static_cast<uint8_t>(1u << (in.read_u8() % 8));
                break;
            case 1:
            case 2:
            case 3: {
                // Near the front of a page lie the headers.
                const size_t near = page + at % 256;
                const Bytes bytes =
                    in.read_bytes(std::min<size_t>(what / 8 % 8 + 1, in.remaining()));
                for (size_t b = 0; b < bytes.size() && near + b < file.size(); ++b)
                    file[near + b] = bytes[b];
                if (what % 8 == 1) break;
                honest = false;
                seal(file, page);
                break;
            }
            case 4:
                std::fill_n(file.begin() + static_cast<ptrdiff_t>(page),
                            std::min<size_t>(kPage, file.size() - page), uint8_t{0});
                break;
            case 5:
                file.resize(page);
                break;
            case 6: {
                const std::vector<uint8_t>& other = all[in.read_u8() % all.size()]->second;
                const size_t from = in.read_u16() * kPage;
                if (from >= other.size()) break;
                const std::vector<uint8_t> copied(
                    other.begin() + static_cast<ptrdiff_t>(from),
                    other.begin() + static_cast<ptrdiff_t>(std::min(other.size(), from + kPage)));
                file.resize(std::max(file.size(), page + copied.size()));
                std::ranges::copy(copied, file.begin() + static_cast<ptrdiff_t>(page));
                break;
            }
            case 7:
                file.clear();
                break;
        }
    }
    return honest;
}

void put(sim::Disk& disk, const Files& files) {
    for (const auto& [path, bytes] : files) {
        if (path.ends_with('/')) {
            CHECK(disk.make_dir(path.substr(0, path.size() - 1)) >= 0);
            continue;
        }
        sim::InodeRef inode;
        CHECK(disk.open(path, kNewFile, 0, &inode) >= 0);
        if (!bytes.empty()) CHECK(disk.write(*inode, 0, bytes) >= 0);
        disk.close(*inode);
    }
}

bool is_right(LogId log, const runtime::SharedBytes& part) {
    for (size_t at = 0; at < part.size();) {
        if (part.size() - at < 24) return false;
        const int64_t offset = load_le<int64_t>(part.data() + at + 8);
        const uint64_t size = load_le<uint64_t>(part.data() + at + 16);
        if (size > part.size() - at) return false;
        const runtime::SharedBytes right = payload_of(log, offset, size);
        if (std::memcmp(right.data(), part.data() + at, size) != 0) return false;
        at += size;
    }
    return true;
}

Task<void> use_log(Log* log, bool honest) {
    (void)log->take_recovered();
    int64_t at = log->start_offset();
    for (int reads = 0; reads < 100 && at < log->end().offset; ++reads) {
        const auto result = co_await log->read(at, {.bytes_max = 16_KiB}, {});
        if (!result || result->parts.empty()) break;
        if (honest) {
            for (const runtime::SharedBytes& part : result->parts) CHECK(is_right(log->id(), part));
        }
        at = result->next_offset;
    }
    (void)co_await log->find_timestamp(100, INT64_MAX);
    (void)co_await log->find_max_timestamp(INT64_MAX);
    if (log->end().offset > INT64_MAX / 2) co_return;
    for (int i = 0; i < 3; ++i) {
        if (!co_await log->admit(1000, {})) co_return;
        if (!log->append(make_entry(*log, 1000, 1, std::max(log->last_term(), 1)))) co_return;
    }
    (void)co_await log->wait_durable(log->end());
}

Task<void> use(StoreOptions options, bool honest) {
    const auto set = co_await StoreSet::open(options);
    if (!set) co_return;
    for (uint32_t shard = 0; shard < Shard::current().count(); ++shard) {
        co_await runtime::on(shard, [set = set->get(), honest]() -> Task<void> {
            Store& store = set->local();
            for (const LogId id : store.logs()) co_await use_log(store.find(id), honest);
        });
    }
    co_await (*set)->close();
}

void fuzz(Bytes input) {
    ByteReader in(input);
    const uint32_t shards = 1 + in.read_u8() % 2;
    Files files = damaged_by_nobody();
    const bool honest = damage(files, in);
    sim::World world{{.plan = sim::Plan{.seed = 1}}};
    sim::Node& node = world.add_node({.name = "n1", .shards = shards});
    put(node.disk(), files);
    runtime::MemoryBudget memory(16_MiB);
    for (int life = 0; life < 2; ++life) {
        const auto live = [&](Shard& shard) -> Task<void> {
            if (shard.id() == 0) co_await use(options_for(&memory), honest);
        };
        sim::run_on(world, node, live, 10min);
        CHECK(memory.used() == 0);
    }
}

}  // namespace
}  // namespace weir::storage

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    weir::storage::fuzz({data, size});
    return 0;
}

// Files: what every driver does the same way.
#include <algorithm>
#include <cerrno>

#include "runtime/buffer.h"
#include "runtime/conformance/conformance.h"
#include "runtime/conformance/must.h"
#include "runtime/file.h"
#include "runtime/op_awaiter.h"
#include "runtime/scope.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

constexpr size_t kBlock = kDirectAlign;
constexpr uint32_t kNewFile = kOpenRead | kOpenWrite | kOpenCreate;

// Bytes that tell where they belong: two blocks that were swapped, or a block of zeros, differ.
void fill_pattern(MutableBytes bytes, uint64_t offset, uint8_t salt = 0) {
    for (size_t i = 0; i < bytes.size(); ++i) {
        const uint64_t at = offset + i;
        bytes[i] = static_cast<uint8_t>(mix64(at / 8 + salt * 0x1000000ULL) >> (8 * (at % 8)));
    }
}

bool has_pattern(Bytes bytes, uint64_t offset, uint8_t salt = 0) {
    std::vector<uint8_t> wanted(bytes.size());
    fill_pattern(wanted, offset, salt);
    return std::ranges::equal(bytes, wanted);
}

IoBuffer patterned(size_t size, uint64_t offset, uint8_t salt = 0) {
    IoBuffer buffer = IoBuffer::allocate(size);
    fill_pattern(buffer.all(), offset, salt);
    buffer.set_size(size);
    return buffer;
}

Task<File> must_open(std::string path, uint32_t flags, uint64_t preallocate = 0) {
    co_return must(
        co_await File::open(std::move(path), {.flags = flags, .preallocate_bytes = preallocate}));
}

Task<void> round_trip(std::string path, size_t size) {
    File file = co_await must_open(path, kNewFile);
    const IoBuffer out = patterned(size, 0);
    must(co_await file.write(0, out.filled()));
    must(co_await file.sync());
    IoBuffer in = IoBuffer::allocate(size);
    EXPECT_EQ(must(co_await file.read(0, in.all())), size);
    EXPECT_TRUE(has_pattern(in.all(), 0));
    EXPECT_EQ(must(co_await file.size()), size);
    must(co_await file.close());
}

TEST_P(Conformance, what_was_written_is_read) {
    run([&](Shard&) { return round_trip(path("file"), kBlock); });
}

TEST_P(Conformance, a_transfer_of_many_mebibytes_arrives_whole) {
    run([&](Shard&) { return round_trip(path("file"), 24 << 20); });
}

Task<void> background_round_trip(std::string path, size_t size) {
    co_await switch_to(WorkClass::kBackground);
    co_await round_trip(path, size);
}

TEST_P(Conformance, a_large_background_transfer_arrives_whole_too) {
    run([&](Shard&) { return background_round_trip(path("file"), 9 << 20); });
}

Task<void> read_past_the_end(std::string path) {
    File file = co_await must_open(path, kNewFile);
    must(co_await file.write(0, patterned(2 * kBlock, 0).filled()));
    IoBuffer in = IoBuffer::allocate(4 * kBlock);
    EXPECT_EQ(must(co_await file.read(kBlock, in.all())), kBlock);
    EXPECT_TRUE(has_pattern(in.all().first(kBlock), kBlock));
    EXPECT_EQ(must(co_await file.read(16 * kBlock, in.all())), 0u);
    must(co_await file.truncate(kBlock + 100));
    EXPECT_EQ(must(co_await file.read(0, in.all())), kBlock + 100);
    must(co_await file.close());
}

TEST_P(Conformance, a_read_is_short_at_the_end_of_the_file) {
    run([&](Shard&) { return read_past_the_end(path("file")); });
}

Task<int32_t> raw(OpKind kind, Fd fd, uint64_t offset, uint8_t* data, uint64_t size) {
    const OpResult op =
        co_await perform({.kind = kind, .fd = fd, .offset = offset, .data = data, .size = size});
    co_return op.result;
}

Task<void> misaligned(std::string path) {
    const OpResult opened =
        co_await perform({.kind = OpKind::kOpen, .flags = kNewFile, .path = path.c_str()});
    CHECK(opened.result >= 0);
    const Fd fd{opened.result};
    IoBuffer buffer = IoBuffer::allocate(4 * kBlock);
    fill_pattern(buffer.all(), 0);
    for (const OpKind kind : {OpKind::kWrite, OpKind::kRead}) {
        EXPECT_EQ(co_await raw(kind, fd, 0, buffer.data() + 1, kBlock), -EINVAL) << "memory";
        EXPECT_EQ(co_await raw(kind, fd, 512, buffer.data(), kBlock), -EINVAL) << "offset";
        EXPECT_EQ(co_await raw(kind, fd, 0, buffer.data(), 512), -EINVAL) << "size";
        EXPECT_EQ(co_await raw(kind, fd, 0, buffer.data() + 512, kBlock), -EINVAL)
            << "memory at a sector";
        // A read finds what the write before it left.
        EXPECT_EQ(co_await raw(kind, fd, 0, buffer.data(), kBlock), static_cast<int32_t>(kBlock));
    }
    EXPECT_EQ((co_await perform({.kind = OpKind::kClose, .fd = fd})).result, 0);
}

TEST_P(Conformance, misaligned_direct_access_is_invalid) {
    run([&](Shard&) { return misaligned(path("file")); });
}

Task<void> buffered(std::string path) {
    File file = co_await must_open(path, kNewFile | kOpenBuffered);
    const std::string text = "a short line";
    must(co_await file.write(3, as_bytes(text)));
    must(co_await file.sync());
    std::string back(64, '-');
    const size_t got =
        must(co_await file.read(0, {reinterpret_cast<uint8_t*>(back.data()), back.size()}));
    EXPECT_EQ(got, 3 + text.size());
    EXPECT_EQ(back.substr(0, got), std::string(3, '\0') + text);
    must(co_await file.close());
    must(co_await replace_small_file(path, "other words"));
    EXPECT_EQ(must(co_await read_small_file(path, 100)), "other words");
}

TEST_P(Conformance, a_buffered_file_takes_any_alignment) {
    run([&](Shard&) { return buffered(path("file")); });
}

Task<void> open_errors(std::string directory) {
    auto missing = co_await File::open(directory + "/missing", {.flags = kOpenRead});
    EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
    auto no_directory = co_await File::open(directory + "/no/file", {.flags = kNewFile});
    EXPECT_EQ(no_directory.error().code, ErrorCode::kNotFound);
    File file = co_await must_open(directory + "/file", kNewFile | kOpenExclusive);
    must(co_await file.close());
    auto again = co_await File::open(directory + "/file", {.flags = kNewFile | kOpenExclusive});
    EXPECT_EQ(again.error().code, ErrorCode::kAlreadyExists);
    EXPECT_EQ((co_await file_size(directory + "/missing")).error().code, ErrorCode::kNotFound);
    EXPECT_EQ((co_await unlink_file(directory + "/missing")).error().code, ErrorCode::kNotFound);
    EXPECT_EQ((co_await rename_path(directory + "/missing", directory + "/x")).error().code,
              ErrorCode::kNotFound);
    EXPECT_EQ((co_await list_directory(directory + "/missing")).error().code, ErrorCode::kNotFound);
    EXPECT_EQ((co_await sync_directory(directory + "/missing")).error().code, ErrorCode::kNotFound);
}

TEST_P(Conformance, opening_answers_not_found_and_already_exists) {
    run([&](Shard&) { return open_errors(driver_->scratch()); });
}

Task<void> truncating_open(std::string path) {
    File file = co_await must_open(path, kNewFile);
    must(co_await file.write(0, patterned(2 * kBlock, 0).filled()));
    must(co_await file.close());
    file = co_await must_open(path, kOpenRead);
    EXPECT_EQ(must(co_await file.size()), 2 * kBlock);
    must(co_await file.close());
    file = co_await must_open(path, kNewFile | kOpenTruncate);
    EXPECT_EQ(must(co_await file.size()), 0u);
    must(co_await file.close());
}

TEST_P(Conformance, a_file_keeps_its_content_until_it_is_opened_to_truncate) {
    run([&](Shard&) { return truncating_open(path("file")); });
}

Task<void> preallocated(std::string path) {
    constexpr uint64_t kSize = 4 << 20;
    File file = co_await must_open(path, kNewFile, kSize);
    EXPECT_EQ(must(co_await file.size()), kSize);
    IoBuffer in = IoBuffer::allocate(kBlock);
    EXPECT_EQ(must(co_await file.read(kSize - kBlock, in.all())), kBlock);
    EXPECT_TRUE(std::ranges::all_of(in.all(), [](uint8_t byte) { return byte == 0; }));
    must(co_await file.write(kBlock, patterned(kBlock, kBlock).filled()));
    must(co_await file.preallocate(kSize, kSize));
    EXPECT_EQ(must(co_await file.size()), 2 * kSize);
    EXPECT_EQ(must(co_await file.read(kBlock, in.all())), kBlock);
    EXPECT_TRUE(has_pattern(in.all(), kBlock));
    must(co_await file.truncate(kBlock));
    EXPECT_EQ(must(co_await file.size()), kBlock);
    must(co_await file.truncate(3 * kBlock));
    EXPECT_EQ(must(co_await file.read(kBlock, in.all())), kBlock);
    EXPECT_TRUE(std::ranges::all_of(in.all(), [](uint8_t byte) { return byte == 0; }))
        << "what was cut off does not come back";
    must(co_await file.close());
    // A file that is there is extended, not cleared.
    file = co_await must_open(path, kOpenRead | kOpenWrite, kSize);
    EXPECT_EQ(must(co_await file.size()), kSize);
    must(co_await file.close());
}

TEST_P(Conformance, preallocation_and_truncation_set_the_size) {
    run([&](Shard&) { return preallocated(path("file")); });
}

Task<void> write_file(std::string path, uint8_t salt) {
    File file = co_await must_open(path, kNewFile);
    must(co_await file.write(0, patterned(kBlock, 0, salt).filled()));
    must(co_await file.close());
}

Task<void> expect_file(std::string path, uint8_t salt) {
    File file = co_await must_open(path, kOpenRead);
    IoBuffer in = IoBuffer::allocate(kBlock);
    EXPECT_EQ(must(co_await file.read(0, in.all())), kBlock);
    EXPECT_TRUE(has_pattern(in.all(), 0, salt)) << path;
    must(co_await file.close());
}

Task<void> names(std::string directory) {
    must(co_await make_directories(directory + "/a/b/c"));
    must(co_await make_directories(directory + "/a/b/c"));
    co_await write_file(directory + "/a/two", 2);
    co_await write_file(directory + "/a/one", 1);
    EXPECT_EQ(must(co_await list_directory(directory + "/a")),
              (std::vector<std::string>{"b", "one", "two"}));
    must(co_await rename_path(directory + "/a/one", directory + "/a/two"));
    must(co_await sync_directory(directory + "/a"));
    EXPECT_EQ(must(co_await list_directory(directory + "/a")),
              (std::vector<std::string>{"b", "two"}));
    co_await expect_file(directory + "/a/two", 1);
    const auto not_empty = co_await remove_directory(directory + "/a/b");
    EXPECT_EQ(not_empty.error().os_errno, ENOTEMPTY);
    must(co_await remove_directory(directory + "/a/b/c"));
    must(co_await remove_directory(directory + "/a/b"));
    must(co_await unlink_file(directory + "/a/two"));
    EXPECT_TRUE(must(co_await list_directory(directory + "/a")).empty());
    const std::string name = directory + "/a";
    EXPECT_EQ((co_await perform({.kind = OpKind::kMakeDir, .path = name.c_str()})).result, -EEXIST);
}

TEST_P(Conformance, names_are_made_renamed_listed_and_removed) {
    run([&](Shard&) { return names(driver_->scratch()); });
}

Task<void> unlinked_while_open(std::string path) {
    File file = co_await must_open(path, kNewFile);
    must(co_await file.write(0, patterned(kBlock, 0).filled()));
    must(co_await unlink_file(path));
    IoBuffer in = IoBuffer::allocate(kBlock);
    EXPECT_EQ(must(co_await file.read(0, in.all())), kBlock);
    EXPECT_TRUE(has_pattern(in.all(), 0));
    EXPECT_EQ((co_await file_size(path)).error().code, ErrorCode::kNotFound);
    must(co_await file.close());
}

TEST_P(Conformance, an_open_file_outlives_its_name) {
    run([&](Shard&) { return unlinked_while_open(path("file")); });
}

Task<void> locks(std::string path) {
    File first = co_await must_open(path, kNewFile | kOpenBuffered);
    File second = co_await must_open(path, kNewFile | kOpenBuffered);
    must(co_await first.lock());
    EXPECT_EQ((co_await second.lock()).error().code, ErrorCode::kUnavailable);
    must(co_await first.close());
    must(co_await second.lock());
    must(co_await second.close());
}

TEST_P(Conformance, a_lock_excludes_others_until_it_is_closed) {
    run([&](Shard&) { return locks(path("lock")); });
}

Task<void> usage(std::string directory) {
    const DiskUsage disk = must(co_await disk_usage(directory));
    EXPECT_GT(disk.total_bytes, 0u);
    EXPECT_LE(disk.free_bytes, disk.total_bytes);
}

TEST_P(Conformance, a_disk_tells_its_size) {
    run([&](Shard&) { return usage(driver_->scratch()); });
}

Task<void> write_block(File* file, uint64_t block) {
    const IoBuffer out = patterned(kBlock, block * kBlock);
    must(co_await file->write(block * kBlock, out.filled()));
    if (block % 16 == 0) must(co_await file->sync());
}

Task<void> check_block(File* file, uint64_t block) {
    IoBuffer in = IoBuffer::allocate(kBlock);
    EXPECT_EQ(must(co_await file->read(block * kBlock, in.all())), kBlock);
    EXPECT_TRUE(has_pattern(in.all(), block * kBlock)) << "block " << block;
}

Task<void> many_at_once(std::string path) {
    constexpr uint64_t kBlocks = 1500;  // more than any driver keeps at its device
    constexpr WorkClass kClasses[] = {WorkClass::kProduce, WorkClass::kFetch,
                                      WorkClass::kBackground};
    File file = co_await must_open(path, kNewFile, kBlocks * kBlock);
    Scope scope;
    for (uint64_t i = 0; i < kBlocks; ++i) scope.spawn(write_block(&file, i), kClasses[i % 3]);
    co_await scope.join();
    must(co_await file.sync());
    for (uint64_t i = 0; i < kBlocks; ++i) scope.spawn(check_block(&file, i), kClasses[i % 3]);
    co_await scope.join();
    must(co_await file.close());
}

TEST_P(Conformance, many_operations_at_once_all_complete) {
    run([&](Shard&) { return many_at_once(path("file")); });
}

Task<void> read_with_stop(Fd fd, uint64_t offset, StopToken stop, int* done, int* cancelled) {
    IoBuffer in = IoBuffer::allocate(kBlock);
    const OpResult op = co_await perform(
        {.kind = OpKind::kRead, .fd = fd, .offset = offset, .data = in.data(), .size = kBlock},
        stop);
    if (op.result == -ECANCELED) {
        ++*cancelled;
        co_return;
    }
    ++*done;
    if (op.result == static_cast<int32_t>(kBlock)) EXPECT_TRUE(has_pattern(in.all(), offset));
}

Task<void> cancelled_reads(std::string path) {
    constexpr int kReads = 1000;
    File file = co_await must_open(path, kNewFile);
    must(co_await file.write(0, patterned(kReads * kBlock, 0).filled()));
    must(co_await file.close());
    const OpResult opened =
        co_await perform({.kind = OpKind::kOpen, .flags = kOpenRead, .path = path.c_str()});
    CHECK(opened.result >= 0);
    StopSource stop;
    Scope scope;
    int done = 0;
    int cancelled = 0;
    for (uint64_t i = 0; i < kReads; ++i) {
        scope.spawn(read_with_stop(Fd{opened.result}, i * kBlock, stop.token(), &done, &cancelled));
    }
    co_await yield();  // behind all of them: they are submitted
    stop.request_stop();
    co_await scope.join();
    EXPECT_EQ(done + cancelled, kReads);
    EXPECT_EQ((co_await perform({.kind = OpKind::kClose, .fd = Fd{opened.result}})).result, 0);
}

TEST_P(Conformance, cancelled_file_operations_each_complete_once) {
    run([&](Shard&) { return cancelled_reads(path("file")); });
}

Task<void> one_of_many_files(std::string path, uint8_t salt) {
    co_await write_file(path, salt);
    co_await expect_file(path, salt);
    must(co_await rename_path(path, path + "-new"));
    co_await expect_file(path + "-new", salt);
    must(co_await unlink_file(path + "-new"));
}

Task<void> many_files(std::string directory) {
    Scope scope;
    for (int i = 0; i < 200; ++i) {
        scope.spawn(
            one_of_many_files(directory + "/" + std::to_string(i), static_cast<uint8_t>(i)));
    }
    co_await scope.join();
    EXPECT_TRUE(must(co_await list_directory(directory)).empty());
}

TEST_P(Conformance, many_files_come_and_go_at_once) {
    run([&](Shard&) { return many_files(driver_->scratch()); });
}

Task<void> bad_descriptor(std::string path) {
    IoBuffer buffer = IoBuffer::allocate(kBlock);
    EXPECT_EQ(co_await raw(OpKind::kRead, Fd{}, 0, buffer.data(), kBlock), -EBADF);
    File file = co_await must_open(path, kOpenWrite | kOpenCreate);
    EXPECT_FALSE((co_await file.read(0, buffer.all())).has_value()) << "opened to write alone";
    must(co_await file.close());
    file = co_await must_open(path, kOpenRead);
    EXPECT_FALSE((co_await file.write(0, buffer.all())).has_value()) << "opened to read alone";
    must(co_await file.close());
}

TEST_P(Conformance, a_descriptor_allows_what_it_was_opened_for) {
    run([&](Shard&) { return bad_descriptor(path("file")); });
}

Task<void> fill_disk(std::string directory, uint64_t size) {
    const std::string path = directory + "/file";
    auto too_large = co_await File::open(path, {.flags = kNewFile, .preallocate_bytes = 4 * size});
    EXPECT_EQ(too_large.error().code, ErrorCode::kDiskFull);
    File file = co_await must_open(path, kNewFile);
    const IoBuffer block = patterned(64 * kBlock, 0);
    Result<void> written;
    uint64_t offset = 0;
    while (written && offset < 4 * size) {
        written = co_await file.write(offset, block.filled());
        if (written) offset += block.size();
    }
    EXPECT_FALSE(written.has_value());
    EXPECT_EQ(written.error().code, ErrorCode::kDiskFull);
    EXPECT_GT(offset, 0u);
    EXPECT_EQ((co_await file.preallocate(0, 4 * size)).error().code, ErrorCode::kDiskFull);
    // What was there stays readable, and room made is room used.
    IoBuffer in = IoBuffer::allocate(kBlock);
    EXPECT_EQ(must(co_await file.read(0, in.all())), kBlock);
    EXPECT_TRUE(has_pattern(in.all(), 0));
    must(co_await file.truncate(0));
    must(co_await file.write(0, block.filled()));
    must(co_await file.close());
}

TEST_P(Conformance, a_full_disk_is_an_error_and_not_the_end) {
    constexpr uint64_t kSize = 8 << 20;
    const std::optional<std::string> disk = driver_->small_disk(kSize);
    if (!disk) GTEST_SKIP() << "may not mount a small file system here";
    run([&](Shard&) { return fill_disk(*disk, kSize); });
}

}  // namespace
}  // namespace weir::runtime

// Small inputs that unpack to a gibibyte, against the memory that the process really takes; and
// that the common path takes none.
#include <gtest/gtest.h>
#include <malloc.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/units.h"
#include "kafka/records/builder.h"
#include "kafka/records/compression.h"
#include "kafka/records/validate.h"

#if !defined(WEIR_ASAN) && !defined(WEIR_TSAN)
#define WEIR_OWN_HEAP 1  // sanitizers bring their own, which keeps what was freed
#endif

namespace {
uint64_t allocations = 0;
}

#ifdef WEIR_OWN_HEAP
void* operator new(size_t size) {
    ++allocations;
    if (void* const memory = std::malloc(size)) return memory;
    std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

namespace weir::kafka {
namespace {

constexpr size_t kBombSize = 1_GiB;

std::vector<uint8_t> repeated(Bytes head, Bytes part, size_t count, Bytes tail) {
    std::vector<uint8_t> all(head.begin(), head.end());
    for (size_t i = 0; i < count; ++i) all.insert(all.end(), part.begin(), part.end());
    all.insert(all.end(), tail.begin(), tail.end());
    return all;
}

// A gibibyte of zeros, made without unpacked zeros of that size.
std::vector<uint8_t> make_bomb(Compression codec) {
    const std::vector<uint8_t> zeros(4_MiB, 0);
    switch (codec) {
        case Compression::kGzip:  // many members
            return repeated({}, *compress(codec, zeros, 9), kBombSize / zeros.size(), {});
        case Compression::kSnappy: {  // many blocks
            const auto one = *compress(codec, zeros);
            return repeated(Bytes(one).first(16), Bytes(one).subspan(16), kBombSize / zeros.size(),
                            {});
        }
        case Compression::kLz4: {  // many blocks of one frame: header 7 bytes, end mark 4
            const auto one = *compress(codec, zeros);
            return repeated(Bytes(one).first(7), Bytes(one).subspan(7, one.size() - 11),
                            kBombSize / zeros.size(), Bytes(one).last(4));
        }
        case Compression::kZstd: {
            // A frame with a window of 128 MiB, and blocks that repeat a zero 131,072 times, the
            // last marked as such (RFC 8878, 3.1.1).
            const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3};
            const uint8_t block[] = {0x02, 0x00, 0x10, 0x00};
            const uint8_t last[] = {0x03, 0x00, 0x10, 0x00};
            return repeated(head, block, kBombSize / 131072 - 1, last);
        }
        case Compression::kNone:
            break;
    }
    return {};
}

constexpr Compression kCodecs[] = {Compression::kGzip, Compression::kSnappy, Compression::kLz4,
                                   Compression::kZstd};

size_t status_kib(const char* name) {
    std::FILE* file = std::fopen("/proc/self/status", "r");
    if (file == nullptr) return 0;
    char line[256];
    unsigned long value = 0;
    const std::string format = std::string(name) + ": %lu";
    while (std::fgets(line, sizeof line, file) != nullptr) {
        if (std::sscanf(line, format.c_str(), &value) == 1) break;
    }
    std::fclose(file);
    return value;
}

// By how much the resident memory rose above where it was, at its highest. Zero where the kernel
// does not tell.
template <class Work>
size_t memory_of(Work work) {
    malloc_trim(0);
    std::FILE* file =
        std::fopen("/proc/self/clear_refs", "w");  // 5: the high-water mark starts afresh
    if (file == nullptr) return 0;
    std::fputs("5", file);
    if (std::fclose(file) != 0) return 0;
    const size_t before = status_kib("VmRSS");
    work();
    const size_t highest = status_kib("VmHWM");
    return highest > before ? (highest - before) << 10 : 0;
}

TEST(Bomb, a_gibibyte_in_a_small_input_is_refused_within_the_bound) {
    for (const Compression codec : kCodecs) {
        const auto bomb = make_bomb(codec);
        SCOPED_TRACE(std::string(to_string(codec)) + ", packed " + std::to_string(bomb.size()));
        ErrorCode code{};
        const size_t flat = memory_of([&] {
            const auto refused = decompress(codec, bomb, 8_MiB);
            ASSERT_FALSE(refused);
            code = refused.error().code;
        });
        EXPECT_EQ(code, ErrorCode::kResourceExhausted);
        const size_t streamed = memory_of([&] {
            Decompressor decompressor;
            ASSERT_TRUE(decompressor.start(codec, bomb, 64_MiB));
            size_t total = 0;
            Result<Bytes> chunk = Bytes{};
            while (chunk && !decompressor.ended()) {
                chunk = decompressor.next();
                if (chunk) total += chunk->size();
            }
            ASSERT_FALSE(chunk);
            code = chunk.error().code;
            EXPECT_LE(total, 64_MiB);
        });
        EXPECT_EQ(code, ErrorCode::kResourceExhausted);
#ifdef WEIR_OWN_HEAP
        EXPECT_LE(flat, 8_MiB * 3 + 1_MiB);
        EXPECT_LE(streamed, codec == Compression::kZstd ? Decompressor::kWindowMax + 2_MiB : 2_MiB);
#endif
        RecordProperty("flat_" + std::string(to_string(codec)), std::to_string(flat));
        RecordProperty("streamed_" + std::string(to_string(codec)), std::to_string(streamed));
    }
}

TEST(Bomb, a_whole_gibibyte_can_be_counted_without_being_held) {
    const auto bomb = make_bomb(Compression::kLz4);
    Decompressor decompressor;
    ASSERT_TRUE(decompressor.start(Compression::kLz4, bomb, kBombSize));
    size_t total = 0;
    Result<Bytes> chunk = Bytes{};
    while (chunk && !decompressor.ended()) {
        chunk = decompressor.next();
        if (chunk) total += chunk->size();
    }
    ASSERT_TRUE(chunk) << chunk.error().to_string();
    EXPECT_EQ(total, kBombSize);
}

// An encoder at level 22 that does not know the size beforehand, as the Java client's is, names a
// window of 128 MiB.
TEST(Bomb, a_large_zstd_window_is_no_fault_of_a_small_batch) {
    const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3};
    const uint8_t block[] = {0x02, 0x00, 0x10, 0x00};
    const uint8_t last[] = {0x03, 0x00, 0x10, 0x00};
    for (const size_t size : {16_MiB, 17_MiB}) {
        const auto frame = repeated(head, block, size / 131072 - 1, last);
        Decompressor decompressor;
        ASSERT_TRUE(decompressor.start(Compression::kZstd, frame, 64_MiB));
        size_t total = 0;
        Result<Bytes> chunk = Bytes{};
        while (chunk && !decompressor.ended()) {
            chunk = decompressor.next();
            if (chunk) total += chunk->size();
        }
        EXPECT_EQ(chunk.has_value(), size <= Decompressor::kWindowMax);
        if (chunk) EXPECT_EQ(total, size);
        EXPECT_EQ(decompress(Compression::kZstd, frame, 64_MiB)->size(), size);
    }
}

TEST(Bomb, an_uncompressed_batch_is_validated_without_an_allocation) {
    BatchBuilder builder;
    const std::string value(1000, 'v');
    const RecordHeader headers[] = {{as_bytes("trace"), as_bytes("0123456789abcdef")}};
    for (int i = 0; i < 1000; ++i) {
        builder.append({.timestamp = {1'700'000'000'000 + i},
                        .key = as_bytes("key"),
                        .value = as_bytes(value),
                        .headers = headers});
    }
    const auto batch = *builder.build();
    const uint64_t before = allocations;
    const BatchVerdict verdict = validate_batch(batch, {});
    EXPECT_EQ(allocations, before);
    EXPECT_TRUE(verdict.ok());
}

}  // namespace
}  // namespace weir::kafka

#include "kafka/records/compression.h"

#include <gtest/gtest.h>
#include <snappy.h>

#include <string>

#include "base/prng.h"
#include "base/units.h"

namespace weir::kafka {
namespace {

constexpr Compression kCodecs[] = {Compression::kGzip, Compression::kSnappy, Compression::kLz4,
                                   Compression::kZstd};

std::vector<uint8_t> make_text(Prng& prng, size_t size) {
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>('a' + prng.below(6));
    return bytes;
}

std::vector<uint8_t> make_noise(Prng& prng, size_t size) {
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(prng.next());
    return bytes;
}

Result<std::vector<uint8_t>> drain(Decompressor& decompressor, Compression codec, Bytes packed,
                                   size_t size_max) {
    TRY(decompressor.start(codec, packed, size_max));
    std::vector<uint8_t> all;
    while (!decompressor.ended()) {
        TRY_ASSIGN(const Bytes chunk, decompressor.next());
        EXPECT_LE(chunk.size(), Decompressor::kChunkSize);
        all.insert(all.end(), chunk.begin(), chunk.end());
    }
    EXPECT_TRUE(decompressor.next()->empty());
    return all;
}

struct Nothing {
    Compression codec;
    std::string_view what;
    std::vector<uint8_t> head;
    std::vector<uint8_t> part;  // any number of these unpack to nothing
    std::vector<uint8_t> tail;
};

std::vector<Nothing> ways_to_say_nothing() {
    return {
        // RFC 1952, 2.2; RFC 1951, 3.2.4: what flushes end with.
        {Compression::kGzip, "members", {}, *compress(Compression::kGzip, {}), {}},
        {Compression::kGzip,
         "blocks",
         {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3},
         {0x00, 0x00, 0x00, 0xff, 0xff},
         {0x01, 0x00, 0x00, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}},
        {Compression::kSnappy,
         "blocks",
         {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1},
         {0, 0, 0, 1, 0},
         {}},
        // A compressed block of no literals.
        {Compression::kLz4,
         "blocks",
         {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82},
         {1, 0, 0, 0, 0},
         {0, 0, 0, 0}},
        // RFC 8878, 3.1.1 and 3.1.2.
        {Compression::kZstd, "frames", {}, *compress(Compression::kZstd, {}), {}},
        {Compression::kZstd, "blocks", {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50}, {0, 0, 0}, {1, 0, 0}},
        {Compression::kZstd,
         "frames to skip",
         {},
         {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0},
         *compress(Compression::kZstd, {})},
    };
}

std::vector<uint8_t> nothing(const Nothing& way, size_t size) {
    std::vector<uint8_t> all = way.head;
    while (all.size() < size) all.insert(all.end(), way.part.begin(), way.part.end());
    all.insert(all.end(), way.tail.begin(), way.tail.end());
    return all;
}

// 15 MiB of empty zstd frames held a shard for 200 ms: the bound is on what is read, not only on
// what comes out.
TEST(Compression, a_piece_reads_a_bounded_part_of_what_unpacks_to_nothing) {
    for (const Nothing& way : ways_to_say_nothing()) {
        const auto packed = nothing(way, 1_MiB);
        SCOPED_TRACE(std::string(to_string(way.codec)) + ": " + std::string(way.what));
        Decompressor decompressor;
        ASSERT_TRUE(decompressor.start(way.codec, packed, 1_KiB));
        size_t pieces = 0;
        for (; !decompressor.ended(); ++pieces) {
            const auto chunk = decompressor.next();
            ASSERT_TRUE(chunk) << chunk.error().to_string();
            EXPECT_TRUE(chunk->empty());
        }
        EXPECT_GE(pieces, packed.size() / (2 * Decompressor::kPackedPiece));
        EXPECT_TRUE(decompress(way.codec, packed, 1_KiB)->empty());

        const Bytes cut = Bytes(packed).first(packed.size() - 2);
        EXPECT_FALSE(drain(decompressor, way.codec, cut, 1_KiB)) << "as an end too early";
        EXPECT_FALSE(decompress(way.codec, cut, 1_KiB));
    }
}

TEST(Compression, what_many_snappy_blocks_need_is_not_asked_of_each) {
    const Nothing way = ways_to_say_nothing()[2];
    ASSERT_EQ(way.codec, Compression::kSnappy);
    const size_t few = Decompressor::memory_for(way.codec, nothing(way, 10_KiB), 128_MiB);
    EXPECT_LT(few, 256_KiB);
    const size_t many = Decompressor::memory_for(way.codec, nothing(way, 1_MiB), 128_MiB);
    EXPECT_GE(many, 8_MiB) << "as if one of the others were as large as can be";
}

TEST(Compression, names_are_those_of_the_topic_config) {
    EXPECT_EQ(to_string(Compression::kZstd), "zstd");
    EXPECT_EQ(compression_from_name("snappy"), Compression::kSnappy);
    EXPECT_EQ(compression_from_name("producer"), std::nullopt);
}

TEST(Compression, every_codec_gives_back_what_it_packed) {
    Prng prng(1);
    Decompressor reused;
    for (const Compression codec : kCodecs) {
        for (const size_t size : {0, 1, 2, 100, 32767, 32768, 32769, 65536, 65537, 300'000}) {
            for (const bool noise : {false, true}) {
                const auto plain = noise ? make_noise(prng, size) : make_text(prng, size);
                const auto packed = compress(codec, plain);
                ASSERT_TRUE(packed) << packed.error().to_string();
                const auto again = decompress(codec, *packed, size);
                ASSERT_TRUE(again) << to_string(codec) << size << again.error().to_string();
                EXPECT_EQ(*again, plain);
                const auto streamed = drain(reused, codec, *packed, size);
                ASSERT_TRUE(streamed) << to_string(codec) << size << streamed.error().to_string();
                EXPECT_EQ(*streamed, plain);
            }
        }
    }
}

TEST(Compression, one_byte_more_than_the_limit_is_refused) {
    Prng prng(2);
    Decompressor reused;
    for (const Compression codec : kCodecs) {
        for (const size_t size : {1, 1000, 65536, 200'000}) {
            const auto packed = compress(codec, make_text(prng, size));
            ASSERT_TRUE(packed);
            const auto flat = decompress(codec, *packed, size - 1);
            ASSERT_FALSE(flat);
            EXPECT_EQ(flat.error().code, ErrorCode::kResourceExhausted);
            const auto streamed = drain(reused, codec, *packed, size - 1);
            ASSERT_FALSE(streamed);
            EXPECT_EQ(streamed.error().code, ErrorCode::kResourceExhausted);
        }
    }
}

TEST(Compression, a_cut_stream_is_refused_at_every_length) {
    Prng prng(3);
    const auto plain = make_text(prng, 700);
    Decompressor reused;
    for (const Compression codec : kCodecs) {
        const auto packed = compress(codec, plain);
        ASSERT_TRUE(packed);
        for (size_t size = 0; size < packed->size(); ++size) {
            const Bytes cut = Bytes(*packed).first(size);
            // A snappy stream without a block is a valid one of nothing.
            if (codec == Compression::kSnappy && size == 16) continue;
            const auto flat = decompress(codec, cut, 10'000);
            ASSERT_FALSE(flat) << to_string(codec) << " " << size;
            EXPECT_EQ(flat.error().code, ErrorCode::kMalformed);
            ASSERT_FALSE(drain(reused, codec, cut, 10'000)) << to_string(codec) << " " << size;
        }
        auto longer = *packed;
        longer.push_back(7);
        EXPECT_FALSE(decompress(codec, longer, 10'000)) << to_string(codec);
    }
}

TEST(Compression, noise_never_crashes_and_seldom_decodes) {
    Prng prng(4);
    Decompressor reused;
    for (int round = 0; round < 400; ++round) {
        for (const Compression codec : kCodecs) {
            auto packed = compress(codec, make_text(prng, prng.below(500)));
            ASSERT_TRUE(packed);
            for (uint64_t i = prng.between(1, 4); i > 0; --i) {
                (*packed)[prng.below(packed->size())] = static_cast<uint8_t>(prng.next());
            }
            const auto flat = decompress(codec, *packed, 4096);
            const auto streamed = drain(reused, codec, *packed, 4096);
            ASSERT_EQ(flat.has_value(), streamed.has_value());
            if (flat) EXPECT_EQ(*flat, *streamed);
        }
    }
}

TEST(Compression, raw_snappy_is_read_too) {
    Prng prng(5);
    const auto plain = make_text(prng, 100'000);
    std::string packed;
    snappy::Compress(reinterpret_cast<const char*>(plain.data()), plain.size(), &packed);
    const auto again = decompress(Compression::kSnappy, as_bytes(packed), plain.size());
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, plain);
    Decompressor decompressor;
    EXPECT_EQ(*drain(decompressor, Compression::kSnappy, as_bytes(packed), plain.size()), plain);
    EXPECT_EQ(decompress(Compression::kSnappy, as_bytes(packed), 99'999).error().code,
              ErrorCode::kResourceExhausted);
}

std::vector<uint8_t> raw_snappy(const std::vector<uint8_t>& plain) {
    std::string packed;
    snappy::Compress(reinterpret_cast<const char*>(plain.data()), plain.size(), &packed);
    return {packed.begin(), packed.end()};
}

// The library unpacks a block at once or not at all: a megabyte would hold 22.
TEST(Compression, a_large_raw_snappy_block_is_read_in_pieces_and_is_what_the_library_reads) {
    Prng prng(7);
    Decompressor reused;
    for (const size_t size : {130'000u, 131'073u, 1'000'000u, 9'000'000u, 20'000'000u}) {
        std::vector<uint8_t> plain = make_text(prng, size / 2);
        // Long runs, literals and copies from far back.
        plain.resize(size * 3 / 4, 7);
        const std::vector<uint8_t> noise = make_noise(prng, size - plain.size());
        plain.insert(plain.end(), noise.begin(), noise.end());
        const std::vector<uint8_t> packed = raw_snappy(plain);
        const auto streamed = drain(reused, Compression::kSnappy, packed, size);
        ASSERT_TRUE(streamed) << size << streamed.error().to_string();
        EXPECT_TRUE(*streamed == plain) << size;
        EXPECT_FALSE(drain(reused, Compression::kSnappy, packed, size - 1));
    }
}

TEST(Compression, a_large_snappy_block_with_changed_bytes_is_refused_or_read_as_the_library_does) {
    Prng prng(9);
    Decompressor reused;
    const std::vector<uint8_t> packed = raw_snappy(make_text(prng, 200'000));
    for (int i = 0; i < 2000; ++i) {
        std::vector<uint8_t> changed = packed;
        for (uint64_t k = prng.between(1, 3); k > 0; --k)
            changed[3 + prng.below(changed.size() - 3)] = static_cast<uint8_t>(prng.next());
        if (prng.chance(0.2)) changed.resize(3 + prng.below(changed.size() - 3));
        std::string plain;
        const bool good = snappy::Uncompress(reinterpret_cast<const char*>(changed.data()),
                                             changed.size(), &plain);
        const auto streamed = drain(reused, Compression::kSnappy, changed, 1'000'000);
        ASSERT_EQ(streamed.has_value(), good) << i;
        if (good) EXPECT_TRUE(as_text(*streamed) == plain);
    }
}

TEST(Compression, what_a_run_will_hold_is_known_from_its_headers) {
    const std::vector<uint8_t> zeros(20_MiB, 0);
    const auto needed = [](Compression codec, const std::vector<uint8_t>& packed) {
        return Decompressor::memory_for(codec, packed, 128_MiB);
    };
    EXPECT_EQ(needed(Compression::kNone, zeros), 0u);
    EXPECT_LE(needed(Compression::kGzip, *compress(Compression::kGzip, zeros)), 256_KiB);
    EXPECT_LE(needed(Compression::kSnappy, *compress(Compression::kSnappy, zeros)), 512_KiB);
    const size_t raw = needed(Compression::kSnappy, raw_snappy(zeros));
    EXPECT_GE(raw, 8_MiB);  // twice what it may look back
    EXPECT_LE(raw, 9_MiB);
    EXPECT_LE(needed(Compression::kLz4, *compress(Compression::kLz4, zeros)), 9_MiB);
    const size_t small =
        needed(Compression::kZstd, *compress(Compression::kZstd, std::vector<uint8_t>(100'000, 0)));
    EXPECT_LE(small, 1_MiB);
    const auto one = *compress(Compression::kZstd, zeros, 3);
    EXPECT_GE(needed(Compression::kZstd, one), 2_MiB);
    std::vector<uint8_t> two = one;
    two.insert(two.end(), one.begin(), one.end());
    EXPECT_GE(needed(Compression::kZstd, two), 16_MiB);  // the second may name any window
    EXPECT_GE(needed(Compression::kZstd, {1, 2, 3}), 1u);
    // Cut and changed at will, it ends, whatever it says.
    Prng prng(3);
    for (const Compression codec : kCodecs) {
        const std::vector<uint8_t> packed = *compress(codec, make_text(prng, 100'000));
        for (int i = 0; i < 300; ++i) {
            std::vector<uint8_t> changed = packed;
            changed[prng.below(std::min<size_t>(changed.size(), 64))] =
                static_cast<uint8_t>(prng.next());
            changed.resize(prng.below(changed.size() + 1));
            EXPECT_LE(needed(codec, changed), 20_MiB);
        }
    }
}

// The second look's F2: level 22 took 640 MiB for a batch of a megabyte.
TEST(Compression, the_highest_level_of_zstd_holds_little_whatever_it_packs) {
    for (const size_t plain : {10'000u, 1'000'000u, 100'000'000u}) {
        EXPECT_LE(Compressor::memory_for(Compression::kZstd, 22, plain), 64_MiB) << plain;
        EXPECT_LE(Compressor::memory_for(Compression::kZstd, kCompressionLevelDefault, plain),
                  16_MiB);
    }
    EXPECT_LE(Compressor::memory_for(Compression::kZstd, 22, 10'000), 4_MiB);
}

TEST(Compression, a_snappy_block_that_claims_gigabytes_costs_nothing) {
    // A varint of 2^32 - 1, then one literal byte.
    const uint8_t raw[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 'x'};
    const auto refused = decompress(Compression::kSnappy, raw, 8_GiB);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kMalformed);
}

TEST(Compression, gzip_members_and_zstd_frames_may_follow_one_another) {
    for (const Compression codec : {Compression::kGzip, Compression::kZstd}) {
        auto packed = *compress(codec, as_bytes("first "));
        const auto second = *compress(codec, as_bytes("second"));
        packed.insert(packed.end(), second.begin(), second.end());
        const auto plain = decompress(codec, packed, 100);
        ASSERT_TRUE(plain) << to_string(codec);
        EXPECT_EQ(as_text(*plain), "first second");
    }
}

TEST(Compression, levels_outside_of_the_codecs_range_are_refused) {
    const Bytes plain = as_bytes("some text");
    for (const auto& [codec, level] : {std::pair{Compression::kGzip, 0},
                                       {Compression::kGzip, 10},
                                       {Compression::kLz4, 0},
                                       {Compression::kLz4, 18},
                                       {Compression::kZstd, 23},
                                       {Compression::kSnappy, 1}}) {
        const auto refused = compress(codec, plain, level);
        ASSERT_FALSE(refused) << to_string(codec) << level;
        EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    }
    Prng prng(6);
    std::vector<uint8_t> text;
    while (text.size() < 100'000) {
        const std::string word = "word-" + std::to_string(prng.below(3000)) + " ";
        text.insert(text.end(), word.begin(), word.end());
    }
    for (const Compression codec : {Compression::kGzip, Compression::kLz4, Compression::kZstd}) {
        const auto low = compress(codec, text, 1);
        const auto high = compress(codec, text, 9);
        ASSERT_TRUE(low);
        ASSERT_TRUE(high);
        EXPECT_LT(high->size(), low->size()) << to_string(codec);
        EXPECT_EQ(*decompress(codec, *high, text.size()), text);
    }
}

}  // namespace
}  // namespace weir::kafka

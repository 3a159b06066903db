// The four codecs of Kafka's records: compress one run of bytes, and read one back without trusting
// it. What a client sends decides neither how much memory nor how much time goes into it: every
// output is bounded by `size_max`, and a Decompressor hands it out in chunks, so that a caller who
// only checks the records never holds them all.
//
// Framings: gzip is RFC 1952. Snappy is written with the framing of snappy-java (the "xerial"
// header, then blocks with a length in front), which every client reads, and is read with that
// framing or raw, which Go clients send. LZ4 is the frame format with independent blocks (the Java
// client refuses linked ones). Zstandard is RFC 8878.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace weir::kafka {

// The values are those of the low three bits of a batch's attributes.
enum class Compression : uint8_t { kNone = 0, kGzip = 1, kSnappy = 2, kLz4 = 3, kZstd = 4 };

// The names of `compression.type`: "none", "gzip", "snappy", "lz4", "zstd".
std::string_view to_string(Compression codec);
std::optional<Compression> compression_from_name(std::string_view name);

// KIP-390: gzip takes 1 to 9, lz4 1 to 17, zstd -131072 to 22; none and snappy have no levels.
inline constexpr int kCompressionLevelDefault = INT_MIN;
bool is_compression_level(Compression codec, int level);

// kInvalidArgument for a level that the codec does not have; kResourceExhausted for an input that
// its format cannot hold.
Result<std::vector<uint8_t>> compress(Compression codec, Bytes plain,
                                      int level = kCompressionLevelDefault);

class Deflater;

// Packs one run piece by piece. Holds what came out and what the codec holds; what came out may be
// bounded. Belongs to one user.
class Compressor {
  public:
    // kInvalidArgument for a level that the codec does not have. What is packed goes behind what is
    // in `out`. At most `plain_max` bytes will be fed: codecs size their tables by it.
    static Result<Compressor> start(Compression codec, int level, std::vector<uint8_t> out,
                                    size_t out_max, size_t plain_max = SIZE_MAX);
    // What the codec itself holds, beside what came out.
    static size_t memory_for(Compression codec, int level, size_t plain_max);
    ~Compressor();
    Compressor(Compressor&&) noexcept;
    Compressor& operator=(Compressor&&) noexcept;

    // kResourceExhausted when `out` would be more than is allowed; then no more calls.
    Result<> feed(Bytes plain);
    Result<std::vector<uint8_t>> finish() &&;

  private:
    Compressor(std::unique_ptr<Deflater> deflater, std::vector<uint8_t> out, size_t out_max);
    Result<> check_size() const;

    std::unique_ptr<Deflater> deflater_;
    std::vector<uint8_t> out_;
    size_t out_max_;
};

// Messages of magic 0 carry LZ4 frames whose header checksum also covers the frame's magic number
// (KAFKA-3160), so for those the checksum byte is not checked; the message's CRC covers it.
enum class Lz4Header : uint8_t { kChecked, kUnchecked };

// kResourceExhausted when the plain bytes are more than `size_max`, kMalformed when `packed` is no
// whole stream of this codec. The result grows in steps, so an input that only claims to be large
// costs little, and a bomb costs twice size_max at most.
Result<std::vector<uint8_t>> decompress(Compression codec, Bytes packed, size_t size_max,
                                        Lz4Header lz4_header = Lz4Header::kChecked);

class Inflater;

// Reads one compressed run chunk by chunk. Holds a chunk and what the codec looks back at: under 9
// MiB, but up to kWindowMax for a zstd frame with a window over 8 MiB (levels 20 and up; it may not
// unpack to more). memory_for() says how much for one run. Can be started again and then reuses its
// memory, which saves tens of microseconds, so keep one where batches are validated all the time.
// Belongs to one user at a time.
class Decompressor {
  public:
    static constexpr size_t kChunkSize = size_t{64} << 10;
    static constexpr size_t kWindowMax = size_t{16} << 20;
    // What one call reads of the packed bytes: they may unpack to nothing, and still cost 130 ns a
    // byte (blocks with tables and no content).
    static constexpr size_t kPackedPiece = size_t{8} << 10;

    // An upper bound of what a Decompressor holds for this run, chunk included, by what the run's
    // headers say.
    static size_t memory_for(Compression codec, Bytes packed, size_t size_max);

    Decompressor();
    ~Decompressor();
    Decompressor(Decompressor&&) noexcept;
    Decompressor& operator=(Decompressor&&) noexcept;

    // `packed` stays alive until the last next().
    Result<> start(Compression codec, Bytes packed, size_t size_max,
                   Lz4Header lz4_header = Lz4Header::kChecked);
    // The next plain bytes, valid until the next call. Empty at the end, but also where what was
    // read of the packed bytes gave none. Errors as decompress(); after one, start() again.
    Result<Bytes> next();
    // Whether next() gave everything.
    bool ended() const { return active_ == nullptr && stored_.empty(); }

  private:
    Inflater& inflater_for(Compression codec);

    std::unique_ptr<Inflater> inflaters_[5];
    Inflater* active_ = nullptr;
    std::vector<uint8_t> chunk_;
    Bytes stored_;  // the input of Compression::kNone that next() has not given out
    size_t allowance_ = 0;
};

}  // namespace weir::kafka

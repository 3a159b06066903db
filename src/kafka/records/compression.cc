#include "kafka/records/compression.h"

#define ZSTD_STATIC_LINKING_ONLY  // ZSTD_getFrameHeader: the library is linked statically, so it
                                  // cannot change underneath

#include <lz4frame.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/units.h"

namespace weir::kafka {

// Turns one compressed stream into plain bytes, as many as the caller has room for.
class Inflater {
  public:
    Inflater() = default;
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
    virtual ~Inflater() = default;
    // Whatever it allocates for the output is bounded by `size_max`, and what it holds back of it
    // to look back at by `held_max`.
    virtual Result<> start(Bytes packed, size_t size_max, size_t held_max) = 0;
    // What the stream says of its plain size, if it does: a hint to allocate by, not to be trusted.
    virtual size_t claimed_size(Bytes) const { return 0; }
    // Fills `to` from about `packed_max` packed bytes at most, since packed bytes may give nothing:
    // fewer bytes than that when those were read, or at the end of a whole stream.
    virtual Result<size_t> read(MutableBytes to, size_t packed_max) = 0;
    // Whether the whole stream was read.
    virtual bool ended() const = 0;
};

// Turns plain bytes into one compressed stream that grows at the end of a vector.
class Deflater {
  public:
    Deflater() = default;
    Deflater(const Deflater&) = delete;
    Deflater& operator=(const Deflater&) = delete;
    virtual ~Deflater() = default;
    virtual Result<> start(std::vector<uint8_t>& out) = 0;
    virtual Result<> feed(Bytes plain, std::vector<uint8_t>& out) = 0;
    virtual Result<> finish(std::vector<uint8_t>& out) = 0;
};

namespace {

constexpr std::array<std::string_view, 5> kNames = {"none", "gzip", "snappy", "lz4", "zstd"};

// The framing of snappy-java: magic, version and lowest compatible version, then blocks of (length,
// raw snappy).
constexpr std::array<uint8_t, 16> kXerialHeader = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0,
                                                   0,    0,   0,   1,   0,   0,   0,   1};
constexpr size_t kXerialMagicSize = 8;
constexpr size_t kXerialBlockSize = size_t{32} << 10;  // what snappy-java writes

// No snappy element gives more than 64 bytes for 3, so a stream that claims more than this lies
// about its length.
constexpr size_t kSnappyRatioMax = 22;

// What every decoder should support (RFC 8878, 3.1.1.1.2), and all that the levels up to 19 use.
constexpr size_t kZstdWindowUsual = 8_MiB;

constexpr uint32_t kLz4Magic = 0x184d2204;

std::unexpected<Error> malformed(std::string_view what) {
    return fail(ErrorCode::kMalformed, std::string(what));
}
std::unexpected<Error> too_large() {
    return fail(ErrorCode::kResourceExhausted, "the plain records exceed their limit");
}

class GzipInflater final : public Inflater {
  public:
    ~GzipInflater() override {
        if (ready_) inflateEnd(&stream_);
    }

    Result<> start(Bytes packed, size_t, size_t) override {
        if (packed.size() > UINT32_MAX) return too_large();
        if (!ready_) {
            if (inflateInit2(&stream_, 15 + 16) != Z_OK) {
                return fail(ErrorCode::kResourceExhausted, "gzip: no memory");
            }
            ready_ = true;
        } else {
            CHECK(inflateReset(&stream_) == Z_OK);
        }
        stream_.next_in = const_cast<Bytef*>(packed.data());
        stream_.avail_in = static_cast<uInt>(packed.size());
        ended_ = false;
        return {};
    }

    size_t claimed_size(Bytes packed) const override {
        return packed.size() < 4 ? 0 : load_le<uint32_t>(packed.last(4).data());
    }

    // Blocks and members may be empty.
    Result<size_t> read(MutableBytes to, size_t packed_max) override {
        CHECK(to.size() <= UINT32_MAX);
        stream_.next_out = to.data();
        stream_.avail_out = static_cast<uInt>(to.size());
        const auto piece = static_cast<uInt>(std::min<size_t>(stream_.avail_in, packed_max));
        const uInt beyond = stream_.avail_in - piece;
        stream_.avail_in = piece;
        while (!ended_ && stream_.avail_out > 0 && (stream_.avail_in > 0 || beyond == 0)) {
            const int status = inflate(&stream_, Z_NO_FLUSH);
            if (status == Z_STREAM_END) {
                // RFC 1952, 2.2: members may follow one another.
                ended_ = stream_.avail_in == 0 && beyond == 0;
                if (!ended_) CHECK(inflateReset(&stream_) == Z_OK);
            } else if (status != Z_OK) {
                return malformed(status == Z_BUF_ERROR ? "gzip: the stream ends too early"
                                                       : "gzip: not a valid stream");
            }
        }
        stream_.avail_in += beyond;
        return to.size() - stream_.avail_out;
    }
    bool ended() const override { return ended_; }

  private:
    z_stream stream_{};
    bool ready_ = false;
    bool ended_ = false;
};

// One raw snappy block, turned into plain bytes piece by piece: the library does it all at once or
// not at all. Format: google/snappy, format_description.txt. Encoders work in fragments of 64 KiB
// and refer no further back (s2's: 4 MiB); what would look back beyond kWindow is refused.
class SnappyBlockReader {
  public:
    static constexpr size_t kWindow = 4_MiB;
    // What it holds of a block of that plain size.
    static size_t memory_for(size_t plain) { return std::min(plain, 2 * kWindow); }

    // `elements` is the block after its length.
    void start(Bytes elements, size_t plain) {
        in_ = elements;
        plain_left_ = plain;
        literal_left_ = copy_left_ = 0;
        end_ = given_ = 0;
        if (memory_for(plain) > window_capacity_) {
            window_capacity_ = memory_for(plain);
            // As it is: to clear 8 MiB takes milliseconds.
            window_memory_ = std::make_unique_for_overwrite<uint8_t[]>(window_capacity_);
        }
        window_ = {window_memory_.get(), memory_for(plain)};
    }
    // As much as there is room for; 0 at the end of the block.
    Result<size_t> read(MutableBytes to) {
        size_t filled = 0;
        while (filled < to.size() && (plain_left_ > 0 || given_ < end_)) {
            if (given_ == end_) {
                make_room();
                TRY(decode());
            }
            const size_t count = std::min(to.size() - filled, end_ - given_);
            std::memcpy(to.data() + filled, window_.data() + given_, count);
            given_ += count;
            filled += count;
        }
        if (plain_left_ == 0 && given_ == end_ && !in_.empty())
            return malformed("snappy: not a valid block");
        return filled;
    }

  private:
    static constexpr size_t kPiece = 64_KiB;

    void make_room() {
        if (end_ < window_.size() || end_ < kWindow) return;
        std::memmove(window_.data(), window_.data() + end_ - kWindow, kWindow);
        end_ = given_ = kWindow;
    }

    // Some bytes more, at most kPiece and what the window has room for.
    Result<> decode() {
        const size_t stop = end_ + std::min({kPiece, window_.size() - end_, plain_left_});
        const size_t begin = end_;
        while (end_ < stop) {
            if (literal_left_ > 0) {
                const size_t count = std::min({literal_left_, stop - end_, in_.size()});
                if (count == 0) return bad();
                std::memcpy(window_.data() + end_, in_.data(), count);
                in_ = in_.subspan(count);
                end_ += count;
                literal_left_ -= count;
            } else if (copy_left_ > 0) {
                if (offset_ == 0 || offset_ > end_) return bad();
                const size_t count = std::min(copy_left_, stop - end_);
                uint8_t* const target = window_.data() + end_;
                if (offset_ >= count) {
                    std::memcpy(target, target - offset_, count);
                } else {
                    for (size_t k = 0; k < count; ++k) target[k] = (target - offset_)[k];
                }
                end_ += count;
                copy_left_ -= count;
            } else {
                TRY(next_element());
            }
        }
        plain_left_ -= end_ - begin;
        if (plain_left_ == 0 && (literal_left_ > 0 || copy_left_ > 0)) return bad();
        return {};
    }

    Result<> next_element() {
        if (in_.empty()) return bad();
        const uint8_t tag = in_[0];
        const size_t kind = tag & 3u;
        const size_t high = tag >> 2u;
        const size_t extra = kind == 0 ? (high < 60 ? 0 : high - 59) : kind == 3 ? 4 : kind;
        if (in_.size() < 1 + extra) return bad();
        size_t value = 0;
        for (size_t k = 0; k < extra; ++k) value |= size_t{in_[1 + k]} << (8 * k);
        in_ = in_.subspan(1 + extra);
        if (kind == 0) {
            literal_left_ = (extra == 0 ? high : value) + 1;
            return {};
        }
        copy_left_ = kind == 1 ? 4 + (high & 7u) : high + 1;
        offset_ = kind == 1 ? (size_t{tag} >> 5u) << 8u | value : value;
        return {};
    }

    static std::unexpected<Error> bad() { return malformed("snappy: not a valid block"); }

    Bytes in_;
    size_t plain_left_ = 0;  // not decoded yet
    size_t literal_left_ = 0;
    size_t copy_left_ = 0;
    size_t offset_ = 0;
    std::unique_ptr<uint8_t[]> window_memory_;
    size_t window_capacity_ = 0;
    // Decoded up to end_, given out up to given_; as far back as the format may refer.
    MutableBytes window_;
    size_t end_ = 0;
    size_t given_ = 0;
};

class SnappyInflater final : public Inflater {
  public:
    Result<> start(Bytes packed, size_t size_max, size_t) override {
        blocks_ = packed;
        allowance_ = size_max;
        pending_ = {};
        in_block_ = false;
        if (packed.empty()) return malformed("snappy: no bytes");
        framed_ = is_framed(packed);
        if (framed_) blocks_ = blocks_.subspan(kXerialHeader.size());
        return {};
    }

    // Blocks may be empty; each element of one gives bytes.
    Result<size_t> read(MutableBytes to, size_t packed_max) override {
        size_t filled = 0;
        size_t packed = 0;
        while (filled < to.size()) {
            if (in_block_) {
                TRY_ASSIGN(const size_t count, large_.read(to.subspan(filled)));
                in_block_ = count > 0;
                filled += count;
                continue;
            }
            if (!pending_.empty()) {
                const size_t count = std::min(pending_.size(), to.size() - filled);
                std::memcpy(to.data() + filled, pending_.data(), count);
                pending_ = pending_.subspan(count);
                filled += count;
                continue;
            }
            if (blocks_.empty() || packed >= packed_max) break;
            const size_t before = blocks_.size();
            TRY_ASSIGN(const Bytes block, take_block(framed_, blocks_));
            packed += before - blocks_.size();
            TRY_ASSIGN(const size_t size, plain_size(block));
            if (size > allowance_) return too_large();
            allowance_ -= size;
            MutableBytes target = to.subspan(filled);
            const bool direct = size <= target.size();
            if (!direct && size > kAtOnceMax) {
                size_t length_bytes = 1;
                while ((block[length_bytes - 1] & 0x80) != 0) ++length_bytes;
                large_.start(block.subspan(length_bytes), size);
                in_block_ = true;
                continue;
            }
            if (!direct) {
                block_.resize(size);
                target = block_;
            }
            if (!snappy::RawUncompress(reinterpret_cast<const char*>(block.data()), block.size(),
                                       reinterpret_cast<char*>(target.data()))) {
                return malformed("snappy: not a valid block");
            }
            if (direct) {
                filled += size;
            } else {
                pending_ = block_;
            }
        }
        return filled;
    }

    bool ended() const override { return blocks_.empty() && pending_.empty() && !in_block_; }

    static size_t memory_for(Bytes packed) {
        const bool framed = is_framed(packed);
        Bytes blocks = framed ? packed.subspan(kXerialHeader.size()) : packed;
        size_t most = 0;
        for (size_t k = 0; !blocks.empty(); ++k) {
            if (k == kBlocksLookedAt) return 2 * SnappyBlockReader::kWindow + kAtOnceMax;
            const auto block = take_block(framed, blocks);
            if (!block) break;  // read() ends there too
            const auto size = plain_size(*block);
            if (!size) break;
            most = std::max(most, SnappyBlockReader::memory_for(*size));
        }
        return most + kAtOnceMax;
    }

  private:
    // Blocks up to this size are the library's: it is faster.
    static constexpr size_t kAtOnceMax = 128_KiB;
    // For what a stream needs; of more, any may be as large as can be. What snappy-java writes of
    // 128 MiB.
    static constexpr size_t kBlocksLookedAt = 4096;

    static bool is_framed(Bytes packed) {
        return packed.size() >= kXerialHeader.size() &&
               std::equal(packed.begin(), packed.begin() + kXerialMagicSize, kXerialHeader.begin());
    }

    static Result<Bytes> take_block(bool framed, Bytes& rest) {
        if (!framed) return std::exchange(rest, {});
        if (rest.size() < 4) return malformed("snappy: the stream ends too early");
        const uint32_t size = load_be<uint32_t>(rest.data());
        if (size > rest.size() - 4) return malformed("snappy: a block is longer than the stream");
        const Bytes block = rest.subspan(4, size);
        rest = rest.subspan(4 + size);
        return block;
    }

    // What the block says it unpacks to, when that can be true.
    static Result<size_t> plain_size(Bytes block) {
        size_t size = 0;
        if (!snappy::GetUncompressedLength(reinterpret_cast<const char*>(block.data()),
                                           block.size(), &size)) {
            return malformed("snappy: a block has no length");
        }
        if (size / kSnappyRatioMax > block.size())
            return malformed("snappy: a block claims too much");
        return size;
    }

    Bytes blocks_;
    size_t allowance_ = 0;
    bool framed_ = false;
    std::vector<uint8_t> block_;  // a block that was larger than the caller's room
    Bytes pending_;               // its part that was not read yet
    SnappyBlockReader large_;
    bool in_block_ = false;  // of large_
};

// XXH32 with seed 0 of fewer than 16 bytes: what the header checksum of an LZ4 frame is made of
// (xxHash specification, 2.2).
uint32_t xxh32_short(Bytes bytes) {
    CHECK(bytes.size() < 16);
    constexpr uint32_t kPrime1 = 0x9e3779b1;
    constexpr uint32_t kPrime2 = 0x85ebca77;
    constexpr uint32_t kPrime3 = 0xc2b2ae3d;
    constexpr uint32_t kPrime4 = 0x27d4eb2f;
    constexpr uint32_t kPrime5 = 0x165667b1;
    uint32_t hash = kPrime5 + static_cast<uint32_t>(bytes.size());
    for (; bytes.size() >= 4; bytes = bytes.subspan(4)) {
        hash = std::rotl(hash + load_le<uint32_t>(bytes.data()) * kPrime3, 17) * kPrime4;
    }
    for (const uint8_t byte : bytes) hash = std::rotl(hash + byte * kPrime5, 11) * kPrime1;
    hash = (hash ^ (hash >> 15)) * kPrime2;
    hash = (hash ^ (hash >> 13)) * kPrime3;
    return hash ^ (hash >> 16);
}

class Lz4Inflater final : public Inflater {
  public:
    ~Lz4Inflater() override { LZ4F_freeDecompressionContext(context_); }

    void set_header_check(Lz4Header check) { header_check_ = check; }

    // Two blocks of the size that the frame's header names, and what linked blocks look back at.
    static size_t memory_for(Bytes packed) {
        constexpr std::array<size_t, 8> kBlocks = {4_MiB,  4_MiB,   4_MiB, 4_MiB,
                                                   64_KiB, 256_KiB, 1_MiB, 4_MiB};
        return packed.size() < LZ4F_HEADER_SIZE_MIN
                   ? 0
                   : 2 * kBlocks[(size_t{packed[5]} >> 4u) & 7u] + 256_KiB;
    }

    Result<> start(Bytes packed, size_t, size_t) override {
        if (context_ == nullptr) {
            if (LZ4F_isError(LZ4F_createDecompressionContext(&context_, LZ4F_VERSION))) {
                return fail(ErrorCode::kResourceExhausted, "lz4: no memory");
            }
        }
        LZ4F_resetDecompressionContext(context_);
        rest_ = packed;
        ended_ = false;
        if (packed.size() < LZ4F_HEADER_SIZE_MIN || load_le<uint32_t>(packed.data()) != kLz4Magic) {
            return malformed("lz4: no frame header");
        }
        if (header_check_ == Lz4Header::kUnchecked) return feed_corrected_header();
        return {};
    }

    // Blocks may be empty.
    Result<size_t> read(MutableBytes to, size_t packed_max) override {
        size_t filled = 0;
        while (!ended_ && filled < to.size() && (packed_max > 0 || rest_.empty())) {
            size_t written = to.size() - filled;
            size_t consumed = std::min(rest_.size(), packed_max);
            const size_t hint = LZ4F_decompress(context_, to.data() + filled, &written,
                                                rest_.data(), &consumed, nullptr);
            if (LZ4F_isError(hint)) return malformed("lz4: not a valid frame");
            rest_ = rest_.subspan(consumed);
            packed_max -= consumed;
            filled += written;
            if (hint == 0) {
                // Readers stop at the end of the first frame, so what follows it would be lost on
                // some and read by others.
                if (!rest_.empty()) return malformed("lz4: bytes after the frame");
                ended_ = true;
            } else if (consumed == 0 && written == 0) {
                return malformed("lz4: the frame ends too early");
            }
        }
        return filled;
    }
    bool ended() const override { return ended_; }

  private:
    // Gives the frame's header to the library with the checksum that it should have had.
    Result<> feed_corrected_header() {
        const uint8_t flags = rest_[4];
        const size_t size = size_t{7} + ((flags & 0x08) ? 8 : 0) + ((flags & 0x01) ? 4 : 0);
        if (rest_.size() < size) return malformed("lz4: the frame ends too early");
        std::array<uint8_t, LZ4F_HEADER_SIZE_MAX> header{};
        std::copy_n(rest_.begin(), size, header.begin());
        header[size - 1] =
            static_cast<uint8_t>(xxh32_short(Bytes(header).subspan(4, size - 5)) >> 8);
        size_t written = 0;
        size_t consumed = size;
        const size_t hint =
            LZ4F_decompress(context_, nullptr, &written, header.data(), &consumed, nullptr);
        if (LZ4F_isError(hint) || consumed != size)
            return malformed("lz4: not a valid frame header");
        rest_ = rest_.subspan(size);
        return {};
    }

    LZ4F_dctx* context_ = nullptr;
    Lz4Header header_check_ = Lz4Header::kChecked;
    Bytes rest_;
    bool ended_ = false;
};

class ZstdInflater final : public Inflater {
  public:
    ~ZstdInflater() override { ZSTD_freeDCtx(context_); }

    Result<> start(Bytes packed, size_t, size_t held_max) override {
        if (context_ == nullptr) {
            context_ = ZSTD_createDCtx();
            if (context_ == nullptr) return fail(ErrorCode::kResourceExhausted, "zstd: no memory");
        }
        ZSTD_DCtx_reset(context_, ZSTD_reset_session_only);
        packed_ = packed;
        input_ = {packed.data(), 0, 0};
        ended_ = false;
        between_frames_ = true;
        held_max_ = held_max;
        held_ = std::nullopt;
        if (packed.empty()) return malformed("zstd: no bytes");
        return {};
    }

    size_t claimed_size(Bytes packed) const override {
        const unsigned long long size = ZSTD_getFrameContentSize(packed.data(), packed.size());
        return size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR ? 0 : size;
    }

    // Blocks and frames may be empty, and a frame may be one to skip.
    Result<size_t> read(MutableBytes to, size_t packed_max) override {
        ZSTD_outBuffer output{to.data(), to.size(), 0};
        input_.size = input_.pos + std::min(packed_.size() - input_.pos, packed_max);
        const bool last = input_.size == packed_.size();
        while (!ended_ && output.pos < output.size && (last || input_.pos < input_.size)) {
            if (between_frames_) look_at_window();
            between_frames_ = false;
            const size_t before = output.pos;
            const size_t hint = ZSTD_decompressStream(context_, &output, &input_);
            if (ZSTD_isError(hint)) return malformed("zstd: not a valid frame");
            if (held_ && (*held_ += output.pos - before) > held_max_) return too_large();
            if (hint == 0) {
                // RFC 8878, 3.1: frames may follow one another
                ended_ = input_.pos == packed_.size();
                between_frames_ = true;
            } else if (input_.pos == packed_.size() && output.pos < output.size) {
                return malformed("zstd: the frame ends too early");
            }
        }
        return output.pos;
    }
    bool ended() const override { return ended_; }

    // Of one frame, the window that it names. Of several, any may name a larger one.
    static size_t memory_for(Bytes packed, size_t held_max) {
        constexpr size_t kOwn = 512_KiB;
        ZSTD_frameHeader frame{};
        if (ZSTD_getFrameHeader(&frame, packed.data(), packed.size()) != 0) return kOwn;
        const bool alone =
            packed.size() <= 1_MiB &&
            ZSTD_findFrameCompressedSize(packed.data(), packed.size()) == packed.size();
        return kOwn + (alone ? std::min<size_t>(frame.windowSize, held_max) : held_max);
    }

  private:
    // A frame says how far it looks back, up to 128 MiB (more is refused by the library). The
    // library reserves as much and touches what was unpacked; so a frame with a large window may
    // unpack to held_max_, others to any size.
    void look_at_window() {
        held_ = std::nullopt;
        ZSTD_frameHeader frame{};
        const Bytes rest = packed_.subspan(input_.pos);
        if (ZSTD_getFrameHeader(&frame, rest.data(), rest.size()) != 0) return;
        if (frame.windowSize > kZstdWindowUsual) held_ = 0;
    }

    ZSTD_DCtx* context_ = nullptr;
    Bytes packed_;
    ZSTD_inBuffer input_{};  // of which the library may see so much
    bool ended_ = false;
    bool between_frames_ = true;
    size_t held_max_ = 0;
    std::optional<size_t> held_;  // of a frame with a large window: what it unpacked to so far
};

// Calls f(room) with `size` bytes behind what is in `out`, of which it uses as many as it says.
template <class F>
Result<> grow(std::vector<uint8_t>& out, size_t size, F f) {
    const size_t before = out.size();
    out.resize(before + size);
    Result<size_t> used = f(MutableBytes(out).subspan(before));
    out.resize(before + (used ? *used : 0));
    if (!used) return std::unexpected(std::move(used).error());
    return {};
}

std::unexpected<Error> no_memory() { return fail(ErrorCode::kResourceExhausted, "no memory"); }

class StoringDeflater : public Deflater {
  public:
    Result<> start(std::vector<uint8_t>&) override { return {}; }
    Result<> feed(Bytes plain, std::vector<uint8_t>& out) override {
        out.insert(out.end(), plain.begin(), plain.end());
        return {};
    }
    Result<> finish(std::vector<uint8_t>&) override { return {}; }
};

class GzipDeflater : public Deflater {
  public:
    explicit GzipDeflater(int level) : level_(level) {}
    ~GzipDeflater() override {
        if (started_) deflateEnd(&stream_);
    }
    Result<> start(std::vector<uint8_t>&) override {
        if (deflateInit2(&stream_, level_, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            return no_memory();
        started_ = true;
        return {};
    }
    Result<> feed(Bytes plain, std::vector<uint8_t>& out) override {
        for (; !plain.empty(); plain = plain.subspan(std::min(plain.size(), kPiece))) {
            const Bytes piece = plain.first(std::min(plain.size(), kPiece));
            stream_.next_in = const_cast<Bytef*>(piece.data());
            stream_.avail_in = static_cast<uInt>(piece.size());
            TRY(run(Z_NO_FLUSH, out));
        }
        return {};
    }
    Result<> finish(std::vector<uint8_t>& out) override {
        stream_.next_in = nullptr;
        stream_.avail_in = 0;
        return run(Z_FINISH, out);
    }

  private:
    static constexpr size_t kPiece = 1_MiB;

    Result<> run(int flush, std::vector<uint8_t>& out) {
        while (true) {
            int status = Z_OK;
            TRY(grow(out, 16_KiB, [&](MutableBytes room) -> Result<size_t> {
                stream_.next_out = room.data();
                stream_.avail_out = static_cast<uInt>(room.size());
                status = deflate(&stream_, flush);
                return room.size() - stream_.avail_out;
            }));
            CHECK(status != Z_STREAM_ERROR);
            if (flush == Z_FINISH ? status == Z_STREAM_END : stream_.avail_out > 0) return {};
        }
    }

    const int level_;
    z_stream stream_{};
    bool started_ = false;
};

class SnappyDeflater : public Deflater {
  public:
    Result<> start(std::vector<uint8_t>& out) override {
        out.insert(out.end(), kXerialHeader.begin(), kXerialHeader.end());
        return {};
    }
    Result<> feed(Bytes plain, std::vector<uint8_t>& out) override {
        while (!plain.empty()) {
            const size_t count = std::min(plain.size(), kXerialBlockSize - block_.size());
            block_.insert(block_.end(), plain.begin(),
                          plain.begin() + static_cast<ptrdiff_t>(count));
            plain = plain.subspan(count);
            if (block_.size() == kXerialBlockSize) TRY(flush(out));
        }
        return {};
    }
    Result<> finish(std::vector<uint8_t>& out) override {
        return block_.empty() ? Result<>() : flush(out);
    }

  private:
    Result<> flush(std::vector<uint8_t>& out) {
        const auto pack = [&](MutableBytes room) -> Result<size_t> {
            size_t size = 0;
            snappy::RawCompress(reinterpret_cast<const char*>(block_.data()), block_.size(),
                                reinterpret_cast<char*>(room.data() + sizeof(uint32_t)), &size);
            store_be(room.data(), static_cast<uint32_t>(size));
            block_.clear();
            return sizeof(uint32_t) + size;
        };
        return grow(out, sizeof(uint32_t) + snappy::MaxCompressedLength(block_.size()), pack);
    }

    std::vector<uint8_t> block_;
};

class Lz4Deflater : public Deflater {
  public:
    explicit Lz4Deflater(int level) {
        preferences_.frameInfo.blockSizeID = LZ4F_max64KB;
        preferences_.frameInfo.blockMode = LZ4F_blockIndependent;
        preferences_.compressionLevel = level;
    }
    ~Lz4Deflater() override { LZ4F_freeCompressionContext(context_); }
    Result<> start(std::vector<uint8_t>& out) override {
        if (LZ4F_isError(LZ4F_createCompressionContext(&context_, LZ4F_VERSION)))
            return no_memory();
        return grow(out, LZ4F_HEADER_SIZE_MAX, [&](MutableBytes room) {
            return checked(LZ4F_compressBegin(context_, room.data(), room.size(), &preferences_));
        });
    }
    Result<> feed(Bytes plain, std::vector<uint8_t>& out) override {
        return grow(out, LZ4F_compressBound(plain.size(), &preferences_), [&](MutableBytes room) {
            return checked(LZ4F_compressUpdate(context_, room.data(), room.size(), plain.data(),
                                               plain.size(), nullptr));
        });
    }
    Result<> finish(std::vector<uint8_t>& out) override {
        return grow(out, LZ4F_compressBound(0, &preferences_), [&](MutableBytes room) {
            return checked(LZ4F_compressEnd(context_, room.data(), room.size(), nullptr));
        });
    }

  private:
    static Result<size_t> checked(size_t size) {
        if (LZ4F_isError(size)) return no_memory();
        return size;
    }

    LZ4F_preferences_t preferences_{};
    LZ4F_cctx* context_ = nullptr;
};

// The tables of the high levels are sized by what is packed, and look back no further than 2 MiB:
// level 22 would hold 700 MiB otherwise. A batch is seldom larger, and consumers need the window
// too.
ZSTD_compressionParameters zstd_parameters(int level, size_t plain_max) {
    constexpr unsigned kWindowLogMax = 21;
    const unsigned long long size = plain_max == SIZE_MAX ? ZSTD_CONTENTSIZE_UNKNOWN : plain_max;
    ZSTD_compressionParameters parameters = ZSTD_getCParams(level, size, 0);
    parameters.windowLog = std::min(parameters.windowLog, kWindowLogMax);
    parameters.hashLog = std::min(parameters.hashLog, kWindowLogMax);
    parameters.chainLog = std::min(parameters.chainLog, kWindowLogMax);
    return parameters;
}

class ZstdDeflater : public Deflater {
  public:
    ZstdDeflater(int level, size_t plain_max) : level_(level), plain_max_(plain_max) {}
    ~ZstdDeflater() override { ZSTD_freeCCtx(context_); }
    Result<> start(std::vector<uint8_t>&) override {
        context_ = ZSTD_createCCtx();
        if (context_ == nullptr) return no_memory();
        const ZSTD_compressionParameters parameters = zstd_parameters(level_, plain_max_);
        const auto set = [this](ZSTD_cParameter name, unsigned value) {
            return !ZSTD_isError(ZSTD_CCtx_setParameter(context_, name, static_cast<int>(value)));
        };
        if (ZSTD_isError(ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, level_)) ||
            !set(ZSTD_c_windowLog, parameters.windowLog) ||
            !set(ZSTD_c_hashLog, parameters.hashLog) || !set(ZSTD_c_chainLog, parameters.chainLog))
            return no_memory();
        return {};
    }
    Result<> feed(Bytes plain, std::vector<uint8_t>& out) override {
        return run(plain, ZSTD_e_continue, out);
    }
    Result<> finish(std::vector<uint8_t>& out) override { return run({}, ZSTD_e_end, out); }

  private:
    Result<> run(Bytes plain, ZSTD_EndDirective directive, std::vector<uint8_t>& out) {
        ZSTD_inBuffer input{plain.data(), plain.size(), 0};
        while (true) {
            size_t left = 0;
            TRY(grow(out, 16_KiB, [&](MutableBytes room) -> Result<size_t> {
                ZSTD_outBuffer output{room.data(), room.size(), 0};
                left = ZSTD_compressStream2(context_, &output, &input, directive);
                if (ZSTD_isError(left)) return no_memory();
                return output.pos;
            }));
            if (directive == ZSTD_e_end ? left == 0 : input.pos == input.size) return {};
        }
    }

    const int level_;
    const size_t plain_max_;
    ZSTD_CCtx* context_ = nullptr;
};

std::unique_ptr<Deflater> make_deflater(Compression codec, int level, size_t plain_max) {
    const bool by_default = level == kCompressionLevelDefault;
    switch (codec) {
        case Compression::kNone:
            return std::make_unique<StoringDeflater>();
        case Compression::kGzip:
            return std::make_unique<GzipDeflater>(by_default ? Z_DEFAULT_COMPRESSION : level);
        case Compression::kSnappy:
            return std::make_unique<SnappyDeflater>();
        case Compression::kLz4:
            return std::make_unique<Lz4Deflater>(by_default ? 0 : level);
        case Compression::kZstd:
            return std::make_unique<ZstdDeflater>(by_default ? ZSTD_CLEVEL_DEFAULT : level,
                                                  plain_max);
    }
    return nullptr;
}

Result<std::vector<uint8_t>> gzip(Bytes plain, int level) {
    if (plain.size() > UINT32_MAX) return fail(ErrorCode::kResourceExhausted, "gzip: too large");
    z_stream stream{};
    if (deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return fail(ErrorCode::kResourceExhausted, "gzip: no memory");
    }
    std::vector<uint8_t> packed(deflateBound(&stream, plain.size()));
    stream.next_in = const_cast<Bytef*>(plain.data());
    stream.avail_in = static_cast<uInt>(plain.size());
    stream.next_out = packed.data();
    stream.avail_out = static_cast<uInt>(packed.size());
    const int status = deflate(&stream, Z_FINISH);
    packed.resize(stream.total_out);
    deflateEnd(&stream);
    CHECK(status == Z_STREAM_END);
    return packed;
}

Result<std::vector<uint8_t>> snappy_framed(Bytes plain) {
    const size_t blocks = (plain.size() + kXerialBlockSize - 1) / kXerialBlockSize;
    std::vector<uint8_t> packed(kXerialHeader.size() +
                                blocks * (4 + snappy::MaxCompressedLength(kXerialBlockSize)));
    std::copy(kXerialHeader.begin(), kXerialHeader.end(), packed.begin());
    size_t end = kXerialHeader.size();
    for (; !plain.empty(); plain = plain.subspan(std::min(plain.size(), kXerialBlockSize))) {
        const Bytes block = plain.first(std::min(plain.size(), kXerialBlockSize));
        size_t size = 0;
        snappy::RawCompress(reinterpret_cast<const char*>(block.data()), block.size(),
                            reinterpret_cast<char*>(packed.data() + end + 4), &size);
        store_be(packed.data() + end, static_cast<uint32_t>(size));
        end += 4 + size;
    }
    packed.resize(end);
    return packed;
}

Result<std::vector<uint8_t>> lz4_frame(Bytes plain, int level) {
    LZ4F_preferences_t preferences{};
    preferences.frameInfo.blockSizeID = LZ4F_max64KB;
    preferences.frameInfo.blockMode = LZ4F_blockIndependent;
    preferences.compressionLevel = level;
    std::vector<uint8_t> packed(LZ4F_compressFrameBound(plain.size(), &preferences));
    const size_t size =
        LZ4F_compressFrame(packed.data(), packed.size(), plain.data(), plain.size(), &preferences);
    if (LZ4F_isError(size)) return fail(ErrorCode::kResourceExhausted, "lz4: no memory");
    packed.resize(size);
    return packed;
}

Result<std::vector<uint8_t>> zstd_frame(Bytes plain, int level) {
    std::vector<uint8_t> packed(ZSTD_compressBound(plain.size()));
    const size_t size =
        ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), level);
    if (ZSTD_isError(size)) return fail(ErrorCode::kResourceExhausted, "zstd: no memory");
    packed.resize(size);
    return packed;
}

}  // namespace

std::string_view to_string(Compression codec) { return kNames[static_cast<size_t>(codec)]; }

std::optional<Compression> compression_from_name(std::string_view name) {
    for (size_t i = 0; i < kNames.size(); ++i) {
        if (kNames[i] == name) return static_cast<Compression>(i);
    }
    return std::nullopt;
}

bool is_compression_level(Compression codec, int level) {
    if (level == kCompressionLevelDefault) return true;
    switch (codec) {
        case Compression::kNone:
        case Compression::kSnappy:
            return false;
        case Compression::kGzip:
            return level == -1 || (level >= 1 && level <= 9);
        case Compression::kLz4:
            return level >= 1 && level <= 17;
        case Compression::kZstd:
            return level >= -131072 && level <= 22;
    }
    return false;
}

Result<std::vector<uint8_t>> compress(Compression codec, Bytes plain, int level) {
    if (!is_compression_level(codec, level)) {
        return fail(ErrorCode::kInvalidArgument, "the codec has no such level");
    }
    const bool by_default = level == kCompressionLevelDefault;
    switch (codec) {
        case Compression::kNone:
            return std::vector<uint8_t>(plain.begin(), plain.end());
        case Compression::kGzip:
            return gzip(plain, by_default ? Z_DEFAULT_COMPRESSION : level);
        case Compression::kSnappy:
            return snappy_framed(plain);
        case Compression::kLz4:
            return lz4_frame(plain, by_default ? 0 : level);
        case Compression::kZstd:
            return zstd_frame(plain, by_default ? ZSTD_CLEVEL_DEFAULT : level);
    }
    return fail(ErrorCode::kUnsupported, "no such codec");
}

Compressor::Compressor(std::unique_ptr<Deflater> deflater, std::vector<uint8_t> out, size_t out_max)
    : deflater_(std::move(deflater)), out_(std::move(out)), out_max_(out_max) {}
Compressor::~Compressor() = default;
Compressor::Compressor(Compressor&&) noexcept = default;
Compressor& Compressor::operator=(Compressor&&) noexcept = default;

Result<Compressor> Compressor::start(Compression codec, int level, std::vector<uint8_t> out,
                                     size_t out_max, size_t plain_max) {
    if (!is_compression_level(codec, level))
        return fail(ErrorCode::kInvalidArgument, "the codec has no such level");
    std::unique_ptr<Deflater> deflater = make_deflater(codec, level, plain_max);
    if (deflater == nullptr) return fail(ErrorCode::kUnsupported, "no such codec");
    TRY(deflater->start(out));
    return Compressor(std::move(deflater), std::move(out), out_max);
}

size_t Compressor::memory_for(Compression codec, int level, size_t plain_max) {
    switch (codec) {
        case Compression::kNone:
        case Compression::kSnappy:
            return 256_KiB;
        case Compression::kGzip:
        case Compression::kLz4:
            return 512_KiB;
        case Compression::kZstd: {
            const int zstd_level = level == kCompressionLevelDefault ? ZSTD_CLEVEL_DEFAULT : level;
            return ZSTD_estimateCStreamSize_usingCParams(zstd_parameters(zstd_level, plain_max));
        }
    }
    return 0;
}

Result<> Compressor::check_size() const {
    if (out_.size() > out_max_)
        return fail(ErrorCode::kResourceExhausted, "what was packed exceeds its limit");
    return {};
}

Result<> Compressor::feed(Bytes plain) {
    TRY(deflater_->feed(plain, out_));
    return check_size();
}

Result<std::vector<uint8_t>> Compressor::finish() && {
    TRY(deflater_->finish(out_));
    TRY(check_size());
    return std::move(out_);
}

size_t Decompressor::memory_for(Compression codec, Bytes packed, size_t size_max) {
    switch (codec) {
        case Compression::kNone:
            return 0;
        case Compression::kGzip:
            return kChunkSize + 48_KiB;
        case Compression::kSnappy:
            return kChunkSize + SnappyInflater::memory_for(packed);
        case Compression::kLz4:
            return kChunkSize + Lz4Inflater::memory_for(packed);
        case Compression::kZstd:
            return kChunkSize + ZstdInflater::memory_for(packed, std::min(size_max, kWindowMax));
    }
    return 0;
}

Decompressor::Decompressor() = default;
Decompressor::~Decompressor() = default;
Decompressor::Decompressor(Decompressor&&) noexcept = default;
Decompressor& Decompressor::operator=(Decompressor&&) noexcept = default;

namespace {

std::unique_ptr<Inflater> make_inflater(Compression codec) {
    switch (codec) {
        case Compression::kGzip:
            return std::make_unique<GzipInflater>();
        case Compression::kSnappy:
            return std::make_unique<SnappyInflater>();
        case Compression::kLz4:
            return std::make_unique<Lz4Inflater>();
        case Compression::kZstd:
            return std::make_unique<ZstdInflater>();
        case Compression::kNone:
            break;
    }
    check_failed("a codec with an inflater", __FILE__, __LINE__);
}

void choose_lz4_header(Inflater& inflater, Compression codec, Lz4Header lz4_header) {
    if (codec == Compression::kLz4)
        static_cast<Lz4Inflater&>(inflater).set_header_check(lz4_header);
}

}  // namespace

Inflater& Decompressor::inflater_for(Compression codec) {
    std::unique_ptr<Inflater>& inflater = inflaters_[static_cast<size_t>(codec)];
    if (!inflater) inflater = make_inflater(codec);
    return *inflater;
}

Result<> Decompressor::start(Compression codec, Bytes packed, size_t size_max,
                             Lz4Header lz4_header) {
    active_ = nullptr;
    stored_ = {};
    allowance_ = size_max;
    if (codec == Compression::kNone) {
        if (packed.size() > size_max) return too_large();
        stored_ = packed;
        return {};
    }
    Inflater& inflater = inflater_for(codec);
    choose_lz4_header(inflater, codec, lz4_header);
    TRY(inflater.start(packed, size_max, kWindowMax));
    chunk_.resize(kChunkSize);
    active_ = &inflater;
    return {};
}

Result<Bytes> Decompressor::next() {
    if (active_ == nullptr) {
        const Bytes piece = stored_.first(std::min(stored_.size(), kChunkSize));
        stored_ = stored_.subspan(piece.size());
        return piece;
    }
    // One byte more than is allowed, so that an output of exactly size_max is seen to end.
    const size_t room = allowance_ < chunk_.size() ? allowance_ + 1 : chunk_.size();
    Result<size_t> count = active_->read(MutableBytes(chunk_).first(room), kPackedPiece);
    if (count && *count > allowance_) count = too_large();
    if (!count || active_->ended()) active_ = nullptr;
    if (!count) return std::unexpected(std::move(count).error());
    allowance_ -= *count;
    return Bytes(chunk_).first(*count);
}

Result<std::vector<uint8_t>> decompress(Compression codec, Bytes packed, size_t size_max,
                                        Lz4Header lz4_header) {
    if (codec == Compression::kNone) {
        if (packed.size() > size_max) return too_large();
        return std::vector<uint8_t>(packed.begin(), packed.end());
    }
    const std::unique_ptr<Inflater> inflater = make_inflater(codec);
    choose_lz4_header(*inflater, codec, lz4_header);
    TRY(inflater->start(packed, size_max, size_max));
    // By what the stream claims, as far as that is believable, else growing from what the input
    // suggests; never past the limit. So a small input that claims much, or gives much, gets little
    // at first.
    const size_t believable = 64 * packed.size() + 64_KiB;
    const size_t claimed = std::min(inflater->claimed_size(packed), believable);
    std::vector<uint8_t> plain(std::min(size_max, std::max(claimed, 4 * packed.size() + 1_KiB)));
    TRY_ASSIGN(size_t filled, inflater->read(plain, SIZE_MAX));
    while (filled == plain.size()) {
        // Full: is there more? Asked with one byte, because most often there is not.
        uint8_t beyond = 0;
        TRY_ASSIGN(const size_t more, inflater->read({&beyond, 1}, SIZE_MAX));
        if (more == 0) break;
        if (filled == size_max) return too_large();
        plain.resize(std::min(size_max, 2 * filled + 1));
        plain[filled++] = beyond;
        TRY_ASSIGN(const size_t count,
                   inflater->read(MutableBytes(plain).subspan(filled), SIZE_MAX));
        filled += count;
    }
    plain.resize(filled);
    return plain;
}

}  // namespace weir::kafka

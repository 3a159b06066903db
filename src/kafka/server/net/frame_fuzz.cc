// The parser of frames: any bytes in any pieces, with any claimed length. What comes out is what a
// plain reading of the whole stream says; memory follows the bytes that came, and all of it is
// given back. Then each frame is read on as a request: its header, and the body of every API and
// version.
#include <algorithm>
#include <array>
#include <map>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"
#include "base/units.h"
#include "kafka/protocol/header.h"
#include "kafka/protocol/message_kinds.h"
#include "kafka/server/net/frame_reader.h"
#include "kafka/server/net/handler.h"
#include "runtime/test_loop.h"

namespace weir::kafka {
namespace {

using runtime::Task;

// More than the longest stream makes a reader take, so that reading never waits for memory.
constexpr size_t kBudget = 4_MiB;

// What a stranger sends: the input's bytes, then one byte over and over, so that large frames come
// to their end too.
struct Stream {
    Bytes literal;
    size_t filler = 0;
    uint8_t filler_byte = 0;

    size_t size() const { return literal.size() + filler; }
    uint8_t at(size_t i) const { return i < literal.size() ? literal[i] : filler_byte; }
};

class Pieces final : public runtime::ByteStream {
  public:
    Pieces(Stream stream, Bytes sizes, const runtime::MemoryBudget& memory)
        : stream_(stream), sizes_(sizes), memory_(memory) {}

    Task<Result<size_t>> read_some(MutableBytes into, runtime::StopToken) override {
        CHECK(!into.empty());
        // A frame and the larger one that it is copied to: never more than a multiple of what came.
        CHECK(memory_.used() <= kFrameChunk + (kFrameGrowth + 1) * at_);
        if (at_ == stream_.size()) co_return fail(ErrorCode::kEndOfStream);
        const size_t wanted =
            sizes_.empty() ? into.size() : size_t{1} << (sizes_[reads_++ % sizes_.size()] % 18);
        const size_t count = std::min({wanted, into.size(), stream_.size() - at_});
        for (size_t i = 0; i < count; ++i) into[i] = stream_.at(at_ + i);
        at_ += count;
        co_return count;
    }
    Task<Result<void>> write_all(std::vector<Bytes>, runtime::StopToken) override {
        co_return fail(ErrorCode::kUnsupported);
    }
    Task<void> shutdown() override { co_return; }
    Task<void> close() override { co_return; }
    const std::string& peer() const override { return peer_; }

  private:
    Stream stream_;
    Bytes sizes_;
    const runtime::MemoryBudget& memory_;
    size_t at_ = 0;
    size_t reads_ = 0;
    std::string peer_ = "10.0.0.1:4711";
};

const std::map<int16_t, MessageKind>& requests() {
    static const auto by_key = [] {
        std::map<int16_t, MessageKind> found;
        for (const MessageKind& kind : all_message_kinds()) {
            if (kind.key >= 0 && kind.name.ends_with("Request")) found.emplace(kind.key, kind);
        }
        return found;
    }();
    return by_key;
}

// As Connection does, and one step further.
void read_request(Bytes frame) {
    ByteReader in(frame);
    const auto header = RequestHeader::decode(in);
    if (!header) return;
    CHECK(in.remaining() <= frame.size() - 8);
    const auto kind = requests().find(header->api_key);
    if (kind == requests().end()) {
        CHECK(find_handler(header->api_key) == nullptr);
        return;
    }
    ByteWriter out;
    if (header->encode(out)) {
        const std::vector<uint8_t> written = out.flatten();
        ByteReader again(written);
        const auto back = RequestHeader::decode(again);
        CHECK(back && *back == *header);
        CHECK(again.remaining() == 0);
    }
    if (header->api_version < kind->second.version_min ||
        header->api_version > kind->second.version_max)
        return;
    (void)kind->second.decode(in, header->api_version);
}

// What the reader must say of the bytes from `at` on.
struct Expected {
    ErrorCode error = ErrorCode::kEndOfStream;
    bool whole = false;
    size_t begin = 0;
    size_t size = 0;
};

Expected expect(const Stream& stream, size_t at, size_t size_max) {
    if (stream.size() - at < 4) return {};
    std::array<uint8_t, 4> prefix;
    for (size_t i = 0; i < 4; ++i) prefix[i] = stream.at(at + i);
    const auto claimed = load_be<int32_t>(prefix.data());
    if (claimed < 8 || static_cast<size_t>(claimed) > size_max)
        return {.error = ErrorCode::kMalformed};
    const auto size = static_cast<size_t>(claimed);
    // Half of the budget: see FrameReader::next.
    if (size > kBudget / 2) return {.error = ErrorCode::kResourceExhausted};
    if (stream.size() - at - 4 < size) return {};
    return {.whole = true, .begin = at + 4, .size = size};
}

void fuzz(Bytes input) {
    if (input.size() < 4) return;
    const size_t size_max = (input[0] & 1) != 0 ? 100_MiB : size_t{1} << (input[0] % 21);
    const size_t sizes = std::min<size_t>(input[1] % 16, input.size() - 4);
    const Stream stream{.literal = input.subspan(4 + sizes),
                        .filler = size_t{input[2]} * 1500,
                        .filler_byte = input[3]};
    runtime::TestLoop loop;
    runtime::MemoryBudget memory(kBudget);
    Pieces pieces(stream, input.subspan(4, sizes), memory);
    FrameReader reader(pieces, memory);
    bool within_frame = false;
    const FrameLimits limits{.size_max = size_max, .on_progress = [&] { within_frame = true; }};
    size_t at = 0;
    while (true) {
        const Expected expected = expect(stream, at, size_max);
        const auto frame = loop.run(reader.next(limits, {}));
        CHECK(frame.has_value() == expected.whole);
        if (!frame) {
            CHECK(frame.error().code == expected.error);
            break;
        }
        CHECK(frame->size() == expected.size);
        for (size_t i = 0; i < expected.size; ++i)
            CHECK(frame->bytes()[i] == stream.at(expected.begin + i));
        CHECK(memory.used() >= expected.size);
        read_request(frame->bytes());
        at = expected.begin + expected.size;
    }
    CHECK(memory.used() == 0);
}

}  // namespace
}  // namespace weir::kafka

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    weir::kafka::fuzz({data, size});
    return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

// Now and then a whole stream of well-formed requests of random APIs, versions and values, so that
// mutations start from there.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
    using namespace weir;
    using namespace weir::kafka;
    if (seed % 16 != 0) return LLVMFuzzerMutate(data, size, size_max);
    Prng prng(seed);
    std::vector<uint8_t> stream = {1, static_cast<uint8_t>(prng.below(4)), 0, 0};
    for (uint8_t i = 0; i < stream[1]; ++i) stream.push_back(static_cast<uint8_t>(prng.next()));
    for (uint64_t left = 1 + prng.below(4); left > 0; --left) {
        auto kind = requests().begin();
        std::advance(kind, prng.below(requests().size()));
        const MessageKind& request = kind->second;
        const auto version =
            static_cast<int16_t>(prng.between(static_cast<uint64_t>(request.version_min),
                                              static_cast<uint64_t>(request.version_max)));
        ByteWriter out;
        out.write_i32(0);
        const RequestHeader header{.api_key = kind->first,
                                   .api_version = version,
                                   .correlation_id = static_cast<int32_t>(prng.next()),
                                   .client_id = "fuzz"};
        CHECK(header.encode(out));
        out.write_bytes(request.random(prng, version));
        out.patch_i32(0, static_cast<int32_t>(out.size() - 4));
        const auto frame = out.flatten();
        stream.insert(stream.end(), frame.begin(), frame.end());
    }
    if (stream.size() > size_max) return LLVMFuzzerMutate(data, size, size_max);
    std::ranges::copy(stream, data);
    return stream.size();
}

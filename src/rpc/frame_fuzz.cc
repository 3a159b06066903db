// The parsers of what comes from another node: hellos, answers to them, and frames, in any pieces.
// What comes out of the frames is what a plain reading of the whole stream says; memory stays
// within what the frames with a right checksum announced, and all of it is given back.
#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "base/units.h"
#include "rpc/frame.h"
#include "rpc/hello.h"
#include "rpc/message_reader.h"
#include "rpc/outbox.h"
#include "rpc/test_stream.h"
#include "runtime/test_loop.h"

namespace weir::rpc {
namespace {

using runtime::Task;

constexpr size_t kMessageMax = 1_MiB;

// Fields of the input's first byte.
constexpr uint8_t kHello = 1;
constexpr uint8_t kReply = 2;
constexpr uint8_t kFixChecksums = 4;  // so that what lies behind them is met, too

struct Whole {
    FrameHeader header;
    std::vector<uint8_t> body;
};

struct Expected {
    std::vector<Whole> messages;
    ErrorCode end = ErrorCode::kEndOfStream;
};

// Corrects the checksums of the frames that can be found by their sizes.
void fix_checksums(std::vector<uint8_t>& stream) {
    for (size_t at = 0; stream.size() - at >= kFrameHeaderBytes;) {
        const auto size = load_be<uint32_t>(stream.data() + at + 4);
        if (size > stream.size() - at - kFrameHeaderBytes) return;
        const Bytes payload(stream.data() + at + kFrameHeaderBytes, size);
        store_be<uint32_t>(stream.data() + at,
                           crc32c(payload, checksum_header(stream.data() + at)));
        at += kFrameHeaderBytes + size;
    }
}

Expected plain_reading(Bytes stream) {
    Expected expected;
    std::array<std::optional<Whole>, kLanes> partial;
    while (stream.size() >= kFrameHeaderBytes) {
        const auto header = decode_header(stream.first(kFrameHeaderBytes), kMessageMax);
        if (!header) {
            expected.end = ErrorCode::kMalformed;
            return expected;
        }
        std::optional<Whole>& open = partial[static_cast<size_t>(header->lane)];
        const FrameHeader& first = open ? open->header : *header;
        const bool goes_on = header->offset == (open ? open->body.size() : 0) &&
                             header->kind == first.kind && header->type == first.type &&
                             header->call == first.call && header->timeout_ms == first.timeout_ms &&
                             header->message_size == first.message_size;
        if (!goes_on) {
            expected.end = ErrorCode::kMalformed;
            return expected;
        }
        if (stream.size() - kFrameHeaderBytes < header->payload_size) return expected;
        const Bytes payload = stream.subspan(kFrameHeaderBytes, header->payload_size);
        if (crc32c(payload, checksum_header(stream.data())) != header->crc) {
            expected.end = ErrorCode::kMalformed;
            return expected;
        }
        stream = stream.subspan(kFrameHeaderBytes + payload.size());
        if (!open) open = Whole{.header = *header, .body = {}};
        open->body.insert(open->body.end(), payload.begin(), payload.end());
        if (open->body.size() < header->message_size) continue;
        expected.messages.push_back(std::move(*open));
        open.reset();
    }
    return expected;
}

Task<Result<Incoming>> read_next(MessageReader* reader) { co_return co_await reader->next({}); }

void fuzz_frames(std::vector<uint8_t> bytes, std::vector<size_t> pieces) {
    const Expected expected = plain_reading(bytes);
    runtime::TestLoop loop;
    runtime::MemoryBudget memory(4 * kMessageMax);
    {
        PiecesStream stream(std::move(bytes), std::move(pieces));
        MessageReader reader(stream, memory, kMessageMax, std::chrono::milliseconds(20));
        for (const Whole& whole : expected.messages) {
            const auto incoming = loop.run(read_next(&reader));
            CHECK(incoming.has_value());
            CHECK(incoming->type == whole.header.type);
            CHECK(incoming->kind == whole.header.kind);
            CHECK(incoming->lane == whole.header.lane);
            CHECK(incoming->call == whole.header.call);
            CHECK(std::ranges::equal(incoming->body.bytes(), whole.body));
            if (incoming->type == FrameType::kFailure) {
                const Error error = decode_error(incoming->body.bytes());
                CHECK(decode_error(encode_error(error)).code == error.code);
            }
            CHECK(memory.used() >= whole.body.size());
            CHECK(memory.used() <= kLanes * kMessageMax + whole.body.size());
        }
        const auto end = loop.run(read_next(&reader));
        CHECK(!end);
        CHECK(end.error().code == expected.end);
    }
    CHECK(memory.used() == 0);
}

template <class T>
void fuzz_hello(std::vector<uint8_t> bytes, std::vector<size_t> pieces, bool fix,
                Task<Result<T>> (*read)(runtime::ByteStream&, runtime::StopToken)) {
    if (fix && bytes.size() >= 12) {
        const auto size = std::min<size_t>(load_be<uint32_t>(bytes.data() + 4), bytes.size() - 12);
        store_be<uint32_t>(bytes.data() + 8, crc32c(Bytes(bytes).subspan(12, size)));
    }
    runtime::TestLoop loop;
    PiecesStream stream(std::move(bytes), std::move(pieces));
    const auto hello = loop.run(read(stream, {}));
    if (!hello) {
        CHECK(hello.error().code == ErrorCode::kMalformed ||
              hello.error().code == ErrorCode::kEndOfStream);
        return;
    }
    const std::vector<uint8_t> once = encode(*hello);
    PiecesStream again(once);
    const auto back = loop.run(read(again, {}));
    CHECK(back.has_value());
    CHECK(encode(*back) == once);
}

void fuzz(Bytes input) {
    if (input.size() < 2) return;
    const size_t count = std::min<size_t>(input[1] % 16, input.size() - 2);
    std::vector<size_t> pieces;
    for (const uint8_t size : input.subspan(2, count)) pieces.push_back(size_t{1} << (size % 18));
    const Bytes rest = input.subspan(2 + count);
    std::vector<uint8_t> bytes(rest.begin(), rest.end());
    const bool fix = (input[0] & kFixChecksums) != 0;
    if ((input[0] & kHello) != 0)
        return fuzz_hello<Hello>(
            std::move(bytes), std::move(pieces), fix,
            +[](runtime::ByteStream& stream, runtime::StopToken stop) {
                return read_hello(stream, stop);
            });
    if ((input[0] & kReply) != 0)
        return fuzz_hello<HelloReply>(
            std::move(bytes), std::move(pieces), fix,
            +[](runtime::ByteStream& stream, runtime::StopToken stop) {
                return read_hello_reply(stream, stop);
            });
    if (fix) fix_checksums(bytes);
    fuzz_frames(std::move(bytes), std::move(pieces));
}

}  // namespace
}  // namespace weir::rpc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    weir::rpc::fuzz({data, size});
    return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

// Now and then a well-formed hello, answer, or stream of messages, so that mutations start from
// there.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
    using namespace weir;
    using namespace weir::rpc;
    if (seed % 16 != 0) return LLVMFuzzerMutate(data, size, size_max);
    Prng prng(seed);
    std::vector<uint8_t> input = {static_cast<uint8_t>(prng.below(3) | kFixChecksums),
                                  static_cast<uint8_t>(prng.below(4))};
    for (uint8_t i = 0; i < input[1]; ++i) input.push_back(static_cast<uint8_t>(prng.next()));
    std::vector<uint8_t> bytes;
    const auto number = [&] { return static_cast<uint32_t>(prng.next()); };
    const Identity identity{.node = NodeId{static_cast<int32_t>(number())}};
    if ((input[0] & kHello) != 0) {
        bytes = encode(Hello{.from = identity, .shards = number(), .to_shard = number()});
    } else if ((input[0] & kReply) != 0) {
        bytes = encode(HelloReply{.refusal = Refusal{static_cast<uint16_t>(prng.below(6))},
                                  .version = 1,
                                  .from = identity,
                                  .shards = 1 + number() % 8,
                                  .reason = std::string(prng.below(20), 'r')});
    } else {
        Outbox outbox(4_MiB, 4_MiB);
        for (uint64_t left = prng.between(1, 5); left > 0; --left) {
            const auto type = FrameType{static_cast<uint8_t>(prng.between(1, 5))};
            const bool calls = type != FrameType::kMessage && type != FrameType::kKeepAlive;
            const size_t body = type == FrameType::kKeepAlive ? 0 : prng.below(100);
            outbox.push({.type = type,
                         .timeout_ms = number(),
                         .call = calls ? 1 + prng.below(1000) : 0,
                         .message = {.kind = Kind{static_cast<uint16_t>(number())},
                                     .lane = Lane{static_cast<uint8_t>(prng.below(2))},
                                     .body = std::vector<uint8_t>(body, 0x11)}});
        }
        Outbox::Batch batch;
        outbox.gather(&batch);
        for (const Bytes part : batch.parts) bytes.insert(bytes.end(), part.begin(), part.end());
    }
    input.insert(input.end(), bytes.begin(), bytes.end());
    if (input.size() > size_max) return LLVMFuzzerMutate(data, size, size_max);
    std::ranges::copy(input, data);
    return input.size();
}

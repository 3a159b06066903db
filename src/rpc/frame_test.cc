// The wire: what docs/formats/rpc.md says, and what happens to all that is not so.
#include "rpc/frame.h"

#include <gtest/gtest.h>

#include <charconv>
#include <numeric>

#include "base/crc32c.h"
#include "base/units.h"
#include "rpc/hello.h"
#include "rpc/message_reader.h"
#include "rpc/outbox.h"
#include "rpc/test_stream.h"
#include "runtime/test_loop.h"
#include "runtime/wait.h"

namespace weir::rpc {
namespace {

using runtime::MemoryBudget;
using runtime::SharedBytes;
using runtime::Task;
using runtime::TestLoop;

constexpr Kind kKind{0x0102};

std::vector<uint8_t> from_hex(std::string_view text) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < text.size(); i += 2) {
        uint8_t byte = 0;
        std::from_chars(text.data() + i, text.data() + i + 2, byte, 16);
        bytes.push_back(byte);
    }
    return bytes;
}

std::vector<uint8_t> text_bytes(std::string_view text) {
    const Bytes bytes = as_bytes(text);
    return {bytes.begin(), bytes.end()};
}

std::vector<uint8_t> pattern(size_t size, uint8_t salt) {
    std::vector<uint8_t> bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 251 + salt);
    return bytes;
}

Uuid uuid_from(uint8_t first) {
    Uuid uuid;
    for (size_t i = 0; i < uuid.bytes.size(); ++i) uuid.bytes[i] = static_cast<uint8_t>(first + i);
    return uuid;
}

// All that the outbox has, in batches as they are sent.
std::vector<std::vector<uint8_t>> batches_of(Outbox& outbox) {
    std::vector<std::vector<uint8_t>> batches;
    Outbox::Batch batch;
    while (!outbox.empty()) {
        outbox.gather(&batch);
        std::vector<uint8_t> bytes;
        for (const Bytes part : batch.parts) bytes.insert(bytes.end(), part.begin(), part.end());
        EXPECT_EQ(bytes.size(), batch.bytes);
        batches.push_back(std::move(bytes));
        outbox.free(batch);
        batch.clear();
    }
    EXPECT_EQ(outbox.queued_bytes(Lane::kControl), 0);
    EXPECT_EQ(outbox.queued_bytes(Lane::kData), 0);
    return batches;
}

std::vector<uint8_t> wire_of(Outbox& outbox) {
    std::vector<uint8_t> all;
    for (const auto& batch : batches_of(outbox)) all.insert(all.end(), batch.begin(), batch.end());
    return all;
}

std::vector<uint8_t> wire_of(Outgoing outgoing) {
    Outbox outbox(1_GiB, 1_GiB);
    outbox.push(std::move(outgoing));
    return wire_of(outbox);
}

struct ReadAll {
    std::vector<Incoming> messages;
    Error end{.code = ErrorCode::kInvalidArgument, .message = {}};
};

Task<ReadAll> read_all(PiecesStream* stream, MemoryBudget* memory, size_t message_bytes_max) {
    MessageReader reader(*stream, *memory, message_bytes_max, 20ms);
    ReadAll all;
    while (true) {
        auto next = co_await reader.next({});
        if (!next) {
            all.end = next.error();
            co_return all;
        }
        all.messages.push_back(std::move(*next));
    }
}

class Wire : public testing::Test {
  protected:
    ReadAll read(std::vector<uint8_t> bytes, std::vector<size_t> pieces = {},
                 size_t message_bytes_max = kMessageBytesMax) {
        PiecesStream stream(std::move(bytes), std::move(pieces));
        return loop_.run(read_all(&stream, &memory_, message_bytes_max));
    }

    TestLoop loop_;
    MemoryBudget memory_{64_MiB};
};

bool holds(const SharedBytes& body, const std::vector<uint8_t>& expected) {
    return std::equal(body.bytes().begin(), body.bytes().end(), expected.begin(), expected.end());
}

const char* const kHelloHex =
    "575250430000003aacc3fcc400010001101112131415161718191a1b1c1d1e1f0000000120212223242526272829"
    "2a2b2c2d2e2f000000020000000000000003000000020000";
const char* const kReplyHex =
    "575250520000002e41519e6800000001101112131415161718191a1b1c1d1e1f0000000230313233343536373839"
    "3a3b3c3d3e3f000000040000";
const char* const kProvingHelloHex =
    "575250430000005a6174b74f00010002101112131415161718191a1b1c1d1e1f0000000120212223242526272829"
    "2a2b2c2d2e2f000000020000000000000003000000020002404142434445464748494a4b4c4d4e4f505152535455"
    "565758595a5b5c5d5e5f";
const char* const kProvingReplyHex =
    "575250520000006f42d65b9f00000002101112131415161718191a1b1c1d1e1f0000000230313233343536373839"
    "3a3b3c3d3e3f00000004000001606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7fdb"
    "425cdf5d1b515a7f1a57a172e21985ebd015bc5dbf0e5b8a886f56c654d178";
const char* const kProofHex =
    "575250500000002007c6a9f3c7a4e04b1a174abc210e93433eaa269732bd5bb02298ba973a975720def75285";
const char* const kVerdictHex = "575250560000000448674bc700000000";
const char* const kRequestHex =
    "d7cc08610000000501020201000001f40000000000000007000000050000000068656c6c6f";
const char* const kFailureHex =
    "7dbba9d50000000d010204010000000000000000000000070000000d0000000000046e6f2073756368206c6f67";

TEST_F(Wire, the_example_hello_is_what_the_document_says) {
    const Hello hello{.version_max = 1,
                      .from = {uuid_from(0x10), NodeId{1}, uuid_from(0x20)},
                      .shards = 2,
                      .from_shard = 0,
                      .to_shard = 3,
                      .to = NodeId{2}};
    EXPECT_EQ(encode(hello), from_hex(kHelloHex));
    PiecesStream stream(from_hex(kHelloHex), {7});
    const auto read = loop_.run(read_hello(stream, {}));
    ASSERT_TRUE(read);
    EXPECT_EQ(encode(*read), from_hex(kHelloHex));
}

TEST_F(Wire, the_example_reply_is_what_the_document_says) {
    const HelloReply reply{
        .version = 1, .from = {uuid_from(0x10), NodeId{2}, uuid_from(0x30)}, .shards = 4};
    EXPECT_EQ(encode(reply), from_hex(kReplyHex));
    PiecesStream stream(from_hex(kReplyHex), {5});
    const auto read = loop_.run(read_hello_reply(stream, {}));
    ASSERT_TRUE(read);
    EXPECT_EQ(encode(*read), from_hex(kReplyHex));
}

TEST_F(Wire, the_example_proofs_are_what_the_document_says) {
    const ClusterSecret secret(*ClusterSecret::parse("correct horse battery staple\n"), true);
    Hello hello{.from = {uuid_from(0x10), NodeId{1}, uuid_from(0x20)},
                .shards = 2,
                .to_shard = 3,
                .to = NodeId{2},
                .proves = true};
    std::iota(hello.nonce.begin(), hello.nonce.end(), uint8_t{0x40});
    std::vector<uint8_t> exchange = encode(hello);
    EXPECT_EQ(exchange, from_hex(kProvingHelloHex));
    HelloReply reply{
        .version = 2, .from = {uuid_from(0x10), NodeId{2}, uuid_from(0x30)}, .shards = 4};
    std::iota(reply.nonce.begin(), reply.nonce.end(), uint8_t{0x60});
    reply.proof.emplace();
    *reply.proof = secret.prove(Side::kAccepting, exchange_before_reply(exchange, reply));
    const std::vector<uint8_t> said = encode(reply);
    EXPECT_EQ(said, from_hex(kProvingReplyHex));
    exchange.insert(exchange.end(), said.begin(), said.end());
    EXPECT_EQ(encode_proof(secret.prove(Side::kDialling, exchange)), from_hex(kProofHex));
    EXPECT_EQ(encode(Verdict{}), from_hex(kVerdictHex));

    PiecesStream stream(from_hex(kProvingReplyHex), {5});
    const auto read = loop_.run(read_hello_reply(stream, {}));
    ASSERT_TRUE(read);
    EXPECT_EQ(encode(*read), from_hex(kProvingReplyHex));
    PiecesStream hello_stream(from_hex(kProvingHelloHex), {7});
    const auto hello_read = loop_.run(read_hello(hello_stream, {}));
    ASSERT_TRUE(hello_read);
    EXPECT_TRUE(hello_read->proves);
    EXPECT_EQ(hello_read->nonce, hello.nonce);
}

TEST_F(Wire, a_proof_or_verdict_with_any_bit_flipped_or_any_byte_missing_is_none) {
    for (const char* const hex : {kProofHex, kVerdictHex}) {
        const std::vector<uint8_t> whole = from_hex(hex);
        const auto is_read = [&](std::vector<uint8_t> bytes) {
            PiecesStream stream(std::move(bytes));
            return hex == kProofHex ? loop_.run(read_proof(stream, {})).has_value()
                                    : loop_.run(read_verdict(stream, {})).has_value();
        };
        EXPECT_TRUE(is_read(whole));
        for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
            std::vector<uint8_t> bytes = whole;
            bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
            EXPECT_FALSE(is_read(bytes)) << bit;
        }
        for (size_t size = 0; size < whole.size(); ++size)
            EXPECT_FALSE(is_read({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)}));
    }
}

TEST_F(Wire, a_hello_of_a_later_version_may_say_more) {
    std::vector<uint8_t> body = from_hex(kHelloHex);
    body.erase(body.begin(), body.begin() + 12);
    body.resize(body.size() + 9, 0xab);
    std::vector<uint8_t> bytes = text_bytes("WRPC");
    bytes.resize(12);
    store_be<uint32_t>(bytes.data() + 4, static_cast<uint32_t>(body.size()));
    store_be<uint32_t>(bytes.data() + 8, crc32c(body));
    bytes.insert(bytes.end(), body.begin(), body.end());
    const size_t size = bytes.size();
    bytes.push_back(0x77);  // what follows is not the hello's
    PiecesStream stream(bytes);
    const auto read = loop_.run(read_hello(stream, {}));
    ASSERT_TRUE(read);
    EXPECT_EQ(read->to_shard, 3);
    EXPECT_EQ(stream.taken(), size);
}

TEST_F(Wire, a_hello_with_any_bit_flipped_or_any_byte_missing_is_none) {
    const std::vector<uint8_t> hello = from_hex(kHelloHex);
    for (size_t bit = 0; bit < hello.size() * 8; ++bit) {
        std::vector<uint8_t> bytes = hello;
        bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
        PiecesStream stream(bytes);
        EXPECT_FALSE(loop_.run(read_hello(stream, {}))) << bit;
    }
    for (size_t size = 0; size < hello.size(); ++size) {
        PiecesStream stream({hello.begin(), hello.begin() + static_cast<ptrdiff_t>(size)});
        const auto read = loop_.run(read_hello(stream, {}));
        ASSERT_FALSE(read);
        EXPECT_EQ(read.error().code, ErrorCode::kEndOfStream);
    }
}

TEST_F(Wire, the_example_frames_are_what_the_document_says) {
    EXPECT_EQ(wire_of({.type = FrameType::kRequest,
                       .timeout_ms = 500,
                       .call = 7,
                       .message = {.kind = kKind, .body = text_bytes("hello")}}),
              from_hex(kRequestHex));
    const Error error{.code = ErrorCode::kNotFound, .message = "no such log"};
    EXPECT_EQ(wire_of({.type = FrameType::kFailure,
                       .call = 7,
                       .message = {.kind = kKind, .body = encode_error(error)}}),
              from_hex(kFailureHex));
    std::vector<uint8_t> both = from_hex(kRequestHex);
    const std::vector<uint8_t> failure = from_hex(kFailureHex);
    both.insert(both.end(), failure.begin(), failure.end());
    const ReadAll all = read(both, {3, 50});
    ASSERT_EQ(all.messages.size(), 2);
    EXPECT_EQ(all.messages[0].type, FrameType::kRequest);
    EXPECT_EQ(all.messages[0].timeout_ms, 500);
    EXPECT_EQ(all.messages[0].call, 7);
    EXPECT_TRUE(holds(all.messages[0].body, text_bytes("hello")));
    const Error read = decode_error(all.messages[1].body.bytes());
    EXPECT_EQ(read.code, ErrorCode::kNotFound);
    EXPECT_EQ(read.message, "no such log");
    EXPECT_EQ(all.end.code, ErrorCode::kEndOfStream);
}

TEST_F(Wire, every_error_code_survives_the_way) {
    for (int code = 0; code <= static_cast<int>(ErrorCode::kUnsupported); ++code) {
        const Error error{.code = static_cast<ErrorCode>(code), .message = "why"};
        EXPECT_EQ(decode_error(encode_error(error)).code, error.code);
    }
    EXPECT_EQ(decode_error(std::vector<uint8_t>{0, 99}).code, ErrorCode::kIo);
    EXPECT_EQ(decode_error({}).code, ErrorCode::kMalformed);
}

TEST_F(Wire, a_frame_with_any_bit_flipped_gives_no_message) {
    const std::vector<uint8_t> request = from_hex(kRequestHex);
    for (size_t bit = 0; bit < request.size() * 8; ++bit) {
        std::vector<uint8_t> bytes = request;
        bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
        bytes.insert(bytes.end(), request.begin(), request.end());
        const ReadAll all = read(bytes);
        EXPECT_TRUE(all.messages.empty()) << bit;
    }
    EXPECT_EQ(memory_.used(), 0);
}

TEST_F(Wire, messages_of_all_sizes_come_whole_in_any_pieces) {
    const std::vector<size_t> sizes = {0,     1,       31,      4096,    16384,  16385,
                                       65536, 262'143, 262'144, 262'145, 524288, 1'000'000};
    for (const std::vector<size_t>& pieces :
         {std::vector<size_t>{}, {1000}, {1, 40, 70'000}, {32, 5}}) {
        Outbox outbox(1_GiB, 1_GiB);
        for (const size_t size : sizes) {
            // Body and parts, empty ones among them.
            const std::vector<uint8_t> whole = pattern(size, 1);
            const size_t half = size / 2;
            Message message{.kind = kKind, .body = {}};
            message.body.assign(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(half));
            message.parts.push_back({});
            message.parts.push_back(SharedBytes::copy_of(Bytes(whole).subspan(half, half / 3)));
            message.parts.push_back(SharedBytes::copy_of(Bytes(whole).subspan(half + half / 3)));
            EXPECT_EQ(message.size(), size);
            outbox.push({.message = std::move(message)});
        }
        {
            const ReadAll all = read(wire_of(outbox), pieces);
            EXPECT_EQ(all.end.code, ErrorCode::kEndOfStream) << all.end.to_string();
            ASSERT_EQ(all.messages.size(), sizes.size());
            for (size_t i = 0; i < sizes.size(); ++i)
                EXPECT_TRUE(holds(all.messages[i].body, pattern(sizes[i], 1))) << sizes[i];
        }
        EXPECT_EQ(memory_.used(), 0);
    }
}

TEST_F(Wire, control_messages_pass_a_large_one_on_the_way) {
    Outbox outbox(1_MiB, 64_MiB);
    const auto push = [&](Lane lane, size_t size) {
        outbox.push({.message = {.kind = kKind, .lane = lane, .body = pattern(size, 3)}});
    };
    push(Lane::kData, 3_MiB);
    push(Lane::kData, 10);
    std::vector<uint8_t> wire;
    Outbox::Batch batch;
    for (int i = 0; !outbox.empty(); ++i) {
        if (i < 4) push(Lane::kControl, 100);
        outbox.gather(&batch);
        EXPECT_LE(batch.bytes, 2 * kPayloadMax + 10 * kFrameHeaderBytes);
        for (const Bytes part : batch.parts) wire.insert(wire.end(), part.begin(), part.end());
        outbox.free(batch);
        batch.clear();
    }
    const ReadAll all = read(wire, {100'000});
    ASSERT_EQ(all.messages.size(), 6);
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(all.messages[i].lane, Lane::kControl);
    EXPECT_TRUE(holds(all.messages[4].body, pattern(3_MiB, 3)));
    EXPECT_TRUE(holds(all.messages[5].body, pattern(10, 3)));
}

TEST_F(Wire, a_flood_on_the_control_lane_does_not_starve_data) {
    Outbox outbox(64_MiB, 64_MiB);
    for (int i = 0; i < 20'000; ++i)
        outbox.push({.message = {.kind = kKind, .lane = Lane::kControl, .body = pattern(100, 0)}});
    outbox.push({.message = {.kind = kKind, .lane = Lane::kData, .body = pattern(100, 0)}});
    const auto batches = batches_of(outbox);
    EXPECT_GT(batches.size(), 5);
    const ReadAll first = read(batches[0]);
    EXPECT_EQ(first.messages.back().lane, Lane::kData);
}

TEST_F(Wire, a_queue_takes_what_fits_and_any_message_when_it_is_empty) {
    Outbox outbox(1_KiB, 10_KiB);
    EXPECT_TRUE(outbox.fits(Lane::kData, 1_MiB));
    outbox.push({.message = {.kind = kKind, .body = pattern(1_MiB, 0)}});
    EXPECT_FALSE(outbox.fits(Lane::kData, 0));
    EXPECT_TRUE(outbox.fits(Lane::kControl, 0));
    Outbox::Batch batch;
    outbox.gather(&batch);
    EXPECT_FALSE(outbox.fits(Lane::kData, 0));  // under way
    outbox.free(batch);
    batch.clear();
    (void)wire_of(outbox);
    EXPECT_TRUE(outbox.fits(Lane::kData, 0));
    size_t taken = 0;
    while (outbox.fits(Lane::kControl, 0)) {  // empty messages are bounded too
        outbox.push({.message = {.kind = kKind, .lane = Lane::kControl}});
        ++taken;
    }
    EXPECT_GT(taken, 1);
    EXPECT_LE(taken, 4);
    (void)wire_of(outbox);
}

TEST_F(Wire, frames_that_do_not_go_on_with_their_message_end_the_reading) {
    const auto frame = [](FrameHeader header) {
        std::vector<uint8_t> bytes(kFrameHeaderBytes + header.payload_size, 0x55);
        encode_header(header, bytes.data());
        const Bytes payload = Bytes(bytes).subspan(kFrameHeaderBytes);
        store_be<uint32_t>(bytes.data(), crc32c(payload, checksum_header(bytes.data())));
        return bytes;
    };
    const FrameHeader first{.payload_size = 10, .kind = kKind, .message_size = 30, .offset = 0};
    const auto after_first = [&](auto change) {
        FrameHeader second = first;
        second.offset = 10;
        change(second);
        std::vector<uint8_t> bytes = frame(first);
        const std::vector<uint8_t> more = frame(second);
        bytes.insert(bytes.end(), more.begin(), more.end());
        const ReadAll all = read(bytes);
        EXPECT_TRUE(all.messages.empty());
        return all.end.code;
    };
    EXPECT_EQ(after_first([](FrameHeader&) {}), ErrorCode::kEndOfStream);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.lane = Lane::kControl; }), ErrorCode::kMalformed);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.offset = 9; }), ErrorCode::kMalformed);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.offset = 0; }), ErrorCode::kMalformed);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.message_size = 31; }), ErrorCode::kMalformed);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.kind = Kind{1}; }), ErrorCode::kMalformed);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.payload_size = 21; }), ErrorCode::kMalformed);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.payload_size = 0; }), ErrorCode::kMalformed);
    EXPECT_EQ(after_first([](FrameHeader& h) { h.call = 1; }), ErrorCode::kMalformed);
    const auto alone = [&](FrameHeader header) { return read(frame(header), {}, 1000).end.code; };
    EXPECT_EQ(alone({.payload_size = 10, .message_size = 1001}), ErrorCode::kMalformed);
    EXPECT_EQ(alone({.type = FrameType{0}}), ErrorCode::kMalformed);
    EXPECT_EQ(alone({.type = FrameType{6}}), ErrorCode::kMalformed);
    EXPECT_EQ(alone({.type = FrameType::kRequest}), ErrorCode::kMalformed);
    EXPECT_EQ(alone({.lane = Lane{2}}), ErrorCode::kMalformed);
    EXPECT_EQ(alone({.payload_size = 1, .type = FrameType::kKeepAlive, .message_size = 1}),
              ErrorCode::kMalformed);
    EXPECT_EQ(memory_.used(), 0);
}

Task<void> give_back_later(std::optional<runtime::Reservation>* held, Duration after) {
    (void)co_await runtime::sleep_for(after);
    held->reset();
}

Task<Instant> read_under_pressure(MemoryBudget* memory, size_t size, Duration until) {
    std::optional<runtime::Reservation> held = memory->try_reserve(memory->total() - 100);
    PiecesStream stream(wire_of({.message = {.kind = kKind, .body = pattern(size, 9)}}));
    runtime::Scope scope;
    scope.spawn(give_back_later(&held, until));
    const ReadAll all = co_await read_all(&stream, memory, kMessageBytesMax);
    EXPECT_EQ(all.messages.size(), 1);
    EXPECT_FALSE(all.messages.at(0).dropped);
    const Instant done = runtime::Shard::current().now();
    co_await scope.join();
    co_return done;
}

TEST_F(Wire, a_large_message_waits_for_memory_and_a_small_one_does_not) {
    MemoryBudget memory(1_MiB);
    const Instant begin = loop_.driver().now();
    const Instant small = loop_.run(read_under_pressure(&memory, kSmallBytes, 10ms));
    EXPECT_LT(small - begin, 5ms);
    const Instant between = loop_.driver().now();
    const Instant large = loop_.run(read_under_pressure(&memory, kSmallBytes + 1, 10ms));
    EXPECT_GE(large - between, 10ms);
    EXPECT_EQ(memory.used(), 0);
}

TEST_F(Wire, a_message_larger_than_the_whole_budget_gets_through_when_half_of_it_is_free) {
    MemoryBudget memory(1_MiB);
    PiecesStream stream(wire_of({.message = {.kind = kKind, .body = pattern(2_MiB, 9)}}));
    const ReadAll all = loop_.run(read_all(&stream, &memory, kMessageBytesMax));
    ASSERT_EQ(all.messages.size(), 1);
    EXPECT_TRUE(holds(all.messages[0].body, pattern(2_MiB, 9)));
}

// The second look's 1.1: the heartbeats behind a frame that waited for memory were not read.
TEST_F(Wire, without_memory_data_is_dropped_and_what_is_behind_it_comes_after_one_short_wait) {
    MemoryBudget memory(1_MiB);
    std::optional<runtime::Reservation> held = memory.try_reserve(memory.total() - 100);
    std::vector<uint8_t> wire;
    const auto add = [&wire](Outgoing outgoing) {
        const std::vector<uint8_t> bytes = wire_of(std::move(outgoing));
        wire.insert(wire.end(), bytes.begin(), bytes.end());
    };
    const std::vector<size_t> sizes{kSmallBytes + 1, 200'000, 600'000, kPayloadMax, 700'001};
    for (const size_t size : sizes) {
        add({.message = {.kind = kKind, .body = pattern(size, 9)}});
        add({.message = {.kind = kKind, .lane = Lane::kControl, .body = pattern(9, 1)}});
    }
    add({.message = {.kind = kKind, .lane = Lane::kControl, .body = pattern(50'000, 3)}});
    add({.message = {.kind = kKind, .body = pattern(100, 4)}});
    PiecesStream stream(std::move(wire), {});
    const Instant begin = loop_.driver().now();
    const ReadAll all = loop_.run(read_all(&stream, &memory, kMessageBytesMax));
    EXPECT_LT(loop_.driver().now() - begin, 30ms);
    ASSERT_EQ(all.messages.size(), 2 * sizes.size() + 2);
    for (size_t i = 0; i < sizes.size(); ++i) {
        EXPECT_TRUE(all.messages[2 * i].dropped) << sizes[i];
        EXPECT_TRUE(all.messages[2 * i].body.empty());
        EXPECT_TRUE(holds(all.messages[2 * i + 1].body, pattern(9, 1)));
    }
    EXPECT_TRUE(holds(all.messages[2 * sizes.size()].body, pattern(50'000, 3)));
    EXPECT_TRUE(holds(all.messages[2 * sizes.size() + 1].body, pattern(100, 4)));
    EXPECT_EQ(all.end.code, ErrorCode::kEndOfStream);
}

TEST_F(Wire, a_dropped_message_must_have_its_checksum_too) {
    MemoryBudget memory(1_MiB);
    std::optional<runtime::Reservation> held = memory.try_reserve(memory.total() - 100);
    std::vector<uint8_t> wire = wire_of({.message = {.kind = kKind, .body = pattern(9000, 9)}});
    wire.back() ^= 1;
    PiecesStream stream(std::move(wire), {});
    const ReadAll all = loop_.run(read_all(&stream, &memory, kMessageBytesMax));
    EXPECT_TRUE(all.messages.empty());
    EXPECT_EQ(all.end.code, ErrorCode::kMalformed);
}

}  // namespace
}  // namespace weir::rpc

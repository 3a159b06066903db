// What holds for every message in every version, on random values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "kafka/protocol/codec.h"
#include "kafka/protocol/message_kinds.h"

#if !defined(WEIR_TSAN)
#define WEIR_OWN_HEAP 1  // ThreadSanitizer brings its own, and does not allow another
#endif

namespace {

// Bytes that operator new has handed out and not got back, and the most that they ever were since
// the last reset.
size_t live_bytes = 0;
size_t live_bytes_max = 0;

}  // namespace

#ifdef WEIR_OWN_HEAP
// Each allocation is counted with the overhead that the decoder's budget states for it.
void* operator new(size_t size) {
    auto* const block = static_cast<size_t*>(std::malloc(size + 16));
    if (block == nullptr) std::abort();
    block[0] = size + 16;
    live_bytes += size + 16;
    live_bytes_max = std::max(live_bytes_max, live_bytes);
    return block + 2;
}

void operator delete(void* at) noexcept {
    if (at == nullptr) return;
    auto* const block = static_cast<size_t*>(at) - 2;
    live_bytes -= block[0];
    std::free(block);
}

void operator delete(void* at, size_t) noexcept { operator delete(at); }
#endif

namespace weir::kafka {
namespace {

constexpr uint64_t kSeed = 20260917;

template <class F>
void for_each_version(F f) {
    for (const MessageKind& kind : all_message_kinds()) {
        for (int16_t version = kind.version_min; version <= kind.version_max; ++version) {
            SCOPED_TRACE(std::string(kind.name) + " version " + std::to_string(version));
            Prng prng(kSeed + static_cast<uint64_t>(version), kind.name);
            f(kind, version, prng);
        }
    }
}

TEST(Messages, are_all_listed) {
    EXPECT_EQ(all_message_kinds().size(), 130u);
    for (const std::string_view name :
         {"ProduceRequest", "ProduceResponse", "ConsumerProtocolAssignment"}) {
        EXPECT_TRUE(find_message_kind(name)) << name;
    }
}

TEST(Messages, come_back_as_they_were_sent) {
    for_each_version([](const MessageKind& kind, int16_t version, Prng& prng) {
        for (int round = 0; round < 40; ++round) ASSERT_EQ(kind.round_trip(prng, version), "");
    });
}

TEST(Messages, cut_anywhere_are_errors) {
    for_each_version([](const MessageKind& kind, int16_t version, Prng& prng) {
        for (int round = 0; round < 2; ++round) {
            const std::vector<uint8_t> bytes = kind.random(prng, version);
            const size_t step = 1 + bytes.size() / 400;
            for (size_t size = 0; size < bytes.size(); size += step) {
                // A copy of the exact size, so that a sanitizer sees a read past its end.
                const std::vector<uint8_t> cut(bytes.begin(),
                                               bytes.begin() + static_cast<ptrdiff_t>(size));
                ByteReader in(cut);
                ASSERT_FALSE(kind.decode(in, version)) << size << " of " << bytes.size();
            }
        }
    });
}

TEST(Messages, with_bytes_after_them_are_errors_only_where_a_broker_answers) {
    for_each_version([](const MessageKind& kind, int16_t version, Prng& prng) {
        std::vector<uint8_t> bytes = kind.random(prng, version);
        bytes.push_back(0);
        ByteReader in(bytes);
        EXPECT_EQ(kind.decode(in, version).has_value(), !kind.name.ends_with("Response"));
    });
}

TEST(Messages, with_changed_bytes_are_errors_or_other_messages) {
    for_each_version([](const MessageKind& kind, int16_t version, Prng& prng) {
        for (int round = 0; round < 60; ++round) {
            std::vector<uint8_t> bytes = kind.random(prng, version);
            for (uint64_t change = prng.between(1, 3); change > 0 && !bytes.empty(); --change) {
                bytes[prng.below(bytes.size())] =
                    static_cast<uint8_t>(prng.next() >> prng.below(8));
            }
            const Result<std::vector<uint8_t>> once = kind.recode(bytes, version);
            if (!once) continue;
            // Whatever was decoded can be encoded, and means the same the second time.
            const Result<std::vector<uint8_t>> twice = kind.recode(*once, version);
            ASSERT_TRUE(twice) << twice.error().message;
            ASSERT_EQ(*twice, *once);
        }
    });
}

TEST(Messages, of_versions_that_the_schema_lacks_are_refused) {
    for (const MessageKind& kind : all_message_kinds()) {
        for (const int version : {kind.version_min - 1, kind.version_max + 1, -1, 0x7fff}) {
            if (version >= kind.version_min && version <= kind.version_max) continue;
            ByteReader in({});
            const Result<void> result = kind.decode(in, static_cast<int16_t>(version));
            ASSERT_FALSE(result);
            EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
        }
    }
}

void expect_bounded_memory(const MessageKind& kind, int16_t version, Bytes bytes) {
    const size_t before = live_bytes;
    live_bytes_max = live_bytes;
    {
        ByteReader in(bytes);
        (void)kind.decode(in, version);
    }
    const size_t peak = live_bytes_max - before;
    // The text of an error comes on top.
    EXPECT_LE(peak, Decoder::kMemoryFloor + Decoder::kMemoryFactor * bytes.size() + 1024);
    EXPECT_EQ(live_bytes, before);
}

TEST(Messages, take_memory_in_proportion_to_their_frame) {
    constexpr size_t kFrame = 48 << 10;
    for_each_version([](const MessageKind& kind, int16_t version, Prng& prng) {
        // Each array of the message in turn as long as the frame allows, its elements as small as
        // they get.
        for (size_t array = 0;; ++array) {
            const std::vector<uint8_t> one = kind.bomb(version, array, 1);
            if (one.empty()) break;
            const std::vector<uint8_t> two = kind.bomb(version, array, 2);
            const size_t element = two.size() - one.size();
            ASSERT_GT(element, 0u);
            expect_bounded_memory(kind, version, kind.bomb(version, array, kFrame / element));
        }
        for (const uint8_t byte : std::initializer_list<uint8_t>{0x00, 0x01, 0x02, 0xff}) {
            expect_bounded_memory(kind, version, std::vector<uint8_t>(kFrame, byte));
        }
        std::vector<uint8_t> noise(kFrame);
        for (uint8_t& byte : noise) byte = static_cast<uint8_t>(prng.below(4));
        expect_bounded_memory(kind, version, noise);
    });
}

TEST(Messages, may_be_bombs_that_the_budget_refuses) {
    // 100,000 empty names: 200 KB on the wire, 3.2 MB as strings.
    const std::vector<uint8_t> bytes =
        find_message_kind("DeleteTopicsRequest")->bomb(3, 0, 100'000);
    ByteReader in(bytes);
    const Result<void> result = find_message_kind("DeleteTopicsRequest")->decode(in, 3);
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().message.find("too much memory"), std::string::npos)
        << result.error().message;
}

}  // namespace
}  // namespace weir::kafka

// Every message of the schema as a row of functions, so that one test can run over all of them: for
// tests and fuzzing alone. The rows, and what fills each message with random values, are generated
// (codegen/generate.py --testing).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/prng.h"
#include "base/uuid.h"
#include "kafka/protocol/types.h"

namespace weir::kafka {

// Draws the values of one message. Fields that the version lacks are left alone by the generated
// code.
class Filler {
  public:
    Filler(Prng& prng, int16_t version) : version(version), prng_(prng) {}
    // Fills a message that makes the most of memory: all empty, except that array number `large`
    // (counted as they are met) has `count` elements, and those before it have one each.
    Filler(Prng& prng, int16_t version, size_t large, size_t count)
        : version(version), prng_(prng), is_bomb_(true), large_(large), count_(count) {}

    const int16_t version;

    void fill(bool& v) { v = !is_bomb_ && prng_.chance(0.5); }
    void fill(int8_t& v) { v = static_cast<int8_t>(number()); }
    void fill(int16_t& v) { v = static_cast<int16_t>(number()); }
    void fill(uint16_t& v) { v = static_cast<uint16_t>(number()); }
    void fill(int32_t& v) { v = static_cast<int32_t>(number()); }
    void fill(int64_t& v) { v = number(); }
    void fill(double& v) { v = static_cast<double>(number()) * prng_.unit(); }
    void fill(Uuid& v);
    void fill(std::string& v);
    void fill(std::optional<std::string>& v, bool nullable);
    void fill(std::vector<uint8_t>& v);
    void fill(std::optional<std::vector<uint8_t>>& v, bool nullable);
    void fill(Records& v, bool nullable);

    template <class T>
    std::span<T> array(std::vector<T>& v) {
        v.resize(count());
        return v;
    }
    template <class T>
    std::span<T> array(std::optional<std::vector<T>>& v, bool nullable) {
        if (is_null(nullable)) {
            v.reset();
            return {};
        }
        v.emplace(count());
        return *v;
    }
    template <class T>
    bool presence(std::optional<T>& v) {
        v.reset();
        if (!is_bomb_ && prng_.chance(0.5)) v = T();
        return v.has_value();
    }
    // How many arrays were met.
    size_t arrays() const { return arrays_; }

  private:
    int64_t number();
    size_t size();
    size_t count();
    bool is_null(bool nullable) { return nullable && !is_bomb_ && prng_.chance(0.25); }

    Prng& prng_;
    bool is_bomb_ = false;
    size_t large_ = 0;
    size_t count_ = 0;
    size_t arrays_ = 0;
};

struct MessageKind {
    std::string_view name;
    int16_t key;  // -1 for data that travels inside of other messages
    int16_t version_min;
    int16_t version_max;

    // A message of random values, encoded.
    std::vector<uint8_t> (*random)(Prng&, int16_t version);
    // Fills a message, encodes it, decodes that, compares, encodes again, compares. What went
    // wrong; empty if nothing did.
    std::string (*round_trip)(Prng&, int16_t version);
    // See Filler: the encoded message, empty once `large` exceeds the number of arrays.
    std::vector<uint8_t> (*bomb)(int16_t version, size_t large, size_t count);
    // Only decodes. Moves the reader; the message is gone when this returns.
    Result<void> (*decode)(ByteReader& in, int16_t version);
    // Decodes and encodes again: the error if `bytes` do not decode.
    Result<std::vector<uint8_t>> (*recode)(Bytes bytes, int16_t version);
};

std::span<const MessageKind> message_kinds_0();
std::span<const MessageKind> message_kinds_1();
std::span<const MessageKind> message_kinds_2();
std::span<const MessageKind> message_kinds_3();
std::vector<MessageKind> all_message_kinds();
// The request or the response of an API.
std::optional<MessageKind> find_message_kind(std::string_view name);

template <class T>
Result<std::vector<uint8_t>> encoded(const T& message, int16_t version) {
    ByteWriter out;
    TRY(message.encode(out, version));
    return out.flatten();
}

template <class T, void (*kFill)(Filler&, T&)>
constexpr MessageKind message_kind(std::string_view name, int16_t key) {
    return {
        .name = name,
        .key = key,
        .version_min = T::kVersionMin,
        .version_max = T::kVersionMax,
        .random =
            [](Prng& prng, int16_t version) {
                T message;
                Filler filler(prng, version);
                kFill(filler, message);
                return encoded(message, version).value();
            },
        .round_trip = [](Prng& prng, int16_t version) -> std::string {
            T message;
            Filler filler(prng, version);
            kFill(filler, message);
            const Result<std::vector<uint8_t>> bytes = encoded(message, version);
            if (!bytes) return bytes.error().to_string();
            ByteReader in(*bytes);
            const Result<T> back = T::decode(in, version);
            if (!back) return back.error().to_string();
            if (in.remaining() != 0) return "bytes are left over";
            if (*back != message) return "another message came back";
            const Result<std::vector<uint8_t>> again = encoded(*back, version);
            if (!again) return again.error().to_string();
            if (*again != *bytes) return "what came back encodes to other bytes";
            return {};
        },
        .bomb = [](int16_t version, size_t large, size_t count) -> std::vector<uint8_t> {
            T message;
            Prng prng(0);
            Filler filler(prng, version, large, count);
            kFill(filler, message);
            if (filler.arrays() <= large) return {};
            return encoded(message, version).value();
        },
        .decode = [](ByteReader& in, int16_t version) -> Result<void> {
            TRY(T::decode(in, version));
            return {};
        },
        .recode = [](Bytes bytes, int16_t version) -> Result<std::vector<uint8_t>> {
            ByteReader in(bytes);
            TRY_ASSIGN(const T message, T::decode(in, version));
            return encoded(message, version);
        },
    };
}

}  // namespace weir::kafka

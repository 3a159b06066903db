#include "kafka/records/legacy.h"

#include <zlib.h>

#include <optional>

#include "base/byte_reader.h"
#include "kafka/records/builder.h"

namespace weir::kafka {
namespace {

constexpr size_t kCrcEnd = 4;  // in a message: the CRC covers from its own end to the message's
constexpr size_t kAttributesAt = 17;
constexpr uint8_t kCodecMask = 0x07;
constexpr uint8_t kLogAppendTime = 0x08;

struct Failure {
    BatchFault fault;
    std::string_view reason;
};
using Outcome = std::optional<Failure>;  // nothing when all is well

struct Message {
    int8_t magic = 0;
    uint8_t attributes = 0;
    WallTime timestamp = kNoTimestamp;
    NullableBytes key;
    NullableBytes value;

    uint8_t codec() const { return attributes & kCodecMask; }
};

uint32_t crc32_of(Bytes bytes) {
    return static_cast<uint32_t>(crc32_z(0, bytes.data(), bytes.size()));
}

NullableBytes read_nullable(ByteReader& reader) {
    const int32_t length = reader.read_i32();
    if (length == -1) return std::nullopt;
    if (length < 0) {
        reader.set_failed();
        return std::nullopt;
    }
    return reader.read_bytes(static_cast<size_t>(length));
}

// Takes the message at the front of `set` off it.
Outcome take_message(Bytes& set, Message& message) {
    using enum BatchFault;
    ByteReader outer(set);
    outer.skip(sizeof(int64_t));  // offset
    const int32_t size = outer.read_i32();
    if (!outer.ok() || size < 0) return Failure{kCorruptMessage, "the message set is cut short"};
    const Bytes body = outer.read_bytes(static_cast<size_t>(size));
    if (!outer.ok()) return Failure{kCorruptMessage, "the message set is cut short"};
    ByteReader reader(body);
    const uint32_t crc = reader.read_u32();
    message.magic = reader.read_i8();
    message.attributes = reader.read_u8();
    message.timestamp = kNoTimestamp;
    if (!reader.ok()) return Failure{kCorruptMessage, "a message is cut short"};
    if (message.magic != 0 && message.magic != 1) {
        return Failure{kInvalidRecord, "a message's format is neither 0 nor 1"};
    }
    if (crc != crc32_of(body.subspan(kCrcEnd))) {
        return Failure{kCorruptMessage, "a message's CRC does not match"};
    }
    if (message.magic == 1) message.timestamp = {reader.read_i64()};
    message.key = read_nullable(reader);
    message.value = read_nullable(reader);
    if (!reader.ok() || reader.remaining() != 0) {
        return Failure{kInvalidRecord, "a message's fields do not fit its length"};
    }
    set = set.last(outer.remaining());
    return {};
}

class Conversion {
  public:
    explicit Conversion(const BatchLimits& limits) : allowance_(limits.records_bytes_max) {}

    Outcome take_set(Bytes set) {
        std::optional<int8_t> magic;
        while (!set.empty()) {
            Message message;
            if (Outcome bad = take_message(set, message)) return bad;
            if (message.magic != magic.value_or(message.magic)) {
                return Failure{BatchFault::kInvalidRecord,
                               "messages of different formats in one set"};
            }
            magic = message.magic;
            if (message.attributes & kLogAppendTime && message.magic == 1) {
                return Failure{BatchFault::kInvalidTimestamp,
                               "clients may not set the log append time"};
            }
            Outcome bad = message.codec() == 0 ? append(message) : take_wrapper(message);
            if (bad) return bad;
        }
        if (builder_.empty()) return Failure{BatchFault::kInvalidRecord, "there is no message"};
        return {};
    }

    BatchBuilder& builder() { return builder_; }

  private:
    Outcome append(const Message& message) {
        builder_.append({.timestamp = message.timestamp,
                         .key = message.key,
                         .value = message.value,
                         .headers = {}});
        return {};
    }

    // A message whose value is a compressed set. Its own key, timestamp and offset say nothing that
    // the inner messages do not say.
    Outcome take_wrapper(const Message& wrapper) {
        using enum BatchFault;
        if (wrapper.codec() > static_cast<uint8_t>(Compression::kLz4)) {
            return Failure{kUnsupportedCompressionType, "old messages know gzip, snappy and lz4"};
        }
        if (!wrapper.value) return Failure{kInvalidRecord, "a compressed message without a value"};
        const auto plain = decompress(static_cast<Compression>(wrapper.codec()), *wrapper.value,
                                      allowance_, Lz4Header::kUnchecked);
        if (!plain && plain.error().code == ErrorCode::kResourceExhausted) {
            return Failure{kMessageTooLarge, "the messages unpack to more than is allowed"};
        }
        if (!plain) return Failure{kInvalidRecord, "a compressed message cannot be unpacked"};
        if (plain->empty()) return Failure{kInvalidRecord, "a compressed message holds no message"};
        allowance_ -= plain->size();
        for (Bytes set = *plain; !set.empty();) {
            Message message;
            if (Outcome bad = take_message(set, message)) return bad;
            if (message.codec() != 0) {
                return Failure{kInvalidRecord, "a compressed message within a compressed one"};
            }
            if (message.magic != wrapper.magic) {
                return Failure{kInvalidRecord, "messages of different formats in one set"};
            }
            append(message);
        }
        return {};
    }

    size_t allowance_;
    BatchBuilder builder_;
};

BatchVerdict verdict_of(BatchFault fault, std::string_view reason) {
    BatchVerdict verdict;
    verdict.fault = fault;
    verdict.reason = reason;
    return verdict;
}

}  // namespace

UpConversion up_convert(Bytes message_set, const BatchLimits& limits, Compression codec,
                        int level) {
    using enum BatchFault;
    Conversion conversion(limits);
    if (const Outcome bad = conversion.take_set(message_set)) {
        return {verdict_of(bad->fault, bad->reason), {}};
    }
    Result<std::vector<uint8_t>> batch = conversion.builder().build();
    if (!batch) return {verdict_of(kMessageTooLarge, "the messages make too large a batch"), {}};

    // Keys and timestamps are looked at as in any batch; the size counts as it will be stored.
    BatchLimits plain_limits = limits;
    plain_limits.batch_bytes_max = batch->size();
    UpConversion result{validate_batch(*batch, plain_limits), {}};
    if (!result.verdict.ok()) return result;
    if (codec != Compression::kNone) {
        batch = recompress(*batch, codec, level, batch->size());
        if (!batch) return {verdict_of(kMessageTooLarge, "the messages cannot be packed"), {}};
        result.verdict.header = load_batch_header(*batch);
    }
    if (batch->size() > limits.batch_bytes_max) {
        return {verdict_of(kMessageTooLarge, "the batch is larger than max.message.bytes"), {}};
    }
    result.batch = *std::move(batch);
    return result;
}

Compression message_set_compression(Bytes message_set) {
    if (message_set.size() <= kAttributesAt) return Compression::kNone;
    const uint8_t codec = message_set[kAttributesAt] & kCodecMask;
    return codec <= static_cast<uint8_t>(Compression::kLz4) ? static_cast<Compression>(codec)
                                                            : Compression::kNone;
}

}  // namespace weir::kafka

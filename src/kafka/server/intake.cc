#include "kafka/server/intake.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/units.h"
#include "kafka/records/builder.h"
#include "kafka/records/legacy.h"
#include "kafka/records/validate.h"
#include "runtime/copying.h"
#include "runtime/helper.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;

// What a compressed batch may unpack to.
constexpr size_t kRecordsBytesMax = 128_MiB;
// What a compressed message set of an old format may unpack to; its clients send no larger ones.
constexpr size_t kConvertedBytesMax = 16_MiB;
// A message set of an old format is converted in one go: a larger one on a helper's thread.
constexpr size_t kConvertedHere = 64_KiB;

KafkaError to_kafka(BatchFault fault) {
    switch (fault) {
        case BatchFault::kNone:
            return KafkaError::kNone;
        case BatchFault::kCorruptMessage:
            return KafkaError::kCorruptMessage;
        case BatchFault::kInvalidRecord:
            return KafkaError::kInvalidRecord;
        case BatchFault::kInvalidTimestamp:
            return KafkaError::kInvalidTimestamp;
        case BatchFault::kUnsupportedCompressionType:
            return KafkaError::kUnsupportedCompressionType;
        case BatchFault::kMessageTooLarge:
            return KafkaError::kMessageTooLarge;
    }
    return KafkaError::kUnknownServerError;
}

std::unexpected<BatchRefusal> refused(KafkaError error, std::string_view message) {
    return std::unexpected(
        BatchRefusal{.error = error, .message = std::string(message), .records = {}});
}

std::unexpected<BatchRefusal> refused(const BatchVerdict& verdict) {
    return std::unexpected(BatchRefusal{.error = to_kafka(verdict.fault),
                                        .message = std::string(verdict.reason),
                                        .records = verdict.record_faults});
}

BatchLimits limits_of(const cluster::TopicSettings& settings, const IntakeOptions& options) {
    BatchLimits limits;
    limits.batch_bytes_max = static_cast<size_t>(settings.batch_bytes_max);
    limits.records_bytes_max = kRecordsBytesMax;
    limits.key_required = settings.compacted;
    limits.zstd_allowed = options.zstd_allowed;
    limits.transactional_allowed = false;
    if (!settings.log_append_time) {
        const int64_t now = Shard::current().wall_now().ms;
        if (settings.timestamp_before_max_ms < now)
            limits.timestamp_first = {now - settings.timestamp_before_max_ms};
        if (settings.timestamp_after_max_ms < INT64_MAX - now)
            limits.timestamp_last = {now + settings.timestamp_after_max_ms};
    }
    return limits;
}

// The codec that the topic stores in, where that is not the producer's.
std::optional<Compression> stored_codec(const cluster::TopicSettings& settings) {
    if (settings.compression == "producer") return std::nullopt;
    return settings.compression == "uncompressed" ? Compression::kNone
                                                  : compression_from_name(settings.compression);
}

int level_of(const cluster::TopicSettings& settings, Compression codec) {
    const bool has_level =
        codec == Compression::kGzip || codec == Compression::kLz4 || codec == Compression::kZstd;
    return has_level && is_compression_level(codec, settings.compression_level)
               ? settings.compression_level
               : kCompressionLevelDefault;
}

// Leave to hold so much while the batch is unpacked or packed.
Task<std::expected<Unpacking::Permit, BatchRefusal>> permit(Unpacking& unpacking, uint64_t bytes,
                                                            runtime::StopToken stop) {
    auto permit = co_await unpacking.begin(bytes, stop);
    if (permit) co_return std::move(*permit);
    co_return refused(KafkaError::kRequestTimedOut, "There was no memory to unpack the batch.");
}

// What was packed anew, as the permit counted it. `batch` stays until this has ended.
Task<SharedBytes> keep(Unpacking& unpacking, Bytes batch) {
    runtime::IoBuffer buffer =
        runtime::IoBuffer::allocate(batch.size(), unpacking.charge(batch.size()), 16);
    co_await runtime::copy_in_pieces(buffer.all(), batch);
    buffer.set_size(batch.size());
    co_return std::move(buffer).share();
}

// What checking the batch may hold.
uint64_t unpack_bytes(Bytes records) {
    if (records.size() < kBatchHeaderSize) return 0;
    const BatchHeader header = load_batch_header(records);
    if (!header.is_compression_known()) return 0;
    return Decompressor::memory_for(header.compression(), records.subspan(kBatchHeaderSize),
                                    kRecordsBytesMax);
}

}  // namespace

Task<std::expected<CheckedBatch, BatchRefusal>> check_batch(Unpacking& unpacking, SharedBytes frame,
                                                            Bytes records,
                                                            cluster::TopicSettings settings,
                                                            IntakeOptions options,
                                                            runtime::StopToken stop) {
    const BatchLimits limits = limits_of(settings, options);
    const std::optional<Compression> codec = stored_codec(settings);
    CheckedBatch batch;
    if (options.old_formats && peek_magic(records).value_or(kBatchMagic) < kBatchMagic) {
        const Compression packed = codec.value_or(message_set_compression(records));
        // The conversion holds its messages twice.
        BatchLimits bounded = limits;
        bounded.records_bytes_max =
            std::min<uint64_t>(limits.records_bytes_max, kConvertedBytesMax);
        const uint64_t plain = message_set_compression(records) == Compression::kNone
                                   ? records.size()
                                   : bounded.records_bytes_max;
        auto room = co_await permit(unpacking, 2 * plain, stop);
        if (!room) co_return std::unexpected(std::move(room).error());
        const int level = level_of(settings, packed);
        const auto convert = [&] { return up_convert(records, bounded, packed, level); };
        UpConversion converted =
            plain > kConvertedHere ? co_await runtime::on_helper(convert) : convert();
        if (!converted.verdict.ok()) {
            co_return refused(converted.verdict);
        }
        batch.bytes = co_await keep(unpacking, converted.batch);
        batch.max_timestamp = converted.verdict.max_timestamp;
    } else {
        BatchVerdict verdict;
        {
            const uint64_t needed = unpack_bytes(records);
            std::expected<Unpacking::Permit, BatchRefusal> room;
            if (needed > 0) room = co_await permit(unpacking, needed, stop);
            if (!room) co_return std::unexpected(std::move(room).error());
            BatchValidation validation(records, limits);
            while (validation.step()) {
                if (Shard::current().need_preempt()) co_await runtime::yield();
            }
            verdict = std::move(validation.verdict());
        }
        if (!verdict.ok()) {
            co_return refused(verdict);
        }
        batch.max_timestamp = verdict.max_timestamp;
        if (codec && *codec != verdict.header.compression()) {
            const int level = level_of(settings, *codec);
            const size_t plain = verdict.plain_records_size;
            // What comes out grows by doubling, and is copied once.
            const uint64_t out_max = std::min<uint64_t>(plain + plain / 8, limits.batch_bytes_max);
            auto room = co_await permit(
                unpacking,
                unpack_bytes(records) + Compressor::memory_for(*codec, level, plain) + 3 * out_max,
                stop);
            if (!room) co_return std::unexpected(std::move(room).error());
            Recompression recompression(
                records, *codec, level,
                {.records_bytes_max = plain, .batch_bytes_max = limits.batch_bytes_max});
            // A piece takes up to 100 ms at the highest level of zstd.
            while (co_await runtime::on_helper([&recompression] { return recompression.step(); })) {
                if (stop.stop_requested())
                    co_return refused(KafkaError::kRequestTimedOut, "The connection has ended.");
                if (Shard::current().need_preempt()) co_await runtime::yield();
            }
            const auto packed = std::move(recompression).result();
            if (!packed && packed.error().code == ErrorCode::kResourceExhausted) {
                co_return refused(
                    KafkaError::kMessageTooLarge,
                    "The batch is larger than max.message.bytes as it would be stored.");
            }
            if (!packed) {
                co_return refused(KafkaError::kCorruptMessage, packed.error().message);
            }
            batch.bytes = co_await keep(unpacking, *packed);
        } else {
            batch.bytes = frame.slice(records);
        }
    }
    if (batch.bytes.size() > limits.batch_bytes_max) {
        co_return refused(KafkaError::kMessageTooLarge,
                          "The batch is larger than max.message.bytes as it would be stored.");
    }
    if (batch.bytes.size() > settings.log.segment_bytes) {
        co_return refused(KafkaError::kRecordListTooLarge,
                          "The batch is larger than segment.bytes.");
    }
    co_return batch;
}

}  // namespace weir::kafka

// BatchBuilder: makes record batches, for coordinators that write their own log, the CLI's
// producer, and tests. A builder has one user; it keeps no reference to a record after append().
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/records/batch.h"
#include "kafka/records/compression.h"
#include "kafka/records/record.h"

namespace weir::kafka {

class BatchBuilder {
  public:
    struct Options {
        Compression compression = Compression::kNone;
        int level = kCompressionLevelDefault;
        int64_t base_offset = 0;
        int32_t partition_leader_epoch = -1;
        int64_t producer_id = kNoProducerId;
        int16_t producer_epoch = -1;
        int32_t base_sequence = -1;
        bool transactional = false;
        bool control = false;
    };
    struct NewRecord {
        WallTime timestamp;
        NullableBytes key;
        NullableBytes value;
        std::span<const RecordHeader> headers;
    };

    BatchBuilder() : BatchBuilder(Options{}) {}
    explicit BatchBuilder(const Options& options);

    // Both ask for sizes below 2 GiB. append_at() leaves a gap in the offsets, as compaction does;
    // deltas ascend.
    void append(const NewRecord& record);
    void append_at(int32_t offset_delta, const NewRecord& record);
    // What append() of this record would add to plain_size(), a few bytes more at most.
    static size_t size_bound(const NewRecord& record);

    bool empty() const { return header_.records_count == 0; }
    int32_t count() const { return header_.records_count; }
    // The batch's size before compression.
    size_t plain_size() const { return buffer_.size(); }

    // The finished batch. The builder is then empty and ready for another one with the same
    // options. kResourceExhausted when the batch is 2 GiB or larger; kInvalidArgument for a level
    // that the codec does not have.
    Result<std::vector<uint8_t>> build();

  private:
    void reset();

    Options options_;
    BatchHeader header_;
    std::vector<uint8_t> buffer_;  // room for the header, then the plain records
};

// A control batch of one record: the end of a transaction (KIP-98).
std::vector<uint8_t> build_end_transaction_marker(int64_t producer_id, int16_t producer_epoch,
                                                  WallTime timestamp, EndTransactionMarker marker);

// The same records under another codec (a topic's compression.type that differs from the
// producer's). Everything in the header but codec, length and CRC stays. Each step handles a piece
// of the plain records, which are never held together; the output is bounded. For a batch that was
// validated: the CRC is not checked again.
//   Recompression recompression(batch, codec, level, limits);
//   while (recompression.step()) co_await yield();
//   … std::move(recompression).result() …
class Recompression {
  public:
    struct Limits {
        size_t records_bytes_max;                                     // plain
        size_t batch_bytes_max = std::numeric_limits<size_t>::max();  // of what comes out
    };

    // `batch` outlives this.
    Recompression(Bytes batch, Compression codec, int level, const Limits& limits);
    // Whether there is more to do.
    bool step();
    // kResourceExhausted past a limit; else errors as OpenBatch::open() and compress().
    Result<std::vector<uint8_t>> result() && { return std::move(result_); }

  private:
    Result<bool> try_step();

    Bytes batch_;
    Compression codec_;
    int level_;
    Limits limits_;
    BatchHeader header_;
    Decompressor decompressor_;
    std::optional<Compressor> compressor_;
    Bytes left_;  // of what the decompressor gave last
    Result<std::vector<uint8_t>> result_;
};

// All steps at once. Checks the CRC.
Result<std::vector<uint8_t>> recompress(Bytes batch, Compression codec, int level,
                                        size_t records_bytes_max);

}  // namespace weir::kafka

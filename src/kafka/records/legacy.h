// Message sets of magic 0 and 1, which Produce 0 to 2 contain: checks them and turns them into the
// one record batch that is stored instead. Only for input: Weir stores and sends no old format.
// Format: docs/formats/record-batch.md.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "kafka/records/compression.h"
#include "kafka/records/validate.h"

namespace weir::kafka {

struct UpConversion {
    // As validate_batch() would answer for `batch`; where the message set itself is at fault,
    // `header` means nothing.
    BatchVerdict verdict;
    std::vector<uint8_t> batch;  // empty unless the verdict is ok
};

// Reads every message, unpacks the compressed ones, and puts all of them into one batch under
// `codec`, in their order. The broker assigns offsets, so those in the set (absolute in magic 0,
// relative in magic 1, often just 0) are ignored. A message of magic 0 gets no timestamp. Limits
// apply to the resulting batch. Holds the plain records twice; records_bytes_max bounds them.
UpConversion up_convert(Bytes message_set, const BatchLimits& limits, Compression codec,
                        int level = kCompressionLevelDefault);

// The codec of the set's first message: what to hand on to up_convert() where the topic keeps the
// producer's codec.
Compression message_set_compression(Bytes message_set);

}  // namespace weir::kafka

// What the generated messages are made of, beside the standard types.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"

namespace weir {
class ByteReader;
class ByteWriter;
}  // namespace weir

namespace weir::kafka {

// A `records` field: record batches that belong to somebody else. Decoding a message leaves one
// view into the frame, which must outlive the message; encoding adds the parts as external bytes,
// which must live until the frame is sent. Nothing is copied.
struct Records {
    bool null = false;
    std::vector<Bytes> parts;

    size_t size() const;
    // Equal if null alike and the same bytes, however they are cut into parts. O(n): for tests.
    bool operator==(const Records& other) const;
};

}  // namespace weir::kafka

// Reads the messages of a connection from its frames. Every frame's checksum is verified before
// anything that it says is used, but for its lengths, which are bounded. A message larger than one
// frame is put together in memory that is reserved when its first frame is there. Messages up to
// kSmallBytes never wait for memory; others do, and with them the connection.
#pragma once

#include <array>
#include <vector>

#include "rpc/frame.h"
#include "rpc/hello.h"
#include "runtime/memory.h"
#include "runtime/socket.h"

namespace weir::rpc {

// A message that came, whole.
struct Incoming {
    FrameType type = FrameType::kMessage;
    Lane lane = Lane::kData;
    Kind kind{};
    uint32_t timeout_ms = 0;
    uint64_t call = 0;
    runtime::SharedBytes body;
};

class MessageReader {
  public:
    // Both outlive the reader.
    MessageReader(runtime::ByteStream& stream, runtime::MemoryBudget& memory,
                  size_t message_bytes_max);

    // kMalformed: a frame that can't be, or a bad checksum. kResourceExhausted: larger than the
    // whole budget. kEndOfStream, kIo, kCancelled. After an error nothing more can be read.
    runtime::Task<Result<Incoming>> next(runtime::StopToken stop);

    // When bytes came last.
    Instant heard() const { return heard_; }
    // Since when it waits for memory; never(): it does not.
    Instant waiting_since() const { return waiting_since_; }
    uint64_t bytes_read() const { return bytes_read_; }

  private:
    // A message whose frames are not all there.
    struct Partial {
        FrameHeader header;
        runtime::IoBuffer body;  // filled up to its size()
    };

    Bytes ahead() const { return Bytes(buffer_).subspan(begin_, end_ - begin_); }
    void consume(size_t size);
    runtime::Task<Result<void>> receive(MutableBytes into, size_t* got, runtime::StopToken stop);
    // At least `size` bytes ahead.
    runtime::Task<Result<void>> fill(size_t size, runtime::StopToken stop);
    // The next frame's payload.
    runtime::Task<Result<void>> read_payload(MutableBytes into, const FrameHeader& header,
                                             uint32_t crc, runtime::StopToken stop);
    runtime::Task<Result<runtime::IoBuffer>> allocate(size_t size, runtime::StopToken stop);

    runtime::ByteStream& stream_;
    runtime::MemoryBudget& memory_;
    const size_t message_bytes_max_;
    // What came and is not taken yet lies at [begin_, end_).
    std::vector<uint8_t> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    std::array<Partial, kLanes> partial_;
    Instant heard_;
    Instant waiting_since_ = Instant::never();
    uint64_t bytes_read_ = 0;
};

}  // namespace weir::rpc

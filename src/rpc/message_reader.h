// Reads the messages of a connection from its frames. A frame's content is used only after its
// checksum was verified; only its lengths are used before, and they are bounded. A message of
// several frames is assembled in memory that is reserved when its first frame arrives.
//
// Nothing on a connection waits long for memory. Messages of the control lane and those up to
// kSmallBytes never wait. For a larger one of the data lane the reader waits for at most
// `patience`; then it skips the message and reports it without its body. Until there is memory
// again it drops such messages at once. So a heartbeat waits for at most one patience, however much
// data is ahead of it.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "rpc/frame.h"
#include "rpc/hello.h"
#include "runtime/memory.h"
#include "runtime/socket.h"

namespace weir::rpc {

// A complete received message.
struct Incoming {
    FrameType type = FrameType::kMessage;
    Lane lane = Lane::kData;
    Kind kind{};
    uint32_t timeout_ms = 0;
    uint64_t call = 0;
    runtime::SharedBytes body;
    bool dropped = false;  // there was no memory for its body, which is empty
};

class MessageReader {
  public:
    // Both outlive the reader.
    MessageReader(runtime::ByteStream& stream, runtime::MemoryBudget& memory,
                  size_t message_bytes_max, Duration patience);

    // kMalformed: an impossible frame, or a bad checksum. Also kEndOfStream, kIo, kCancelled. After
    // an error nothing more can be read.
    runtime::Task<Result<Incoming>> next(runtime::StopToken stop);

    // Applies to the messages that begin from now on.
    void limit_messages(size_t bytes_max) { message_bytes_max_ = bytes_max; }

    // When bytes last arrived.
    Instant heard() const { return heard_; }
    uint64_t bytes_read() const { return bytes_read_; }

  private:
    // A message some of whose frames are missing.
    struct Partial {
        FrameHeader header;
        size_t received = 0;     // of header.message_size
        bool dropped = false;    // then `body` is empty
        runtime::IoBuffer body;  // filled up to its size()
    };

    Bytes ahead() const { return Bytes(buffer_).subspan(begin_, end_ - begin_); }
    void consume(size_t size);
    runtime::Task<Result<void>> receive(MutableBytes into, size_t* got, runtime::StopToken stop);
    // Reads until at least `size` bytes are buffered.
    runtime::Task<Result<void>> fill(size_t size, runtime::StopToken stop);
    // The next frame's payload.
    runtime::Task<Result<void>> read_payload(MutableBytes into, const FrameHeader& header,
                                             uint32_t crc, runtime::StopToken stop);
    // Verifies the payload without keeping it.
    runtime::Task<Result<void>> skip_payload(const FrameHeader& header, uint32_t crc,
                                             runtime::StopToken stop);
    // Nothing: there is no memory, and the message is dropped.
    runtime::Task<Result<std::optional<runtime::IoBuffer>>> allocate(size_t size, Lane lane,
                                                                     runtime::StopToken stop);
    // The first frame of a message.
    runtime::Task<Result<void>> begin_message(const FrameHeader& header, uint32_t crc,
                                              runtime::StopToken stop);

    runtime::ByteStream& stream_;
    runtime::MemoryBudget& memory_;
    size_t message_bytes_max_;
    const Duration patience_;
    bool short_of_memory_ = false;  // the last wait for memory was in vain
    // What came and is not taken yet lies at [begin_, end_).
    std::vector<uint8_t> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    std::array<Partial, kLanes> partial_;
    Instant heard_;
    uint64_t bytes_read_ = 0;
};

}  // namespace weir::rpc

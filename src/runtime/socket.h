// Streams of bytes over TCP. One read and one write may be in flight at a time. Used on the shard that accepted or connected.
// Memory given to reads and writes stays alive until the task ends.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "runtime/driver.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"

namespace weir::runtime {

// What a connection reads and writes; TCP today, TLS over it later.
class ByteStream {
  public:
    virtual ~ByteStream() = default;
    // At least one byte, or kEndOfStream.
    virtual Task<Result<size_t>> read_some(MutableBytes into, StopToken stop) = 0;
    // Gathers and sends everything. The parts' memory stays alive; the list itself is copied.
    virtual Task<Result<void>> write_all(std::vector<Bytes> parts, StopToken stop) = 0;
    // Ends both directions at once: pending reads and writes fail. Idempotent.
    virtual Task<void> shutdown() = 0;
    // After all reads and writes ended. Must be called before destruction.
    virtual Task<void> close() = 0;
    virtual const std::string& peer() const = 0;
};

// Fills all of `into`, or fails (kEndOfStream also in the middle).
Task<Result<void>> read_exactly(ByteStream& stream, MutableBytes into, StopToken stop = {});

class TcpStream final : public ByteStream {
  public:
    TcpStream(Fd fd, std::string peer) : fd_(fd), peer_(std::move(peer)) {}
    ~TcpStream() override;
    static Task<Result<std::unique_ptr<TcpStream>>> connect(std::string address, StopToken stop = {});

    // How an open stream moves to another shard: detach() there where it is (no read or write in flight), carry the value over, attach() here.
    struct Detached {
        Fd fd;
        std::string peer;
    };
    Detached detach();
    static std::unique_ptr<TcpStream> attach(Detached detached);

    Task<Result<size_t>> read_some(MutableBytes into, StopToken stop) override;
    Task<Result<void>> write_all(std::vector<Bytes> parts, StopToken stop) override;
    Task<void> shutdown() override;
    Task<void> close() override;
    const std::string& peer() const override { return peer_; }

  private:
    Fd fd_;
    std::string peer_;
};

class TcpListener {
  public:
    TcpListener() = default;
    TcpListener(TcpListener&& other) noexcept
        : fd_(std::exchange(other.fd_, Fd{})), address_(std::move(other.address_)) {}
    TcpListener& operator=(TcpListener&& other) noexcept;
    ~TcpListener();
    // "host:port"; port 0 picks a free one, see address().
    static Task<Result<TcpListener>> listen(std::string address, uint32_t backlog = 4096);
    Task<Result<std::unique_ptr<TcpStream>>> accept(StopToken stop);
    const std::string& address() const { return address_; }
    Task<void> close();

  private:
    TcpListener(Fd fd, std::string address) : fd_(fd), address_(std::move(address)) {}
    Fd fd_;
    std::string address_;
};

}  // namespace weir::runtime

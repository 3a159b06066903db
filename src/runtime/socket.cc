#include "runtime/socket.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "runtime/op_awaiter.h"

namespace weir::runtime {
namespace {

constexpr size_t kIovMax = 256;

Error socket_error(int32_t result, std::string_view what, std::string_view peer) {
    return Error::from_errno(-result, fmt::format("{} {}", what, peer));
}

}  // namespace

Task<Result<void>> read_exactly(ByteStream& stream, MutableBytes into, StopToken stop) {
    while (!into.empty()) {
        const size_t got = co_await try_(stream.read_some(into, stop));
        into = into.subspan(got);
    }
    co_return Result<void>{};
}

TcpStream::~TcpStream() { CHECK(!fd_.valid() || Shard::current().dying()); }

Task<Result<std::unique_ptr<TcpStream>>> TcpStream::connect(std::string address, StopToken stop) {
    const OpResult op = co_await perform({.kind = OpKind::kConnect, .path = address.c_str()}, stop);
    const int32_t result = op.result;
    if (result < 0) co_return fail(socket_error(result, "connect", address));
    co_return std::make_unique<TcpStream>(Fd{result}, std::move(address));
}

TcpStream::Detached TcpStream::detach() {
    CHECK(fd_.valid());
    Shard::current().driver().release_socket(fd_);
    return {std::exchange(fd_, Fd{}), peer_};
}

std::unique_ptr<TcpStream> TcpStream::attach(Detached detached) {
    Shard::current().driver().adopt_socket(detached.fd);
    return std::make_unique<TcpStream>(detached.fd, std::move(detached.peer));
}

Task<Result<size_t>> TcpStream::read_some(MutableBytes into, StopToken stop) {
    while (true) {
        const OpResult op = co_await perform(
            {.kind = OpKind::kRecv, .fd = fd_, .data = into.data(), .size = into.size()}, stop);
        const int32_t result = op.result;
        if (result == -EINTR || result == -EAGAIN) continue;
        if (result < 0) co_return fail(socket_error(result, "receive from", peer_));
        if (result == 0) co_return fail(ErrorCode::kEndOfStream);
        co_return static_cast<size_t>(result);
    }
}

Task<Result<void>> TcpStream::write_all(std::vector<Bytes> parts, StopToken stop) {
    std::vector<iovec> iov;
    iov.reserve(std::min(parts.size(), kIovMax));
    size_t part = 0;
    size_t part_done = 0;
    while (true) {
        iov.clear();
        for (size_t i = part; i < parts.size() && iov.size() < kIovMax; ++i) {
            const Bytes rest = parts[i].subspan(i == part ? part_done : 0);
            if (!rest.empty()) iov.push_back({const_cast<uint8_t*>(rest.data()), rest.size()});
        }
        if (iov.empty()) {
            if (part + kIovMax >= parts.size()) co_return Result<void>{};
            part += kIovMax;
            part_done = 0;
            continue;
        }
        const OpResult op = co_await perform({.kind = OpKind::kSend,
                                         .fd = fd_,
                                         .iov = iov.data(),
                                         .iov_count = static_cast<uint32_t>(iov.size())},
                                        stop);
        const int32_t result = op.result;
        if (result == -EINTR || result == -EAGAIN) continue;
        if (result < 0) co_return fail(socket_error(result, "send to", peer_));
        size_t sent = static_cast<size_t>(result);
        while (sent > 0 || (part < parts.size() && parts[part].size() == part_done)) {
            const size_t here = std::min(sent, parts[part].size() - part_done);
            sent -= here;
            part_done += here;
            if (part_done == parts[part].size()) {
                ++part;
                part_done = 0;
                if (part == parts.size()) co_return Result<void>{};
            }
        }
    }
}

Task<void> TcpStream::shutdown() {
    if (fd_.valid()) (void)co_await perform({.kind = OpKind::kShutdown, .fd = fd_});
}

Task<void> TcpStream::close() {
    const Fd fd = std::exchange(fd_, Fd{});
    if (fd.valid()) (void)co_await perform({.kind = OpKind::kClose, .fd = fd});
}

TcpListener& TcpListener::operator=(TcpListener&& other) noexcept {
    CHECK(!fd_.valid());
    fd_ = std::exchange(other.fd_, Fd{});
    address_ = std::move(other.address_);
    return *this;
}

TcpListener::~TcpListener() { CHECK(!fd_.valid() || Shard::current().dying()); }

Task<Result<TcpListener>> TcpListener::listen(std::string address, uint32_t backlog) {
    std::string bound;
    const OpResult op = co_await perform(
        {.kind = OpKind::kListen, .size = backlog, .path = address.c_str(), .text_out = &bound});
    const int32_t result = op.result;
    if (result < 0) co_return fail(socket_error(result, "listen on", address));
    co_return TcpListener(Fd{result}, std::move(bound));
}

Task<Result<std::unique_ptr<TcpStream>>> TcpListener::accept(StopToken stop) {
    while (true) {
        std::string peer;
        const OpResult op = co_await perform({.kind = OpKind::kAccept, .fd = fd_, .text_out = &peer}, stop);
        const int32_t result = op.result;
        if (result == -EINTR || result == -EAGAIN || result == -ECONNABORTED) continue;
        if (result < 0) co_return fail(socket_error(result, "accept on", address_));
        co_return std::make_unique<TcpStream>(Fd{result}, std::move(peer));
    }
}

Task<void> TcpListener::close() {
    const Fd fd = std::exchange(fd_, Fd{});
    if (fd.valid()) (void)co_await perform({.kind = OpKind::kClose, .fd = fd});
}

}  // namespace weir::runtime

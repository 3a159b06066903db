// A broker's floor: receives Produce requests over loopback, writes their bytes O_DIRECT over
// pre-written blocks, flushes, and only then answers. No checks, no index, no recovery: what any
// durable broker has to do at least. It speaks just enough Kafka that `weir bench produce` and
// `weir bench latency` load it as they load a broker. One thread receives, one writes: while one
// write and flush is in flight, the next collects.
//   weir_floor_sink --file F [--listen 127.0.0.1:0]
// Prints `ready kafka=HOST:PORT` and serves until SIGTERM.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/units.h"
#include "kafka/protocol/api_versions.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/header.h"
#include "kafka/protocol/metadata.h"
#include "kafka/protocol/produce.h"

namespace weir {
namespace {

using namespace kafka;

constexpr uint64_t kFileBytes = 512_MiB;
constexpr size_t kBlockBytes = 64_MiB;

[[noreturn]] void die(const char* what) {
    fmt::print(stderr, "weir_floor_sink: {}: {}\n", what, std::strerror(errno));
    std::exit(1);
}

struct Answer {
    int fd;
    std::vector<uint8_t> frame;
};

// What was received while the writer was busy.
struct Block {
    uint8_t* data = static_cast<uint8_t*>(std::aligned_alloc(4096, kBlockBytes));
    size_t size = 0;
    std::vector<Answer> answers;
};

class Sink {
  public:
    Sink(const std::string& file, int port) : port_(port) {
        fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
        if (fd_ < 0) die("open");
        std::memset(collecting_.data, 0x5a, kBlockBytes);
        for (uint64_t at = 0; at < kFileBytes; at += 1_MiB) {
            if (::pwrite(fd_, collecting_.data, 1_MiB, static_cast<off_t>(at)) < 0) die("pwrite");
        }
        if (::fdatasync(fd_) != 0) die("fdatasync");
        writer_ = std::jthread([this] { write_blocks(); });
    }

    // One request; `frame` is without its size prefix.
    void handle(int fd, Bytes frame) {
        ByteReader in(frame);
        const auto header = RequestHeader::decode(in);
        if (!header) die("a malformed request");
        const auto key = static_cast<ApiKey>(header->api_key);
        ByteWriter out;
        out.write_i32(0);
        ResponseHeader{header->correlation_id}.encode(
            out, api_info(key).response_header_version(header->api_version));
        if (key == ApiKey::kProduce) {
            const auto request = ProduceRequest::decode(in, header->api_version);
            if (!request) die("a malformed Produce");
            answer_produce(*request, header->api_version, out);
            std::unique_lock lock(mutex_);
            drained_.wait(lock,
                          [&] { return collecting_.size + frame.size() <= kBlockBytes - 4096; });
            std::memcpy(collecting_.data + collecting_.size, frame.data(), frame.size());
            collecting_.size += frame.size();
            collecting_.answers.push_back({fd, finish(out)});
            filled_.notify_one();
            return;
        }
        answer_admin(key, header->api_version, in, out);
        send_all(fd, finish(out));
    }

  private:
    static std::vector<uint8_t> finish(ByteWriter& out) {
        out.patch_i32(0, static_cast<int32_t>(out.size() - 4));
        return out.flatten();
    }

    static void send_all(int fd, const std::vector<uint8_t>& frame) {
        for (size_t sent = 0; sent < frame.size();) {
            const ssize_t n = ::send(fd, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
            if (n < 0 && errno != EINTR) return;  // the client went away
            if (n > 0) sent += static_cast<size_t>(n);
        }
    }

    static void check(const Result<void>& encoded) {
        if (!encoded) die("encode");
    }

    void answer_produce(const ProduceRequest& request, int16_t version, ByteWriter& out) {
        ProduceResponse response;
        for (const auto& topic : request.topic_data) {
            auto& answered = response.responses.emplace_back();
            answered.name = topic.name;
            answered.topic_id = topic.topic_id;
            for (const auto& partition : topic.partition_data) {
                auto& result = answered.partition_responses.emplace_back();
                result.index = partition.index;
                result.base_offset = next_offset_++;
            }
        }
        check(response.encode(out, version));
    }

    void answer_admin(ApiKey key, int16_t version, ByteReader& in, ByteWriter& out) {
        if (key == ApiKey::kApiVersions) {
            ApiVersionsResponse response;
            for (const ApiKey served : {ApiKey::kProduce, ApiKey::kMetadata, ApiKey::kApiVersions,
                                        ApiKey::kCreateTopics}) {
                response.api_keys.push_back(
                    {static_cast<int16_t>(served), api_info(served).version_min,
                     static_cast<int16_t>(
                         served == ApiKey::kProduce ? 9 : api_info(served).version_max)});
            }
            check(response.encode(out, version));
        } else if (key == ApiKey::kCreateTopics) {
            const auto request = CreateTopicsRequest::decode(in, version);
            CreateTopicsResponse response;
            for (const auto& topic : request->topics) {
                topics_[topic.name] = topic.num_partitions;
                response.topics.emplace_back().name = topic.name;
            }
            check(response.encode(out, version));
        } else if (key == ApiKey::kMetadata) {
            MetadataResponse response;
            response.brokers.push_back({.node_id = 1, .host = "127.0.0.1", .port = port_});
            response.controller_id = 1;
            for (const auto& [name, count] : topics_) {
                auto& topic = response.topics.emplace_back();
                topic.name = name;
                for (int32_t i = 0; i < count; ++i) {
                    auto& partition = topic.partitions.emplace_back();
                    partition.partition_index = i;
                    partition.leader_id = 1;
                    partition.replica_nodes = partition.isr_nodes = {1};
                }
            }
            check(response.encode(out, version));
        } else {
            die("a request that a load generator does not send");
        }
    }

    void write_blocks() {
        Block writing;
        uint64_t at = 0;
        while (true) {
            {
                std::unique_lock lock(mutex_);
                filled_.wait(lock, [&] { return collecting_.size > 0; });
                std::swap(writing, collecting_);
            }
            drained_.notify_all();
            const size_t size = round_up(writing.size, 4096);
            if (at + size > kFileBytes) at = 0;
            for (size_t done = 0; done < size;) {
                const ssize_t n =
                    ::pwrite(fd_, writing.data + done, size - done, static_cast<off_t>(at + done));
                if (n < 0) die("pwrite");
                done += static_cast<size_t>(n);
            }
            at += size;
            if (::fdatasync(fd_) != 0) die("fdatasync");
            for (const Answer& answer : writing.answers) send_all(answer.fd, answer.frame);
            writing.size = 0;
            writing.answers.clear();
        }
    }

    int fd_ = -1;
    int port_;
    int64_t next_offset_ = 0;
    std::map<std::string, int32_t> topics_;
    std::mutex mutex_;
    std::condition_variable filled_;
    std::condition_variable drained_;
    Block collecting_;
    std::jthread writer_;
};

// A connection's unfinished frame.
struct Incoming {
    std::vector<uint8_t> bytes = std::vector<uint8_t>(1_MiB + 64_KiB);
    size_t filled = 0;
};

// Reads what is there and hands over whole frames. False when the client closed.
bool receive(int fd, Incoming& incoming, Sink& sink) {
    const ssize_t n = ::recv(fd, incoming.bytes.data() + incoming.filled,
                             incoming.bytes.size() - incoming.filled, 0);
    if (n <= 0) return n < 0 && (errno == EINTR || errno == EAGAIN);
    incoming.filled += static_cast<size_t>(n);
    size_t from = 0;
    while (incoming.filled - from >= 4) {
        const auto size = static_cast<size_t>(load_be<uint32_t>(incoming.bytes.data() + from));
        if (incoming.filled - from < 4 + size) {
            if (4 + size > incoming.bytes.size()) incoming.bytes.resize(2 * (4 + size));
            break;
        }
        sink.handle(fd, Bytes(incoming.bytes).subspan(from + 4, size));
        from += 4 + size;
    }
    std::memmove(incoming.bytes.data(), incoming.bytes.data() + from, incoming.filled - from);
    incoming.filled -= from;
    return true;
}

int main(int argc, char** argv) {
    CLI::App app{"a broker's floor: receive, write, flush, answer"};
    std::string file;
    int port = 0;
    app.add_option("--file", file, "overwritten")->required();
    app.add_option("--port", port, "on 127.0.0.1; 0 picks one");
    CLI11_PARSE(app, argc, argv);

    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("bind");
    if (::listen(listener, 128) != 0) die("listen");
    socklen_t length = sizeof address;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    port = ntohs(address.sin_port);

    Sink sink(file, port);
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    const auto watch = [&](int fd) {
        epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
        ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    };
    watch(listener);
    std::map<int, Incoming> connections;
    fmt::print("ready kafka=127.0.0.1:{}\n", port);
    std::fflush(stdout);
    while (true) {
        epoll_event events[64];
        const int count = ::epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < count; ++i) {
            const int fd = events[i].data.fd;
            if (fd == listener) {
                const int accepted = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
                if (accepted < 0) continue;
                const int on = 1;
                ::setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                connections.try_emplace(accepted);
                watch(accepted);
            } else if (!receive(fd, connections[fd], sink)) {
                connections.erase(fd);
                ::close(fd);
            }
        }
    }
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::main(argc, argv); }

#include "runtime/host/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace weir::runtime {
namespace {

struct HostPort {
    std::string host;
    uint16_t port;
};

std::optional<HostPort> split(std::string_view text) {
    const size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    std::string_view host = text.substr(0, colon);
    const std::string_view digits = text.substr(colon + 1);
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return std::nullopt;  // an IPv6 address needs its brackets
    }
    return HostPort{std::string(host), port};
}

SocketAddress ipv4(in_addr host, uint16_t port) {
    SocketAddress address;
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr = host;
    in.sin_port = htons(port);
    std::memcpy(&address.storage, &in, sizeof in);
    address.size = sizeof in;
    return address;
}

SocketAddress ipv6(const in6_addr& host, uint16_t port) {
    SocketAddress address;
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_addr = host;
    in.sin6_port = htons(port);
    std::memcpy(&address.storage, &in, sizeof in);
    address.size = sizeof in;
    return address;
}

using NameOf = int (*)(int, sockaddr*, socklen_t*);

std::string address_of(int fd, NameOf name_of) {
    SocketAddress address;
    address.size = sizeof address.storage;
    if (name_of(fd, address.get(), &address.size) != 0) return "unknown";
    return address.to_string();
}

int with_option(int fd, int level, int option) {
    const int on = 1;
    return setsockopt(fd, level, option, &on, sizeof on);
}

}  // namespace

std::string SocketAddress::to_string() const {
    char text[INET6_ADDRSTRLEN] = {};
    if (family() == AF_INET) {
        sockaddr_in in;
        std::memcpy(&in, &storage, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
        return fmt::format("{}:{}", text, ntohs(in.sin_port));
    }
    if (family() != AF_INET6) return "unknown";
    sockaddr_in6 in;
    std::memcpy(&in, &storage, sizeof in);
    if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
        inet_ntop(AF_INET, in.sin6_addr.s6_addr + 12, text, sizeof text);
        return fmt::format("{}:{}", text, ntohs(in.sin6_port));
    }
    inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
    return fmt::format("[{}]:{}", text, ntohs(in.sin6_port));
}

std::optional<SocketAddress> parse_numeric_address(std::string_view text) {
    const std::optional<HostPort> parts = split(text);
    if (!parts) return std::nullopt;
    if (parts->host.empty() || parts->host == "*")
        return ipv4({.s_addr = htonl(INADDR_ANY)}, parts->port);
    in_addr v4{};
    if (inet_pton(AF_INET, parts->host.c_str(), &v4) == 1) return ipv4(v4, parts->port);
    in6_addr v6{};
    if (inet_pton(AF_INET6, parts->host.c_str(), &v6) == 1) return ipv6(v6, parts->port);
    return std::nullopt;
}

int resolve_address(std::string_view text, std::vector<SocketAddress>* out) {
    if (const auto numeric = parse_numeric_address(text)) {
        out->push_back(*numeric);
        return 0;
    }
    const std::optional<HostPort> parts = split(text);
    if (!parts) return -EINVAL;
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(parts->host.c_str(), nullptr, &hints, &found) != 0) return -EHOSTUNREACH;
    for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
        if (info->ai_family == AF_INET) {
            sockaddr_in in;
            std::memcpy(&in, info->ai_addr, sizeof in);
            out->push_back(ipv4(in.sin_addr, parts->port));
        } else if (info->ai_family == AF_INET6) {
            sockaddr_in6 in;
            std::memcpy(&in, info->ai_addr, sizeof in);
            out->push_back(ipv6(in.sin6_addr, parts->port));
        }
    }
    freeaddrinfo(found);
    return out->empty() ? -EHOSTUNREACH : 0;
}

std::string peer_address(int fd) { return address_of(fd, &getpeername); }
std::string local_address(int fd) { return address_of(fd, &getsockname); }

int make_listener(const SocketAddress& address, int backlog, int type_flags) {
    const int fd = socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    if (fd < 0) return -errno;
    if (with_option(fd, SOL_SOCKET, SO_REUSEADDR) != 0 ||
        with_option(fd, IPPROTO_TCP, TCP_NODELAY) != 0 ||
        bind(fd, address.get(), address.size) != 0 || listen(fd, backlog) != 0) {
        const int error = errno;
        ::close(fd);
        return -error;
    }
    return fd;
}

int make_stream_socket(int family, int type_flags) {
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    if (fd < 0) return -errno;
    if (with_option(fd, IPPROTO_TCP, TCP_NODELAY) != 0) {
        const int error = errno;
        ::close(fd);
        return -error;
    }
    return fd;
}

}  // namespace weir::runtime

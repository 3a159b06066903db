// Socket addresses as text: "127.0.0.1:9092", "[::1]:9092", "name:9092", and ":9092" or "*:9092"
// for every interface.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir::runtime {

struct SocketAddress {
    sockaddr_storage storage = {};
    socklen_t size = 0;

    sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
    int family() const { return storage.ss_family; }
    // An IPv4 address that came in over a dual-stack socket reads as IPv4.
    std::string to_string() const;
};

// Nothing when the host is a name, or the text is no address: then resolve_address answers.
std::optional<SocketAddress> parse_numeric_address(std::string_view text);

// Asks the system's resolver, so it may block for seconds: helper thread only. 0, or -errno
// (-EINVAL for text that is no host:port, -EHOSTUNREACH for a name that has no address).
int resolve_address(std::string_view text, std::vector<SocketAddress>* out);

std::string peer_address(int fd);
std::string local_address(int fd);

// A listening socket: SO_REUSEADDR, TCP_NODELAY (accepted sockets inherit it). `type_flags` as in
// socket(2), SOCK_NONBLOCK say. fd or -errno.
int make_listener(const SocketAddress& address, int backlog, int type_flags);
// A TCP socket for connect(2), TCP_NODELAY. fd or -errno.
int make_stream_socket(int family, int type_flags);

}  // namespace weir::runtime

#include "runtime/host/address.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace weir::runtime {
namespace {

std::string numeric(std::string_view text) {
    const auto address = parse_numeric_address(text);
    return address ? address->to_string() : "none";
}

TEST(Address, numeric_text_is_read_and_written) {
    EXPECT_EQ(numeric("127.0.0.1:9092"), "127.0.0.1:9092");
    EXPECT_EQ(numeric("[::1]:9092"), "[::1]:9092");
    EXPECT_EQ(numeric("[2001:DB8::0:1]:1"), "[2001:db8::1]:1");
    EXPECT_EQ(numeric(":9092"), "0.0.0.0:9092");
    EXPECT_EQ(numeric("*:9092"), "0.0.0.0:9092");
    EXPECT_EQ(numeric("1.2.3.4:65535"), "1.2.3.4:65535");
}

TEST(Address, an_ipv4_peer_of_an_ipv6_socket_reads_as_ipv4) {
    EXPECT_EQ(numeric("[::ffff:10.1.2.3]:7"), "10.1.2.3:7");
}

TEST(Address, what_is_no_number_is_left_to_the_resolver) {
    for (const char* text :
         {"localhost:9092", "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:9x",
          "::1:9092", "[::1]", "[::1:9092", "127.0.0.1:-1", "300.0.0.1:1"}) {
        EXPECT_EQ(numeric(text), "none") << text;
    }
}

TEST(Address, names_are_resolved) {
    std::vector<SocketAddress> addresses;
    ASSERT_EQ(resolve_address("localhost:4242", &addresses), 0);
    ASSERT_FALSE(addresses.empty());
    for (const SocketAddress& address : addresses)
        EXPECT_TRUE(address.to_string().ends_with(":4242"));
}

TEST(Address, text_that_is_no_address_is_invalid) {
    std::vector<SocketAddress> addresses;
    for (const char* text :
         {"", "localhost", "localhost:", "localhost:http", "::1:9092", "name:99999"}) {
        EXPECT_EQ(resolve_address(text, &addresses), -EINVAL) << text;
    }
    EXPECT_TRUE(addresses.empty());
}

}  // namespace
}  // namespace weir::runtime

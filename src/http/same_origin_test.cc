#include "http/same_origin.h"

#include <gtest/gtest.h>

namespace weir::http {
namespace {

const std::vector<std::string> kNames{"weir-0.weir", "Node1"};

TEST(SameOrigin, addresses_localhost_and_names_of_the_node_are_known_hosts) {
    for (const char* host :
         {"127.0.0.1", "127.0.0.1:9644", "10.1.2.3:1", "[::1]:9644", "[fd00::7]", "localhost:9644",
          "LOCALHOST", "weir-0.weir:9644", "weir-0.weir.", "node1:80", "NODE1"})
        EXPECT_TRUE(is_known_host(host, kNames)) << host;
}

// Whoever owns the name can have it point here.
TEST(SameOrigin, any_other_name_is_unknown) {
    for (const char* host :
         {"", "evil.example", "evil.example:9644", "127.0.0.1.evil.example", "localhost.evil",
          "node1.evil", "weir-0", "[::1", "[::1]x", "[evil.example]:1", "127.0.0.1:x", ":9644",
          "127.0.0.1:9644:1", "1.2.3", "0x7f.1", "node1@evil.example", "evil.example#node1"})
        EXPECT_FALSE(is_known_host(host, kNames)) << host;
}

TEST(SameOrigin, an_origin_is_the_very_host_or_there_is_none) {
    EXPECT_TRUE(is_same_origin("", "h:1"));
    EXPECT_TRUE(is_same_origin("http://h:1", "h:1"));
    EXPECT_TRUE(is_same_origin("https://H:1", "h:1"));
    for (const char* origin : {"null", "http://evil.example", "http://h", "http://h:2", "h:1",
                               "file://", "http://h:1.evil", "ftp://h:1"})
        EXPECT_FALSE(is_same_origin(origin, "h:1")) << origin;
}

TEST(SameOrigin, a_change_needs_a_content_type_that_no_form_can_send) {
    EXPECT_TRUE(is_json("application/json"));
    EXPECT_TRUE(is_json("Application/JSON ; charset=utf-8"));
    for (const char* type :
         {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
          "application/jsonx", "text/plain;application/json"})
        EXPECT_FALSE(is_json(type)) << type;
    const Provenance plain{.host = "127.0.0.1:1", .origin = "", .content_type = "text/plain"};
    EXPECT_FALSE(check_provenance(plain, false, {}));
    EXPECT_EQ(check_provenance(plain, true, {})->status, 415);
    EXPECT_EQ(
        check_provenance({"evil.example", "http://evil.example", "application/json"}, true, {})
            ->status,
        403);
    EXPECT_EQ(check_provenance({"127.0.0.1", "http://evil.example", "application/json"}, true, {})
                  ->status,
              403);
    EXPECT_FALSE(check_provenance({"127.0.0.1", "http://127.0.0.1", "application/json"}, true, {}));
}

}  // namespace
}  // namespace weir::http

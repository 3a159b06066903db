#include "base/sha256.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace weir {
namespace {

std::string hex(const Digest& digest) {
    std::string text;
    for (const uint8_t byte : digest) text += fmt::format("{:02x}", byte);
    return text;
}

std::string sha256(std::string_view text) { return hex(Sha256().update(as_bytes(text)).finish()); }

std::string hmac(std::string_view key, std::string_view text) {
    return hex(hmac_sha256(as_bytes(key), {as_bytes(text)}));
}

// FIPS 180-4's examples, and the empty message.
TEST(Sha256, the_digests_are_those_of_the_standard) {
    EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(sha256(std::string(1'000'000, 'a')),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, the_digest_does_not_depend_on_the_pieces) {
    const std::string text(200, 'x');
    for (size_t size = 0; size <= text.size(); ++size) {
        const std::string_view message = std::string_view(text).substr(0, size);
        const std::string whole = sha256(message);
        for (const size_t piece : {1, 3, 63, 64, 65}) {
            Sha256 hash;
            for (size_t at = 0; at < size; at += piece)
                hash.update(as_bytes(message.substr(at, piece)));
            EXPECT_EQ(hex(hash.finish()), whole) << size << " in pieces of " << piece;
        }
    }
}

// RFC 4231, test cases 1 to 4, 6 and 7.
TEST(Sha256, the_authentication_codes_are_those_of_the_rfc) {
    EXPECT_EQ(hmac(std::string(20, '\x0b'), "Hi There"),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_EQ(hmac("Jefe", "what do ya want for nothing?"),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(hmac(std::string(20, '\xaa'), std::string(50, '\xdd')),
              "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    std::string key;
    for (char byte = 1; byte <= 25; ++byte) key += byte;
    EXPECT_EQ(hmac(key, std::string(50, '\xcd')),
              "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    const std::string long_key(131, '\xaa');
    EXPECT_EQ(hmac(long_key, "Test Using Larger Than Block-Size Key - Hash Key First"),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    EXPECT_EQ(hmac(long_key,
                   "This is a test using a larger than block-size key and a larger than "
                   "block-size data. The key needs to be hashed before being used by the HMAC "
                   "algorithm."),
              "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST(Sha256, the_parts_of_a_message_follow_each_other) {
    EXPECT_EQ(hex(hmac_sha256(as_bytes("Jefe"), {as_bytes("what do ya "), as_bytes(""),
                                                 as_bytes("want for nothing?")})),
              hmac("Jefe", "what do ya want for nothing?"));
}

TEST(Sha256, equality_is_that_of_all_bytes) {
    const std::vector<uint8_t> a{1, 2, 3};
    for (size_t i = 0; i < a.size(); ++i) {
        std::vector<uint8_t> b = a;
        EXPECT_TRUE(equal_in_constant_time(a, b));
        b[i] ^= 0x80;
        EXPECT_FALSE(equal_in_constant_time(a, b));
    }
    EXPECT_FALSE(equal_in_constant_time(a, Bytes(a).first(2)));
    EXPECT_TRUE(equal_in_constant_time({}, {}));
}

}  // namespace
}  // namespace weir

#include "kafka/protocol/header.h"

#include <gtest/gtest.h>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "kafka/protocol/api.h"

namespace weir::kafka {
namespace {

TEST(RequestHeader, version_follows_from_the_api_and_its_version) {
    const uint8_t rigid[] = {0, 3, 0, 8, 0, 0, 0, 7, 0, 2, 'm', 'e', 0xaa};
    ByteReader in(rigid);
    const Result<RequestHeader> header = RequestHeader::decode(in);
    ASSERT_TRUE(header);
    EXPECT_EQ(
        *header,
        (RequestHeader{.api_key = 3, .api_version = 8, .correlation_id = 7, .client_id = "me"}));
    EXPECT_EQ(in.remaining(), 1u);

    // The client id keeps its two-byte length; tag 5 of three bytes is skipped.
    const uint8_t flexible[] = {0, 3, 0, 9, 0, 0, 0, 7, 0, 2, 'm', 'e', 1, 5, 3, 1, 2, 3, 0xaa};
    ByteReader in2(flexible);
    const Result<RequestHeader> header2 = RequestHeader::decode(in2);
    ASSERT_TRUE(header2);
    EXPECT_EQ(header2->api_version, 9);
    EXPECT_EQ(header2->client_id, "me");
    EXPECT_EQ(in2.remaining(), 1u);
}

TEST(RequestHeader, of_a_version_that_is_not_known_yet_is_readable) {
    const uint8_t bytes[] = {0, 18, 0x7f, 0xff, 0, 0, 0, 1, 0xff, 0xff, 0};
    ByteReader in(bytes);
    const Result<RequestHeader> header = RequestHeader::decode(in);
    ASSERT_TRUE(header);
    EXPECT_EQ(header->api_version, INT16_MAX);
    EXPECT_EQ(header->client_id, std::nullopt);
    EXPECT_EQ(in.remaining(), 0u);
}

TEST(RequestHeader, round_trips_in_every_version_and_errs_at_every_cut) {
    for (int16_t version = 0; version <= 2; ++version) {
        RequestHeader header{.api_key = 1, .api_version = 2, .correlation_id = -3};
        if (version >= 1) header.client_id = "somebody";
        ByteWriter out;
        ASSERT_TRUE(header.encode(out, version));
        const std::vector<uint8_t> bytes = out.flatten();
        ByteReader in(bytes);
        const Result<RequestHeader> back = RequestHeader::decode(in, version);
        ASSERT_TRUE(back);
        EXPECT_EQ(*back, header);
        EXPECT_EQ(in.remaining(), 0u);
        for (size_t size = 0; size < bytes.size(); ++size) {
            ByteReader cut(Bytes(bytes).first(size));
            EXPECT_FALSE(RequestHeader::decode(cut, version));
        }
    }
}

TEST(ResponseHeader, ends_in_tagged_fields_where_the_version_is_flexible) {
    for (int16_t version = 0; version <= 1; ++version) {
        ByteWriter out;
        ResponseHeader{.correlation_id = 77}.encode(out, version);
        EXPECT_EQ(out.size(), version == 0 ? 4u : 5u);
        const std::vector<uint8_t> bytes = out.flatten();
        ByteReader in(bytes);
        const Result<ResponseHeader> back = ResponseHeader::decode(in, version);
        ASSERT_TRUE(back);
        EXPECT_EQ(back->correlation_id, 77);
        ByteReader cut(Bytes(bytes).first(bytes.size() - 1));
        EXPECT_FALSE(ResponseHeader::decode(cut, version));
    }
}

TEST(ApiInfo, ApiVersions_is_answered_under_header_0_in_every_version) {
    const ApiInfo& api_versions = api_info(ApiKey::kApiVersions);
    EXPECT_EQ(api_versions.request_header_version(3), 2);
    EXPECT_EQ(api_versions.response_header_version(3), 0);
    const ApiInfo& metadata = api_info(ApiKey::kMetadata);
    EXPECT_EQ(metadata.response_header_version(8), 0);
    EXPECT_EQ(metadata.response_header_version(9), 1);
    const ApiInfo& handshake = api_info(ApiKey::kSaslHandshake);
    EXPECT_EQ(handshake.request_header_version(1), 1);
    EXPECT_EQ(handshake.response_header_version(1), 0);
}

TEST(ApiInfo, is_found_by_its_key_alone) {
    for (const ApiInfo& api : all_apis()) EXPECT_EQ(find_api(static_cast<int16_t>(api.key)), &api);
    EXPECT_EQ(find_api(-1), nullptr);
    EXPECT_EQ(find_api(4), nullptr);
    EXPECT_EQ(find_api(INT16_MAX), nullptr);
}

}  // namespace
}  // namespace weir::kafka

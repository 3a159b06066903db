// Frames that real clients sent and that another implementation answered: each is read, and written
// again byte for byte.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "kafka/protocol/api.h"
#include "kafka/protocol/header.h"
#include "kafka/protocol/message_kinds.h"

namespace weir::kafka {
namespace {

std::vector<uint8_t> from_hex(const std::string& text) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2) {
        bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

TEST(CapturedFrames, are_read_and_written_again_byte_for_byte) {
    std::ifstream file(WEIR_TESTDATA "/captured.txt");
    ASSERT_TRUE(file);
    std::string line;
    size_t frames = 0;
    std::set<std::string> clients;
    while (std::getline(file, line)) {
        if (line.empty() || line[0] == '#') continue;
        SCOPED_TRACE(line);
        std::istringstream words(line);
        std::string api_name, direction, client, hex;
        int16_t version = 0;
        words >> api_name >> version >> direction >> client >> hex;
        const bool is_request = direction == "request";
        const std::optional<MessageKind> kind =
            find_message_kind(api_name + (is_request ? "Request" : "Response"));
        ASSERT_TRUE(kind);
        const ApiInfo* const api = find_api(kind->key);
        ASSERT_NE(api, nullptr);
        const std::vector<uint8_t> frame = from_hex(hex);

        ByteReader in(frame);
        ByteWriter out;
        if (is_request) {
            const Result<RequestHeader> header = RequestHeader::decode(in);
            ASSERT_TRUE(header) << header.error().message;
            EXPECT_EQ(header->api_key, kind->key);
            EXPECT_EQ(header->api_version, version);
            ASSERT_TRUE(header->encode(out));
        } else {
            const Result<ResponseHeader> header =
                ResponseHeader::decode(in, api->response_header_version(version));
            ASSERT_TRUE(header) << header.error().message;
            header->encode(out, api->response_header_version(version));
        }
        const Result<std::vector<uint8_t>> body =
            kind->recode(in.read_bytes(in.remaining()), version);
        EXPECT_TRUE(body) << body.error().message;
        if (!body) continue;
        out.write_bytes(*body);
        EXPECT_EQ(out.flatten(), frame);
        ++frames;
        clients.insert(client);
    }
    EXPECT_GE(frames, 100u);
    EXPECT_GE(clients.size(), 6u);
}

}  // namespace
}  // namespace weir::kafka

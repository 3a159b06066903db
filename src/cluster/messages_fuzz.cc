// What other nodes say and ask, and the file that says who a node is: any bytes. What is read is
// written and read again as the same. The first byte chooses.
#include <fmt/format.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "cluster/bootstrap.h"
#include "cluster/leader_table.h"
#include "cluster/wire.h"

namespace weir::cluster {
namespace {

void fuzz_leader_update(Bytes input) {
    const auto update = decode_leader_update(input);
    if (!update) return;
    const auto again = decode_leader_update(encode_leader_update(*update));
    CHECK(again && *again == *update);
    LeaderTable table(1000);
    for (const LeaderState& state : update->states) {
        const bool is_news = table.learn(state);
        const LeaderState* known = table.find(state.log);
        if (is_news) CHECK(known != nullptr && *known == state);
        if (known != nullptr) CHECK(!state.is_newer_than(*known));
    }
}

void fuzz_identity(std::string_view text) {
    const auto identity = decode_node_identity(text);
    if (!identity) return;
    const auto again = decode_node_identity(encode_node_identity(*identity));
    CHECK(again && *again == *identity);
}

// The checksum is made right, so that the fuzzer need not find it.
void fuzz_identity_lines(Bytes input) {
    std::string text = "weir-node 1\n" + std::string(as_text(input));
    if (!text.ends_with('\n')) text += '\n';
    fuzz_identity(text + fmt::format("crc {:08x}\n", crc32c(as_bytes(text))));
}

// A node of three seeds hears anything from anyone: it never breaks a promise, which it CHECKs.
void fuzz_hellos(Bytes input) {
    const std::vector<std::string> seeds = {"a:1", "b:1", "c:1"};
    auto node = Bootstrap::make(
        {.identity = {.uuid = Uuid::random(1, 1)}, .rpc = "a:1", .seeds = seeds, .node_id = {}});
    CHECK(node.has_value());
    while (input.size() > 2) {
        const size_t size = std::min<size_t>(input[1], input.size() - 2);
        const uint8_t what = input[0];
        if (const auto hello = decode_hello(input.subspan(2, size))) {
            const auto again = decode_hello(encode_hello(*hello));
            CHECK(again && *again == *hello);
            if (what % 4 == 3) {
                node->heard_from_asker(*hello);
            } else if (what % 4 != 0) {
                node->note_answer(what % 4, *hello);
            }
        } else if (what % 4 != 3) {
            node->lost(what % 4);
        }
        while (node->to_persist() != nullptr) node->persisted();
        (void)node->waiting_for();
        input = input.subspan(2 + size);
    }
}

// What was read is written and read again as the same.
template <class T>
void reread(const Result<T>& first, Result<T> (*decode)(Bytes)) {
    if (!first) return;
    const auto again = decode(encode(*first));
    CHECK(again.has_value());
    CHECK(*again == *first);
}

void fuzz_requests(Bytes input) {
    if (input.empty()) return;
    const Bytes body = input.subspan(1);
    switch (input[0] % 8) {
        case 0:
            return reread(decode_register_request(body), decode_register_request);
        case 1:
            return reread(decode_register_reply(body), decode_register_reply);
        case 2:
            return reread(decode_leader_update_reply(body), decode_leader_update_reply);
        case 3:
            if (const auto report = decode_replicas_report(body))
                CHECK(encode(*decode_replicas_report(encode(*report))) == encode(*report));
            return;
        case 4:
            return reread(decode_transfer_request(body), decode_transfer_request);
        case 5:
            return reread(decode_admin_call(body), decode_admin_call);
        case 6:
            return reread(decode_admin_reply(body), decode_admin_reply);
        default:
            reread(decode_progress(body), decode_progress);
            if (const auto number = decode_i64(body))
                CHECK(*decode_i64(encode_i64(*number)) == *number);
    }
}

}  // namespace
}  // namespace weir::cluster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const weir::Bytes input(data + 1, size - 1);
    switch (data[0] % 5) {
        case 0:
            weir::cluster::fuzz_leader_update(input);
            break;
        case 1:
            weir::cluster::fuzz_identity(weir::as_text(input));
            break;
        case 2:
            weir::cluster::fuzz_identity_lines(input);
            break;
        case 3:
            weir::cluster::fuzz_hellos(input);
            break;
        default:
            weir::cluster::fuzz_requests(input);
            break;
    }
    return 0;
}

// A client that may send anything, against a whole node over stores in memory: raw bytes, requests
// of every API and version with any body, well-formed requests of random values, real batches. The
// node answers in order or closes; it never answers what was not asked, and when it is stopped it
// has given all memory back. The node is new for each input, so that a finding can be repeated.
#include <algorithm>
#include <map>

#include "base/check.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/fetch.h"
#include "kafka/protocol/message_kinds.h"
#include "kafka/protocol/produce.h"
#include "kafka/records/builder.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/test_node.h"

namespace weir::kafka {
namespace {

using runtime::Task;

constexpr uint64_t kMemory = 8_MiB;
constexpr size_t kSendBytes = 64_KiB;

const MessageKind& request_kind(ApiKey key) {
    static const auto by_key = [] {
        std::map<int16_t, MessageKind> found;
        for (const MessageKind& kind : all_message_kinds()) {
            if (kind.key >= 0 && kind.name.ends_with("Request")) found.emplace(kind.key, kind);
        }
        return found;
    }();
    return by_key.at(static_cast<int16_t>(key));
}

class Client {
  public:
    Client(runtime::TestLoop& loop, Server& server) : loop_(loop) {
        auto to_server = std::make_shared<MemoryPipe>(1_MiB);
        auto to_client = std::make_shared<MemoryPipe>(1_MiB);
        stream_ = std::make_unique<MemoryStream>(to_client, to_server);
        loop_.run(server.serve(std::make_unique<MemoryStream>(to_server, to_client), [] {}));
        scope_.spawn(read_answers());
    }
    ~Client() {
        loop_.run(stream_->close());
        loop_.run(join());
    }

    void send(std::vector<uint8_t> bytes) {
        // An error: the node has closed.
        loop_.run(write(std::move(bytes)));
    }
    void request(ApiKey key, int16_t version, Bytes body) {
        ByteWriter out;
        out.write_i32(0);
        const RequestHeader header{.api_key = static_cast<int16_t>(key),
                                   .api_version = version,
                                   .correlation_id = sent_++,
                                   .client_id = "fuzz"};
        CHECK(header.encode(out));
        out.write_bytes(body);
        out.patch_i32(0, static_cast<int32_t>(out.size() - 4));
        send(out.flatten());
    }
    template <class Body>
    void request(const Body& body, int16_t version) {
        ByteWriter out;
        if (body.encode(out, version)) request(Body::kApiKey, version, out.flatten());
    }
    // After raw bytes nobody knows which requests the node saw.
    void forget_order() { in_order_ = false; }
    void wait(Duration duration) { (void)loop_.run(runtime::sleep_for(duration)); }

  private:
    Task<void> write(std::vector<uint8_t> bytes) {
        (void)co_await stream_->write_all({Bytes(bytes)}, {});
    }
    Task<void> join() { co_await scope_.join(); }
    Task<void> read_answers() {
        int32_t last = -1;
        while (true) {
            uint8_t prefix[8];
            if (!co_await runtime::read_exactly(*stream_, prefix)) co_return;
            const auto size = load_be<uint32_t>(prefix);
            CHECK(size >= 4 && size <= kMemory);
            const auto id = load_be<int32_t>(prefix + 4);
            if (in_order_) {
                CHECK(id > last && id < sent_);
                last = id;
            }
            std::vector<uint8_t> rest(size - 4);
            if (!co_await runtime::read_exactly(*stream_, rest)) co_return;
        }
    }

    runtime::TestLoop& loop_;
    std::unique_ptr<MemoryStream> stream_;
    runtime::Scope scope_;
    int32_t sent_ = 0;
    bool in_order_ = true;
};

int16_t version_of(const Handler& handler, uint8_t draw) {
    // One beyond on either side as well.
    const int span = handler.version_max - handler.version_min + 3;
    return static_cast<int16_t>(handler.version_min - 1 + draw % span);
}

std::vector<uint8_t> make_batch(ByteReader& in) {
    const uint8_t shape = in.read_u8();
    BatchBuilder builder({.compression = static_cast<Compression>(shape % 5),
                          .producer_id = (shape & 0x80) != 0 ? in.read_u8() % 4 : kNoProducerId,
                          .producer_epoch = static_cast<int16_t>(in.read_u8() % 3),
                          .base_sequence = in.read_u8()});
    for (int i = 0; i <= (shape >> 3) % 8; ++i) {
        const Bytes value = in.read_bytes(std::min<size_t>(in.read_u8(), in.remaining()));
        builder.append({.timestamp = {in.read_u8() * 1000},
                        .key = std::nullopt,
                        .value = value,
                        .headers = {}});
    }
    std::vector<uint8_t> batch = *builder.build();
    // At times with other bytes in its header, and a checksum that holds.
    if ((shape & 0x40) != 0) {
        const size_t at = in.read_u8() % batch.size();
        batch[at] = in.read_u8();
        if (load_batch_header(batch).size() == batch.size()) seal_batch(batch);
    }
    return batch;
}

void step(ByteReader& in, Client& client) {
    const uint8_t what = in.read_u8();
    const auto all = handlers();
    switch (what % 8) {
        case 0: {
            client.forget_order();
            const Bytes raw = in.read_bytes(std::min<size_t>(in.read_u8(), in.remaining()));
            client.send({raw.begin(), raw.end()});
            break;
        }
        case 1: {
            const Handler& handler = all[in.read_u8() % all.size()];
            const int16_t version = version_of(handler, in.read_u8());
            const Bytes body =
                in.read_bytes(std::min<size_t>(in.read_u16() % 2048, in.remaining()));
            client.request(handler.key, version, body);
            break;
        }
        case 2:
        case 3: {
            const Handler& handler = all[in.read_u8() % all.size()];
            const int16_t version = version_of(handler, in.read_u8());
            const MessageKind& kind = request_kind(handler.key);
            Prng prng(in.read_u32());
            const auto body = version >= kind.version_min && version <= kind.version_max
                                  ? kind.random(prng, version)
                                  : std::vector<uint8_t>();
            if (body.size() <= kSendBytes) client.request(handler.key, version, body);
            break;
        }
        case 4: {
            const uint8_t version = in.read_u8();
            const int16_t acks = static_cast<int16_t>(in.read_u8() % 3) - 1;
            const auto batch = make_batch(in);
            ProduceRequest request;
            request.acks = acks;
            request.timeout_ms = 1'000;
            request.topic_data.push_back(
                {.name = "t",
                 .partition_data = {{.index = version % 3, .records = {.parts = {Bytes(batch)}}}}});
            client.request(request, static_cast<int16_t>(3 + version % 10));
            break;
        }
        case 5: {
            FetchRequest request;
            request.max_wait_ms = in.read_u8() * 10;
            request.min_bytes = in.read_u8() * 16;
            request.max_bytes = in.read_u8() << (what >> 3);
            request.session_id = in.read_i8();
            request.session_epoch = static_cast<int32_t>(in.read_u8() % 4) - 1;
            FetchRequest::Topic topic{.topic = "t", .partitions = {}};
            for (int32_t i = 0; i < in.read_u8() % 4; ++i)
                topic.partitions.push_back({.partition = i,
                                            .fetch_offset = in.read_i8(),
                                            .partition_max_bytes = in.read_u16()});
            request.topics.push_back(std::move(topic));
            client.request(request, static_cast<int16_t>(4 + in.read_u8() % 9));
            break;
        }
        case 6:
            client.wait(std::chrono::milliseconds(in.read_u8()));
            break;
        case 7:
            client.wait(std::chrono::seconds(in.read_u8() % 64));
            break;
    }
}

void fuzz(Bytes input) {
    constexpr size_t kStepsMax = 24;
    runtime::TestLoop loop(TestNode::kShards);
    storage::MemoryStoreSet stores(TestNode::kShards);
    {
        TestNode node(loop, stores, {}, kMemory);
        ByteReader in(input);
        const size_t clients_count = 1 + in.read_u8() % 2;
        std::vector<std::unique_ptr<Client>> clients;
        for (size_t i = 0; i < clients_count; ++i)
            clients.push_back(std::make_unique<Client>(loop, node.server()));
        CreateTopicsRequest create;
        create.topics.push_back(
            {.name = "t", .num_partitions = 2, .replication_factor = 1, .configs = {}});
        clients[0]->request(create, 5);
        for (size_t i = 0; i < kStepsMax && in.ok() && in.remaining() > 0; ++i)
            step(in, *clients[i % clients_count]);
        clients.clear();
        // What a connection leaves behind ends with it.
        (void)loop.run(runtime::sleep_for(1s));
        CHECK(node.memory().used() == 0);
    }
    loop.run(stores.close());
}

}  // namespace
}  // namespace weir::kafka

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size > 0) weir::kafka::fuzz({data, size});
    return 0;
}

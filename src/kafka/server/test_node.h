// For tests: a node of several shards over stores in memory and a virtual clock, and clients that
// speak to it over streams in memory.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/units.h"
#include "cluster/controller.h"
#include "kafka/protocol/header.h"
#include "kafka/server/coordinators/group_shard.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/test_loop.h"
#include "storage/memory/memory_store.h"

namespace weir::kafka {

// One direction of a stream, bounded like a socket's buffer. Both ends on one shard.
class MemoryPipe {
  public:
    explicit MemoryPipe(size_t capacity) : capacity_(capacity) {}

    runtime::Task<Result<size_t>> read(MutableBytes into, runtime::StopToken stop) {
        while (bytes_.empty()) {
            if (closed_) co_return fail(ErrorCode::kEndOfStream);
            co_await runtime::try_(co_await changed_.wait({.stop = stop}));
        }
        const size_t count = std::min(into.size(), bytes_.size());
        std::copy_n(bytes_.begin(), count, into.begin());
        bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(count));
        changed_.notify_all();
        co_return count;
    }
    runtime::Task<Result<void>> write(Bytes bytes, runtime::StopToken stop) {
        while (!bytes.empty()) {
            if (closed_) co_return fail(ErrorCode::kIo, "broken pipe");
            const size_t count = std::min(bytes.size(), capacity_ - bytes_.size());
            bytes_.insert(bytes_.end(), bytes.begin(),
                          bytes.begin() + static_cast<ptrdiff_t>(count));
            bytes = bytes.subspan(count);
            if (count > 0) changed_.notify_all();
            if (!bytes.empty() && count == 0)
                co_await runtime::try_(co_await changed_.wait({.stop = stop}));
        }
        co_return Result<void>{};
    }
    void close() {
        closed_ = true;
        changed_.notify_all();
    }
    bool closed() const { return closed_; }

  private:
    size_t capacity_;
    std::deque<uint8_t> bytes_;
    bool closed_ = false;
    runtime::WaitQueue changed_;
};

class MemoryStream final : public runtime::ByteStream {
  public:
    MemoryStream(std::shared_ptr<MemoryPipe> in, std::shared_ptr<MemoryPipe> out)
        : in_(std::move(in)), out_(std::move(out)) {}
    runtime::Task<Result<size_t>> read_some(MutableBytes into, runtime::StopToken stop) override {
        return in_->read(into, stop);
    }
    runtime::Task<Result<void>> write_all(std::vector<Bytes> parts,
                                          runtime::StopToken stop) override {
        for (const Bytes part : parts) co_await runtime::try_(out_->write(part, stop));
        co_return Result<void>{};
    }
    runtime::Task<void> shutdown() override {
        in_->close();
        out_->close();
        co_return;
    }
    runtime::Task<void> close() override { return shutdown(); }
    const std::string& peer() const override { return peer_; }

  private:
    std::shared_ptr<MemoryPipe> in_;
    std::shared_ptr<MemoryPipe> out_;
    std::string peer_ = "10.0.0.1:4711";
};

// A client of the node, on shard 0.
class TestClient {
  public:
    TestClient(runtime::TestLoop& loop, Server& server, size_t socket_bytes = 1_MiB) : loop_(loop) {
        auto to_server = std::make_shared<MemoryPipe>(socket_bytes);
        auto to_client = std::make_shared<MemoryPipe>(socket_bytes);
        stream_ = std::make_unique<MemoryStream>(to_client, to_server);
        loop_.run(server.serve(std::make_unique<MemoryStream>(to_server, to_client),
                               [closed = closed_] { *closed = true; }));
    }
    ~TestClient() { loop_.run(stream_->close()); }

    // Sends without waiting.
    template <class RequestBody>
    void send(const RequestBody& body, int16_t version) {
        ByteWriter out;
        out.write_i32(0);
        const RequestHeader header{.api_key = static_cast<int16_t>(RequestBody::kApiKey),
                                   .api_version = version,
                                   .correlation_id = next_correlation_id_++,
                                   .client_id = "test"};
        EXPECT_TRUE(header.encode(out));
        EXPECT_TRUE(body.encode(out, version));
        out.patch_i32(0, static_cast<int32_t>(out.size() - 4));
        send_raw(out.flatten());
    }
    void send_raw(std::vector<uint8_t> bytes) {
        EXPECT_TRUE(loop_.run(stream_->write_all({Bytes(bytes)}, {})));
    }

    // The next answer. Nothing when the connection ended.
    template <class ResponseBody>
    std::optional<ResponseBody> receive(int16_t version) {
        frame_ = loop_.run(read_frame_of(stream_.get()));
        if (frame_.empty()) return std::nullopt;
        ByteReader in(frame_);
        const auto header = ResponseHeader::decode(
            in, api_info(ResponseBody::kApiKey).response_header_version(version));
        EXPECT_TRUE(header);
        EXPECT_EQ(header->correlation_id, expected_correlation_id_++);
        auto body = ResponseBody::decode(in, version);
        EXPECT_TRUE(body) << body.error().to_string();
        if (!body) return std::nullopt;
        return std::move(*body);
    }
    void skip_answer() { ++expected_correlation_id_; }
    template <class ResponseBody, class RequestBody>
    ResponseBody call(const RequestBody& body, int16_t version) {
        send(body, version);
        auto answer = receive<ResponseBody>(version);
        EXPECT_TRUE(answer.has_value());
        return answer.value_or(ResponseBody{});
    }
    bool closed() const { return *closed_; }
    void close() { loop_.run(stream_->close()); }
    // Lets the node work until nothing is left to do but wait.
    void settle(Duration duration = 1ms) { (void)loop_.run(runtime::sleep_for(duration)); }

  private:
    static runtime::Task<std::vector<uint8_t>> read_frame_of(MemoryStream* stream) {
        uint8_t size[4];
        if (!co_await runtime::read_exactly(*stream, size)) co_return std::vector<uint8_t>();
        std::vector<uint8_t> frame(load_be<uint32_t>(size));
        if (!co_await runtime::read_exactly(*stream, frame)) co_return std::vector<uint8_t>();
        co_return frame;
    }

    runtime::TestLoop& loop_;
    std::unique_ptr<MemoryStream> stream_;
    std::shared_ptr<bool> closed_ = std::make_shared<bool>(false);
    std::vector<uint8_t> frame_;
    int32_t next_correlation_id_ = 1;
    int32_t expected_correlation_id_ = 1;
};

class TestNode {
  public:
    static constexpr uint32_t kShards = 3;

    TestNode(runtime::TestLoop& loop, storage::MemoryStoreSet& stores,
             cluster::ConfigMap given = {}, uint64_t memory = 64_MiB)
        : loop_(loop), stores_(stores), memory_(memory) {
        EXPECT_TRUE(loop_.run(start(std::move(given))));
    }
    ~TestNode() { loop_.run(stop()); }

    Server& server(uint32_t shard = 0) { return *servers_[shard]; }
    runtime::MemoryBudget& memory() { return memory_; }

  private:
    runtime::Task<Result<void>> start(cluster::ConfigMap given) {
        std::vector<cluster::MetadataShard*> metadata;
        std::vector<Server*> servers;
        for (uint32_t i = 0; i < kShards; ++i) {
            metadata_.push_back(std::make_unique<cluster::MetadataShard>(0, given));
            metadata.push_back(metadata_.back().get());
            // One thread stands for all shards here, so news reaches them at once.
            metadata_[i]->set_announce([this](const cluster::LeaderState& state) {
                for (auto& shard : metadata_) (void)shard->learn_leader(state);
            });
            replication::ReplicatorOptions options;
            options.self = NodeId{0};
            options.store = &stores_.store(i);
            replicators_.push_back(std::make_unique<replication::Replicator>(std::move(options)));
        }
        storage::Log* log = stores_.store(0).find(storage::kMetadataLog);
        if (log == nullptr)
            log = co_await runtime::try_(stores_.store(0).create_log(storage::kMetadataLog, {}));
        controller_ = std::make_unique<cluster::Controller>(cluster::Controller::Options{
            .shards = metadata, .log = log, .replicator = replicators_[0].get(), .on_fatal = {}});
        for (uint32_t i = 0; i < kShards; ++i) {
            co_await runtime::on(i, [this, i]() -> runtime::Task<void> {
                replicators_[i]->start(nullptr);
                servers_.push_back(std::make_unique<Server>(
                    Server::Options{.node = {.id = 0,
                                             .host = "node.test",
                                             .port = 9092,
                                             .rack = {},
                                             .data_directory = "/data",
                                             .version = "test"},
                                    .memory = &memory_,
                                    .store = &stores_.store(i),
                                    .metadata = metadata_[i].get(),
                                    .replicator = replicators_[i].get(),
                                    .controller = i == 0 ? controller_.get() : nullptr}));
                co_return;
            });
            servers.push_back(servers_.back().get());
        }
        for (Server* server : servers) server->connect(servers);
        co_await runtime::try_(controller_->open(raft::voters({0})));
        co_await runtime::try_(controller_->lead_alone({}));
        co_await runtime::try_(controller_->serve_from(controller_->applied(), {}));
        for (uint32_t i = 0; i < kShards; ++i) {
            co_await runtime::try_(runtime::on(i, [this, i]() -> runtime::Task<Result<void>> {
                co_return co_await servers_[i]->start();
            }));
        }
        controller_->follow();
        co_return Result<void>{};
    }
    runtime::Task<void> stop() {
        for (uint32_t i = 0; i < kShards; ++i) {
            co_await runtime::on(
                i, [this, i]() -> runtime::Task<void> { co_await servers_[i]->groups().close(); });
        }
        for (uint32_t i = 0; i < kShards; ++i) {
            co_await runtime::on(i, [this, i]() -> runtime::Task<void> {
                co_await servers_[i]->drain_connections(1s);
            });
        }
        controller_->begin_close();
        for (uint32_t i = 0; i < kShards; ++i) {
            co_await runtime::on(i, [this, i]() -> runtime::Task<void> {
                co_await servers_[i]->close_connections();
            });
        }
        co_await controller_->close();
        for (uint32_t i = 0; i < kShards; ++i) {
            co_await runtime::on(
                i, [this, i]() -> runtime::Task<void> { co_await servers_[i]->stop(); });
        }
        for (uint32_t i = 0; i < kShards; ++i) {
            co_await runtime::on(i, [this, i]() -> runtime::Task<void> {
                servers_[i].reset();
                co_await replicators_[i]->close();
            });
        }
    }

    runtime::TestLoop& loop_;
    storage::MemoryStoreSet& stores_;
    runtime::MemoryBudget memory_;
    std::vector<std::unique_ptr<cluster::MetadataShard>> metadata_;
    std::unique_ptr<cluster::Controller> controller_;
    std::vector<std::unique_ptr<replication::Replicator>> replicators_;
    std::vector<std::unique_ptr<Server>> servers_;
};

}  // namespace weir::kafka

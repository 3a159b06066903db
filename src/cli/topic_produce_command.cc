// weir topic produce NAME: lines of standard input (or of a file) become records.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/client_command.h"
#include "cli/topic_data_commands.h"
#include "kafka/client/partitioner.h"
#include "kafka/protocol/produce.h"
#include "kafka/records/builder.h"

namespace weir::cli {

using kafka::Client;
using runtime::Task;
using runtime::try_;
using Json = nlohmann::ordered_json;

namespace {

constexpr size_t kBatchBytesMax = 512_KiB;
constexpr size_t kLineBytesMax = 64_MiB;
constexpr int32_t kTimeoutMs = 30'000;

struct ProduceFlags {
    ClientFlags client;
    std::string name;
    std::string file;
    std::string key_separator;
    std::vector<std::string> headers;
    std::string compression = "none";
    int32_t partition = -1;
    std::string acks = "all";
};

// Lines of a file descriptor. Blocks the thread while there is no input, which the one shard of a
// command may do.
class LineReader {
  public:
    explicit LineReader(int fd) : fd_(fd) {}
    // Lines in hand without another read(2); next() blocks otherwise.
    bool has_line() const { return buffer_.find('\n', at_) != std::string::npos; }
    // Nothing at the end of input; the last line may lack its newline.
    Result<std::optional<std::string>> next() {
        while (true) {
            const size_t end = buffer_.find('\n', at_);
            if (end != std::string::npos) {
                std::string line = buffer_.substr(at_, end - at_);
                at_ = end + 1;
                return line;
            }
            if (buffer_.size() - at_ > kLineBytesMax)
                return fail(ErrorCode::kInvalidArgument, "a line is longer than 64 MiB");
            buffer_.erase(0, std::exchange(at_, 0));
            char chunk[64 * 1024];
            const ssize_t got = ::read(fd_, chunk, sizeof chunk);
            if (got < 0) {
                if (errno == EINTR) continue;
                return fail(Error::from_errno(errno, "read input"));
            }
            if (got == 0) {
                if (buffer_.empty()) return std::optional<std::string>();
                return std::optional(std::exchange(buffer_, {}));
            }
            buffer_.append(chunk, static_cast<size_t>(got));
        }
    }

  private:
    int fd_;
    std::string buffer_;
    size_t at_ = 0;
};

struct Sent {
    int64_t records = 0;
    int64_t bytes = 0;
};

class Producer {
  public:
    Producer(Client* client, const ProduceFlags* flags, Client::Topic topic,
             std::vector<std::pair<std::string, std::string>> headers,
             kafka::Compression compression)
        : client_(client),
          flags_(flags),
          topic_(std::move(topic)),
          header_texts_(std::move(headers)),
          compression_(compression) {
        for (const auto& [key, value] : header_texts_)
            headers_.push_back({as_bytes(key), as_bytes(value)});
    }

    // Adds one line; sends the partition's batch when it is full.
    Task<Result<void>> add(std::string line) {
        kafka::NullableBytes key;
        Bytes value = as_bytes(line);
        if (!flags_->key_separator.empty()) {
            const size_t at = line.find(flags_->key_separator);
            if (at != std::string::npos) {
                key = value.first(at);
                value = value.subspan(at + flags_->key_separator.size());
            }
        }
        const int32_t partition =
            flags_->partition >= 0 ? flags_->partition : choose_partition(key);
        auto& builder = builders_[partition];
        if (!builder) {
            kafka::BatchBuilder::Options options;
            options.compression = compression_;
            builder = std::make_unique<kafka::BatchBuilder>(options);
        }
        builder->append({runtime::Shard::current().wall_now(), key, value, headers_});
        sent_.bytes += static_cast<int64_t>(line.size());
        ++sent_.records;
        if (builder->plain_size() >= kBatchBytesMax) co_return co_await flush(partition);
        co_return Result<void>{};
    }

    Task<Result<void>> flush_all() {
        for (auto& [partition, builder] : builders_) {
            if (!builder->empty()) co_await try_(flush(partition));
        }
        round_robin_ = (round_robin_ + 1) % static_cast<int32_t>(topic_.partitions.size());
        co_return Result<void>{};
    }
    Sent sent() const { return sent_; }

  private:
    // Records without a key stay together until the batch goes out, then move on to the next
    // partition (KIP-480).
    int32_t choose_partition(const kafka::NullableBytes& key) {
        const auto count = static_cast<int32_t>(topic_.partitions.size());
        return key ? kafka::partition_of_key(*key, count) : round_robin_;
    }

    Task<Result<void>> flush(int32_t partition) {
        if (partition >= static_cast<int32_t>(topic_.partitions.size())) {
            co_return fail(
                ErrorCode::kInvalidArgument,
                fmt::format("topic {} has {} partitions", topic_.name, topic_.partitions.size()));
        }
        std::vector<uint8_t> batch = co_await try_(builders_[partition]->build());
        kafka::ProduceRequest request;
        request.acks = static_cast<int16_t>(flags_->acks == "all" ? -1
                                            : flags_->acks == "1" ? 1
                                                                  : 0);
        request.timeout_ms = kTimeoutMs;
        auto& topic = request.topic_data.emplace_back();
        topic.name = topic_.name;
        topic.topic_id = topic_.id;
        auto& data = topic.partition_data.emplace_back();
        data.index = partition;
        data.records.parts = {batch};
        kafka::ClientConnection* leader = co_await try_(
            client_->to_node(topic_.partitions[static_cast<size_t>(partition)].leader));
        if (request.acks == 0) co_return co_await leader->send_only(std::move(request));
        auto answer = co_await try_(leader->call<kafka::ProduceResponse>(std::move(request)));
        for (const auto& by_topic : answer.message.responses) {
            for (const auto& p : by_topic.partition_responses) {
                if (p.error_code != 0) {
                    co_return fail(kafka::error_of(
                        p.error_code, fmt::format("produce to {}-{}", topic_.name, p.index),
                        p.error_message));
                }
            }
        }
        co_return Result<void>{};
    }

    Client* client_;
    const ProduceFlags* flags_;
    Client::Topic topic_;
    std::vector<std::pair<std::string, std::string>> header_texts_;
    std::vector<kafka::RecordHeader> headers_;
    kafka::Compression compression_;
    std::map<int32_t, std::unique_ptr<kafka::BatchBuilder>> builders_;
    int32_t round_robin_ = 0;
    Sent sent_;
};

Task<Result<void>> produce(Client* client, const ProduceFlags* flags) {
    const auto codec = kafka::compression_from_name(flags->compression);
    if (!codec)
        co_return fail(ErrorCode::kInvalidArgument,
                       fmt::format("unknown compression '{}'", flags->compression));
    std::vector<std::pair<std::string, std::string>> headers;
    for (const std::string& text : flags->headers)
        headers.push_back(co_await try_(parse_assignment(text)));
    auto topic = co_await try_(client->topic(flags->name));
    int fd = STDIN_FILENO;
    if (!flags->file.empty()) {
        fd = ::open(flags->file.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) co_return fail(Error::from_errno(errno, fmt::format("open {}", flags->file)));
    }
    Producer producer(client, flags, std::move(topic), std::move(headers), *codec);
    LineReader lines(fd);
    while (true) {
        // What a person typed goes out before the next line is waited for.
        if (!lines.has_line()) co_await try_(producer.flush_all());
        auto line = co_await try_(lines.next());
        if (!line) break;
        co_await try_(producer.add(std::move(*line)));
    }
    co_await try_(producer.flush_all());
    if (fd != STDIN_FILENO) ::close(fd);
    const Sent sent = producer.sent();
    if (flags->client.json()) {
        fmt::print(
            "{}\n",
            Json{{"topic", flags->name}, {"records", sent.records}, {"bytes", sent.bytes}}.dump());
    } else {
        fmt::print("produced {} records to {}\n", sent.records, flags->name);
    }
    co_return Result<void>{};
}

}  // namespace

void add_topic_produce_command(CLI::App& topic, int* exit_code) {
    auto flags = std::make_shared<ProduceFlags>();
    CLI::App* command =
        topic.add_subcommand("produce", "each line of standard input becomes a record");
    command->add_option("name", flags->name)->required();
    command->add_option("--file", flags->file, "read this file instead of standard input");
    command->add_option("-K,--key-separator", flags->key_separator,
                        "what stands before it in a line is the record's key");
    command->add_option("-H,--header", flags->headers,
                        "a header of each record, key=value; repeatable");
    command->add_option("-z,--compression", flags->compression)
        ->check(CLI::IsMember({"none", "gzip", "snappy", "lz4", "zstd"}))
        ->capture_default_str();
    command->add_option("-p,--partition", flags->partition,
                        "else by the key's hash, or one after another");
    command->add_option("--acks", flags->acks)
        ->check(CLI::IsMember({"0", "1", "all"}))
        ->capture_default_str();
    add_client_flags(command, &flags->client);
    command->callback([=] {
        *exit_code = run_client(flags->client,
                                [=](Client& client) { return produce(&client, flags.get()); });
    });
}

}  // namespace weir::cli

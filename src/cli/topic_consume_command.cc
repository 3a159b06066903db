// weir topic consume NAME: prints records.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/client_command.h"
#include "cli/topic_data_commands.h"
#include "kafka/client/offsets.h"
#include "kafka/protocol/fetch.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/records/batch.h"
#include "kafka/records/record.h"

namespace weir::cli {

using kafka::Client;
using runtime::Task;
using runtime::try_;
using Json = nlohmann::ordered_json;

namespace {

constexpr int32_t kFetchBytesMax = 16 << 20;
constexpr int32_t kPartitionBytesMax = 1 << 20;
constexpr int32_t kWaitMs = 500;

struct ConsumeFlags {
    ClientFlags client;
    std::string name;
    std::string from = "earliest";
    int32_t partition = -1;
    int64_t count = -1;
    bool follow = false;
    bool with_key = false;
};

// "earliest", "latest", "@MILLISECONDS" or an offset.
Task<Result<std::map<int32_t, int64_t>>> first_offsets(Client* client, Client::Topic topic,
                                                       std::string from) {
    std::map<int32_t, int64_t> positions;
    int64_t number = 0;
    const bool by_time = from.starts_with('@');
    const std::string_view digits = std::string_view(from).substr(by_time ? 1 : 0);
    const auto [end, problem] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number);
    const bool is_number =
        problem == std::errc() && end == digits.data() + digits.size() && number >= 0;
    if (is_number && !by_time) {
        for (const auto& p : topic.partitions) positions[p.index] = number;
        co_return positions;
    }
    int64_t timestamp = number;
    if (from == "earliest") {
        timestamp = kafka::kEarliestTimestamp;
    } else if (from == "latest") {
        timestamp = kafka::kLatestTimestamp;
    } else if (!is_number) {
        co_return fail(
            ErrorCode::kInvalidArgument,
            fmt::format("--from {}: not 'earliest', 'latest', '@MILLISECONDS' or an offset", from));
    }
    const auto found = co_await try_(kafka::list_offsets(*client, topic, timestamp));
    const auto ends = co_await try_(kafka::list_offsets(*client, topic, kafka::kLatestTimestamp));
    for (const auto& [index, listed] : found)
        positions[index] = listed.offset >= 0 ? listed.offset : ends.at(index).offset;
    co_return positions;
}

Json json_text(const kafka::NullableBytes& bytes) {
    if (!bytes) return nullptr;
    return std::string(as_text(*bytes));
}

class Printer {
  public:
    explicit Printer(const ConsumeFlags* flags) : flags_(flags) {}
    bool done() const { return flags_->count >= 0 && printed_ >= flags_->count; }

    void print(int32_t partition, const kafka::Record& record) {
        if (done()) return;
        ++printed_;
        if (flags_->client.json()) {
            Json headers = Json::array();
            kafka::RecordHeaders rest = record.headers;
            while (const auto header = rest.next())
                headers.push_back({{"key", std::string(as_text(header->key))},
                                   {"value", json_text(header->value)}});
            const Json object{{"partition", partition},           {"offset", record.offset},
                              {"timestamp", record.timestamp.ms}, {"key", json_text(record.key)},
                              {"value", json_text(record.value)}, {"headers", headers}};
            // Bytes that are not UTF-8 become U+FFFD: JSON has no other way to say them.
            put(object.dump(-1, ' ', false, Json::error_handler_t::replace));
            return;
        }
        if (flags_->with_key) {
            put_bytes(record.key.value_or(Bytes{}));
            std::fputc('\t', stdout);
        }
        put_bytes(record.value.value_or(Bytes{}));
        std::fputc('\n', stdout);
    }

  private:
    void put(const std::string& line) {
        std::fwrite(line.data(), 1, line.size(), stdout);
        std::fputc('\n', stdout);
    }
    void put_bytes(Bytes bytes) {
        if (!bytes.empty()) std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    }
    const ConsumeFlags* flags_;
    int64_t printed_ = 0;
};

Result<void> print_records(Bytes records, int32_t partition, int64_t* position, Printer* printer) {
    kafka::BatchIterator batches(records);
    while (const auto batch = batches.next()) {
        if (batch->header.next_offset() <= *position) continue;
        if (!batch->header.is_control()) {
            TRY_ASSIGN(const kafka::OpenBatch open, kafka::OpenBatch::open(batch->bytes, 1_GiB));
            kafka::RecordIterator iterator = open.records();
            while (const auto record = iterator.next()) {
                if (record->offset >= *position) printer->print(partition, *record);
            }
            if (!iterator.ok())
                return fail(ErrorCode::kMalformed, fmt::format("a malformed batch at offset {}",
                                                               batch->header.base_offset));
        }
        *position = batch->header.next_offset();
    }
    if (batches.is_malformed())
        return fail(ErrorCode::kMalformed, "the broker's answer holds bytes that are no batch");
    return {};
}

Task<Result<void>> fetch_once(Client* client, const Client::Topic* topic,
                              std::map<int32_t, int64_t>* positions, Printer* printer) {
    std::map<int32_t, kafka::FetchRequest> by_leader;
    for (const auto& [index, position] : *positions) {
        const auto& partition = topic->partitions[static_cast<size_t>(index)];
        kafka::FetchRequest& request = by_leader[partition.leader];
        request.max_wait_ms = kWaitMs;
        request.min_bytes = 1;
        request.max_bytes = kFetchBytesMax;
        request.session_epoch = -1;
        if (request.topics.empty()) {
            auto& asked = request.topics.emplace_back();
            asked.topic = topic->name;
            asked.topic_id = topic->id;
        }
        auto& asked = request.topics[0].partitions.emplace_back();
        asked.partition = index;
        asked.fetch_offset = position;
        asked.partition_max_bytes = kPartitionBytesMax;
    }
    for (auto& [leader, request] : by_leader) {
        kafka::ClientConnection* connection = co_await try_(client->to_node(leader));
        const auto answer = co_await try_(connection->call<kafka::FetchResponse>(
            std::move(request), INT16_MAX, std::chrono::milliseconds(kWaitMs)));
        if (answer.message.error_code != 0)
            co_return fail(kafka::error_of(answer.message.error_code, "fetch"));
        for (const auto& by_topic : answer.message.responses) {
            for (const auto& p : by_topic.partitions) {
                if (p.error_code != 0)
                    co_return fail(kafka::error_of(
                        p.error_code, fmt::format("fetch {}-{}", topic->name, p.partition_index)));
                if (p.records.null) continue;
                for (const Bytes part : p.records.parts)
                    co_await try_(print_records(part, p.partition_index,
                                                &(*positions)[p.partition_index], printer));
            }
        }
    }
    co_return Result<void>{};
}

Task<Result<void>> consume(Client* client, const ConsumeFlags* flags) {
    auto topic = co_await try_(client->topic(flags->name));
    if (flags->partition >= static_cast<int32_t>(topic.partitions.size())) {
        co_return fail(
            ErrorCode::kInvalidArgument,
            fmt::format("topic {} has {} partitions", topic.name, topic.partitions.size()));
    }
    auto positions = co_await try_(first_offsets(client, topic, flags->from));
    if (flags->partition >= 0)
        std::erase_if(positions,
                      [&](const auto& entry) { return entry.first != flags->partition; });
    // Without --follow: up to where the partitions end now.
    const auto ends = co_await try_(kafka::list_offsets(*client, topic, kafka::kLatestTimestamp));
    Printer printer(flags);
    while (!printer.done()) {
        if (!flags->follow)
            std::erase_if(positions, [&](const auto& entry) {
                return entry.second >= ends.at(entry.first).offset;
            });
        if (positions.empty()) break;
        co_await try_(fetch_once(client, &topic, &positions, &printer));
        std::fflush(stdout);
    }
    co_return Result<void>{};
}

}  // namespace

void add_topic_consume_command(CLI::App& topic, int* exit_code) {
    auto flags = std::make_shared<ConsumeFlags>();
    CLI::App* command = topic.add_subcommand("consume", "print a topic's records");
    command->add_option("name", flags->name)->required();
    command
        ->add_option("--from", flags->from,
                     "earliest, latest, an offset, or @MILLISECONDS since 1970")
        ->capture_default_str();
    command->add_option("-p,--partition", flags->partition, "this partition alone");
    command->add_option("-n,--count", flags->count, "stop after so many records");
    command->add_flag("-f,--follow", flags->follow, "wait for more at the end");
    command->add_flag("-k,--with-key", flags->with_key, "print KEY<tab>VALUE");
    add_client_flags(command, &flags->client);
    command->callback([=] {
        *exit_code = run_client(flags->client,
                                [=](Client& client) { return consume(&client, flags.get()); });
    });
}

}  // namespace weir::cli

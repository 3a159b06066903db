// weir bench produce|consume|latency: a load generator that speaks plain Kafka, so that any two
// brokers can be compared.
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/histogram.h"
#include "base/units.h"
#include "cli/client_command.h"
#include "kafka/client/offsets.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/fetch.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/protocol/produce.h"
#include "kafka/records/batch.h"
#include "kafka/records/builder.h"

namespace weir::cli {

using kafka::Client;
using runtime::Shard;
using runtime::Task;
using runtime::try_;
using Json = nlohmann::ordered_json;

namespace {

constexpr int32_t kTimeoutMs = 30'000;
// Open loop: requests that wait for their answer. A broker that is this far behind is not measured
// any more but reported.
constexpr uint64_t kOutstandingMax = 100'000;

struct LoadFlags {
    ClientFlags client;
    std::string topic = "weir-bench";
    int32_t partitions = 1;
    int16_t replicas = -1;
    uint32_t producers = 4;
    uint64_t record_bytes = 1024;
    int32_t batch_records = 16;
    uint32_t batches_per_request = 1;
    uint64_t in_flight_bytes = 1_MiB;
    uint64_t total_bytes = 0;
    double seconds = 10;
    double warmup_seconds = 1;
    double rate = 100;
    std::string acks = "all";
    std::string compression = "none";
    bool with_keys = false;
};

int16_t acks_of(const std::string& text) {
    return static_cast<int16_t>(text == "all" ? -1 : text == "1" ? 1 : 0);
}

// Creates the topic unless it is there; another number of partitions is an error, since it would be
// measured as if it were this one.
Task<Result<Client::Topic>> prepare_topic(Client* client, const LoadFlags* flags) {
    kafka::CreateTopicsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = flags->topic;
    topic.num_partitions = flags->partitions;
    topic.replication_factor = flags->replicas;
    request.timeout_ms = kTimeoutMs;
    const auto answer =
        co_await try_(client->any().call<kafka::CreateTopicsResponse>(std::move(request)));
    for (const auto& result : answer.message.topics) {
        if (result.error_code != 0 &&
            kafka::kafka_error(result.error_code) != kafka::KafkaError::kTopicAlreadyExists) {
            co_return fail(kafka::error_of(result.error_code,
                                           fmt::format("create topic {}", flags->topic),
                                           result.error_message));
        }
    }
    for (int tries_left = 50;; --tries_left) {
        auto found = co_await client->topic(flags->topic);
        if (found) {
            if (static_cast<int32_t>(found->partitions.size()) != flags->partitions) {
                co_return fail(ErrorCode::kInvalidArgument,
                               fmt::format("topic {} has {} partitions, not {}", flags->topic,
                                           found->partitions.size(), flags->partitions));
            }
            const bool led =
                std::ranges::all_of(found->partitions, [](const auto& p) { return p.leader >= 0; });
            if (led) co_return std::move(*found);
        }
        if (tries_left == 0)
            co_return fail(ErrorCode::kTimedOut,
                           fmt::format("topic {} did not get its leaders", flags->topic));
        co_await try_(runtime::sleep_for(std::chrono::milliseconds(100)));
    }
}

// One batch, made once and sent again and again: the generator should cost little beside the
// broker.
Result<std::vector<uint8_t>> make_batch(const LoadFlags& flags) {
    const auto codec = kafka::compression_from_name(flags.compression);
    if (!codec)
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("unknown compression '{}'", flags.compression));
    kafka::BatchBuilder::Options options;
    options.compression = *codec;
    kafka::BatchBuilder builder(options);
    Prng prng(1, "bench");
    std::vector<uint8_t> value(flags.record_bytes);
    for (int32_t i = 0; i < flags.batch_records; ++i) {
        // Half random: compresses about as text does.
        for (size_t at = 0; at < value.size(); ++at)
            value[at] = at % 2 == 0 ? static_cast<uint8_t>(prng.next()) : uint8_t{'a'};
        const std::string key = fmt::format("key-{}", prng.below(100000));
        builder.append({Shard::current().wall_now(),
                        flags.with_keys ? kafka::NullableBytes(as_bytes(key)) : std::nullopt,
                        Bytes(value),
                        {}});
    }
    return builder.build();
}

// What one broker leads: a Produce request goes to one broker, so it names partitions of one
// leader.
struct Led {
    int32_t leader = -1;
    std::vector<int32_t> partitions;
    size_t next = 0;

    int32_t take() { return partitions[next++ % partitions.size()]; }
};

struct Load {
    const LoadFlags* flags;
    const Client::Topic* topic;
    Bytes batch;
    Instant measure_from;
    Instant end;
    uint64_t bytes_left = UINT64_MAX;
    std::vector<Led> led;
    size_t next_leader = 0;

    Histogram latency;
    uint64_t acknowledged_bytes = 0;
    uint64_t acknowledged_requests = 0;
    uint64_t errors = 0;
    std::string first_error;
    Instant last_answer;

    void note_error(std::string text) {
        if (errors++ == 0) first_error = std::move(text);
    }
};

// A connection to each broker of Load::led, in its order.
using Producer = std::vector<std::unique_ptr<kafka::ClientConnection>>;

// One Produce request of `batches_per_request` batches, to the brokers in turns.
Task<Result<void>> produce_once(Producer* producer, Load* load, Instant due) {
    const LoadFlags& flags = *load->flags;
    const size_t at = load->next_leader++ % load->led.size();
    Led& led = load->led[at];
    kafka::ClientConnection* connection = (*producer)[at].get();
    const int16_t version = co_await try_(connection->version_of(kafka::ApiKey::kProduce));
    kafka::ProduceRequest request;
    request.acks = acks_of(flags.acks);
    request.timeout_ms = kTimeoutMs;
    auto& topic = request.topic_data.emplace_back();
    topic.name = load->topic->name;
    topic.topic_id = load->topic->id;
    for (uint32_t i = 0; i < flags.batches_per_request; ++i) {
        auto& data = topic.partition_data.emplace_back();
        data.index = led.take();
        data.records.parts = {load->batch};
    }
    ByteWriter frame =
        co_await try_(kafka::begin_request(kafka::ApiKey::kProduce, version, "weir-bench"));
    co_await try_(request.encode(frame, version));
    const runtime::SharedBytes bytes = co_await try_(connection->call_encoded(&frame));
    ByteReader in(bytes.bytes());
    co_await try_(kafka::skip_response_header(in, kafka::ApiKey::kProduce, version));
    const auto response = co_await try_(kafka::ProduceResponse::decode(in, version));
    for (const auto& by_topic : response.responses) {
        for (const auto& p : by_topic.partition_responses) {
            if (p.error_code != 0)
                co_return fail(kafka::error_of(
                    p.error_code, fmt::format("produce to {}-{}", by_topic.name, p.index),
                    p.error_message));
        }
    }
    const Instant now = Shard::current().now();
    load->last_answer = now;
    if (now >= load->measure_from) {
        load->latency.record((now - due).count());
        load->acknowledged_bytes += load->batch.size() * flags.batches_per_request;
        ++load->acknowledged_requests;
    }
    co_return Result<void>{};
}

bool is_open(const Producer& producer) {
    return std::ranges::all_of(producer, [](const auto& each) { return each->is_open(); });
}

// Closed loop: one request after the other. Several of these keep a producer's connections full.
Task<void> produce_until_end(Producer* producer, Load* load) {
    const uint64_t request_bytes = load->batch.size() * load->flags->batches_per_request;
    while (Shard::current().now() < load->end && load->bytes_left > 0) {
        load->bytes_left -= std::min(load->bytes_left, request_bytes);
        const Result<void> done = co_await produce_once(producer, load, Shard::current().now());
        if (!done) {
            load->note_error(done.error().message);
            if (!is_open(*producer)) co_return;
        }
    }
}

std::vector<Led> by_leader(const Client::Topic& topic) {
    std::vector<Led> all;
    for (const auto& partition : topic.partitions) {
        auto found = std::ranges::find(all, partition.leader, &Led::leader);
        if (found == all.end()) {
            all.push_back({.leader = partition.leader, .partitions = {}});
            found = std::prev(all.end());
        }
        found->partitions.push_back(partition.index);
    }
    return all;
}

Task<void> close_all(std::vector<Producer>* producers) {
    for (Producer& producer : *producers) {
        for (auto& connection : producer) co_await connection->close();
    }
}

Task<Result<std::vector<Producer>>> connect_producers(Client* client, const Load* load) {
    std::vector<Producer> producers(load->flags->producers);
    for (Producer& producer : producers) {
        for (const Led& led : load->led) {
            auto connection = co_await client->connect_apart(led.leader);
            if (!connection) {
                co_await close_all(&producers);
                co_return fail(std::move(connection).error());
            }
            producer.push_back(std::move(*connection));
        }
    }
    co_return producers;
}

Json latency_json(const Histogram& latency, bool with_buckets) {
    Json json{{"p50_ms", static_cast<double>(latency.quantile(0.5)) / 1e6},
              {"p90_ms", static_cast<double>(latency.quantile(0.9)) / 1e6},
              {"p99_ms", static_cast<double>(latency.quantile(0.99)) / 1e6},
              {"p999_ms", static_cast<double>(latency.quantile(0.999)) / 1e6},
              {"p9999_ms", static_cast<double>(latency.quantile(0.9999)) / 1e6},
              {"max_ms", static_cast<double>(latency.max()) / 1e6},
              {"mean_ms", latency.mean() / 1e6}};
    if (with_buckets) {
        Json buckets = Json::array();
        for (const auto& bucket : latency.buckets())
            buckets.push_back({static_cast<double>(bucket.upper) / 1e6, bucket.count});
        json["distribution"] = std::move(buckets);  // [up to ms, how many]
    }
    return json;
}

double client_cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

Result<void> print_load(const Load& load, Duration took, bool with_buckets) {
    const double seconds = std::chrono::duration<double>(took).count();
    const auto records = load.acknowledged_requests * load.flags->batches_per_request *
                         static_cast<uint64_t>(load.flags->batch_records);
    const double bytes_per_second = static_cast<double>(load.acknowledged_bytes) / seconds;
    if (load.flags->client.json()) {
        Json json{
            {"seconds", seconds},
            {"requests", load.acknowledged_requests},
            {"records", records},
            {"bytes", load.acknowledged_bytes},
            {"bytes_per_second", bytes_per_second},
            {"requests_per_second", static_cast<double>(load.acknowledged_requests) / seconds},
            {"errors", load.errors},
            {"client_cpu_seconds", client_cpu_seconds()},
            {"latency", latency_json(load.latency, with_buckets)}};
        fmt::print("{}\n", json.dump());
    } else {
        fmt::print("{:.1f} MB/s  {:.0f} records/s  {:.0f} requests/s over {:.1f} s, {} errors\n",
                   bytes_per_second / 1e6, static_cast<double>(records) / seconds,
                   static_cast<double>(load.acknowledged_requests) / seconds, seconds, load.errors);
        for (const double q : {0.5, 0.9, 0.99, 0.999, 0.9999, 1.0})
            fmt::print("  p{:<7g} {:10.3f} ms\n", q * 100,
                       static_cast<double>(load.latency.quantile(q)) / 1e6);
    }
    if (load.errors > 0)
        return fail(ErrorCode::kIo, fmt::format("{} requests failed, the first: {}", load.errors,
                                                load.first_error));
    return {};
}

Task<Result<void>> bench_produce(Client* client, const LoadFlags* flags) {
    const auto topic = co_await try_(prepare_topic(client, flags));
    const std::vector<uint8_t> batch = co_await try_(make_batch(*flags));
    auto load = std::make_unique<Load>();
    load->flags = flags;
    load->topic = &topic;
    load->batch = batch;
    load->led = by_leader(topic);
    auto producers = co_await try_(connect_producers(client, load.get()));
    const Instant start = Shard::current().now();
    // With --bytes everything is measured, from the first request to the last answer.
    const auto warmup = std::chrono::nanoseconds(
        flags->total_bytes > 0 ? 0 : static_cast<int64_t>(flags->warmup_seconds * 1e9));
    load->measure_from = start + warmup;
    load->end = flags->total_bytes > 0
                    ? Instant::never()
                    : load->measure_from +
                          std::chrono::nanoseconds(static_cast<int64_t>(flags->seconds * 1e9));
    if (flags->total_bytes > 0) load->bytes_left = flags->total_bytes;
    const uint64_t request_bytes = batch.size() * flags->batches_per_request;
    const uint64_t slots =
        std::max<uint64_t>(1, flags->in_flight_bytes / flags->producers / request_bytes);
    runtime::Scope scope;
    for (Producer& producer : producers) {
        for (uint64_t slot = 0; slot < slots; ++slot)
            scope.spawn(produce_until_end(&producer, load.get()));
    }
    co_await scope.join();
    co_await close_all(&producers);
    co_return print_load(*load, std::max(load->last_answer - load->measure_from, Duration(1)),
                         false);
}

Task<void> produce_one_late_or_not(Producer* producer, Load* load, Instant due) {
    const Result<void> done = co_await produce_once(producer, load, due);
    if (!done) load->note_error(done.error().message);
}

Task<Result<void>> bench_latency(Client* client, const LoadFlags* flags) {
    const auto topic = co_await try_(prepare_topic(client, flags));
    const std::vector<uint8_t> batch = co_await try_(make_batch(*flags));
    auto load = std::make_unique<Load>();
    load->flags = flags;
    load->topic = &topic;
    load->batch = batch;
    load->led = by_leader(topic);
    auto producers = co_await try_(connect_producers(client, load.get()));
    const Instant start = Shard::current().now();
    load->measure_from =
        start + std::chrono::nanoseconds(static_cast<int64_t>(flags->warmup_seconds * 1e9));
    load->end =
        load->measure_from + std::chrono::nanoseconds(static_cast<int64_t>(flags->seconds * 1e9));
    runtime::Scope scope;
    // Each request has its time, whether or not earlier ones were answered, and its latency counts
    // from then (no coordinated omission).
    for (uint64_t n = 0;; ++n) {
        const Instant due = start + std::chrono::nanoseconds(static_cast<int64_t>(
                                        1e9 * static_cast<double>(n) / flags->rate));
        if (due >= load->end) break;
        if (due > Shard::current().now()) co_await try_(runtime::sleep_until(due));
        if (scope.size() >= kOutstandingMax) {
            load->note_error(fmt::format("the broker is {} requests behind", kOutstandingMax));
            break;
        }
        scope.spawn(produce_one_late_or_not(&producers[n % producers.size()], load.get(), due));
    }
    co_await scope.join();
    co_await close_all(&producers);
    co_return print_load(*load, load->last_answer - load->measure_from, true);
}

struct ConsumeFlags {
    ClientFlags client;
    std::string topic = "weir-bench";
    uint32_t consumers = 1;
    int32_t fetch_bytes = 8 << 20;
    int32_t partition_bytes = 1 << 20;
    int32_t min_bytes = 1;
    double seconds = 0;
    bool from_end = false;
};

struct Reading {
    const ConsumeFlags* flags;
    const Client::Topic* topic;
    Instant end = Instant::never();
    uint64_t bytes = 0;
    uint64_t records = 0;
    uint64_t fetches = 0;
    uint64_t errors = 0;
    std::string first_error;
};

// Reads all partitions of one leader from `positions` to `ends` (or, with an end time, until then).
Task<Result<void>> consume_leader(kafka::ClientConnection* connection, Reading* reading,
                                  int32_t leader, std::map<int32_t, int64_t> positions,
                                  std::map<int32_t, int64_t> ends) {
    const bool tail = reading->end != Instant::never();
    size_t rotation = 0;
    while (true) {
        if (tail && Shard::current().now() >= reading->end) co_return Result<void>{};
        kafka::FetchRequest request;
        request.max_wait_ms = 100;
        request.min_bytes = reading->flags->min_bytes;
        request.max_bytes = reading->flags->fetch_bytes;
        request.session_epoch = -1;
        auto& asked_topic = request.topics.emplace_back();
        asked_topic.topic = reading->topic->name;
        asked_topic.topic_id = reading->topic->id;
        for (const auto& partition : reading->topic->partitions) {
            if (partition.leader != leader) continue;
            if (!tail && positions[partition.index] >= ends[partition.index]) continue;
            auto& asked = asked_topic.partitions.emplace_back();
            asked.partition = partition.index;
            asked.fetch_offset = positions[partition.index];
            asked.partition_max_bytes = reading->flags->partition_bytes;
        }
        if (asked_topic.partitions.empty()) co_return Result<void>{};
        // The first partitions of a request fill it: take turns.
        std::ranges::rotate(asked_topic.partitions,
                            asked_topic.partitions.begin() +
                                static_cast<ptrdiff_t>(rotation++ % asked_topic.partitions.size()));
        const auto answer =
            co_await try_(connection->call<kafka::FetchResponse>(std::move(request)));
        if (answer.message.error_code != 0)
            co_return fail(kafka::error_of(answer.message.error_code, "fetch"));
        ++reading->fetches;
        for (const auto& by_topic : answer.message.responses) {
            for (const auto& p : by_topic.partitions) {
                if (p.error_code != 0)
                    co_return fail(kafka::error_of(
                        p.error_code,
                        fmt::format("fetch {}-{}", reading->topic->name, p.partition_index)));
                if (p.records.null) continue;
                int64_t& position = positions[p.partition_index];
                for (const Bytes part : p.records.parts) {
                    kafka::BatchIterator batches(part);
                    while (const auto batch = batches.next()) {
                        if (batch->header.next_offset() <= position) continue;
                        if (batch->header.base_offset > position && !tail)
                            co_return fail(ErrorCode::kCorrupt,
                                           fmt::format("partition {}: offset {} is missing",
                                                       p.partition_index, position));
                        position = batch->header.next_offset();
                        reading->records += static_cast<uint64_t>(batch->header.records_count);
                        reading->bytes += batch->bytes.size();
                    }
                }
            }
        }
    }
}

Task<void> consume_from(Client* client, Reading* reading, int32_t leader,
                        const std::map<int32_t, int64_t>* positions,
                        const std::map<int32_t, int64_t>* ends) {
    auto connection = co_await client->connect_apart(leader);
    const Result<void> done =
        connection ? co_await consume_leader(connection->get(), reading, leader, *positions, *ends)
                   : Result<void>(fail(connection.error()));
    if (!done && reading->errors++ == 0) reading->first_error = done.error().message;
    if (connection) co_await (*connection)->close();
}

Task<Result<void>> bench_consume(Client* client, const ConsumeFlags* flags) {
    const auto topic = co_await try_(client->topic(flags->topic));
    const auto listed_first = co_await try_(kafka::list_offsets(
        *client, topic, flags->from_end ? kafka::kLatestTimestamp : kafka::kEarliestTimestamp));
    const auto listed_end =
        co_await try_(kafka::list_offsets(*client, topic, kafka::kLatestTimestamp));
    std::map<int32_t, int64_t> positions;
    std::map<int32_t, int64_t> ends;
    for (const auto& [index, listed] : listed_first) positions[index] = listed.offset;
    for (const auto& [index, listed] : listed_end) ends[index] = listed.offset;
    Reading reading{.flags = flags, .topic = &topic};
    const Instant start = Shard::current().now();
    if (flags->seconds > 0)
        reading.end = start + std::chrono::nanoseconds(static_cast<int64_t>(flags->seconds * 1e9));
    runtime::Scope scope;
    for (const Led& led : by_leader(topic)) {
        for (uint32_t i = 0; i < flags->consumers; ++i)
            scope.spawn(consume_from(client, &reading, led.leader, &positions, &ends));
    }
    co_await scope.join();
    const double seconds = std::chrono::duration<double>(Shard::current().now() - start).count();
    if (flags->client.json()) {
        fmt::print("{}\n", Json{{"seconds", seconds},
                                {"bytes", reading.bytes},
                                {"records", reading.records},
                                {"fetches", reading.fetches},
                                {"bytes_per_second", static_cast<double>(reading.bytes) / seconds},
                                {"errors", reading.errors},
                                {"client_cpu_seconds", client_cpu_seconds()}}
                               .dump());
    } else {
        fmt::print("{:.1f} MB/s  {:.0f} records/s over {:.2f} s, {} fetches, {} errors\n",
                   static_cast<double>(reading.bytes) / seconds / 1e6,
                   static_cast<double>(reading.records) / seconds, seconds, reading.fetches,
                   reading.errors);
    }
    if (reading.errors > 0) co_return fail(ErrorCode::kIo, reading.first_error);
    co_return Result<void>{};
}

void add_load_flags(CLI::App* command, LoadFlags* flags) {
    command->add_option("--topic", flags->topic, "created if it is not there")
        ->capture_default_str();
    command->add_option("--partitions", flags->partitions)
        ->check(CLI::Range(1, 100'000))
        ->capture_default_str();
    command->add_option("--replicas", flags->replicas, "-1: the broker's default")
        ->capture_default_str();
    command
        ->add_option("--producers", flags->producers,
                     "each with a connection to every broker that leads a partition")
        ->check(CLI::Range(1, 100'000))
        ->capture_default_str();
    command->add_option("--record-bytes", flags->record_bytes)
        ->check(CLI::Range(1, 64 << 20))
        ->capture_default_str();
    command->add_option("--batch-records", flags->batch_records)
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    command
        ->add_option("--batches-per-request", flags->batches_per_request,
                     "for partitions that follow one another")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
    command->add_option("--warmup", flags->warmup_seconds, "seconds that are not measured")
        ->capture_default_str();
    command->add_option("--seconds", flags->seconds)->capture_default_str();
    command->add_option("-z,--compression", flags->compression)
        ->check(CLI::IsMember({"none", "gzip", "snappy", "lz4", "zstd"}))
        ->capture_default_str();
    command->add_flag("--keys", flags->with_keys, "records have keys");
    add_client_flags(command, &flags->client);
}

}  // namespace

void add_bench_commands(CLI::App& app, int* exit_code) {
    CLI::App* bench = app.add_subcommand("bench", "measure a broker, this one or another");
    bench->require_subcommand(1);

    auto produce = std::make_shared<LoadFlags>();
    CLI::App* produce_command =
        bench->add_subcommand("produce", "throughput: keeps so many bytes in flight");
    add_load_flags(produce_command, produce.get());
    produce_command
        ->add_option("--in-flight-bytes", produce->in_flight_bytes, "of all producers together")
        ->transform(CLI::AsSizeValue(false))
        ->capture_default_str();
    produce_command
        ->add_option("--bytes", produce->total_bytes,
                     "stop after so many instead of after --seconds")
        ->transform(CLI::AsSizeValue(false));
    produce_command->add_option("--acks", produce->acks)
        ->check(CLI::IsMember({"1", "all"}))
        ->capture_default_str();
    produce_command->callback([=] {
        *exit_code = run_client(
            produce->client, [=](Client& client) { return bench_produce(&client, produce.get()); });
    });

    auto latency = std::make_shared<LoadFlags>();
    CLI::App* latency_command = bench->add_subcommand(
        "latency", "latency at a stated rate, open loop: a stalled broker can't hide its stall");
    add_load_flags(latency_command, latency.get());
    latency_command->add_option("--rate", latency->rate, "requests a second")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    latency_command->add_option("--acks", latency->acks)
        ->check(CLI::IsMember({"1", "all"}))
        ->capture_default_str();
    latency_command->callback([=] {
        *exit_code = run_client(
            latency->client, [=](Client& client) { return bench_latency(&client, latency.get()); });
    });

    auto consume = std::make_shared<ConsumeFlags>();
    CLI::App* consume_command =
        bench->add_subcommand("consume", "how fast a topic is read to its end");
    consume_command->add_option("--topic", consume->topic)->capture_default_str();
    consume_command->add_option("--consumers", consume->consumers, "each reads the whole topic")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
    consume_command->add_option("--fetch-bytes", consume->fetch_bytes)->capture_default_str();
    consume_command->add_option("--partition-bytes", consume->partition_bytes)
        ->capture_default_str();
    consume_command->add_option("--min-bytes", consume->min_bytes)->capture_default_str();
    consume_command->add_option("--seconds", consume->seconds,
                                "go on at the end of the topic until then");
    consume_command->add_flag("--from-end", consume->from_end, "begin at the topic's end");
    add_client_flags(consume_command, &consume->client);
    consume_command->callback([=] {
        *exit_code = run_client(
            consume->client, [=](Client& client) { return bench_consume(&client, consume.get()); });
    });
}

}  // namespace weir::cli

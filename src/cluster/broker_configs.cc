// The options of a node.
#include "cluster/config_table.h"

namespace weir::cluster {
namespace {

constexpr ConfigUpdate kStart = ConfigUpdate::kStart;

constexpr ConfigKey kKeys[] = {
    // What weir start has flags for.
    {.name = "data", .default_value = "./weir-data", .doc = "The directory that holds everything the node stores. It is made if it is not there.",
     .update = kStart, .flag = "data", .metavar = "DIR"},
    {.name = "kafka", .default_value = "127.0.0.1:9092", .doc = "Where Kafka clients connect; port 0 picks a free one.",
     .update = kStart, .flag = "kafka", .metavar = "HOST:PORT"},
    {.name = "admin", .default_value = "127.0.0.1:9644", .doc = "Where /ready, /metrics and /version are served; port 0 picks a free one.",
     .update = kStart, .flag = "admin", .metavar = "HOST:PORT"},
    {.name = "advertised", .default_value = std::nullopt,
     .doc = "The address that clients are told to connect to. Without it, the one that the node listens on; needed where it listens on 0.0.0.0.",
     .update = kStart, .flag = "advertised", .metavar = "HOST:PORT"},
    {.name = "shards", .type = ConfigType::kInt, .default_value = "0", .doc = "How many threads do the work; 0: one a processor.",
     .min = 0, .max = 256, .update = kStart, .flag = "shards", .metavar = "N"},
    {.name = "memory", .default_value = std::nullopt,
     .doc = "The budget for request bytes, data not yet in segments, and caches. Without it, a quarter of the machine's memory, at least 256MiB and at most 8GiB.",
     .update = kStart, .flag = "memory", .metavar = "SIZE"},
    {.name = "driver", .default_value = "auto", .doc = "How the node talks to the kernel: io_uring, or epoll with native AIO; auto takes io_uring where it is allowed.",
     .choices = "auto|uring|aio", .update = kStart, .flag = "driver", .metavar = "NAME"},
    {.name = "log.level", .default_value = "info", .doc = "The least level of events that are logged to stderr.",
     .choices = "trace|debug|info|warn|error", .update = kStart, .flag = "log-level", .metavar = "LEVEL"},
    {.name = "journal.bytes", .type = ConfigType::kLong, .default_value = "268435456",
     .doc = "How much disk the journal of each shard may take.", .min = 64 << 20, .update = kStart},
    {.name = "journal.file.bytes", .type = ConfigType::kLong, .default_value = "16777216",
     .doc = "The size of each journal file.", .min = 1 << 20, .max = 1 << 30, .update = kStart},
    {.name = "cache.bytes", .type = ConfigType::kLong, .default_value = "67108864",
     .doc = "How much memory each shard's read cache may take of the budget.", .min = 0, .update = kStart},

    // Who the node is.
    {.name = "node.id", .type = ConfigType::kInt, .default_value = "0", .doc = "The node's number in its cluster.", .min = 0, .update = kStart},
    {.name = "broker.rack", .default_value = std::nullopt, .doc = "The rack or zone that the node stands in, as clients are told.", .update = kStart},

    // Connections.
    {.name = "socket.request.max.bytes", .type = ConfigType::kInt, .default_value = "104857600",
     .doc = "The largest request. A connection that announces a larger one is closed.", .min = 1024, .update = kStart},
    {.name = "connections.max.idle.ms", .type = ConfigType::kLong, .default_value = "600000",
     .doc = "After how long without a request a connection is closed; -1: never.", .min = -1},
    {.name = "max.connections", .type = ConfigType::kInt, .default_value = "20000",
     .doc = "How many connections the node holds. Further ones are closed at once.", .min = 0},
    {.name = "max.connections.per.ip", .type = ConfigType::kInt, .default_value = "2147483647",
     .doc = "How many connections the node holds from one address.", .min = 0},
    {.name = "max.connections.per.ip.overrides", .default_value = "",
     .doc = "Bounds for single addresses: \"127.0.0.1:200,10.0.0.7:500\"."},
    {.name = "max.in.flight.requests.per.connection", .type = ConfigType::kInt, .default_value = "64",
     .doc = "How many requests of one connection are worked on at a time; further ones wait in the socket.", .min = 1, .max = 1024, .update = kStart},
    {.name = "request.timeout.ms", .type = ConfigType::kInt, .default_value = "30000",
     .doc = "How long the rest of a request that has begun may take to arrive, and how long a client may take to read a part of an answer.",
     .min = 1000, .update = kStart},

    // Topics.
    {.name = "auto.create.topics.enable", .type = ConfigType::kBoolean, .default_value = "true",
     .doc = "Whether asking for an unknown topic creates it, where the client allows it."},
    {.name = "delete.topic.enable", .type = ConfigType::kBoolean, .default_value = "true", .doc = "Whether topics can be deleted."},
    {.name = "num.partitions", .type = ConfigType::kInt, .default_value = "1", .doc = "How many partitions a topic gets that does not say.", .min = 1, .max = 100000},
    {.name = "default.replication.factor", .type = ConfigType::kInt, .default_value = "1",
     .doc = "How many replicas a topic gets that does not say.", .min = 1, .max = 32767, .update = kStart},
    {.name = "max.partitions", .type = ConfigType::kInt, .default_value = "200000",
     .doc = "How many partitions the node holds in all.", .min = 1},

    // Fetch.
    {.name = "fetch.max.bytes", .type = ConfigType::kInt, .default_value = "57671680",
     .doc = "The most that one answer to a fetch holds.", .min = 1024, .update = kStart},
    {.name = "max.incremental.fetch.session.cache.slots", .type = ConfigType::kInt, .default_value = "1000",
     .doc = "How many fetch sessions are kept.", .min = 0, .update = kStart},

    // Producers.
    {.name = "producer.id.expiration.ms", .type = ConfigType::kInt, .default_value = "86400000",
     .doc = "How long after its last batch an idempotent producer is remembered.", .min = 1},
    {.name = "producer.id.expiration.check.interval.ms", .type = ConfigType::kInt, .default_value = "600000",
     .doc = "How often forgotten producers are looked for.", .min = 1, .update = kStart},
    {.name = "max.producers.per.partition", .type = ConfigType::kInt, .default_value = "100000",
     .doc = "How many idempotent producers a partition remembers; beyond it the one that wrote longest ago is forgotten.", .min = 1, .update = kStart},

    // Groups.
    {.name = "offsets.topic.num.partitions", .type = ConfigType::kInt, .default_value = "50",
     .doc = "How many partitions __consumer_offsets gets when it is created.", .min = 1, .max = 10000, .update = kStart},
    {.name = "offsets.topic.replication.factor", .type = ConfigType::kShort, .default_value = "3",
     .doc = "How many replicas __consumer_offsets gets, as far as there are nodes.", .min = 1, .update = kStart},
    {.name = "offsets.topic.segment.bytes", .type = ConfigType::kInt, .default_value = "104857600",
     .doc = "The segment size of __consumer_offsets.", .min = 1, .update = kStart},
    {.name = "offsets.topic.rewrite.bytes", .type = ConfigType::kLong, .default_value = "16777216",
     .doc = "When a partition of __consumer_offsets is larger than this and than twice what of it is alive, what is alive is written again and the rest is cut off.",
     .min = 65536, .update = kStart},
    {.name = "group.initial.rebalance.delay.ms", .type = ConfigType::kInt, .default_value = "3000",
     .doc = "How long a group that was empty waits for more members before its first rebalance.", .min = 0, .update = kStart},
    {.name = "group.min.session.timeout.ms", .type = ConfigType::kInt, .default_value = "6000",
     .doc = "The shortest session timeout that a group's member may ask for.", .min = 1, .update = kStart},
    {.name = "group.max.session.timeout.ms", .type = ConfigType::kInt, .default_value = "1800000",
     .doc = "The longest session timeout that a group's member may ask for.", .min = 1, .update = kStart},
    {.name = "group.max.size", .type = ConfigType::kInt, .default_value = "4096", .doc = "How many members a group may have.", .min = 1, .max = 100000, .update = kStart},
    {.name = "offset.metadata.max.bytes", .type = ConfigType::kInt, .default_value = "4096",
     .doc = "The longest text that may go with a committed offset.", .min = 0, .update = kStart},
    {.name = "offsets.retention.minutes", .type = ConfigType::kInt, .default_value = "10080",
     .doc = "How long offsets are kept after their group became empty, or, without a group, after they were committed.", .min = 1, .update = kStart},
    {.name = "offsets.retention.check.interval.ms", .type = ConfigType::kLong, .default_value = "600000",
     .doc = "How often expired offsets are looked for.", .min = 1, .update = kStart},

    // What topics get that do not say otherwise.
    {.name = "message.max.bytes", .type = ConfigType::kInt, .default_value = "1048588", .doc = "The default of max.message.bytes.", .min = 0},
    {.name = "compression.type", .type = ConfigType::kString, .default_value = "producer", .doc = "The default of the topic option.",
     .choices = "producer|uncompressed|gzip|snappy|lz4|zstd"},
    {.name = "compression.gzip.level", .type = ConfigType::kInt, .default_value = "-1", .doc = "The default of the topic option.", .min = -1, .max = 9},
    {.name = "compression.lz4.level", .type = ConfigType::kInt, .default_value = "9", .doc = "The default of the topic option.", .min = 1, .max = 17},
    {.name = "compression.zstd.level", .type = ConfigType::kInt, .default_value = "3", .doc = "The default of the topic option.", .min = -131072, .max = 22},
    {.name = "log.cleanup.policy", .type = ConfigType::kList, .default_value = "delete", .doc = "The default of cleanup.policy.", .choices = "delete|compact"},
    {.name = "log.retention.ms", .type = ConfigType::kLong, .default_value = std::nullopt, .doc = "The default of retention.ms; before the next two.", .min = -1},
    {.name = "log.retention.minutes", .type = ConfigType::kInt, .default_value = std::nullopt, .doc = "The default of retention.ms, in minutes; before the next.", .update = kStart},
    {.name = "log.retention.hours", .type = ConfigType::kInt, .default_value = "168", .doc = "The default of retention.ms, in hours.", .update = kStart},
    {.name = "log.retention.bytes", .type = ConfigType::kLong, .default_value = "-1", .doc = "The default of retention.bytes.", .min = -1},
    {.name = "log.retention.check.interval.ms", .type = ConfigType::kLong, .default_value = "30000",
     .doc = "How often segments are looked for that retention lets go.", .min = 1, .update = kStart},
    {.name = "log.segment.bytes", .type = ConfigType::kInt, .default_value = "1073741824", .doc = "The default of segment.bytes.", .min = 14},
    {.name = "log.roll.ms", .type = ConfigType::kLong, .default_value = std::nullopt, .doc = "The default of segment.ms; before the next.", .min = 1},
    {.name = "log.roll.hours", .type = ConfigType::kInt, .default_value = "168", .doc = "The default of segment.ms, in hours.", .min = 1, .update = kStart},
    {.name = "log.message.timestamp.type", .type = ConfigType::kString, .default_value = "CreateTime", .doc = "The default of message.timestamp.type.",
     .choices = "CreateTime|LogAppendTime"},
    {.name = "log.message.timestamp.before.max.ms", .type = ConfigType::kLong, .default_value = "9223372036854775807",
     .doc = "The default of message.timestamp.before.max.ms.", .min = 0},
    {.name = "log.message.timestamp.after.max.ms", .type = ConfigType::kLong, .default_value = "3600000",
     .doc = "The default of message.timestamp.after.max.ms.", .min = 0},

    // Defaults of topic options without effect: accepted from the file and by tools, and shown.
    {.name = "log.cleaner.delete.retention.ms", .type = ConfigType::kLong, .default_value = "86400000", .doc = "The default of delete.retention.ms.", .min = 0, .effect = false},
    {.name = "log.cleaner.min.cleanable.ratio", .type = ConfigType::kDouble, .default_value = "0.5", .doc = "The default of min.cleanable.dirty.ratio.", .min = 0, .max = 1, .effect = false},
    {.name = "log.cleaner.min.compaction.lag.ms", .type = ConfigType::kLong, .default_value = "0", .doc = "The default of min.compaction.lag.ms.", .min = 0, .effect = false},
    {.name = "log.cleaner.max.compaction.lag.ms", .type = ConfigType::kLong, .default_value = "9223372036854775807", .doc = "The default of max.compaction.lag.ms.", .min = 1, .effect = false},
    {.name = "log.segment.delete.delay.ms", .type = ConfigType::kLong, .default_value = "60000", .doc = "The default of file.delete.delay.ms.", .min = 0, .effect = false},
    {.name = "log.flush.interval.messages", .type = ConfigType::kLong, .default_value = "9223372036854775807", .doc = "The default of flush.messages.", .min = 1, .effect = false},
    {.name = "log.flush.interval.ms", .type = ConfigType::kLong, .default_value = std::nullopt, .doc = "The default of flush.ms.", .min = 0, .effect = false},
    {.name = "log.flush.scheduler.interval.ms", .type = ConfigType::kLong, .default_value = "9223372036854775807", .doc = "The default of flush.ms, after log.flush.interval.ms.", .min = 0, .update = kStart, .effect = false},
    {.name = "log.index.interval.bytes", .type = ConfigType::kInt, .default_value = "4096", .doc = "The default of index.interval.bytes.", .min = 0, .effect = false},
    {.name = "log.index.size.max.bytes", .type = ConfigType::kInt, .default_value = "10485760", .doc = "The default of segment.index.bytes.", .min = 4, .effect = false},
    {.name = "log.local.retention.bytes", .type = ConfigType::kLong, .default_value = "-2", .doc = "The default of local.retention.bytes.", .min = -2, .effect = false},
    {.name = "log.local.retention.ms", .type = ConfigType::kLong, .default_value = "-2", .doc = "The default of local.retention.ms.", .min = -2, .effect = false},
    {.name = "log.preallocate", .type = ConfigType::kBoolean, .default_value = "false", .doc = "The default of preallocate.", .effect = false},
    {.name = "log.roll.jitter.ms", .type = ConfigType::kLong, .default_value = std::nullopt, .doc = "The default of segment.jitter.ms; before the next.", .min = 0, .effect = false},
    {.name = "log.roll.jitter.hours", .type = ConfigType::kInt, .default_value = "0", .doc = "The default of segment.jitter.ms, in hours.", .min = 0, .update = kStart, .effect = false},
    {.name = "min.insync.replicas", .type = ConfigType::kInt, .default_value = "1", .doc = "The default of the topic option.", .min = 1, .effect = false},
    {.name = "unclean.leader.election.enable", .type = ConfigType::kBoolean, .default_value = "false", .doc = "The default of the topic option.", .effect = false},
};

}  // namespace

std::span<const ConfigKey> broker_config_keys() { return kKeys; }

}  // namespace weir::cluster

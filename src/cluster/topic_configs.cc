// The options of a topic, by name.
#include "cluster/config_table.h"

namespace weir::cluster {
namespace {


constexpr ConfigKey kKeys[] = {
    {.name = "cleanup.policy", .type = ConfigType::kList, .default_value = "delete",
     .doc = "What happens to old data: delete drops whole segments by age and size; empty keeps everything. compact is stored, and has no effect yet.",
     .choices = "delete|compact", .broker_keys = "log.cleanup.policy"},
    {.name = "compression.gzip.level", .type = ConfigType::kInt, .default_value = "-1",
     .doc = "The level where the broker compresses with gzip: 1 to 9, or -1 for the codec's own default.",
     .min = -1, .max = 9, .broker_keys = "compression.gzip.level"},
    {.name = "compression.lz4.level", .type = ConfigType::kInt, .default_value = "9",
     .doc = "The level where the broker compresses with lz4: 1 to 17.", .min = 1, .max = 17, .broker_keys = "compression.lz4.level"},
    {.name = "compression.type", .type = ConfigType::kString, .default_value = "producer",
     .doc = "The codec that batches are stored in: producer keeps each as it came, uncompressed unpacks, a codec's name packs again what came otherwise.",
     .choices = "producer|uncompressed|gzip|snappy|lz4|zstd", .broker_keys = "compression.type"},
    {.name = "compression.zstd.level", .type = ConfigType::kInt, .default_value = "3",
     .doc = "The level where the broker compresses with zstd: -131072 to 22.", .min = -131072, .max = 22, .broker_keys = "compression.zstd.level"},
    {.name = "delete.retention.ms", .type = ConfigType::kLong, .default_value = "86400000",
     .doc = "How long a compacted topic keeps tombstones.", .min = 0, .broker_keys = "log.cleaner.delete.retention.ms", .effect = false},
    {.name = "file.delete.delay.ms", .type = ConfigType::kLong, .default_value = "60000",
     .doc = "How long a deleted segment's file stays. Segments go back to a pool at once.", .min = 0,
     .broker_keys = "log.segment.delete.delay.ms", .effect = false},
    {.name = "flush.messages", .type = ConfigType::kLong, .default_value = "9223372036854775807",
     .doc = "After how many records a log is flushed. Every acknowledged record is on stable storage anyway.", .min = 1,
     .broker_keys = "log.flush.interval.messages", .effect = false},
    {.name = "flush.ms", .type = ConfigType::kLong, .default_value = "9223372036854775807",
     .doc = "After what time a log is flushed. Every acknowledged record is on stable storage anyway.", .min = 0,
     .broker_keys = "log.flush.interval.ms|log.flush.scheduler.interval.ms", .effect = false},
    {.name = "follower.replication.throttled.replicas", .type = ConfigType::kList, .default_value = "",
     .doc = "Replicas whose replication is throttled on the follower's side.", .effect = false},
    {.name = "index.interval.bytes", .type = ConfigType::kInt, .default_value = "4096",
     .doc = "How much data lies between two entries of the offset index.", .min = 0, .broker_keys = "log.index.interval.bytes", .effect = false},
    {.name = "leader.replication.throttled.replicas", .type = ConfigType::kList, .default_value = "",
     .doc = "Replicas whose replication is throttled on the leader's side.", .effect = false},
    {.name = "local.retention.bytes", .type = ConfigType::kLong, .default_value = "-2",
     .doc = "How much of a tiered partition stays local; -2: as retention.bytes.", .min = -2, .broker_keys = "log.local.retention.bytes", .effect = false},
    {.name = "local.retention.ms", .type = ConfigType::kLong, .default_value = "-2",
     .doc = "How long a tiered partition's data stays local; -2: as retention.ms.", .min = -2, .broker_keys = "log.local.retention.ms", .effect = false},
    {.name = "max.compaction.lag.ms", .type = ConfigType::kLong, .default_value = "9223372036854775807",
     .doc = "The longest time that a record stays out of compaction's reach.", .min = 1, .broker_keys = "log.cleaner.max.compaction.lag.ms", .effect = false},
    {.name = "max.message.bytes", .type = ConfigType::kInt, .default_value = "1048588",
     .doc = "The largest record batch, as it is stored.", .min = 0, .broker_keys = "message.max.bytes"},
    {.name = "message.downconversion.enable", .type = ConfigType::kBoolean, .default_value = "true",
     .doc = "Nothing: fetches below version 4, which would need it, are not served.", .effect = false},
    {.name = "message.format.version", .type = ConfigType::kString, .default_value = "3.0-IV1",
     .doc = "Nothing: records are stored in version 2 always.", .effect = false},
    {.name = "message.timestamp.after.max.ms", .type = ConfigType::kLong, .default_value = "3600000",
     .doc = "How far ahead of the broker's clock a producer's timestamp may be.", .min = 0, .broker_keys = "log.message.timestamp.after.max.ms"},
    {.name = "message.timestamp.before.max.ms", .type = ConfigType::kLong, .default_value = "9223372036854775807",
     .doc = "How far behind the broker's clock a producer's timestamp may be.", .min = 0, .broker_keys = "log.message.timestamp.before.max.ms"},
    {.name = "message.timestamp.type", .type = ConfigType::kString, .default_value = "CreateTime",
     .doc = "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).",
     .choices = "CreateTime|LogAppendTime", .broker_keys = "log.message.timestamp.type"},
    {.name = "min.cleanable.dirty.ratio", .type = ConfigType::kDouble, .default_value = "0.5",
     .doc = "The share of a log that must be uncompacted before compaction looks at it.", .min = 0, .max = 1,
     .broker_keys = "log.cleaner.min.cleanable.ratio", .effect = false},
    {.name = "min.compaction.lag.ms", .type = ConfigType::kLong, .default_value = "0",
     .doc = "The least time that a record stays out of compaction's reach.", .min = 0, .broker_keys = "log.cleaner.min.compaction.lag.ms", .effect = false},
    {.name = "min.insync.replicas", .type = ConfigType::kInt, .default_value = "1",
     .doc = "How many replicas must have a record before acks=all is answered. One node has one.", .min = 1,
     .broker_keys = "min.insync.replicas", .effect = false},
    {.name = "preallocate", .type = ConfigType::kBoolean, .default_value = "false",
     .doc = "Whether segment files are preallocated. They always are.", .broker_keys = "log.preallocate", .effect = false},
    {.name = "remote.log.copy.disable", .type = ConfigType::kBoolean, .default_value = "false",
     .doc = "Stops copying to remote storage.", .effect = false},
    {.name = "remote.log.delete.on.disable", .type = ConfigType::kBoolean, .default_value = "false",
     .doc = "Whether remote data goes when remote storage is switched off.", .effect = false},
    {.name = "remote.storage.enable", .type = ConfigType::kBoolean, .default_value = "false",
     .doc = "Whether old segments go to remote storage.", .effect = false},
    {.name = "retention.bytes", .type = ConfigType::kLong, .default_value = "-1",
     .doc = "How much data a partition keeps; -1: no bound.", .min = -1, .broker_keys = "log.retention.bytes"},
    {.name = "retention.ms", .type = ConfigType::kLong, .default_value = "604800000",
     .doc = "How long a partition keeps data, by its records' timestamps; -1: no bound.", .min = -1,
     .broker_keys = "log.retention.ms|log.retention.minutes|log.retention.hours"},
    {.name = "segment.bytes", .type = ConfigType::kInt, .default_value = "1073741824",
     .doc = "The size at which a segment is closed and the next one begins.", .min = 14, .broker_keys = "log.segment.bytes"},
    {.name = "segment.index.bytes", .type = ConfigType::kInt, .default_value = "10485760",
     .doc = "The size of a segment's index.", .min = 4, .broker_keys = "log.index.size.max.bytes", .effect = false},
    {.name = "segment.jitter.ms", .type = ConfigType::kLong, .default_value = "0",
     .doc = "Spreads the times at which segments are closed.", .min = 0, .broker_keys = "log.roll.jitter.ms|log.roll.jitter.hours", .effect = false},
    {.name = "segment.ms", .type = ConfigType::kLong, .default_value = "604800000",
     .doc = "The age at which a segment is closed, so that retention can reach it.", .min = 1, .broker_keys = "log.roll.ms|log.roll.hours"},
    {.name = "unclean.leader.election.enable", .type = ConfigType::kBoolean, .default_value = "false",
     .doc = "Whether a replica that lacks acknowledged records may lead. It never may.", .broker_keys = "unclean.leader.election.enable", .effect = false},
};

static_assert([] {
    for (size_t i = 1; i < std::size(kKeys); ++i) {
        if (!(kKeys[i - 1].name < kKeys[i].name)) return false;
    }
    return true;
}(), "find_topic_config() searches by halves");

}  // namespace

std::span<const ConfigKey> topic_config_keys() { return kKeys; }

}  // namespace weir::cluster

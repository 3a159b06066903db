#include "broker/budget.h"

#include <algorithm>

#include "base/check.h"
#include "base/units.h"

namespace weir::broker {
namespace {

// Of kParts parts of the memory; requests get what is left.
constexpr uint64_t kParts = 32;
constexpr uint64_t kUnflushed = 8;
constexpr uint64_t kReceived = 3;
constexpr uint64_t kSending = 1;
constexpr uint64_t kUnpacking = 1;
constexpr uint64_t kFetchAnswers = 2;
constexpr uint64_t kAnswers = 1;
constexpr uint64_t kProducers = 1;
constexpr uint64_t kRequests =
    kParts - kUnflushed - kReceived - kSending - kUnpacking - kFetchAnswers - kAnswers - kProducers;
// A request's bytes are charged to requests until they are appended, then to unflushed: what waits
// for room there must not be all that requests may hold.
static_assert(kRequests > kUnflushed);
// Caches give way, but not while what they hold is read: the rest must do for requests.
constexpr uint64_t kCacheMax = kRequests / 2;
static_assert(2 * kCacheMax <= kRequests);
// What nodes send each other passes through; only what is stored stays.
static_assert(kReceived + kSending < kUnflushed);

// More than this in memory serves no purpose: the disk is the limit.
constexpr uint64_t kUnflushedPerShardMax = 256_MiB;

}  // namespace

Budget divide(uint64_t memory, uint32_t shards) {
    CHECK(shards >= 1);
    const uint64_t part = memory / kParts;
    Budget budget;
    budget.unflushed_per_shard = std::min(kUnflushed * part / shards, kUnflushedPerShardMax);
    budget.unflushed = budget.unflushed_per_shard * shards;
    budget.received = kReceived * part;
    budget.sending = kSending * part;
    budget.unpacking = kUnpacking * part;
    budget.fetch_answers = kFetchAnswers * part;
    budget.answers = kAnswers * part;
    budget.producers = kProducers * part;
    budget.requests = memory - budget.total();
    budget.fetch_answers_per_shard = budget.fetch_answers / shards;
    budget.producers_per_shard = budget.producers / shards;
    budget.cache_per_shard_max = kCacheMax * part / shards;
    CHECK(budget.total() == memory);
    CHECK(budget.requests > budget.unflushed);
    CHECK(budget.cache_per_shard_max * shards <= budget.requests / 2);
    return budget;
}

}  // namespace weir::broker

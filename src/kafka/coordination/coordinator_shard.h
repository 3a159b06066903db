// CoordinatorShard: the coordinators of one shard over one topic: one for each partition of the
// topic that a replica on the shard leads. They come and go with the leadership; followers have
// none. Used on that shard alone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "cluster/metadata_shard.h"
#include "kafka/server/partitions/lead_listeners.h"
#include "kafka/server/partitions/partition_table.h"
#include "runtime/scope.h"

namespace weir::kafka {

// `Driver` is a CoordinatorLog, or has its start(), close(), index() and term().
template <class Driver>
class CoordinatorShard {
  public:
    // Makes a driver for a partition that stays while `use` lives.
    using Make = std::function<std::shared_ptr<Driver>(Partition&, runtime::Gate::Holder use)>;
    // `partitions` and `metadata` outlive it.
    CoordinatorShard(PartitionTable& partitions, cluster::MetadataShard& metadata,
                     std::string topic, bool load_early, Make make)
        : partitions_(partitions),
          metadata_(metadata),
          topic_(std::move(topic)),
          load_early_(load_early),
          make_(std::move(make)) {}

    void start() {
        started_ = true;
        leads_ =
            partitions_.lead_listeners().add([this](Partition& partition) { on_leads(partition); });
        open_drivers();
    }
    // Each change of the metadata.
    void follow(const cluster::MetadataChange& change) {
        for (const cluster::TopicImage& topic : change.topics_removed) {
            if (topic.name != topic_) continue;
            while (!drivers_.empty()) close_one(drivers_.begin()->first);
        }
        open_drivers();
    }
    // Answers the waiting requests; later requests find no coordinator here.
    runtime::Task<void> close();
    // After close(), or instead of it: returns when nothing of it runs any more.
    runtime::Task<void> stop() {
        if (!closed_) co_await close();
        co_await scope_.close();
    }

    // The coordinator of that partition; nullptr: it is not here.
    std::shared_ptr<Driver> find(int32_t partition) {
        const auto found = drivers_.find(partition);
        return found == drivers_.end() ? nullptr : found->second;
    }
    void for_each(const std::function<void(Driver&)>& visit) const {
        for (const auto& [index, driver] : drivers_) visit(*driver);
    }

  private:
    // A ready leader's log holds everything that was committed, so a coordinator may load from it.
    bool can_load(const Partition& partition) const {
        return load_early_ ? partition.is_leader() : partition.leads();
    }
    void on_leads(Partition& partition);
    // Not at once: the notification of a new leader comes in the middle of other work.
    runtime::Task<void> open_soon() {
        opening_ = false;
        open_drivers();
        co_return;
    }
    void open_drivers();
    void close_one(int32_t index);
    runtime::Task<void> close_and_open(std::shared_ptr<Driver> driver) {
        co_await driver->close();
        closing_.erase(driver->index());
        // It may lead again by now.
        open_drivers();
    }

    PartitionTable& partitions_;
    cluster::MetadataShard& metadata_;
    const std::string topic_;
    const bool load_early_;  // ServerBugs::load_coordinator_early
    const Make make_;
    bool started_ = false;
    bool closed_ = false;
    bool opening_ = false;
    std::set<int32_t> closing_;  // those that still have work under way
    std::map<int32_t, std::shared_ptr<Driver>> drivers_;
    LeadListeners::Registration leads_;
    runtime::Scope scope_;
};

template <class Driver>
void CoordinatorShard<Driver>::on_leads(Partition& partition) {
    if (!started_ || closed_ || partition.topic() != topic_) return;
    const auto open = drivers_.find(partition.index());
    // The term may be a later one: what others wrote in between is not known here.
    if (open != drivers_.end() &&
        (!can_load(partition) || open->second->term() != partition.leader_epoch()))
        close_one(partition.index());
    if (can_load(partition) && !std::exchange(opening_, true))
        scope_.spawn(open_soon(), runtime::WorkClass::kProduce);
}

template <class Driver>
void CoordinatorShard<Driver>::open_drivers() {
    const cluster::TopicImage* topic = metadata_.image().find(topic_);
    if (topic == nullptr || closed_ || !started_) return;
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
        const auto index = static_cast<int32_t>(i);
        Partition* partition = partitions_.find(topic->partitions[i].log);
        if (partition == nullptr || !can_load(*partition) || drivers_.contains(index) ||
            closing_.contains(index))
            continue;
        auto use = partition->enter();
        if (!use) continue;
        std::shared_ptr<Driver> driver = make_(*partition, std::move(*use));
        driver->start();
        drivers_.emplace(index, std::move(driver));
    }
}

template <class Driver>
void CoordinatorShard<Driver>::close_one(int32_t index) {
    const auto found = drivers_.find(index);
    std::shared_ptr<Driver> driver = std::move(found->second);
    drivers_.erase(found);
    closing_.insert(index);
    scope_.spawn(close_and_open(std::move(driver)), runtime::WorkClass::kProduce);
}

template <class Driver>
runtime::Task<void> CoordinatorShard<Driver>::close() {
    closed_ = true;
    leads_.remove();
    auto drivers = std::exchange(drivers_, {});
    for (auto& [index, driver] : drivers) co_await driver->close();
}

}  // namespace weir::kafka

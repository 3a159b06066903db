#include "kafka/server/partitions/lead_listeners.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "kafka/server/partitions/partition.h"

namespace weir::kafka {
namespace {

// The listeners hand the partition on and do not look at it, so these tests need no real one.
alignas(Partition) unsigned char storage_of_none[sizeof(Partition)];
Partition& none() { return *reinterpret_cast<Partition*>(storage_of_none); }

TEST(LeadListeners, all_listeners_are_called_in_the_order_in_which_they_were_added) {
    LeadListeners listeners;
    std::string calls;
    const auto a = listeners.add([&](Partition&) { calls += 'a'; });
    const auto b = listeners.add([&](Partition&) { calls += 'b'; });
    const auto c = listeners.add([&](Partition&) { calls += 'c'; });
    listeners.notify(none());
    EXPECT_EQ(calls, "abc");
}

TEST(LeadListeners, a_registration_that_ended_is_not_called) {
    LeadListeners listeners;
    std::string calls;
    auto a = listeners.add([&](Partition&) { calls += 'a'; });
    {
        const auto b = listeners.add([&](Partition&) { calls += 'b'; });
        listeners.notify(none());
    }
    listeners.notify(none());
    auto moved = std::move(a);
    listeners.notify(none());
    moved.remove();
    listeners.notify(none());
    EXPECT_EQ(calls, "abaa");
    EXPECT_EQ(listeners.size(), 0u);
}

TEST(LeadListeners, a_listener_may_remove_itself_and_others_while_it_is_called) {
    LeadListeners listeners;
    std::string calls;
    LeadListeners::Registration a, b, c;
    a = listeners.add([&](Partition&) {
        a.remove();
        b.remove();
        calls += 'a';
    });
    b = listeners.add([&](Partition&) { calls += 'b'; });
    c = listeners.add([&](Partition&) { calls += 'c'; });
    listeners.notify(none());
    EXPECT_EQ(calls, "ac");
    listeners.notify(none());
    EXPECT_EQ(calls, "acc");
}

TEST(LeadListeners, a_listener_that_is_added_while_others_are_called_hears_of_the_next_change) {
    LeadListeners listeners;
    std::string calls;
    std::optional<LeadListeners::Registration> later;
    const auto a = listeners.add([&](Partition&) {
        calls += 'a';
        if (!later) later = listeners.add([&](Partition&) { calls += 'l'; });
    });
    listeners.notify(none());
    EXPECT_EQ(calls, "a");
    listeners.notify(none());
    EXPECT_EQ(calls, "aal");
}

}  // namespace
}  // namespace weir::kafka

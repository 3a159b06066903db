#include "runtime/host/device_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace weir::runtime {
namespace {

using Ops = std::vector<std::unique_ptr<Op>>;

Op& make(Ops& ops, WorkClass work_class, uint64_t size = 4096, OpKind kind = OpKind::kWrite) {
    ops.push_back(std::make_unique<Op>(OpArguments{.kind = kind, .size = size}));
    ops.back()->work_class = work_class;
    return *ops.back();
}

TEST(DeviceQueue, background_has_a_few_places_of_its_own) {
    DeviceQueue queue;
    Ops ops;
    uint32_t entered = 0;
    for (int i = 0; i < 100; ++i) entered += queue.enter(make(ops, WorkClass::kBackground)) ? 1 : 0;
    EXPECT_EQ(entered, DeviceQueue::kBackgroundDepth);
    EXPECT_TRUE(queue.enter(make(ops, WorkClass::kProduce)))
        << "a produce does not wait behind them";
    EXPECT_EQ(queue.next(), nullptr);
    queue.leave(*ops[0]);
    EXPECT_EQ(queue.next(), ops[DeviceQueue::kBackgroundDepth].get()) << "in their order";
    EXPECT_EQ(queue.next(), nullptr);
}

TEST(DeviceQueue, background_is_bounded_by_bytes_too) {
    DeviceQueue queue;
    Ops ops;
    constexpr uint64_t kLarge = 64 << 20;
    EXPECT_TRUE(queue.enter(make(ops, WorkClass::kBackground, kLarge)));
    EXPECT_EQ(DeviceQueue::transfer_size(*ops[0]), DeviceQueue::kBackgroundTransferMax);
    EXPECT_TRUE(queue.enter(make(ops, WorkClass::kBackground, kLarge)));
    EXPECT_FALSE(queue.enter(make(ops, WorkClass::kBackground, kLarge)));
    EXPECT_FALSE(queue.enter(make(ops, WorkClass::kBackground, 0, OpKind::kFdatasync)))
        << "no overtaking in a class";
    queue.leave(*ops[0]);
    EXPECT_EQ(queue.next(), ops[2].get());
    EXPECT_EQ(queue.next(), ops[3].get());
}

TEST(DeviceQueue, foreground_is_bounded_by_the_depth_and_produce_goes_first) {
    DeviceQueue queue;
    Ops ops;
    for (uint32_t i = 0; i < DeviceQueue::kDepth; ++i)
        EXPECT_TRUE(queue.enter(make(ops, WorkClass::kFetch)));
    EXPECT_EQ(queue.in_flight(), DeviceQueue::kDepth);
    Op& background = make(ops, WorkClass::kBackground);
    Op& fetch = make(ops, WorkClass::kFetch);
    Op& produce = make(ops, WorkClass::kProduce);
    for (Op* op : {&background, &fetch, &produce}) EXPECT_FALSE(queue.enter(*op));
    for (Op* expected : {&produce, &fetch, &background}) {
        queue.leave(*ops[0]);
        EXPECT_EQ(queue.next(), expected);
        EXPECT_EQ(queue.next(), nullptr);
    }
}

TEST(DeviceQueue, what_waits_can_be_taken_out) {
    DeviceQueue queue;
    Ops ops;
    for (uint32_t i = 0; i < DeviceQueue::kBackgroundDepth + 2; ++i)
        queue.enter(make(ops, WorkClass::kBackground));
    const Op& first_waiting = *ops[DeviceQueue::kBackgroundDepth];
    EXPECT_FALSE(queue.remove(*ops[0])) << "it is at the device";
    EXPECT_TRUE(queue.remove(first_waiting));
    EXPECT_FALSE(queue.remove(first_waiting));
    queue.leave(*ops[0]);
    EXPECT_EQ(queue.next(), ops[DeviceQueue::kBackgroundDepth + 1].get());
}

}  // namespace
}  // namespace weir::runtime

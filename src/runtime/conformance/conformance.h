// What the conformance suite (conformance_*_test.cc) asks of a driver under test. Each driver has
// one file here that gives a DriverParam for it and instantiates the suite:
// INSTANTIATE_TEST_SUITE_P(Name, Conformance, testing::Values(DriverParam{...}), param_name).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "runtime/shard.h"
#include "runtime/task.h"

namespace weir::runtime {

class DriverUnderTest {
  public:
    virtual ~DriverUnderTest() = default;

    using Main = std::function<Task<void>(Shard&)>;
    // Starts a node of `shards` shards, runs main(shard 0) to its end, and stops the node in order.
    // May be called again: the disk stays.
    virtual void run(uint32_t shards, Main main) = 0;

    // A directory, empty when the test begins, on a disk that takes O_DIRECT.
    virtual std::string scratch() = 0;
    // Where a test may listen: an address with port 0.
    virtual std::string any_address() { return "127.0.0.1:0"; }
    // The same over IPv6; nothing where there is none.
    virtual std::optional<std::string> any_address_v6() { return std::nullopt; }
    // An empty directory on a disk that is full after about this many bytes; nothing where that
    // can't be had.
    virtual std::optional<std::string> small_disk(uint64_t bytes) = 0;
    // Whether time passes by itself, and the process uses a processor: the tests of idleness and of
    // wall-clock order hold only then.
    virtual bool real_time() const = 0;
};

struct DriverParam {
    std::string name;
    // Null, with the reason filled in, where this machine does not let the driver run: the test is
    // skipped in words.
    std::function<std::unique_ptr<DriverUnderTest>(std::string* reason)> make;
};

inline std::string param_name(const testing::TestParamInfo<DriverParam>& info) {
    return info.param.name;
}

class Conformance : public testing::TestWithParam<DriverParam> {
  protected:
    void SetUp() override {
        std::string reason;
        driver_ = GetParam().make(&reason);
        if (driver_ == nullptr) GTEST_SKIP() << GetParam().name << ": " << reason;
    }
    void run(DriverUnderTest::Main main) { driver_->run(1, std::move(main)); }
    void run_on(uint32_t shards, DriverUnderTest::Main main) {
        driver_->run(shards, std::move(main));
    }
    std::string path(const std::string& name) { return driver_->scratch() + "/" + name; }

    std::unique_ptr<DriverUnderTest> driver_;
};

}  // namespace weir::runtime

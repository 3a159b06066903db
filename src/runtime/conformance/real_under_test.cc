// The two drivers of a real kernel under the conformance suite.
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/conformance/conformance.h"
#include "runtime/real/real_node.h"

namespace weir::runtime {
namespace {

class RealUnderTest final : public DriverUnderTest {
  public:
    explicit RealUnderTest(DriverChoice choice) : choice_(choice) {
        // Beside the test program: /tmp may be a tmpfs, which has no O_DIRECT on older kernels.
        std::string name = (std::filesystem::current_path() / "conformance-XXXXXX").string();
        CHECK(mkdtemp(name.data()) != nullptr);
        scratch_ = name;
    }
    ~RealUnderTest() override {
        if (!mounted_.empty()) umount2(mounted_.c_str(), MNT_DETACH);
        std::error_code ignored;
        std::filesystem::remove_all(scratch_, ignored);
        if (!mounted_.empty()) std::filesystem::remove_all(mounted_, ignored);
    }

    void run(uint32_t shards, Main main) override {
        const Result<int> ran =
            run_real_node(options(shards), [&](RealNode& node) { return run_main(&node, &main); });
        ASSERT_TRUE(ran.has_value()) << ran.error().to_string();
        EXPECT_EQ(*ran, 0);
    }
    std::string scratch() override { return scratch_; }
    std::optional<std::string> any_address_v6() override {
        return std::filesystem::exists("/proc/net/if_inet6") ? std::optional<std::string>("[::1]:0")
                                                             : std::nullopt;
    }
    std::optional<std::string> small_disk(uint64_t bytes) override {
        CHECK(mounted_.empty());
        const std::string at = scratch_ + "-small";
        CHECK(mkdir(at.c_str(), 0755) == 0);
        mounted_ = at;
        const std::string size = "size=" + std::to_string(bytes);
        if (mount("weir-test", at.c_str(), "tmpfs", 0, size.c_str()) == 0) return at;
        return std::nullopt;
    }
    bool real_time() const override { return true; }

    RealNodeOptions options(uint32_t shards) const {
        return {.shards = shards,
                .driver = choice_,
                .log_level = LogLevel::kError,
                .log_sink = {},
                .handle_signals = false};
    }

  private:
    static Task<int> run_main(RealNode* node, Main* main) {
        co_await (*main)(node->shard());
        co_return 0;
    }

    DriverChoice choice_;
    std::string scratch_;
    std::string mounted_;
};

Task<int> nothing(RealNode&) { co_return 0; }

DriverParam param(std::string name, DriverChoice choice) {
    return {.name = std::move(name),
            .make = [choice](std::string* reason) -> std::unique_ptr<DriverUnderTest> {
                auto driver = std::make_unique<RealUnderTest>(choice);
                const Result<int> ran = run_real_node(driver->options(1), &nothing);
                if (ran) return driver;
                *reason = ran.error().to_string();
                return nullptr;
            }};
}

INSTANTIATE_TEST_SUITE_P(Real, Conformance,
                         testing::Values(param("uring", DriverChoice::kUring),
                                         param("aio", DriverChoice::kAio)),
                         param_name);

}  // namespace
}  // namespace weir::runtime

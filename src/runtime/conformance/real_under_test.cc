// The two drivers of a real kernel under the conformance suite.
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

#include "runtime/conformance/conformance.h"
#include "runtime/real/real_node.h"
#include "runtime/real/refuse_calls.h"

namespace weir::runtime {
namespace {

// What the kernel refuses, from a container with Docker's default profile (no io_uring) to a
// sandbox that knows neither native AIO nor the precise epoll wait.
enum class Refuses { kNothing, kUring, kUringAndAio };

class RealUnderTest final : public DriverUnderTest {
  public:
    explicit RealUnderTest(DriverChoice choice, Refuses refuses = Refuses::kNothing)
        : choice_(choice), refuses_(refuses) {
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
            run_node(shards, [&](RealNode& node) { return run_main(&node, &main); });
        ASSERT_TRUE(ran.has_value()) << ran.error().to_string();
        EXPECT_EQ(*ran, 0);
    }
    Result<int> run_node(uint32_t shards, const NodeMain& main) {
        if (refuses_ == Refuses::kNothing) return run_real_node(options(shards), main);
        // A filter can't be taken off a thread again.
        Result<int> ran = fail(ErrorCode::kUnsupported, "may not filter system calls here");
        std::thread([&] {
            const bool refused = refuses_ == Refuses::kUring
                                     ? refuse_calls({{SYS_io_uring_setup, EPERM}})
                                     : refuse_calls({{SYS_io_uring_setup, ENOSYS},
                                                     {SYS_io_setup, ENOSYS},
                                                     {SYS_epoll_pwait2, ENOSYS}});
            if (refused) ran = run_real_node(options(shards), main);
        }).join();
        return ran;
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

    const DriverChoice choice_;
    const Refuses refuses_;
    std::string scratch_;
    std::string mounted_;
};

Task<int> expect_driver(RealNode& node, std::string_view name) {
    co_return node.driver_name() == name ? 0 : 1;
}

DriverParam param(std::string name, std::string_view driver, DriverChoice choice, Refuses refuses) {
    return {.name = std::move(name),
            .make = [=](std::string* reason) -> std::unique_ptr<DriverUnderTest> {
                auto made = std::make_unique<RealUnderTest>(choice, refuses);
                const Result<int> ran =
                    made->run_node(1, [&](RealNode& node) { return expect_driver(node, driver); });
                if (ran) CHECK(*ran == 0);
                if (ran) return made;
                *reason = ran.error().to_string();
                return nullptr;
            }};
}

INSTANTIATE_TEST_SUITE_P(
    Real, Conformance,
    testing::Values(param("uring", "uring", DriverChoice::kUring, Refuses::kNothing),
                    param("aio", "aio", DriverChoice::kAio, Refuses::kNothing),
                    param("auto_in_container", "aio", DriverChoice::kAuto, Refuses::kUring),
                    param("auto_in_sandbox", "aio", DriverChoice::kAuto, Refuses::kUringAndAio)),
    param_name);

}  // namespace
}  // namespace weir::runtime

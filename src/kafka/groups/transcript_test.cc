// Each file of transcripts/ is a test of its name: the conversation in it must go as it is written
// (testing/transcript.h explains the words). With WEIR_TRANSCRIPTS_UPDATE=1 in the environment, the files
// take over what the code does now: read the difference.
#include "kafka/groups/testing/transcript.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace weir::kafka {
namespace {

using Path = std::filesystem::path;

std::vector<Path> transcripts() {
    std::vector<Path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(WEIR_TRANSCRIPTS))
        paths.push_back(entry.path());
    std::ranges::sort(paths);
    return paths;
}

using File = std::unique_ptr<std::FILE, decltype(&std::fclose)>;

std::string read(const Path& path) {
    const File file(std::fopen(path.c_str(), "rb"), &std::fclose);
    std::string text(std::filesystem::file_size(path), '\0');
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file.get()), text.size());
    return text;
}

void write(const Path& path, const std::string& text) {
    const File file(std::fopen(path.c_str(), "wb"), &std::fclose);
    EXPECT_EQ(std::fwrite(text.data(), 1, text.size(), file.get()), text.size());
}

class transcript : public testing::TestWithParam<Path> {};

TEST_P(transcript, goes) {
    const std::string written = read(GetParam());
    const std::string said = run_transcript(written);
    EXPECT_EQ(written, said);
    if (std::getenv("WEIR_TRANSCRIPTS_UPDATE") != nullptr) write(GetParam(), said);
}

INSTANTIATE_TEST_SUITE_P(groups, transcript, testing::ValuesIn(transcripts()),
                         [](const auto& test) { return test.param.stem().string(); });

}  // namespace
}  // namespace weir::kafka

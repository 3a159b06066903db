// Each file of transcripts/ is a test of its name: the conversation in it must go as it is written
// (transcript.h explains the words). With WEIR_TRANSCRIPTS_UPDATE=1 in the environment, the files
// take over what the code does now: read the difference.
#include "kafka/groups/transcript.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
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

class transcript : public testing::TestWithParam<Path> {};

TEST_P(transcript, goes) {
    std::ifstream file(GetParam());
    std::stringstream written;
    written << file.rdbuf();
    const std::string said = run_transcript(written.str());
    EXPECT_EQ(written.str(), said);
    if (std::getenv("WEIR_TRANSCRIPTS_UPDATE") != nullptr) std::ofstream(GetParam()) << said;
}

INSTANTIATE_TEST_SUITE_P(groups, transcript, testing::ValuesIn(transcripts()),
                         [](const auto& test) { return test.param.stem().string(); });

}  // namespace
}  // namespace weir::kafka

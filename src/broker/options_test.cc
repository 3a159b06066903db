#include "broker/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/units.h"

namespace weir::broker {
namespace {

TEST(Options, a_file_may_write_names_dotted_quoted_or_as_tables) {
    const auto options = parse_options_file(
        "kafka = \"0.0.0.0:9092\"\n"
        "log.retention.ms = 5000\n"
        "\"max.connections\" = 7\n"
        "[auto.create]\ntopics.enable = false\n");
    ASSERT_TRUE(options) << options.error().message;
    EXPECT_EQ(options->at("kafka"), "0.0.0.0:9092");
    EXPECT_EQ(options->at("log.retention.ms"), "5000");
    EXPECT_EQ(options->at("max.connections"), "7");
    EXPECT_EQ(options->at("auto.create.topics.enable"), "false");
}

TEST(Options, a_broken_file_is_refused_with_its_line) {
    const auto options = parse_options_file("kafka = \"a:1\"\nadmin = = 3\n");
    ASSERT_FALSE(options);
    EXPECT_NE(options.error().message.find("line 2"), std::string::npos) << options.error().message;
}

TEST(Options, names_that_begin_other_names_need_quotes_and_the_error_says_so) {
    const auto plain = parse_options_file("max.connections = 30\nmax.connections.per.ip = 3\n");
    ASSERT_FALSE(plain);
    EXPECT_NE(plain.error().message.find("line 2"), std::string::npos) << plain.error().message;
    EXPECT_NE(plain.error().message.find("quotes"), std::string::npos) << plain.error().message;
    const auto quoted =
        parse_options_file("\"max.connections\" = 30\n\"max.connections.per.ip\" = 3\n");
    ASSERT_TRUE(quoted);
    EXPECT_EQ(quoted->at("max.connections.per.ip"), "3");
}

TEST(Options, flags_win_over_the_file) {
    const auto options = make_options({{"shards", "3"}, {"data", "/a"}}, {{"shards", "2"}}, 1_GiB);
    ASSERT_TRUE(options) << options.error().message;
    EXPECT_EQ(options->shards, 2u);
    EXPECT_EQ(options->data, "/a");
    EXPECT_EQ(options->memory, 256_MiB);
    EXPECT_EQ(options->given.at("shards"), "2");
}

TEST(Options, what_cannot_be_is_refused_by_name) {
    const auto refused = [](cluster::ConfigMap flags) {
        const auto options = make_options({}, std::move(flags), 1_GiB);
        return options ? std::string("accepted") : options.error().message;
    };
    EXPECT_NE(refused({{"no.such.option", "1"}}).find("no.such.option"), std::string::npos);
    EXPECT_NE(refused({{"shards", "many"}}).find("shards"), std::string::npos);
    EXPECT_NE(refused({{"memory", "1KiB"}}).find("memory"), std::string::npos);
    EXPECT_NE(refused({{"kafka", "nowhere"}}).find("HOST:PORT"), std::string::npos);
    EXPECT_NE(refused({{"kafka", "0.0.0.0:9092"}}).find("--advertised"), std::string::npos);
    EXPECT_NE(refused({{"driver", "magic"}}).find("driver"), std::string::npos);
}

// case-07: it is what clients are told, so what no client could use is refused with one line.
TEST(Options, what_is_advertised_is_an_address_that_clients_can_use) {
    const auto advertised = [](std::string text) {
        const auto options = make_options({}, {{"advertised", std::move(text)}}, 1_GiB);
        return options ? *options->advertised : "refused: " + options.error().message;
    };
    EXPECT_EQ(advertised("broker-0:9092"), "broker-0:9092");
    EXPECT_EQ(advertised("PLAINTEXT://broker-0:9092"), "broker-0:9092");
    EXPECT_EQ(advertised("plaintext://broker-0:9092"), "broker-0:9092");
    EXPECT_EQ(advertised("my_container.internal:0"), "my_container.internal:0");
    EXPECT_EQ(advertised("10.1.2.3:9092"), "10.1.2.3:9092");
    EXPECT_EQ(advertised("[2001:db8::1]:9092"), "[2001:db8::1]:9092");
    EXPECT_EQ(advertised("PLAINTEXT://[::1]:9092"), "[::1]:9092");
    const std::string long_label(64, 'x');
    const std::string long_name = [] {
        std::string name = "x";
        while (name.size() < 254) name += ".x";
        return name;
    }();
    for (const std::string& bad : {std::string("SSL://broker-0:9092"),
                                   std::string("http://broker-0:9092"),
                                   std::string("PLAINTEXT://"),
                                   std::string("broker-0"),
                                   std::string("broker-0:"),
                                   std::string("broker-0:65536"),
                                   std::string("broker-0:-1"),
                                   std::string("broker-0:9092x"),
                                   std::string(":9092"),
                                   std::string("0.0.0.0:9092"),
                                   std::string("[::]:9092"),
                                   std::string("::1:9092"),
                                   std::string("[::g]:9092"),
                                   std::string("a b:9092"),
                                   std::string("a/b:9092"),
                                   std::string("-a:9092"),
                                   std::string("a..b:9092"),
                                   std::string("1.2.3:9092"),
                                   std::string("1.2.3.256:9092"),
                                   std::string("a:1,b:2"),
                                   std::string("PLAINTEXT://a:1,PLAINTEXT://b:2"),
                                   std::string("h\xc3\xa9:9092"),
                                   std::string(300, 'x') + ":9092",
                                   long_label + ":9092",
                                   long_name + ":9092"}) {
        EXPECT_TRUE(advertised(bad).starts_with("refused: --advertised: ")) << bad;
        EXPECT_LT(advertised(bad).size(), 600u) << "one line";
    }
    const auto from_file = make_options({{"advertised", "SSL://b:1"}}, {}, 1_GiB);
    EXPECT_FALSE(from_file);
}

TEST(Options, a_file_may_have_kafkas_names) {
    const auto options = make_options({{"broker.id", "7"},
                                       {"log.dirs", "/kafka"},
                                       {"listeners", "PLAINTEXT://:9092"},
                                       {"advertised.listeners", "PLAINTEXT://h:9092"},
                                       {"num.network.threads", "3"},
                                       {"transaction.state.log.min.isr", "1"}},
                                      {}, 1_GiB);
    ASSERT_TRUE(options) << options.error().message;
    EXPECT_EQ(options->node_id, 7);
    EXPECT_EQ(options->data, "/kafka");
    EXPECT_EQ(options->kafka, "0.0.0.0:9092");
    EXPECT_EQ(options->advertised, "h:9092");
    const auto refused = [](cluster::ConfigMap file) {
        const auto options = make_options(std::move(file), {}, 1_GiB);
        return options ? std::string("accepted") : options.error().message;
    };
    EXPECT_NE(refused({{"listeners", "SASL_SSL://:9092"}}).find("PLAINTEXT"), std::string::npos);
    EXPECT_NE(refused({{"log.dirs", "/a,/b"}}).find("one data directory"), std::string::npos);
    // What would promise something that is not there.
    EXPECT_NE(refused({{"remote.log.storage.system.enable", "true"}}).find("not built yet"),
              std::string::npos);
    EXPECT_NE(refused({{"security.inter.broker.protocol", "SSL"}}).find("not built yet"),
              std::string::npos);
    EXPECT_NE(refused({{"authorizer.class.name", "a.b.C"}}).find("Java"), std::string::npos);
    EXPECT_NE(refused({{"max.connections", "0"}}).find("at least 1"), std::string::npos);
}

// Repeat with WEIR_UPDATE_DOCS=1 to write the page anew.
TEST(Options, the_reference_page_is_what_the_table_says) {
    const std::string path = WEIR_SOURCE_DIR "/docs/reference/configuration.md";
    if (std::getenv("WEIR_UPDATE_DOCS") != nullptr) std::ofstream(path) << options_as_markdown();
    std::stringstream page;
    page << std::ifstream(path).rdbuf();
    EXPECT_EQ(page.str(), options_as_markdown());
}

TEST(Options, what_makes_a_cluster_is_checked) {
    const auto problem = [](cluster::ConfigMap flags) {
        flags["insecure"] = "true";
        const auto options = make_options({}, std::move(flags), 0);
        return options ? "" : options.error().message;
    };
    EXPECT_EQ(problem({{"rpc", "h1:9700"}, {"seeds", "h2:9700,h1:9700"}, {"node.id", "3"}}), "");
    EXPECT_EQ(problem({{"seeds", "h1:9700"}}),
              "--seeds needs --rpc HOST:PORT: the others must reach this node too");
    EXPECT_EQ(problem({{"rpc", "0.0.0.0:9700"}}),
              "--rpc: other nodes cannot connect to 0.0.0.0:9700");
    EXPECT_EQ(problem({{"rpc", "h1"}}), "--rpc: 'h1' is not HOST:PORT");
    EXPECT_EQ(problem({{"rpc", "h1:9700"}, {"seeds", "h1:0"}}),
              "--seeds: other nodes cannot connect to h1:0");
    EXPECT_EQ(problem({{"rpc", "h1:9700"}, {"seeds", "h1:9700,h2:1,h1:9700"}}),
              "--seeds: h1:9700 is there twice");
    const auto options = make_options(
        {}, {{"rpc", "h1:9700"}, {"seeds", "h2:9700,h1:9700"}, {"insecure", "true"}}, 0);
    ASSERT_TRUE(options);
    EXPECT_EQ(options->seeds, (std::vector<std::string>{"h1:9700", "h2:9700"}));
    EXPECT_FALSE(options->node_id);
}

TEST(Options, a_cluster_beyond_loopback_needs_a_secret_or_is_called_insecure) {
    const auto problem = [](std::string_view rpc, std::string_view seeds,
                            cluster::ConfigMap flags = {}) {
        flags["rpc"] = rpc;
        if (!seeds.empty()) flags["seeds"] = seeds;
        const auto options = make_options({}, std::move(flags), 0);
        return options ? "" : options.error().message;
    };
    for (const std::string_view near :
         {"127.0.0.1:9700", "127.9.9.9:1", "localhost:9700", "[::1]:9700"}) {
        EXPECT_EQ(problem(near, ""), "") << near;
        EXPECT_EQ(problem(near, near), "") << near;
    }
    for (const std::string_view far : {"10.0.0.1:9700", "h1:9700", "127.example.com:9700",
                                       "[fe80::1]:9700", "localhost.example.com:9700"}) {
        EXPECT_NE(problem(far, "").find("--cluster-secret FILE"), std::string::npos) << far;
        EXPECT_NE(problem("127.0.0.1:9700", std::string("127.0.0.1:9700,") + std::string(far))
                      .find("--cluster-secret FILE"),
                  std::string::npos)
            << far;
        EXPECT_EQ(problem(far, far, {{"insecure", "true"}}), "");
        EXPECT_EQ(problem(far, far, {{"cluster.secret.file", "/secret"}}), "");
    }
    EXPECT_NE(problem("127.0.0.1:9700", "", {{"cluster.secret.optional", "true"}}), "");
    const auto options =
        make_options({}, {{"rpc", "h1:9700"}, {"cluster.secret.file", "/secret"}}, 0);
    ASSERT_TRUE(options);
    EXPECT_TRUE((*make_credentials(*options, "0123456789abcdef\n"))->required());
    const auto refused = make_credentials(*options, "\n");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, "/secret: no secret is in it");
}

}  // namespace
}  // namespace weir::broker

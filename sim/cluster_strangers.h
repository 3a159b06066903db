// ClusterStrangers: hostile peers of a simulated cluster, on a machine of their own that dials the
// nodes' rpc ports. Three kinds:
//
//   strangers           say hello as nobody, as a node that there is not, as a member with another
//                       data directory, or where the cluster has a secret as a member without a
//                       proof or with a wrong one; then say what would unseat leaders, or ask for
//                       what members alone may ask
//   replays             send what a member's connection sent before, byte by byte
//   wild members        say hello as a member does, with a proof, and then send numbers that can't
//                       be: terms and epochs out of reach, positions beyond all logs
//
// Nothing may come of any of it: a request of a stranger that is answered, or a replay that is let
// in, fails the run at once; what else it might do is for the other oracles.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/prng.h"
#include "rpc/credentials.h"
#include "rpc/hello.h"
#include "rpc/message_reader.h"
#include "runtime/memory.h"

namespace weir::sim {

class ClusterStrangers {
  public:
    struct Options {
        uint64_t seed = 0;
        std::vector<std::string> addresses;  // of the nodes' rpc ports
        Duration pause_mean{};               // between two attempts
        // The cluster's; nullptr: it has none. Nodes may not ask for it yet.
        std::shared_ptr<const rpc::Credentials> credentials;
        bool required = false;  // every node asks for it
    };
    struct Counts {
        uint64_t attempts = 0;  // connections that came to a hello
        uint64_t strangers = 0;
        uint64_t replays = 0;
        uint64_t wild = 0;
    };

    ClusterStrangers(Options options, std::function<void(const std::string&)> fail);

    // On shard 0 of their machine, until stop().
    static runtime::Task<void> run(ClusterStrangers* self);
    void stop() { stop_ = true; }
    bool stopped() const { return stopped_; }
    const Counts& counts() const { return counts_; }

  private:
    enum class Role : uint8_t { kStranger, kReplay, kWildMember };
    struct Attempt {
        Role role = Role::kStranger;
        std::string address;
        rpc::Hello hello;
        bool proves = false;       // with the secret
        bool wrong_proof = false;  // ... but for a bit
        std::vector<uint8_t> recorded;
        std::vector<uint8_t> frames;
    };

    runtime::Task<void> attempt();
    Attempt draw();
    rpc::Identity draw_identity(Role* role);
    std::vector<uint8_t> draw_frames(const Attempt& what);
    int32_t draw_wild_term();
    runtime::Task<void> talk(Attempt what, runtime::StopToken limit);
    runtime::Task<void> listen(const Attempt* what, runtime::ByteStream* stream,
                               runtime::StopToken limit);

    Options options_;
    std::function<void(const std::string&)> fail_;
    Prng prng_;
    runtime::MemoryBudget memory_;
    std::map<std::string, rpc::Identity> known_;            // of members, as their replies said
    std::map<std::string, std::vector<uint8_t>> recorded_;  // a member's connection to an address
    Counts counts_;
    bool stop_ = false;
    bool stopped_ = false;
};

}  // namespace weir::sim

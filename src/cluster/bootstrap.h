// Bootstrap: how nodes that were started with the same seed list become one cluster, whichever
// starts first, and never two. Pure: the driver asks the seeds, passes in their answers, writes the
// identity file when told to, and acts on the phase.
//
// Founding takes two steps, and each node writes its file before it says anything that depends on
// it:
//   1. Promise. A seed that has learned from every seed that it is free, with the same seed list,
//      knows the founding: each seed's address, uuid and node id. It writes "promised" and the
//      founding into its file. A promise is for ever: this node takes part in no other founding.
//   2. Membership. A node that knows that every founder has promised writes "member". So does a
//      promised node that meets a member of that cluster.
//
// Why there are never two clusters: a cluster has a member only if each of its founders promised,
// and a node promises once in the life of its data directory. So a second founding from the same
// seed list requires that every seed lost its data directory, and then nothing of the first is
// left. In particular:
//   1. a, b, c promise; a becomes a member.  2. b's disk is lost: it comes back as b'.  3. b' meets
//   a member of a founding that does not include b': it joins through the controller, with an id of
//   its own. A seed with a stale answer of a can't found a cluster with b': a and c have promised.
// The cost: if a disk is lost between the promises and the first membership, the other seeds have
// promised a founding that can't happen. They report this, name the node, and ask for an empty data
// directory; nothing was stored by then.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "cluster/node_identity.h"

namespace weir::cluster {

// What a node says about itself, in a request or in an answer. It contains only what its file
// holds.
struct Hello {
    std::string rpc;                 // where other nodes reach it
    std::vector<std::string> seeds;  // sorted; none: it is a cluster of its own
    std::optional<int32_t> node_id;  // that it was told to have
    NodeIdentity identity;
    bool operator==(const Hello&) const = default;
};

std::vector<uint8_t> encode_hello(const Hello& hello);
// kMalformed, also for an impossible identity; kUnsupported for a later version's.
Result<Hello> decode_hello(Bytes bytes);

class Bootstrap {
  public:
    struct Options {
        NodeIdentity identity;  // from the file, durable there
        std::string rpc;        // where other nodes reach this one, as seed lists name it
        std::vector<std::string> seeds;
        std::optional<int32_t> node_id;  // --node-id
    };
    enum class Phase : uint8_t {
        kSearching,  // asks seeds, and waits
        kJoining,    // a cluster is there: the driver asks its controller for a node id
        kMember,     // done: identity() says of what; founders() not empty: start group 0 with them
        kRefused,    // can't be mended by waiting: refusal() says why
    };

    // kInvalidArgument if the seed list is invalid, or if the node id is not the file's.
    static Result<Bootstrap> make(Options options);

    // Valid at any time and in each phase, also as an answer.
    Hello hello() const;
    // Sorted.
    const std::vector<std::string>& seeds() const { return seeds_; }
    // Indexes of seeds() that are worth asking now, and again after a while.
    std::vector<size_t> to_ask() const;

    // What the node at a seed's address answered.
    void note_answer(size_t seed, const Hello& hello);
    // The seed does not answer: what it said before no longer counts.
    void lost(size_t seed);
    // What a node that asked this one said.
    void heard_from_asker(const Hello& hello);
    // The controller admitted this node, in kJoining. A refusal is final; the reason is for a
    // person.
    void joined(const Uuid& cluster_id, int32_t node_id);
    void join_refused(std::string reason);

    // What the file must hold before anything else happens; nullptr: nothing. Then call
    // persisted().
    const NodeIdentity* to_persist() const;
    void persisted();

    Phase phase() const { return phase_; }
    const NodeIdentity& identity() const { return identity_; }
    const std::optional<int32_t>& node_id_wanted() const { return options_.node_id; }
    // In kJoining: the cluster, and the seeds that are members of it.
    const Uuid& cluster_to_join() const { return cluster_to_join_; }
    std::vector<size_t> join_through() const;
    const Error& refusal() const { return refusal_; }

    // For the log while the node searches: what it waits for and what is in the way; "" if there is
    // nothing.
    std::string waiting_for() const;

  private:
    explicit Bootstrap(Options options);

    bool is_seed() const { return self_.has_value(); }
    bool is_self(size_t seed) const { return self_ == seed; }
    void note_evidence(const Hello& hello);
    void evaluate();
    void evaluate_promised();
    void evaluate_free();
    bool adopt(const Founding& founding);
    std::optional<Founding> founding_of_all();
    std::string conflict_of(size_t seed, const Hello& hello) const;
    const Founder* own_founder() const;  // of what it promised
    void persist(NodeIdentity identity);
    void refuse(ErrorCode code, std::string reason);

    Options options_;
    NodeIdentity identity_;  // as the file has it
    std::vector<std::string> seeds_;
    std::optional<size_t> self_;
    Phase phase_ = Phase::kSearching;
    std::optional<NodeIdentity> to_persist_;
    Error refusal_{};
    Uuid cluster_to_join_;

    std::vector<std::optional<Hello>> answers_;  // by seed; the newest
    // The founding that this node promised: which other nodes promised it, and whether it has a
    // member.
    std::set<Uuid> promised_;
    bool has_member_ = false;
    // A promise that names this node, received while it was free.
    std::optional<Founding> offered_;
    std::vector<std::string> problems_;  // as of the last evaluation
};

}  // namespace weir::cluster

#include "raft/core.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/prng.h"
#include "raft/leading.h"

namespace weir::raft {
namespace {

// An impaired replica lets so many halves of the spread of election timeouts pass before others.
constexpr int kImpairedSteps = 6;

}  // namespace

Core::Core(const Options& options, CoreStart start)
    : options_(&options),
      self_(start.self),
      joins_(start.joins),
      joined_by_(start.joined_by),
      recovering_(start.recovering && !options.bugs.rejoin_by_plain_raft),
      fitness_(start.fitness),
      asking_terms_(start.terms_lost && recovering_),
      hard_(start.hard_state),
      saved_(start.hard_state),
      start_(start.start),
      end_(start.end),
      durable_(start.end),
      commit_(start.commit),
      terms_(start.terms),
      configurations_(std::move(start.configurations)),
      draws_(start.seed),
      recovery_id_(mix64(start.seed ^ 0x7ec04e51ull)) {
    leads_first_ = start.leads_first && hard_ == HardState{} && end_ == Position{} &&
                   !start.recovering && start.fitness == Fitness::kWhole;
    CHECK(self_.v >= 0);
    if (start.terms_lost) CHECK(start.recovering);
    CHECK(options.election_timeout_min > 0ns);
    CHECK(options.election_timeout_max > options.election_timeout_min);
    CHECK(options.heartbeat_interval > 0ns);
    CHECK(options.heartbeat_interval < options.election_timeout_min);
    CHECK(options.clock_drift_max >= 0 && options.clock_drift_max < 1);
    CHECK(options.window_bytes > 0);
    if (configurations_.empty()) configurations_.emplace_back();
    configurations_.front().at = {-1, 0};  // never rolled back
    settle_configurations();
    check_invariants();
}

Core::~Core() = default;
Core::Core(Core&&) noexcept = default;

void Core::start(Instant now, Effects& out) {
    CHECK(!started_);
    started_ = true;
    now_ = now;
    leaps_from_ = now - kTermLeapMax * kTermPace;
    const Turn turn(*this, now, out);
    // An entry of a term tells that the term was; its save may have been under way at the crash.
    if (terms_.last_term() > hard_.term) hard_ = {terms_.last_term(), -1};
    // A vote right after a restart could go behind the back of a leader whose lease counts on this
    // node.
    loyal_ = options_->lease_reads;
    heard_ = now;
    const Configuration& now_in_force = configuration();
    if (now_in_force.is_voter(self_) && all_voters(vote_bit(self_)) && !votes_withheld()) {
        // There is nobody who could know better.
        asking_terms_ = false;
        if (fitness_ != Fitness::kUnable && hard_.term < kTermMax) return campaign(false);
        arm_election();
    } else if (asking_terms_ && !now_in_force.members.empty()) {
        ask_terms();
    } else if (now_in_force.is_voter(self_) && leads_first_ && may_campaign()) {
        asking_terms_ = false;
        found();
    } else {
        asking_terms_ = false;  // it never knew of a group that could have counted on it
        arm_election();
    }
}

void Core::tick(Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (now < deadline_) return;
    if (role_ == Role::kLeader) return tick_leader();
    if (asking_terms_) return ask_terms();
    if (ask_founders_again()) return;
    pre_campaign();
}

Instant Core::next_deadline() const { return deadline_; }

Verdict Core::step(NodeId from, const Message& message, Instant now, Effects& out,
                   Vouched vouched) {
    const Turn turn(*this, now, out);
    if (from.v < 0 || from == self_) return Verdict::kInvalid;
    if (!may_speak(from, vouched)) return Verdict::kStranger;
    const Term before = hard_.term;
    const Verdict verdict = std::visit(
        [&](const auto& body) {
            if (!believable(body.term)) return Verdict::kInvalid;
            using Body = std::decay_t<decltype(body)>;
            constexpr bool is_vote =
                std::is_same_v<Body, VoteRequest> || std::is_same_v<Body, VoteReply>;
            if (asking_terms_ && !is_vote) return Verdict::kStale;
            return on(from, body);
        },
        message);
    spend_leap(before);
    return verdict;
}

Verdict Core::step(NodeId from, InstallSnapshot snapshot, Instant now, Effects& out,
                   Vouched vouched) {
    const Turn turn(*this, now, out);
    if (from.v < 0 || from == self_) return Verdict::kInvalid;
    if (!may_speak(from, vouched)) return Verdict::kStranger;
    if (!believable(snapshot.term)) return Verdict::kInvalid;
    if (asking_terms_) return Verdict::kStale;
    const Term before = hard_.term;
    const Verdict verdict = install(from, std::move(snapshot));
    spend_leap(before);
    return verdict;
}

bool Core::knows(NodeId node) const {
    return std::ranges::any_of(configurations_, [node](const ConfigurationAt& row) {
        return row.configuration.find(node) != nullptr;
    });
}

bool Core::may_speak(NodeId from, Vouched vouched) const {
    return vouched == Vouched::kYes || options_->bugs.believe_strangers || knows(from);
}

bool Core::believable(Term term) const {
    if (term < 0 || term > kTermMax) return false;
    if (term <= hard_.term || options_->bugs.believe_wild_terms) return true;
    const bool waits = configuration().members.empty();  // to be told of its group
    if (!within_reach(waits ? 0 : hard_.term, term)) return false;
    return waits || (term - hard_.term) * kTermPace <= now_ - leaps_from_;
}

// What the message under way raised the term by, from `before`, is spent.
void Core::spend_leap(Term before) {
    if (hard_.term <= before) return;
    const Term leap = std::min(hard_.term - before, kTermLeapMax);
    leaps_from_ = std::max(leaps_from_, now_ - kTermLeapMax * kTermPace) + leap * kTermPace;
}

// Of a message that only a leader sends: whether its sender leads now, as far as can be known.
Verdict Core::recognize(NodeId from, Term term) {
    if (term == 0) return Verdict::kInvalid;  // nobody leads before the first election
    if (term < hard_.term) {
        return options_->bugs.accept_stale_leader && role_ == Role::kFollower ? Verdict::kTaken
                                                                              : Verdict::kStale;
    }
    if (term == hard_.term) {
        if (role_ == Role::kLeader) return Verdict::kInvalid;
        if (leader_ != kNoNode && leader_ != from) return Verdict::kInvalid;
    }
    note_leader(from, term);
    return Verdict::kTaken;
}

void Core::note_leader(NodeId leader, Term term) {
    if (term > hard_.term || role_ != Role::kFollower || leader_ != leader) follow(term, leader);
    // Who follows a leader has no vote left for another one of its term, also if it gave none to
    // it.
    if (hard_.voted_for == -1) hard_.voted_for = leader.v;
    heard_ = now_;
    loyal_ = true;
    quiet_ = false;
    arm_election();
}

void Core::follow(Term term, NodeId leader) {
    CHECK(term >= hard_.term);
    const bool led = role_ == Role::kLeader;
    if (led) {
        for (const Leading::Read& read : leading_->reads)
            out_->reads.push_back({read.id, false, {}});
        if (leading_->transfer) out_->transfer_done = true;
        if (leading_->change) out_->change_done = false;
        leading_.reset();
    }
    if (term > hard_.term) {
        hard_ = {term, -1};
        vote_to_ = kNoNode;
    }
    role_ = Role::kFollower;
    leader_ = leader;
    verified_ = false;
    received_ = {};
    acknowledged_ = {};
    transfer_campaign_ = false;
    if (led || quiet_) {
        quiet_ = false;
        arm_election();
    }
}

uint64_t Core::draw(uint64_t bound) { return mix64(draws_++) % bound; }

void Core::set_fitness(Fitness fitness, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (std::exchange(fitness_, fitness) == fitness) return;
    if (role_ == Role::kFollower && deadline_ != Instant::never() && !asking_terms_) arm_election();
}

// A node of a lower priority than others waits longer, so that they come first.
Duration Core::handicap() const {
    const Member* self = configuration().find(self_);
    int highest = 0;
    for (const Member& member : configuration().members) {
        if (member.voter) highest = std::max(highest, int{member.priority});
    }
    const int behind = self == nullptr ? 0 : std::clamp(highest - int{self->priority}, 0, 4);
    // Those that lost nothing, and can read what they have, come first.
    const int steps =
        behind + (recovering_ ? 2 : 0) + (fitness_ == Fitness::kWhole ? 0 : kImpairedSteps);
    return steps * (options_->election_timeout_max - options_->election_timeout_min) / 2;
}

void Core::arm_election() {
    if (asking_terms_) return;  // ask_terms() has its own
    if (!may_campaign()) {
        deadline_ = Instant::never();
        return;
    }
    const Duration spread = options_->election_timeout_max - options_->election_timeout_min;
    const Duration drawn(draw(static_cast<uint64_t>(spread.count())));
    deadline_ = now_ + options_->election_timeout_min + drawn + handicap();
}

// The leader is known to be gone: no need to wait until its silence is long enough.
void Core::arm_election_soon() {
    arm_election();
    if (deadline_ != Instant::never()) deadline_ = deadline_ - options_->election_timeout_min;
}

bool Core::term_saved() const {
    return saved_.term == hard_.term || options_->bugs.reply_before_save;
}

void Core::send(NodeId to, const Message& message) { out_->messages.push_back({to, message}); }

void Core::advance_commit(Position position) {
    if (position <= commit_) return;
    CHECK(position <= end_);
    commit_ = position;
    settle_configurations();
}

void Core::truncate(Position end) {
    CHECK(end >= commit_);
    CHECK(end < end_);
    CHECK(role_ != Role::kLeader);
    end_ = end;
    durable_ = std::min(durable_, end);
    acknowledged_ = std::min(acknowledged_, end);
    terms_.truncate_suffix(end);
    roll_back_configurations(end);
    truncating_ = true;
    out_->truncate_to = end;
}

void Core::on_durable(Position end, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (truncating_ || install_ != nullptr || end <= durable_) return;
    CHECK(end <= end_);
    durable_ = end;
    if (role_ == Role::kLeader) return commit_by_count();
    acknowledge();
}

void Core::on_saved(HardState state, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    CHECK(state.term <= hard_.term);
    if (state.term < saved_.term) return;
    saved_ = state;
    if (options_->bugs.forget_vote && state.term == hard_.term) saved_ = hard_;
    if (saved_ != hard_) return;
    if (role_ == Role::kCandidate) {
        vote_for_self();
        ask_for_votes(false);
        return count_votes();
    }
    if (vote_to_ != kNoNode) {
        send(vote_to_, VoteReply{.term = hard_.term, .granted = true, .recovering = recovering_});
        vote_to_ = kNoNode;
    }
    if (role_ == Role::kFollower && leader_ != kNoNode) {
        ask_recovery(false);
        if (verified_) {
            acknowledge();
        } else if (received_ != Position{}) {
            AppendRequest unanswered;
            unanswered.prev = received_;
            unanswered.prev_term = kTermMax;
            reject(unanswered);
        }
    }
}

void Core::on_truncated(Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    CHECK(truncating_);
    truncating_ = false;
    if (role_ == Role::kFollower && leader_ != kNoNode && verified_ && term_saved()) {
        acknowledged_ = match();
        send(leader_, AppendReply{.term = hard_.term,
                                  .accepted = true,
                                  .match = acknowledged_,
                                  .received = received_});
    }
}

void Core::on_prefix_truncated(Position start, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    CHECK(start <= commit_);
    if (start <= start_) return;
    start_ = start;
    terms_.truncate_prefix(start);
}

void Core::on_peer_down(NodeId node, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ == Role::kLeader) {
        Peer* peer = peer_of(node);
        if (peer == nullptr) return;
        peer->down = true;
        if (quiet_) wake_up();
        return;
    }
    if (node != leader_ || role_ != Role::kFollower) return;
    // With leases the leader's silence must last, whatever the driver believes.
    if (!options_->lease_reads) loyal_ = false;
    const bool was_quiet = std::exchange(quiet_, false);
    if (options_->lease_reads) {
        if (was_quiet) arm_election();
        return;
    }
    arm_election_soon();
}

void Core::on_peer_up(NodeId node, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ != Role::kLeader) return;
    Peer* peer = peer_of(node);
    if (peer == nullptr) return;
    peer->down = false;
    if (quiet_) return wake_up();
    send_probe(*peer);
}

void Core::on_connection_lost(NodeId node, Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (role_ != Role::kLeader) return;
    Peer* peer = peer_of(node);
    if (peer == nullptr || peer->state == PeerState::kSnapshot) return;
    peer->become(PeerState::kProbe, peer->match);
}

void Core::wake(Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    if (quiet_) wake_up();
}

void Core::fall_asleep() {
    quiet_ = true;
    deadline_ = Instant::never();
}

void Core::wake_up() {
    CHECK(quiet_);
    quiet_ = false;
    if (role_ != Role::kLeader) {
        heard_ = now_;
        return arm_election();
    }
    leading_->idle_since = now_;
    for (Peer& peer : leading_->peers) {
        peer.heard = now_;
        peer.quiet = false;
    }
    beat(false);
}

size_t Core::memory_bytes() const {
    size_t bytes = sizeof(*this) + terms_.memory_bytes();
    bytes += configurations_.capacity() * sizeof(ConfigurationAt);
    for (const ConfigurationAt& row : configurations_) {
        bytes += row.configuration.members.capacity() * sizeof(Member);
    }
    if (leading_) {
        bytes += sizeof(Leading) + leading_->peers.capacity() * sizeof(Peer);
        bytes += leading_->reads.capacity() * sizeof(Leading::Read);
    }
    return bytes;
}

void Core::check_invariants() const {
    CHECK(start_ <= commit_);
    CHECK(commit_ <= end_);
    CHECK(durable_ <= end_);
    CHECK(start_.offset >= 0);
    CHECK(TermTable::valid(terms_.rows()));
    CHECK(hard_.term >= 0 && hard_.term <= kTermMax);
    CHECK(saved_.term <= hard_.term);
    if (terms_.size() > 0) CHECK(terms_.rows().back().first < end_ || end_ == start_);
    CHECK(!configurations_.empty());
    for (size_t i = 0; i < configurations_.size(); ++i) {
        const ConfigurationAt& row = configurations_[i];
        CHECK(row.configuration.members.empty() || row.configuration.valid());
        if (i > 0) {
            CHECK(configurations_[i - 1].at < row.at);
            CHECK(row.at < end_);
        }
    }
    CHECK((role_ == Role::kLeader) == (leading_ != nullptr));
    CHECK((role_ == Role::kLeader) == (leader_ == self_));
    if (role_ != Role::kFollower && !options_->bugs.reply_before_save) {
        CHECK(!truncating_);
        CHECK(install_ == nullptr);
    }
    if (verified_) CHECK(received_ <= end_);
    if (leading_ == nullptr) return;
    CHECK(term_start_ < end_);
    CHECK(terms_.last_term() == hard_.term);
    for (const Peer& peer : leading_->peers) {
        CHECK(peer.match <= end_);
        CHECK(peer.next >= peer.match || peer.state == PeerState::kSnapshot);
        CHECK(peer.next <= end_);
        CHECK(configuration().find(peer.node) != nullptr);
    }
}

}  // namespace weir::raft

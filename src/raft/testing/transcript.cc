#include "raft/testing/transcript.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/check.h"
#include "raft/testing/log.h"
#include "raft/testing/text.h"

namespace weir::raft {
namespace {

using Words = std::vector<std::string>;

Words split(std::string_view text, char separator) {
    Words words;
    while (!text.empty()) {
        const size_t end = std::min(text.find(separator), text.size());
        if (end > 0 || separator == '\n') words.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
}

int number(const std::string& word) { return std::atoi(word.c_str()); }

struct Letter {
    int from;
    int to;
    Message message;
    std::vector<LogEntry> entries;
    std::shared_ptr<const ModelLog> snapshot;
    SnapshotHead head;
};

struct Machine {
    std::unique_ptr<Core> core;
    ModelLog log;
    ModelDisk disk;
    bool held = false;
    uint64_t crashes = 0;
    bool recovering = false;  // kept on its disk
};

class Run {
  public:
    std::string run(std::string_view transcript) {
        for (const std::string& line : split(transcript, '\n')) {
            if (line.starts_with("  ")) continue;  // an output of last time
            text_ += line + '\n';
            if (!line.empty() && !line.starts_with('#')) execute(split(line, ' '));
        }
        return text_;
    }

  private:
    template <class... Args>
    void say(fmt::format_string<Args...> format, Args&&... args) {
        text_ += "  " + fmt::format(format, std::forward<Args>(args)...) + '\n';
    }

    Machine& at(int node) {
        CHECK(machines_.contains(node));
        return machines_.at(node);
    }

    Core& core(const std::string& word) {
        CHECK(at(number(word)).core != nullptr);
        return *at(number(word)).core;
    }

    // ---- commands

    void execute(Words words) {
        if (words.front().starts_with('@')) {
            pass(words.front().substr(1));
            words.erase(words.begin());
            if (words.empty()) return;
        }
        const std::string verb = words.front();
        words.erase(words.begin());
        if (verb == "options" || verb == "group" || verb == "node" || verb == "log" ||
            verb == "term") {
            return prepare(verb, words);
        }
        begin();
        if (verb == "cut" || verb == "join" || verb == "lose" || verb == "keep") {
            return network(verb, words);
        }
        if (verb == "show") return show();
        if (verb == "hold" || verb == "flush" || verb == "crash" || verb == "stop" ||
            verb == "restart") {
            const int node = number(words.at(0));
            if (verb == "hold") at(node).held = true;
            if (verb == "flush") flush(node, words.size() > 1 ? number(words[1]) : 0);
            if (verb == "crash") crash(node);
            if (verb == "stop") stop(node);
            if (verb == "restart") start(node);
            return settle();
        }
        if (verb == "expire") {
            const int node = number(words.at(0));
            Core& one = core(words.at(0));
            CHECK(one.next_deadline() != Instant::never());
            now_ = std::max(now_, one.next_deadline());
            call(node, [&](Effects& out) { one.tick(now_, out); });
            return settle();
        }
        ask(verb, words);
        settle();
    }

    void prepare(const std::string& verb, const Words& words) {
        CHECK(!begun_ || verb == "node");
        if (verb == "options") {
            for (const std::string& word : words) option(word);
        } else if (verb == "group") {
            first_ = members(words);
            for (const Member& member : first_.members) machines_[member.node.v];
        } else if (verb == "node") {
            machines_[number(words.at(0))];
            if (begun_) start(number(words.at(0)));
        } else if (verb == "term") {
            at(number(words.at(0))).disk.hard_state.term = number(words.at(1));
        } else {
            ModelLog& log = at(number(words.at(0))).disk.log;
            for (size_t i = 1; i < words.size(); ++i) {
                LogEntry entry;
                entry.info = {.term = number(words[i]),
                              .first = log.end(),
                              .next_offset = log.end().offset + 1};
                entry.value = static_cast<uint64_t>(entry.info.term);
                entry.bytes = 100;
                log.append(entry);
            }
            at(number(words.at(0))).disk.hard_state.term = number(words.back());
        }
    }

    void option(const std::string& word) {
        const size_t equals = word.find('=');
        const std::string name = word.substr(0, equals);
        const std::string value = word.substr(equals + 1);
        if (name == "quiet_after") {
            options_.quiet_after = std::chrono::milliseconds(
                static_cast<int64_t>(1000 * std::strtod(value.c_str(), nullptr)));
        } else if (name == "lease") {
            options_.lease_reads = value == "1";
        } else if (name == "window") {
            options_.window_bytes = std::strtoull(value.c_str(), nullptr, 10);
            options_.send_bytes_max = options_.window_bytes;
        } else if (name == "relaxed") {
            relaxed_ = value == "1";
        } else {
            CHECK(name == "beats");
            beats_ = value == "1";
        }
    }

    // "1 2 3 learners 4"
    static Configuration members(const Words& words) {
        Configuration configuration;
        bool learner = false;
        for (const std::string& word : words) {
            if (word == "voters" || word == "learners") {
                learner = word == "learners";
                continue;
            }
            configuration.members.push_back(
                {.node = {number(word)}, .voter = !learner, .learner = learner});
        }
        std::ranges::sort(configuration.members, {}, &Member::node);
        return configuration;
    }

    void begin() {
        if (std::exchange(begun_, true)) return;
        for (auto& [node, machine] : machines_) {
            if (first_.find({node})) machine.disk.log.base_configuration = first_;
        }
        for (auto& [node, machine] : machines_) start(node);
        settle();
    }

    void network(const std::string& verb, const Words& words) {
        if (verb == "join") cut_.clear();
        if (verb == "keep") lost_.clear();
        if (verb == "lose") lost_.insert(words.begin(), words.end());
        if (verb != "cut") return;
        cut_.clear();
        const auto bar = std::ranges::find(words, "|");
        for (auto a = words.begin(); a != bar; ++a) {
            for (auto b = bar + 1; b < words.end(); ++b) {
                cut_.insert({number(*a), number(*b)});
                cut_.insert({number(*b), number(*a)});
            }
        }
    }

    void ask(const std::string& verb, const Words& words) {
        const int node = number(words.at(0));
        Core& one = core(words.at(0));
        std::optional<RequestStatus> status;
        if (verb == "propose") {
            const int count = words.size() > 1 ? number(words[1]) : 1;
            for (int i = 0; i < count; ++i) propose(node);
        } else if (verb == "trim") {
            const Position start{number(words.at(1)), 0};
            at(node).log.drop_below(start);
            write(node, {.kind = ModelDisk::Op::Kind::kDropBelow, .position = start});
            call(node, [&](Effects& out) { one.on_prefix_truncated(start, now_, out); });
        } else if (verb == "transfer") {
            call(node,
                 [&](Effects& out) { status = one.transfer({number(words.at(1))}, now_, out); });
        } else if (verb == "change") {
            const Configuration target = members({words.begin() + 1, words.end()});
            call(node, [&](Effects& out) { status = one.change_configuration(target, now_, out); });
        } else if (verb == "read") {
            call(node, [&](Effects& out) { status = one.read_index(++reads_, now_, out); });
        } else if (verb == "down") {
            call(node, [&](Effects& out) { one.on_peer_down({number(words.at(1))}, now_, out); });
        } else if (verb == "up") {
            call(node, [&](Effects& out) { one.on_peer_up({number(words.at(1))}, now_, out); });
        } else {
            CHECK(false && "no such command");
        }
        if (status && *status != RequestStatus::kStarted) say("{}: {}", node, text(*status));
    }

    void propose(int node) {
        Machine& machine = at(node);
        if (machine.core->may_propose() != ProposeStatus::kOk) return say("{}: refused", node);
        LogEntry entry;
        entry.info = {.term = machine.core->term(),
                      .first = machine.core->end(),
                      .next_offset = machine.core->end().offset + 1};
        entry.value = ++values_ + 1000;
        entry.bytes = 100;
        machine.log.append(entry);
        write(node, {.kind = ModelDisk::Op::Kind::kAppend, .entry = entry});
        call(node, [&](Effects& out) { machine.core->on_proposed(entry.info, now_, out); });
    }

    void show() {
        for (auto& [node, machine] : machines_) {
            if (machine.core == nullptr) {
                say("{} is down", node);
                continue;
            }
            const Core& one = *machine.core;
            std::string terms;
            for (const LogEntry& entry : machine.log.entries) {
                terms += fmt::format(" {}{}", entry.info.term,
                                     entry.info.kind == EntryKind::kControl ? "'" : "");
            }
            say("{} {} term={} log={}..{}{} commit={} members={}{}{}", node, text(one.role()),
                one.term(), text(one.log_start()), text(one.end()), terms, text(one.commit()),
                text(one.configuration()), one.quiet() ? " quiet" : "",
                one.recovering() ? " recovering" : "");
        }
    }

    void pass(const std::string& to) {
        begin();
        const Instant until{static_cast<int64_t>(std::strtod(to.c_str(), nullptr) * 1e9)};
        while (true) {
            int next = -1;
            for (auto& [node, machine] : machines_) {
                if (machine.core == nullptr || machine.core->next_deadline() > until) continue;
                if (next < 0 || machine.core->next_deadline() < at(next).core->next_deadline()) {
                    next = node;
                }
            }
            if (next < 0) break;
            now_ = std::max(now_, at(next).core->next_deadline());
            call(next, [&](Effects& out) { at(next).core->tick(now_, out); });
            settle();
        }
        now_ = std::max(now_, until);
    }

    // ---- a node

    void start(int node) {
        Machine& machine = at(node);
        machine.log = machine.disk.log;
        machine.held = false;
        CoreStart start;
        start.self = {node};
        start.hard_state = machine.disk.hard_state;
        start.start = start.commit = machine.log.start;
        start.end = machine.log.end();
        start.terms = machine.log.terms();
        start.configurations = machine.log.configurations();
        start.seed = static_cast<uint64_t>(node);
        if (relaxed_) start.seed += 1000 * machine.crashes;
        start.recovering = machine.recovering;
        machine.core = std::make_unique<Core>(options_, std::move(start));
        call(node, [&](Effects& out) { machine.core->start(now_, out); });
    }

    void crash(int node) {
        Machine& machine = at(node);
        machine.core.reset();
        machine.disk.pending.clear();
        ++machine.crashes;
        if (relaxed_) machine.recovering = true;
    }

    void stop(int node) {
        at(node).core.reset();
        while (!at(node).disk.pending.empty()) at(node).disk.apply_first();
    }

    // What counts of a relaxed log: all, but for a configuration that is not on the disk yet.
    Position relied_on(const Machine& machine) const {
        for (const ModelDisk::Op& op : machine.disk.pending) {
            if (op.entry.configuration != nullptr) return op.entry.info.first;
        }
        return machine.log.end();
    }

    void rely_on_memory(int node) {
        Machine& machine = at(node);
        const Position before = machine.core->durable_end();
        const Position end = relied_on(machine);
        if (!relaxed_ || end <= before || machine.core->end() != machine.log.end()) return;
        Effects out;
        machine.core->on_durable(end, now_, out);
        if (machine.core->durable_end() != before) carry_out(node, out, nullptr);
    }

    void write(int node, ModelDisk::Op op) { at(node).disk.pending.push_back(std::move(op)); }

    // The first `count` operations; 0: all, and the disk goes on.
    void flush(int node, int count) {
        at(node).held = false;
        for (int i = 0; i < count; ++i) flush_some(node);
        at(node).held = count > 0;
    }

    // Whether there was anything.
    bool flush_some(int node) {
        Machine& machine = at(node);
        if (machine.held || machine.disk.pending.empty() || machine.core == nullptr) return false;
        const ModelDisk::Op op = machine.disk.pending.front();
        machine.disk.apply_first();
        Core& one = *machine.core;
        call(node, [&](Effects& out) {
            switch (op.kind) {
                case ModelDisk::Op::Kind::kAppend:
                    return one.on_durable(machine.disk.log.end(), now_, out);
                case ModelDisk::Op::Kind::kCut:
                    return one.on_truncated(now_, out);
                case ModelDisk::Op::Kind::kDropBelow:
                    return;
                case ModelDisk::Op::Kind::kSave:
                    return one.on_saved(op.hard_state, now_, out);
                case ModelDisk::Op::Kind::kInstall:
                    machine.log = *op.log;
                    return one.on_installed(now_, out);
            }
        });
        return true;
    }

    template <class F>
    void call(int node, F ask) {
        Effects out;
        ask(out);
        carry_out(node, out, nullptr);
    }

    void carry_out(int node, const Effects& out, const Letter* letter) {
        Machine& machine = at(node);
        Core& one = *machine.core;
        if (out.truncate_to) {
            say("{} cuts its log at {}", node, text(*out.truncate_to));
            CHECK(machine.log.cut(*out.truncate_to));
            write(node, {.kind = ModelDisk::Op::Kind::kCut, .position = *out.truncate_to});
        }
        if (out.install) {
            say("{} installs a snapshot at {}", node, text(out.install->start));
            write(node, {.kind = ModelDisk::Op::Kind::kInstall, .log = letter->snapshot});
        }
        for (size_t i = out.append_begin; i < out.append_end; ++i) {
            append(node, letter->entries[i]);
        }
        for (const ControlEntry& control : out.control) {
            LogEntry entry;
            entry.info = control.info;
            entry.bytes = 20;
            if (control.kind == ControlKind::kConfiguration) {
                entry.configuration = std::make_shared<const Configuration>(control.configuration);
                say("{} appends members {}", node, text(control.configuration));
            }
            append(node, std::move(entry));
        }
        if (out.save) {
            write(node, {.kind = ModelDisk::Op::Kind::kSave, .hard_state = *out.save});
        }
        if (out.role) {
            const std::string leader =
                out.role->leader == kNoNode || out.role->role == Role::kLeader
                    ? ""
                    : fmt::format(" of {}", out.role->leader.v);
            say("{} is {}{} in term {}", node, text(out.role->role), leader, out.role->term);
        }
        if (out.elected_by_all) say("{} leads because all voters said so", node);
        if (out.recovered) {
            say("{} is recovered", node);
            machine.recovering = false;
        }
        if (out.commit) say("{} commits up to {}", node, text(*out.commit));
        for (const Outgoing& outgoing : out.messages) {
            post({.from = node, .to = outgoing.to.v, .message = outgoing.message});
        }
        for (const ReadReady& read : out.reads) {
            say("{} read {}: {}", node, read.id,
                read.confirmed ? "up to " + text(read.position) : "not known here");
        }
        if (out.change_done) say("{} change {}", node, *out.change_done ? "done" : "failed");
        if (out.transfer_done) {
            say("{} transfer {}", node, *out.transfer_done ? "done" : "failed");
        }
        for (const SendEntries& work : out.entries) works_.push_back({node, work});
        for (const NodeId to : out.snapshots) snapshots_.push_back({node, to});
        const bool sleeps = one.quiet();
        if (sleeps != asleep_.contains(node)) {
            say("{} {}", node, sleeps ? "sleeps" : "wakes");
            if (sleeps) {
                asleep_.insert(node);
            } else {
                asleep_.erase(node);
            }
        }
        one.check_invariants();
        rely_on_memory(node);
    }

    void append(int node, LogEntry entry) {
        at(node).log.append(entry);
        write(node, {.kind = ModelDisk::Op::Kind::kAppend, .entry = std::move(entry)});
    }

    // ---- messages

    static std::string kind(const Letter& letter) {
        if (letter.snapshot != nullptr) return "snapshot";
        std::string words = text(letter.message);
        words = words.substr(0, words.find(' '));
        if (words.ends_with('?')) words.pop_back();
        return words;
    }

    void post(Letter letter) {
        const bool lost = cut_.contains({letter.from, letter.to}) || lost_.contains(kind(letter));
        const auto* beat = std::get_if<Heartbeat>(&letter.message);
        const auto* answer = std::get_if<HeartbeatReply>(&letter.message);
        const bool shown = beats_ || letter.snapshot != nullptr ||
                           (beat == nullptr && answer == nullptr) ||
                           (beat != nullptr && beat->quiet) || (answer != nullptr && answer->quiet);
        if (shown) {
            std::string words = letter.snapshot != nullptr
                                    ? "snapshot at " + text(letter.head.start)
                                    : text(letter.message);
            if (!letter.entries.empty()) {
                words += fmt::format(" entries to {}", text(letter.entries.back().info.end()));
            }
            say("{} -{} {}: {}", letter.from, lost ? "x" : ">", letter.to, words);
        }
        if (!lost) letters_.push_back(std::move(letter));
    }

    // Until nothing is on its way.
    void settle() {
        while (true) {
            if (!letters_.empty()) {
                const Letter letter = std::move(letters_.front());
                letters_.pop_front();
                receive(letter);
            } else if (!works_.empty()) {
                const auto [node, work] = works_.front();
                works_.pop_front();
                send_entries(node, work);
            } else if (!snapshots_.empty()) {
                const auto [node, to] = snapshots_.front();
                snapshots_.pop_front();
                send_snapshot(node, to);
            } else if (std::ranges::none_of(machines_,
                                            [&](auto& row) { return flush_some(row.first); })) {
                return;
            }
        }
    }

    void receive(const Letter& letter) {
        if (!machines_.contains(letter.to) || at(letter.to).core == nullptr) return;
        Core& one = *at(letter.to).core;
        Effects out;
        Verdict verdict;
        if (letter.snapshot != nullptr) {
            const Term term = std::get<TimeoutNow>(letter.message).term;
            verdict = one.step({letter.from}, InstallSnapshot{term, letter.head}, now_, out);
        } else {
            std::vector<EntryView> views;
            for (const LogEntry& entry : letter.entries) {
                views.push_back({entry.info, entry.configuration.get()});
            }
            Message message = letter.message;
            if (auto* request = std::get_if<AppendRequest>(&message)) request->entries = views;
            verdict = one.step({letter.from}, message, now_, out);
        }
        if (verdict == Verdict::kInvalid || verdict == Verdict::kContradiction)
            say("{} finds that invalid", letter.to);
        carry_out(letter.to, out, &letter);
    }

    void send_entries(int node, const SendEntries& work) {
        Machine& machine = at(node);
        if (machine.core == nullptr) return;
        Letter letter{.from = node, .to = work.to.v};
        uint64_t bytes = 0;
        Position end = work.prev;
        for (size_t i = machine.log.index_of(work.prev); i < machine.log.entries.size(); ++i) {
            const LogEntry& entry = machine.log.entries[i];
            if (entry.info.first != end || entry.info.end() > work.until) break;
            if (!letter.entries.empty() && bytes + entry.bytes > work.bytes_max) break;
            bytes += entry.bytes;
            end = entry.info.end();
            letter.entries.push_back(entry);
        }
        Effects out;
        const auto request = machine.core->on_sent(work, end, bytes, now_, out);
        if (request) {
            letter.message = *request;
            post(std::move(letter));
        }
        carry_out(node, out, nullptr);
    }

    void send_snapshot(int node, NodeId to) {
        Machine& machine = at(node);
        if (machine.core == nullptr) return;
        Letter letter{.from = node, .to = to.v, .message = TimeoutNow{machine.core->term()}};
        letter.head = machine.core->snapshot_head(machine.core->snapshot_start_min());
        ModelLog log;
        log.start = letter.head.start;
        log.base_terms = letter.head.terms;
        log.base_configuration = letter.head.configuration;
        letter.snapshot = std::make_shared<const ModelLog>(std::move(log));
        post(std::move(letter));
        call(node, [&](Effects& out) { machine.core->on_snapshot_sent(to, true, now_, out); });
    }

    std::string text_;
    Options options_;
    Configuration first_;
    std::map<int, Machine> machines_;
    bool begun_ = false;
    bool beats_ = false;
    bool relaxed_ = false;
    Instant now_{};
    std::deque<Letter> letters_;
    std::deque<std::pair<int, SendEntries>> works_;
    std::deque<std::pair<int, NodeId>> snapshots_;
    std::set<std::pair<int, int>> cut_;
    std::set<std::string> lost_;
    std::set<int> asleep_;
    uint64_t values_ = 0;
    uint64_t reads_ = 0;
};

}  // namespace

std::string run_transcript(std::string_view transcript) { return Run().run(transcript); }

}  // namespace weir::raft

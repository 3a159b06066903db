#include "kafka/groups/testing/transcript.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"
#include "base/prng.h"
#include "kafka/groups/coordinator.h"

namespace weir::kafka {
namespace {

using Words = std::vector<std::string>;

Words split(std::string_view text, char separator) {
    Words words;
    while (!text.empty()) {
        const size_t end = std::min(text.find(separator), text.size());
        if (end > 0) words.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
}

// Splits at commas that stand outside of brackets.
Words split_list(std::string_view text) {
    Words items(1);
    int depth = 0;
    for (const char c : text) {
        if (c == '[') ++depth;
        if (c == ']') --depth;
        if (c == ',' && depth == 0)
            items.emplace_back();
        else
            items.back() += c;
    }
    return items;
}

Duration duration_of(const std::string& text) {
    char* unit = nullptr;
    const double number = std::strtod(text.c_str(), &unit);
    const std::string_view name = unit;
    const double ms = name == "ms"    ? 1
                      : name == "s"   ? 1000
                      : name == "min" ? 60'000
                      : name == "h"   ? 3'600'000
                      : name == "d"   ? 86'400'000
                                      : -1;
    CHECK(ms > 0 || number == 0);
    return std::chrono::milliseconds(static_cast<int64_t>(number * ms + (number < 0 ? -0.5 : 0.5)));
}

std::string text_of(Duration duration) {
    const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
    if (ms % 1000 == 0) return fmt::format("{}s", ms / 1000);
    return fmt::format("{}.{:03}s", ms / 1000, ms % 1000);
}

// "[t,u]x" is a consumer's subscription with user data; anything else stands for itself.
std::vector<uint8_t> metadata_of(std::string_view text) {
    if (!text.starts_with('[')) return {text.begin(), text.end()};
    const size_t end = text.find(']');
    CHECK(end != std::string_view::npos);
    const Words topics = split(text.substr(1, end - 1), ',');
    const std::string_view user_data = text.substr(end + 1);
    ByteWriter out;
    out.write_i16(0);
    out.write_i32(static_cast<int32_t>(topics.size()));
    for (const std::string& topic : topics) {
        out.write_i16(static_cast<int16_t>(topic.size()));
        out.write_text(topic);
    }
    out.write_i32(static_cast<int32_t>(user_data.size()));
    out.write_text(user_data);
    return out.flatten();
}

std::string text_of_metadata(const std::vector<uint8_t>& bytes) {
    ByteReader in(bytes);
    const int16_t version = in.read_i16();
    const int32_t count = in.read_i32();
    if (!in.ok() || version != 0 || count < 0 || count > 100) {
        return std::string(as_text(bytes));
    }
    std::string text = "[";
    for (int32_t i = 0; i < count; ++i) {
        if (i > 0) text += ',';
        text += as_text(in.read_bytes(static_cast<size_t>(in.read_i16())));
    }
    text += ']';
    return text + std::string(as_text(in.read_bytes(static_cast<size_t>(in.read_i32()))));
}

// Takes the front of `text` up to the first of `marks`, and the mark too unless it stays.
std::string take_until(std::string_view& text, std::string_view marks, bool mark_stays = false) {
    const size_t end = std::min(text.find_first_of(marks), text.size());
    std::string taken(text.substr(0, end));
    text.remove_prefix(std::min(end + (mark_stays ? 0 : 1), text.size()));
    return taken;
}

KafkaError error_named(std::string_view name) {
    for (int16_t number = -1; number < 200; ++number) {
        if (to_string(kafka_error(number)) == name) return kafka_error(number);
    }
    CHECK(false && "no such error");
    return KafkaError::kNone;
}

class Run {
  public:
    std::string run(std::string_view transcript) {
        for (const std::string& line : lines_of(transcript)) {
            if (line.starts_with("  ")) continue;  // an output of last time
            text_ += line + '\n';
            if (!line.empty() && !line.starts_with('#')) execute(line);
            if (coordinator_) coordinator_->check_invariants();
        }
        return text_;
    }

  private:
    // key=value words and the others, in order.
    struct Arguments {
        std::map<std::string, std::string> named;
        Words plain;

        std::optional<std::string> find(const std::string& key) const {
            const auto found = named.find(key);
            return found == named.end() ? std::nullopt : std::optional(found->second);
        }
        std::string get(const std::string& key, std::string fallback = "") const {
            return find(key).value_or(std::move(fallback));
        }
    };

    static Words lines_of(std::string_view text) {
        Words lines;
        while (!text.empty()) {
            const size_t end = std::min(text.find('\n'), text.size());
            lines.emplace_back(text.substr(0, end));
            text.remove_prefix(std::min(end + 1, text.size()));
        }
        return lines;
    }

    void execute(const std::string& line) {
        Words words = split(line, ' ');
        if (words.front() == "config") return configure(words);
        if (!coordinator_) {
            coordinator_ = std::make_unique<GroupCoordinator>(config_, entropy_);
            coordinator_->begin_load();
            CHECK(coordinator_->finish_load(now_).replies.empty());
        }
        if (words.front().starts_with('@')) {
            advance(Instant{} + duration_of(words.front().substr(1)));
            words.erase(words.begin());
            if (words.empty()) return;
        }
        for (std::string& word : words) word = with_real_ids(word);
        const std::string verb = words.front();
        Arguments arguments;
        for (size_t i = 1; i < words.size(); ++i) {
            const size_t equals = words[i].find('=');
            // A commit's topic/partition=offset is no name.
            if (equals == std::string::npos || words[i].find('/') < equals)
                arguments.plain.push_back(words[i]);
            else
                arguments.named[words[i].substr(0, equals)] = words[i].substr(equals + 1);
        }
        perform(verb, arguments);
    }

    void configure(const Words& words) {
        CHECK(!coordinator_);
        for (size_t i = 1; i < words.size(); ++i) {
            const size_t equals = words[i].find('=');
            const std::string key = words[i].substr(0, equals);
            const std::string value = words[i].substr(equals + 1);
            const std::map<std::string, Duration*> durations = {
                {"initial_delay", &config_.initial_rebalance_delay},
                {"retention", &config_.offsets_retention},
                {"retention_check", &config_.offsets_retention_check_interval}};
            const std::map<std::string, size_t*> sizes = {
                {"group_size_max", &config_.group_size_max},
                {"groups_max", &config_.groups_max},
                {"offsets_per_group_max", &config_.offsets_per_group_max},
                {"metadata_bytes_max", &config_.offset_metadata_bytes_max},
                {"append_bytes_max", &config_.append_bytes_max},
                {"appends_max", &config_.appends_outstanding_max},
                {"state_bytes_max", &config_.state_bytes_max}};
            if (const auto found = durations.find(key); found != durations.end())
                *found->second = duration_of(value);
            else
                *sizes.at(key) = std::stoul(value);
        }
    }

    void perform(const std::string& verb, const Arguments& arguments) {
        const std::string group = arguments.plain.empty() ? "" : arguments.plain.front();
        if (verb == "join") return take(coordinator_->join(next(), join_input(arguments), now_));
        if (verb == "sync") return take(coordinator_->sync(next(), sync_input(arguments), now_));
        if (verb == "heartbeat") {
            return take(coordinator_->heartbeat(
                next(),
                {group, generation(arguments), arguments.get("member"), arguments.find("instance")},
                now_));
        }
        if (verb == "leave") return take(coordinator_->leave(next(), leave_input(arguments), now_));
        if (verb == "commit")
            return take(coordinator_->commit_offsets(next(), commit_input(arguments), now_));
        if (verb == "delete-offsets") {
            return take(coordinator_->delete_offsets(
                next(), {group, topics_of({arguments.plain.begin() + 1, arguments.plain.end()})},
                now_));
        }
        if (verb == "delete-group") return take(coordinator_->delete_group(next(), group, now_));
        if (verb == "topic-deleted")
            return take(coordinator_->on_topics_deleted(arguments.plain, now_));
        if (verb == "fetch") return fetch(arguments);
        if (verb == "list") return list(arguments);
        if (verb == "describe") return describe(group);
        if (verb == "live") {
            return coordinator_->for_each_live_record(
                [this](const LogRecord& record) { out("live " + text_of_record(record)); });
        }
        if (verb == "hold") return void(hold_ = true);
        if (verb == "release") {
            hold_ = false;
            return finish_appends();
        }
        if (verb == "done" || verb == "fail") return finish_append(group, verb == "done");
        if (verb == "close" || verb == "restart") take(coordinator_->close());
        if (verb == "close" || verb == "restart") held_.clear();
        if (verb == "load" || verb == "restart") load();
        if (verb == "serve" || verb == "restart") take(coordinator_->finish_load(now_));
        const std::set<std::string> others = {"close", "load", "serve", "restart"};
        CHECK(others.contains(verb));
    }

    // ---- Inputs

    RequestId next() { return {++last_request_}; }

    static int32_t generation(const Arguments& arguments) {
        return std::stoi(arguments.get("gen", "-1"));
    }

    static JoinInput join_input(const Arguments& arguments) {
        const int version = std::stoi(arguments.get("v", "3"));
        JoinInput input;
        input.group = arguments.plain.empty() ? "" : arguments.plain.front();
        input.member_id = arguments.get("member");
        input.instance_id = arguments.find("instance");
        input.client_id = arguments.get("client", "c");
        input.client_host = "/127.0.0.1";
        input.session_timeout = duration_of(arguments.get("session", "10s"));
        if (version >= 1) input.rebalance_timeout = duration_of(arguments.get("rebalance", "30s"));
        input.protocol_type = arguments.get("type", "consumer");
        for (const std::string& item : split_list(arguments.get("protocols", "range:[t]"))) {
            const size_t colon = item.find(':');
            if (colon == std::string::npos) continue;
            input.protocols.push_back(
                {item.substr(0, colon), metadata_of(std::string_view(item).substr(colon + 1))});
        }
        input.reason = arguments.get("reason");
        input.two_step_join = version >= 4;
        input.can_skip_assignment = version >= 9;
        return input;
    }

    static SyncInput sync_input(const Arguments& arguments) {
        SyncInput input;
        input.group = arguments.plain.front();
        input.generation = generation(arguments);
        input.member_id = arguments.get("member");
        input.instance_id = arguments.find("instance");
        input.protocol_type = arguments.find("type");
        input.protocol_name = arguments.find("name");
        for (const std::string& item : split(arguments.get("assign"), ',')) {
            const size_t colon = item.find(':');
            const std::string bytes = item.substr(colon + 1);
            input.assignments.push_back({item.substr(0, colon), {bytes.begin(), bytes.end()}});
        }
        return input;
    }

    static LeaveInput leave_input(const Arguments& arguments) {
        LeaveInput input;
        input.group = arguments.plain.front();
        for (size_t i = 1; i < arguments.plain.size(); ++i) {
            const std::string& word = arguments.plain[i];
            const size_t slash = word.find('/');
            LeavingMember& leaving = input.members.emplace_back();
            leaving.member_id = word.substr(0, slash);
            if (slash != std::string::npos) leaving.instance_id = word.substr(slash + 1);
            leaving.reason = arguments.get("reason");
        }
        return input;
    }

    static CommitInput commit_input(const Arguments& arguments) {
        CommitInput input;
        input.group =
            arguments.plain.front().find('/') == std::string::npos ? arguments.plain.front() : "";
        input.generation = generation(arguments);
        input.member_id = arguments.get("member");
        input.instance_id = arguments.find("instance");
        if (const auto retention = arguments.find("retention"))
            input.retention = duration_of(*retention);
        for (std::string_view word : arguments.plain) {
            if (word.find('=') == std::string_view::npos) continue;
            const std::string name = take_until(word, "/");
            if (input.topics.empty() || input.topics.back().name != name)
                input.topics.push_back({name, {}});
            CommitPartition& partition = input.topics.back().partitions.emplace_back();
            partition.index = std::stoi(take_until(word, "="));
            partition.offset = std::stoll(take_until(word, "@:!", true));
            // What is left begins with the mark that ended the offset.
            while (!word.empty()) {
                const char mark = word.front();
                word.remove_prefix(1);
                const std::string value = take_until(word, mark == '@' ? ":!" : "!", true);
                if (mark == '@') partition.leader_epoch = std::stoi(value);
                if (mark == ':') partition.metadata = value;
                if (mark == '!') partition.refused = error_named(value);
            }
        }
        return input;
    }

    static std::vector<TopicPartitions> topics_of(const Words& words) {
        std::vector<TopicPartitions> topics;
        for (const std::string& word : words) {
            const size_t slash = word.find('/');
            const std::string name = word.substr(0, slash);
            if (topics.empty() || topics.back().name != name) topics.push_back({name, {}});
            topics.back().partitions.push_back(std::stoi(word.substr(slash + 1)));
        }
        return topics;
    }

    // ---- Time and the log

    void advance(Instant until) {
        CHECK(now_.instant <= until);
        while (coordinator_->next_deadline() <= until) {
            set_now(std::max(now_.instant, coordinator_->next_deadline()));
            const size_t before = text_.size();
            take(coordinator_->tick(now_));
            coordinator_->check_invariants();
            if (text_.size() > before)
                text_.insert(before, fmt::format("  @{}\n", text_of(now_.instant - Instant{})));
        }
        set_now(until);
    }

    void set_now(Instant instant) {
        now_.instant = instant;
        now_.wall = {instant.ns / 1'000'000};
    }

    void load() {
        coordinator_->begin_load();
        for (const LogRecord& record : log_) {
            const auto value = record.value ? std::optional<Bytes>(*record.value) : std::nullopt;
            CHECK(coordinator_->replay(record.key, value).has_value());
        }
    }

    void take(GroupEffects effects) {
        for (const std::string& note : effects.notes) out("-- " + note);
        for (const GroupReply& reply : effects.replies) {
            out(fmt::format(
                "r{} <- {}", reply.request.v,
                std::visit([](const auto& body) { return words_of(body); }, reply.body)));
        }
        for (GroupAppend& append : effects.appends) {
            for (const LogRecord& record : append.records)
                out(fmt::format("a{} -> {}", append.token.v, text_of_record(record)));
            held_.push_back(std::move(append));
        }
        if (!hold_) finish_appends();
    }

    void finish_appends() {
        while (!held_.empty()) finish_append("a" + std::to_string(held_.front().token.v), true);
    }

    void finish_append(const std::string& name, bool ok) {
        const uint64_t token = std::stoull(name.substr(1));
        const auto found = std::ranges::find(held_, token, [](const auto& a) { return a.token.v; });
        CHECK(found != held_.end());
        const GroupAppend append = std::move(*found);
        held_.erase(found);
        if (ok) log_.insert(log_.end(), append.records.begin(), append.records.end());
        take(coordinator_->on_append_done(append.token, ok, now_));
    }

    // ---- Reads

    void fetch(const Arguments& arguments) {
        const Words words(arguments.plain.begin() + 1, arguments.plain.end());
        std::optional<std::vector<TopicPartitions>> topics;
        if (words != Words{"all"}) topics = topics_of(words);
        const OffsetFetchReply reply = coordinator_->fetch_offsets(arguments.plain.front(), topics);
        std::string line = fmt::format("offsets {}", to_string(reply.error));
        for (const auto& topic : reply.topics) {
            for (const FetchedOffset& offset : topic.partitions) {
                line += fmt::format(" {}/{}={}", topic.name, offset.index, offset.offset);
                if (offset.leader_epoch >= 0) line += fmt::format("@{}", offset.leader_epoch);
                if (!offset.metadata.empty()) line += ":" + offset.metadata;
            }
        }
        out(line);
    }

    void list(const Arguments& arguments) {
        const ListGroupsReply reply = coordinator_->list_groups(split(arguments.get("states"), ','),
                                                                split(arguments.get("types"), ','));
        out(fmt::format("groups {}", to_string(reply.error)));
        for (const ListedGroup& group : reply.groups) {
            out(fmt::format("  {} {} {} type={}", group.group, group.state, group.type,
                            group.protocol_type));
        }
    }

    void describe(const std::string& group) {
        const DescribeGroupReply reply = coordinator_->describe_group(group);
        out(fmt::format("group {} {} type={} protocol={}", to_string(reply.error), reply.state,
                        reply.protocol_type, reply.protocol));
        for (const DescribedMember& member : reply.members) {
            out(fmt::format("  {}{} client={} host={} metadata={} assignment={}", member.member_id,
                            instance(member.instance_id), member.client_id, member.client_host,
                            text_of_metadata(member.metadata), as_text(member.assignment)));
        }
    }

    // ---- Words for what came out

    static std::string instance(const std::optional<std::string>& id) {
        return id ? "/" + *id : "";
    }

    static std::string words_of(const JoinReply& reply) {
        std::string line = fmt::format("join {}", to_string(reply.error));
        if (!reply.member_id.empty()) line += " member=" + reply.member_id;
        if (reply.error != KafkaError::kNone) return line;
        line += fmt::format(" gen={} {} {} leader={}", reply.generation,
                            reply.protocol_type.value_or("null"),
                            reply.protocol_name.value_or("null"), reply.leader);
        if (reply.skip_assignment) line += " skip-assignment";
        for (const JoinReplyMember& member : reply.members) {
            line += fmt::format(" {}{}:{}", member.member_id, instance(member.instance_id),
                                text_of_metadata(member.metadata));
        }
        return line;
    }
    static std::string words_of(const SyncReply& reply) {
        if (reply.error != KafkaError::kNone) return fmt::format("sync {}", to_string(reply.error));
        return fmt::format("sync NONE {} {} assignment={}", reply.protocol_type.value_or("null"),
                           reply.protocol_name.value_or("null"), as_text(reply.assignment));
    }
    static std::string words_of(const HeartbeatReply& reply) {
        return fmt::format("heartbeat {}", to_string(reply.error));
    }
    static std::string words_of(const LeaveReply& reply) {
        std::string line = fmt::format("leave {}", to_string(reply.error));
        for (const auto& member : reply.members) {
            line += fmt::format(" {}{}:{}", member.member_id, instance(member.instance_id),
                                to_string(member.error));
        }
        return line;
    }
    static std::string errors_of(const std::vector<TopicErrors>& topics) {
        std::string line;
        for (const TopicErrors& topic : topics) {
            for (const PartitionError& partition : topic.partitions)
                line += fmt::format(" {}/{}:{}", topic.name, partition.index,
                                    to_string(partition.error));
        }
        return line;
    }
    static std::string words_of(const CommitReply& reply) {
        return "commit" + errors_of(reply.topics);
    }
    static std::string words_of(const OffsetDeleteReply& reply) {
        return fmt::format("delete-offsets {}{}", to_string(reply.error), errors_of(reply.topics));
    }
    static std::string words_of(const DeleteGroupReply& reply) {
        return fmt::format("delete-group {}", to_string(reply.error));
    }

    static std::string text_of_record(const LogRecord& record) {
        const auto decoded = decode_record(
            record.key, record.value ? std::optional<Bytes>(*record.value) : std::nullopt);
        CHECK(decoded.has_value());
        if (const auto* offset = std::get_if<OffsetRecord>(&*decoded)) {
            std::string line =
                fmt::format("offset {} {}/{}", offset->group, offset->topic, offset->partition);
            if (!offset->value) return line + " tombstone";
            line += fmt::format("={}", offset->value->offset);
            if (offset->value->leader_epoch >= 0)
                line += fmt::format("@{}", offset->value->leader_epoch);
            if (!offset->value->metadata.empty()) line += ":" + offset->value->metadata;
            line += fmt::format(" at={}",
                                text_of(std::chrono::milliseconds(offset->value->committed_at.ms)));
            if (offset->value->expires_at) {
                line +=
                    fmt::format(" expires={}",
                                text_of(std::chrono::milliseconds(offset->value->expires_at->ms)));
            }
            return line;
        }
        const auto& group = std::get<GroupRecord>(*decoded);
        if (!group.value) return fmt::format("group {} tombstone", group.group);
        std::string line =
            fmt::format("group {} gen={} {} {} leader={}", group.group, group.value->generation,
                        group.value->protocol_type, group.value->protocol.value_or("null"),
                        group.value->leader.value_or("null"));
        for (const MemberMetadata& member : group.value->members) {
            line += fmt::format(" {}{}:{}={}", member.member_id, instance(member.instance_id),
                                text_of_metadata(member.subscription), as_text(member.assignment));
        }
        return line;
    }

    void out(const std::string& line) { text_ += "  " + with_short_ids(line) + '\n'; }

    // client-QmFzZTY0LXV1aWQtdGV4dA <-> client#1. In the tests, client and instance ids are of
    // small letters and digits.
    std::string with_short_ids(std::string_view line) {
        constexpr size_t kUuidSize = 22;
        auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
        auto is_uuid = [](std::string_view text) {
            return text.size() == kUuidSize && std::ranges::all_of(text, [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '-' || c == '_';
                   });
        };
        std::string text;
        size_t at = 0;
        while (at < line.size()) {
            size_t end = at;
            while (end < line.size() && is_name(line[end])) ++end;
            if (end > at && end < line.size() && line[end] == '-' &&
                is_uuid(line.substr(end + 1, kUuidSize))) {
                const std::string id(line.substr(at, end + 1 + kUuidSize - at));
                const std::string name(line.substr(at, end - at));
                auto [known, is_new] = short_ids_.try_emplace(id);
                if (is_new) known->second = fmt::format("{}#{}", name, short_ids_.size());
                real_ids_[known->second] = id;
                text += known->second;
                at = end + 1 + kUuidSize;
                continue;
            }
            if (end == at) ++end;
            text += line.substr(at, end - at);
            at = end;
        }
        return text;
    }
    std::string with_real_ids(std::string line) const {
        // The longest first: c1#1 is in c1#12.
        for (auto known = real_ids_.rbegin(); known != real_ids_.rend(); ++known) {
            const auto& [name, id] = *known;
            for (size_t at = 0; (at = line.find(name, at)) != std::string::npos; at += id.size())
                line.replace(at, name.size(), id);
        }
        return line;
    }

    GroupConfig config_;
    Prng entropy_{1, "member ids"};
    std::unique_ptr<GroupCoordinator> coordinator_;
    Moment now_;
    uint64_t last_request_ = 0;
    bool hold_ = false;
    std::vector<GroupAppend> held_;
    std::vector<LogRecord> log_;
    std::map<std::string, std::string> short_ids_;
    std::map<std::string, std::string> real_ids_;
    std::string text_;
};

}  // namespace

std::string run_transcript(std::string_view transcript) { return Run().run(transcript); }

}  // namespace weir::kafka

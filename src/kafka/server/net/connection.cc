#include "kafka/server/net/connection.h"

#include "base/units.h"
#include "kafka/server/net/forward.h"
#include "kafka/server/net/frame_reader.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/producing.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

// A client must take so much of an answer within request.timeout.ms, or sooner where
// Server::hurry_slow_clients() says so.
constexpr size_t kSendBytes = 256_KiB;
// Answers that are ready are sent together, up to so many bytes.
constexpr size_t kGatherBytes = 64_KiB;
// Answers up to this size are not counted: how many there are is bounded by max.connections and
// requests in flight.
constexpr size_t kSmallAnswerBytes = 4_KiB;
// How long the requests of a client that has gone may go on: as long as the longest time-out that a
// Produce can ask for.
constexpr Duration kFarewellMax = 300s;

std::string host_of(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

void begin_response(Request& request) {
    const ApiInfo& api = api_info(request.handler->key);
    request.out.write_i32(0);  // the size
    ResponseHeader{request.header.correlation_id}.encode(
        request.out, api.response_header_version(request.version()));
}

void end_response(Request& request) {
    request.out.patch_i32(0, static_cast<int32_t>(request.out.size() - sizeof(int32_t)));
}

// The answer's bytes in order: what was written, with what it refers to in between.
void gather(const ByteWriter& out, std::vector<Bytes>& parts) {
    const Bytes all(out.inline_bytes());
    size_t from = 0;
    for (const ByteWriter::External& external : out.externals()) {
        if (external.at > from) parts.push_back(all.subspan(from, external.at - from));
        parts.push_back(external.bytes);
        from = external.at;
    }
    if (from < all.size()) parts.push_back(all.subspan(from));
}

}  // namespace

Connection::Connection(Server& server, runtime::ByteStream& stream, std::string listener,
                       runtime::StopToken kill, runtime::StopToken drain)
    : server_(server),
      stream_(stream),
      listener_(std::move(listener)),
      client_host_(host_of(stream.peer())),
      kill_(*this, &Connection::end),
      drain_(*this, &Connection::end_reads),
      tickets_{.connection = server.next_connection_id()} {
    if (kill.stop_requested()) {
        end();
    } else {
        kill.subscribe(kill_);
    }
    if (drain.stop_requested()) {
        end_reads();
    } else {
        drain.subscribe(drain_);
    }
}

Connection::~Connection() = default;

void Connection::end() {
    stop_.request_stop();
    end_reads();
}

void Connection::end_reads() {
    stop_reads_.request_stop();
    hurry_.request_stop();
}

void Connection::finish_received() {
    if (farewell_deadline_ != Instant::never()) return;
    hurry_.request_stop();
    gone_.request_stop();
    farewell_deadline_ = Shard::current().now() + kFarewellMax;
    if (farewell_deadline_ < watched_until_) deadline_moved_.notify_all();
}

Task<void> Connection::run() {
    scope_.spawn(watch());
    scope_.spawn(write_responses());
    co_await read_requests();
    reading_ = false;
    answered_.notify_all();
    // The writer ends when all is answered or the connection is broken; then the watch has nothing
    // left to watch.
    while (!over_) (void)co_await answered_.wait();
    end();
    deadline_moved_.notify_all();
    co_await stream_.shutdown();
    co_await scope_.join();
    co_await leave_owners();
}

Task<void> Connection::leave_owners() { return forget_tickets(server_, tickets_); }

void Connection::evict() {
    Shard::current().log().debug("kafka", "an idle connection makes room", "peer={}",
                                 stream_.peer());
    idle_.unlink();
    end();
}

void Connection::update_idle() {
    const bool idle = reading_ && !stop_.stop_requested() && in_flight_.empty() && !within_frame_;
    if (idle == idle_.linked()) return;
    idle_.unlink();
    if (!idle) return;
    idle_.since = Shard::current().now();
    server_.idle(!asked_).push_back(idle_);
}

void Connection::set_read_deadline(Duration from_now) {
    read_deadline_ = Shard::current().now() + from_now;
    if (read_deadline_ < watched_until_) deadline_moved_.notify_all();
}

Task<void> Connection::watch() {
    while (!stop_.stop_requested()) {
        const Instant deadline = std::min({read_deadline_, write_deadline_, farewell_deadline_});
        if (deadline <= Shard::current().now()) {
            // Only who owes us nothing and is owed nothing is idle: while requests are under way,
            // silence is in order.
            if (std::min(write_deadline_, farewell_deadline_) > deadline && !within_frame_ &&
                !in_flight_.empty()) {
                set_read_deadline(std::chrono::milliseconds(
                    std::max<int64_t>(server_.settings().idle_ms_max, 1000)));
                continue;
            }
            Shard::current().log().debug("kafka", "a connection was silent for too long", "peer={}",
                                         stream_.peer());
            end();
            break;
        }
        watched_until_ = deadline;
        (void)co_await deadline_moved_.wait({.deadline = deadline});
    }
}

Task<void> Connection::read_requests() {
    FrameReader frames(stream_, server_.memory());
    while (!stop_reads_.stop_requested()) {
        const cluster::BrokerSettings& settings = server_.settings();
        while (in_flight_.size() >= static_cast<size_t>(settings.requests_in_flight_max)) {
            read_deadline_ = Instant::never();
            if (!co_await room_.wait({.stop = stop_reads_.token()})) co_return;
        }
        within_frame_ = false;
        const int64_t idle_ms = settings.idle_ms_max;
        if (idle_ms >= 0) {
            set_read_deadline(std::chrono::milliseconds(idle_ms));
        } else {
            read_deadline_ = Instant::never();
        }
        const FrameLimits limits{
            .size_max = static_cast<size_t>(settings.request_bytes_max),
            .on_progress =
                [this] {
                    within_frame_ = true;
                    update_idle();
                    set_read_deadline(server_.settings().request_timeout);
                },
        };
        update_idle();
        auto frame = co_await frames.next(limits, stop_reads_.token());
        idle_.unlink();
        if (!frame) {
            if (frame.error().code == ErrorCode::kMalformed ||
                frame.error().code == ErrorCode::kResourceExhausted) {
                ++server_.metrics().requests_malformed;
                Shard::current().log().warn("kafka", "a connection is closed for its request",
                                            "peer={} error={}", stream_.peer(),
                                            frame.error().to_string());
                end();
            }
            // The client has closed its side. What it had sent before is carried out, as Kafka does
            // (Selector.close): a producer with acks=0 sends its last records and closes.
            if (frame.error().code == ErrorCode::kEndOfStream ||
                frame.error().code == ErrorCode::kIo)
                finish_received();
            read_deadline_ = Instant::never();
            co_return;
        }
        server_.metrics().bytes_received += frame->size() + sizeof(int32_t);
        if (!accept_frame(std::move(*frame))) {
            end();
            co_return;
        }
    }
}

bool Connection::accept_frame(runtime::SharedBytes frame) {
    auto request = std::make_unique<Request>(server_, client_host_);
    request->principal = principal_;
    request->listener = listener_;
    request->arrived = Shard::current().now();
    request->stop = stop_.token();
    request->gone = gone_.token();
    request->hurry = hurry_.token();
    request->drain = stop_reads_.token();
    ByteReader in(frame.bytes());
    auto header = RequestHeader::decode(in);
    const auto refuse = [&](std::string_view why) {
        ++server_.metrics().requests_malformed;
        Shard::current().log().warn("kafka", "a connection is closed for its request",
                                    "peer={} api={} version={} error=\"{}\"", stream_.peer(),
                                    request->header.api_key, request->header.api_version, why);
        return false;
    };
    if (!header) return refuse(header.error().message);
    request->header = std::move(*header);
    request->handler = find_handler(request->header.api_key);
    if (request->handler == nullptr) return refuse("this API is not served");
    const Handler& handler = *request->handler;
    // ApiVersions is answered in any version: that is how a client learns which there are
    // (KIP-511).
    const bool version_known =
        request->version() >= handler.version_min && request->version() <= handler.version_max;
    if (!version_known && handler.key != ApiKey::kApiVersions)
        return refuse("this version of the API is not served");
    const auto key = static_cast<size_t>(request->header.api_key);
    if (key < ServerMetrics::kApis) ++server_.metrics().requests[key];
    request->body = frame.bytes().last(in.remaining());
    request->frame = std::move(frame);
    asked_ = true;
    in_flight_.push_back(std::move(request));
    start_eligible();
    return true;
}

void Connection::start_eligible() {
    if (stop_.stop_requested()) return;
    for (; started_ < in_flight_.size(); ++started_) {
        Request& request = *in_flight_[started_];
        const Overlap overlap = request.handler->overlap;
        if (working_alone_ > 0 || (overlap == Overlap::kNone && working_ > 0)) return;
        if (overlap == Overlap::kFetch && fetches_unanswered_ > 0) return;
        ++working_;
        if (overlap == Overlap::kNone) ++working_alone_;
        if (overlap == Overlap::kFetch) ++fetches_unanswered_;
        if (overlap == Overlap::kProduce) {
            request.turn = Turn(produce_turns_);
            request.tickets = &tickets_;
        }
        scope_.spawn(work(&request), overlap == Overlap::kProduce ? runtime::WorkClass::kProduce
                                     : overlap == Overlap::kFetch ? runtime::WorkClass::kFetch
                                                                  : runtime::WorkClass::kNetwork);
    }
}

Task<Result<void>> Connection::run(Request* request) {
    // How large an answer is nobody knows before it is made; the last one of this API says.
    const auto key = static_cast<size_t>(request->handler->key);
    uint64_t& usual = server_.metrics().answer_bytes[std::min(key, ServerMetrics::kApis - 1)];
    // What waits for other clients, or for data, must not keep memory meanwhile.
    const bool waits = request->handler->overlap == Overlap::kFetch ||
                       request->handler->key == ApiKey::kJoinGroup ||
                       request->handler->key == ApiKey::kSyncGroup;
    if (usual > kSmallAnswerBytes && !waits) {
        request->out_memory = co_await runtime::try_(server_.reserve_answer(usual, stop_.token()));
    }
    const auto result = request->handler->at_controller ? co_await run_at_controller(*request)
                                                        : co_await request->handler->run(*request);
    const uint64_t size = request->out.inline_bytes().size();
    usual = std::max(size, usual - usual / 8);
    request->out_memory = {};
    if (size > kSmallAnswerBytes) request->out_memory = server_.charge_answer(size);
    co_return result;
}

Task<void> Connection::work(Request* request) {
    begin_response(*request);
    const auto result = co_await run(request);
    request->turn.done();
    if (!result) {
        // A request that was cut short by the connection's own end is nobody's fault.
        if (!stop_.stop_requested()) {
            ++server_.metrics().requests_malformed;
            Shard::current().log().warn("kafka", "a connection is closed for its request",
                                        "peer={} api={} version={} error={}", stream_.peer(),
                                        request->header.api_key, request->version(),
                                        result.error().to_string());
        }
        request->close_after = true;
        request->no_response = true;
    } else if (!request->no_response) {
        end_response(*request);
    }
    // What came in is not needed for the answer.
    request->body = {};
    request->frame = {};
    request->done = true;
    --working_;
    if (request->handler->overlap == Overlap::kNone) --working_alone_;
    start_eligible();
    if (in_flight_.front()->done) answered_.notify_all();
}

Task<void> Connection::write_responses() {
    while (!stop_.stop_requested()) {
        if (in_flight_.empty() || !in_flight_.front()->done) {
            if (!reading_ && in_flight_.empty()) break;
            (void)co_await answered_.wait({.stop = stop_.token()});
            continue;
        }
        // Those at the front that are done, together.
        std::vector<std::unique_ptr<Request>> ready;
        std::vector<Bytes> parts;
        size_t size = 0;
        bool close = false;
        const Instant now = Shard::current().now();
        while (!in_flight_.empty() && in_flight_.front()->done && size < kGatherBytes && !close) {
            Request& request = *in_flight_.front();
            close = request.close_after;
            if (!request.no_response) {
                gather(request.out, parts);
                size += request.out.size();
            }
            LatencyCounts& latency =
                request.handler->key == ApiKey::kProduce ? server_.metrics().produce_latency
                : request.handler->key == ApiKey::kFetch ? server_.metrics().fetch_latency
                                                         : server_.metrics().other_latency;
            latency.add(now - request.arrived);
            if (request.handler->overlap == Overlap::kFetch) --fetches_unanswered_;
            ready.push_back(std::move(in_flight_.front()));
            in_flight_.pop_front();
            --started_;
        }
        if (size > 0) {
            if (!discards_answers_ && !co_await send(std::move(parts))) {
                if (stop_.stop_requested()) break;
                // Nobody reads answers any more. Requests that came before are still carried out;
                // the reader finds their end behind the shutdown.
                discards_answers_ = true;
                sending_.unlink();
                write_deadline_ = Instant::never();
                finish_received();
                co_await stream_.shutdown();
            }
            if (!discards_answers_) server_.metrics().bytes_sent += size;
        }
        ready.clear();
        if (close) break;
        update_idle();
        room_.notify_all();
        start_eligible();
    }
    over_ = true;
    end();
    answered_.notify_all();
}

Task<Result<void>> Connection::send(std::vector<Bytes> parts) {
    const Duration timeout = server_.settings().request_timeout;
    size_t at = 0;
    while (at < parts.size()) {
        std::vector<Bytes> piece;
        size_t size = 0;
        while (at < parts.size() && size < kSendBytes) {
            Bytes& part = parts[at];
            const size_t take = std::min(part.size(), kSendBytes - size);
            piece.push_back(part.first(take));
            part = part.subspan(take);
            size += take;
            if (part.empty()) ++at;
        }
        write_began_ = Shard::current().now();
        write_deadline_ = write_began_ + timeout;
        if (write_deadline_ < watched_until_) deadline_moved_.notify_all();
        if (!sending_.linked()) server_.sending().push_back(sending_);
        co_await runtime::try_(stream_.write_all(std::move(piece), stop_.token()));
    }
    sending_.unlink();
    write_deadline_ = Instant::never();
    co_return Result<void>{};
}

void Connection::expect_progress(Duration patience) {
    write_deadline_ = std::min(write_deadline_, write_began_ + patience);
    if (write_deadline_ < watched_until_) deadline_moved_.notify_all();
}

}  // namespace weir::kafka

#include "rpc/connection.h"

#include <algorithm>

#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::rpc {

using runtime::Shard;
using runtime::Task;

Connection::Connection(runtime::ByteStream& stream, Owner& owner, const EndpointOptions& options,
                       EndpointMetrics& metrics, runtime::StopToken parent)
    : stream_(stream),
      owner_(owner),
      options_(options),
      metrics_(metrics),
      forward_(*this),
      reader_(stream, *options.memory, options.message_bytes_max, options.memory_wait_max),
      outbox_(options.control_queue_bytes_max, options.data_queue_bytes_max),
      since_(Shard::current().now()),
      spoke_(since_) {
    if (parent.stop_requested()) {
        end();
    } else {
        parent.subscribe(forward_);
    }
}

void Connection::end_with(Error error) {
    if (ended()) return;
    error_ = std::move(error);
    end();
}

Task<void> Connection::run() {
    scope_.spawn(write());
    scope_.spawn(watch());
    co_await read();
    end();
    co_await stream_.shutdown();
    co_await scope_.join();
}

Task<void> Connection::read() {
    uint64_t bytes_counted = 0;
    while (true) {
        reader_.limit_messages(owner_.message_bytes_max(options_.message_bytes_max));
        auto incoming = co_await reader_.next(stop_.token());
        metrics_.bytes_received += reader_.bytes_read() - bytes_counted;
        bytes_counted = reader_.bytes_read();
        if (ended()) co_return;
        Result<void> taken;
        if (!incoming) {
            taken = fail(std::move(incoming).error());
        } else if (incoming->type != FrameType::kKeepAlive) {
            ++metrics_.messages_received;
            taken = owner_.receive(std::move(*incoming));
        }
        if (!taken) {
            if (taken.error().code == ErrorCode::kMalformed ||
                taken.error().code == ErrorCode::kResourceExhausted) {
                ++metrics_.frames_malformed;
                Shard::current().log().warn("rpc", "a connection is closed for what came",
                                            "peer={} error=\"{}\"", stream_.peer(),
                                            taken.error().to_string());
            }
            end_with(std::move(taken).error());
            co_return;
        }
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
}

void Connection::push(Outgoing outgoing) {
    CHECK(outgoing.message.size() <= options_.message_bytes_max);
    outbox_.push(std::move(outgoing));
    work_.notify_all();
}

Task<Result<void>> Connection::wait_for_room(Lane lane, size_t size) {
    while (!outbox_.fits(lane, size))
        co_await runtime::try_(co_await room_.wait({.stop = stop_.token()}));
    co_return Result<void>{};
}

Task<void> Connection::write() {
    Outbox::Batch batch;
    while (!ended()) {
        if (outbox_.empty()) {
            (void)co_await work_.wait({.stop = stop_.token()});
            // What else is sent in this turn goes along.
            co_await runtime::yield();
            continue;
        }
        outbox_.gather(&batch);
        writing_ = true;
        const auto sent = co_await stream_.write_all(std::move(batch.parts), stop_.token());
        writing_ = false;
        if (!sent) {
            end_with(sent.error());
            co_return;
        }
        spoke_ = Shard::current().now();
        ++metrics_.writes;
        metrics_.messages_sent += batch.finished.size();
        metrics_.bytes_sent += batch.bytes;
        outbox_.free(batch);
        batch.clear();
        room_.notify_all();
    }
}

Task<void> Connection::watch() {
    while (!ended()) {
        Shard& shard = Shard::current();
        const Instant now = shard.now();
        const Instant patience_end = reader_.heard() + options_.silence_max;
        if (shard.awake_now() >= patience_end) {
            end_with({.code = ErrorCode::kTimedOut, .message = "the peer is silent"});
            break;
        }
        if (!owner_.wanted()) {
            end_with({.code = ErrorCode::kCancelled, .message = "not used"});
            break;
        }
        if (!writing_ && outbox_.empty() && now >= spoke_ + options_.keep_alive) {
            push({.type = FrameType::kKeepAlive, .message = {.lane = Lane::kControl}});
            spoke_ = now;
        }
        const Instant next = writing_ ? now + options_.keep_alive : spoke_ + options_.keep_alive;
        (void)co_await runtime::sleep_until(
            std::min(shard.when_awake(patience_end), std::max(next, now + 1ms)), stop_.token());
    }
}

}  // namespace weir::rpc

// For tests: a stream that gives bytes in pieces of given sizes, and then ends.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/socket.h"

namespace weir::rpc {

class PiecesStream final : public runtime::ByteStream {
  public:
    // No piece size: as much as is asked for.
    explicit PiecesStream(std::vector<uint8_t> bytes, std::vector<size_t> piece_sizes = {})
        : bytes_(std::move(bytes)), piece_sizes_(std::move(piece_sizes)) {}

    runtime::Task<Result<size_t>> read_some(MutableBytes into, runtime::StopToken) override {
        CHECK(!into.empty());
        if (at_ == bytes_.size()) co_return fail(ErrorCode::kEndOfStream);
        const size_t wanted =
            piece_sizes_.empty() ? into.size() : piece_sizes_[reads_++ % piece_sizes_.size()];
        const size_t count =
            std::min({std::max<size_t>(wanted, 1), into.size(), bytes_.size() - at_});
        std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(at_), count, into.begin());
        at_ += count;
        co_return count;
    }
    runtime::Task<Result<void>> write_all(std::vector<Bytes>, runtime::StopToken) override {
        co_return fail(ErrorCode::kUnsupported);
    }
    runtime::Task<void> shutdown() override { co_return; }
    runtime::Task<void> close() override { co_return; }
    const std::string& peer() const override { return peer_; }

    size_t taken() const { return at_; }

  private:
    std::vector<uint8_t> bytes_;
    std::vector<size_t> piece_sizes_;
    size_t at_ = 0;
    size_t reads_ = 0;
    std::string peer_ = "10.0.0.1:4711";
};

}  // namespace weir::rpc

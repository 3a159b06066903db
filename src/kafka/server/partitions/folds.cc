#include "kafka/server/partitions/folds.h"

#include <algorithm>
#include <utility>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"

namespace weir::kafka {
namespace {

// Producers alone begin with their own format, which is 1 or 2 and stays below this.
constexpr uint8_t kSeveralFolds = 0x80;

}  // namespace

void LogFolds::add(LogFold& fold) {
    CHECK(std::ranges::none_of(folds_, [&](LogFold* has) { return has->kind() == fold.kind(); }));
    folds_.push_back(&fold);
}

storage::CapturedState LogFolds::capture() const {
    std::vector<std::pair<LogFold::Kind, std::vector<uint8_t>>> snapshots;
    int64_t floor = 0;
    for (const LogFold* fold : folds_) {
        floor = std::max(floor, fold->floor());
        std::vector<uint8_t> snapshot = fold->snapshot();
        if (!snapshot.empty()) snapshots.emplace_back(fold->kind(), std::move(snapshot));
    }
    if (snapshots.empty()) return {{}, floor};
    if (snapshots.size() == 1 && snapshots.front().first == LogFold::Kind::kProducers)
        return {std::move(snapshots.front().second), floor};
    ByteWriter out;
    out.write_u8(kSeveralFolds);
    out.write_u8(static_cast<uint8_t>(snapshots.size()));
    for (const auto& [kind, snapshot] : snapshots) {
        out.write_u8(static_cast<uint8_t>(kind));
        out.write_unsigned_varlong(snapshot.size());
        out.write_bytes(snapshot);
    }
    return {out.flatten(), floor};
}

Result<void> LogFolds::restore(Bytes snapshot, int64_t end_offset) {
    std::vector<Bytes> parts(folds_.size());
    const auto part_of = [&](LogFold::Kind kind) -> Bytes* {
        for (size_t i = 0; i < folds_.size(); ++i)
            if (folds_[i]->kind() == kind) return &parts[i];
        return nullptr;
    };
    if (!snapshot.empty() && snapshot.front() != kSeveralFolds) {
        Bytes* producers = part_of(LogFold::Kind::kProducers);
        if (producers == nullptr)
            return fail(ErrorCode::kUnsupported, "the state of producers, which are not folded");
        *producers = snapshot;
    } else if (!snapshot.empty()) {
        ByteReader in(snapshot.subspan(1));
        const uint8_t count = in.read_u8();
        for (uint8_t i = 0; i < count && in.ok(); ++i) {
            const auto kind = static_cast<LogFold::Kind>(in.read_u8());
            const Bytes bytes = in.read_bytes(in.read_unsigned_varlong());
            if (!in.ok()) break;
            Bytes* part = part_of(kind);
            if (part == nullptr)
                return fail(ErrorCode::kUnsupported, "state of a kind that this version lacks");
            if (!part->empty() || bytes.empty()) in.set_failed();
            *part = bytes;
        }
        if (!in.ok() || in.remaining() != 0) return fail(ErrorCode::kMalformed, "state of folds");
    }
    for (size_t i = 0; i < folds_.size(); ++i) {
        if (auto restored = folds_[i]->restore(parts[i], end_offset); !restored) return restored;
    }
    return {};
}

}  // namespace weir::kafka

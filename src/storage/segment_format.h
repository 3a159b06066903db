// The bytes of a segment: runs of entries, each with a header, a table of its entries and their
// payloads back to back; and, when the segment is closed, a footer that lists the runs. Pure code
// over bytes. Format, with an example in hex: docs/formats/segment.md.
#pragma once

#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "runtime/buffer.h"
#include "storage/entry.h"
#include "storage/journal_format.h"

namespace weir::storage {

inline constexpr uint32_t kRunMagic = 0x314e5257;      // "WRN1"
inline constexpr uint32_t kFooterMagic = 0x31465357;   // "WSF1"
inline constexpr uint32_t kTrailerMagic = 0x31545357;  // "WST1"
inline constexpr uint16_t kSegmentVersion = 1;
inline constexpr size_t kRunHeaderBytes = 128;
inline constexpr size_t kTableItemBytes = 48;
inline constexpr size_t kFooterHeaderBytes = 64;
inline constexpr size_t kFooterItemBytes = 48;
inline constexpr size_t kTrailerBytes = 32;

struct RunHeader {
    LogId log;
    uint32_t segment = 0;
    uint32_t entries = 0;
    uint64_t position = 0;       // of the run in its file
    uint32_t length = 0;         // of the whole run; a multiple of kPage
    uint32_t payload_bytes = 0;  // that follow the table
    Position first;
    Position end;
    int64_t max_timestamp_ms = -1;
    int64_t written_ms = 0;
    uint32_t crc =
        0;  // of the header, which holds those of table and payloads: names the run's content

    size_t table_end() const { return kRunHeaderBytes + size_t{entries} * kTableItemBytes; }
};

// What a footer and an index in memory know of a run.
struct RunPlace {
    Position first;
    Position end;  // of what still counts of it: a truncation may have cut it
    int64_t max_timestamp_ms = -1;
    uint64_t position = 0;
    uint32_t length = 0;
    uint64_t next() const { return position + length; }
};

// One entry as it goes into a run.
struct RunEntry {
    EntryInfo info;
    Bytes payload;
    uint32_t summary_bytes = 0;
};

size_t run_length(size_t entries, size_t payload_bytes);
// What one step over a run copies and sums, or checks: an entry may have 100 MB. An ordinary run
// takes two steps.
inline constexpr size_t kRunStepBytes = size_t{1} << 20;

// Writes a run in steps of bounded length:
//   RunBuild build(to, entries, header);
//   while (build.step()) co_await yield();
//   … build.header() …
class RunBuild {
  public:
    // `to` holds run_length() bytes; it and the entries' payloads outlive this. `header` gives log,
    // segment, position, written_ms; the rest is filled in.
    RunBuild(MutableBytes to, std::vector<RunEntry> entries, const RunHeader& header);
    // Whether there is more to do.
    bool step();
    // After the last step.
    const RunHeader& header() const { return header_; }

  private:
    void write_table();
    void seal();

    MutableBytes to_;
    std::vector<RunEntry> entries_;
    RunHeader header_;
    size_t entry_ = 0;  // the next to copy, and how much of it was
    size_t copied_ = 0;
    size_t payload_at_ = 0;  // in `to`
    uint32_t crc_ = 0;       // of the payloads so far
};

// All steps at once. `header` gives what RunBuild asks for, and gets the rest.
void build_run(MutableBytes to, const std::vector<RunEntry>& entries, RunHeader* header);

// Checks magic, version, owner-independent sanity and the header's own checksum; `bytes` may end
// after the header.
Result<RunHeader> parse_run_header(Bytes bytes);

// A whole run in memory.
class RunView {
  public:
    // Verifies table and payloads when asked to. kCorrupt.
    static Result<RunView> parse(Bytes run, bool verify);
    RunView() = default;

    const RunHeader& header() const { return header_; }
    uint32_t count() const { return header_.entries; }
    struct Item {
        EntryInfo info;
        uint32_t summary_bytes;
        size_t payload_at;  // in the run's bytes
        size_t payload_size;
    };
    Item item(uint32_t index) const;
    // The first entry whose end is beyond `offset`, i.e. the one that holds it; count() if there is
    // none.
    uint32_t find(int64_t offset) const;

  private:
    friend class RunCheck;
    Result<void> check(uint32_t payloads_crc) const;

    Bytes bytes_;
    RunHeader header_;
};

// RunView::parse() with its checksums, in steps of bounded length. `run` outlives this.
class RunCheck {
  public:
    explicit RunCheck(Bytes run) : run_(run) {}
    // Whether there is more to do.
    bool step();
    // After the last step. kCorrupt.
    const Result<RunView>& result() const { return result_; }

  private:
    Bytes run_;
    Bytes rest_;  // of the payloads
    uint32_t crc_ = 0;
    Result<RunView> result_;
    bool begun_ = false;
};

// A footer ends in a trailer, so that a closed segment is found from its last bytes.
std::vector<uint8_t> build_footer(LogId log, uint32_t segment, uint64_t position,
                                  const std::vector<RunPlace>& runs);
struct Footer {
    LogId log;
    uint32_t segment = 0;
    std::vector<RunPlace> runs;
};
Result<Footer> parse_footer(Bytes footer);
struct Trailer {
    uint64_t footer_position = 0;
    uint32_t footer_length = 0;
};
Result<Trailer> parse_trailer(Bytes last_bytes_of_file);

}  // namespace weir::storage

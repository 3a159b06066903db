// Reads and writes the marks of a journal's file (FileMark). docs/formats/journal.md.
#pragma once

#include <optional>

#include "base/result.h"
#include "runtime/file.h"
#include "runtime/task.h"
#include "storage/journal_format.h"

namespace weir::storage {

struct FileMarks {
    std::optional<FileMark> newest;  // nothing: neither page holds a whole mark of this file
    uint32_t next_slot = 0;          // where the next mark goes: never over the newest
};

// Of the file that is `like` says in journal, shard, sequence and size. kIo.
runtime::Task<Result<FileMarks>> read_marks(runtime::File* file, FileMark like);
// Without a flush. kIo, kDiskFull.
runtime::Task<Result<void>> write_mark(runtime::File* file, uint32_t slot, FileMark mark);

}  // namespace weir::storage

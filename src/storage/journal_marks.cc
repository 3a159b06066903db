#include "storage/journal_marks.h"

#include "runtime/buffer.h"
#include "storage/layout.h"

namespace weir::storage {

using runtime::Task;
using runtime::try_;

namespace {

bool is_newer(const FileMark& mark, const FileMark& than) {
    if (mark.has_successor != than.has_successor) return mark.has_successor;
    return mark.durable_block > than.durable_block;
}

}  // namespace

Task<Result<FileMarks>> read_marks(runtime::File* file, FileMark like) {
    FileMarks marks;
    if (block_room(like.file_bytes) == 0) co_return marks;
    runtime::IoBuffer pages = runtime::IoBuffer::allocate(kMarkSlots * kPage);
    pages.set_size(co_await try_(file->read(mark_offset(like.file_bytes, 0), pages.all())));
    for (uint32_t slot = 0; slot < kMarkSlots && (slot + 1) * kPage <= pages.size(); ++slot) {
        const auto mark = decode_file_mark(pages.filled().subspan(slot * kPage, kPage));
        if (!mark || mark->journal_id != like.journal_id || mark->shard != like.shard ||
            mark->file_sequence != like.file_sequence || mark->file_bytes != like.file_bytes)
            continue;
        if (marks.newest && !is_newer(*mark, *marks.newest)) continue;
        marks.newest = mark;
        marks.next_slot = (slot + 1) % kMarkSlots;
    }
    co_return marks;
}

Task<Result<void>> write_mark(runtime::File* file, uint32_t slot, FileMark mark) {
    runtime::IoBuffer page = runtime::IoBuffer::allocate(kPage);
    encode_file_mark({page.data(), kPage}, mark);
    co_return co_await file->write(mark_offset(mark.file_bytes, slot), {page.data(), kPage});
}

}  // namespace weir::storage

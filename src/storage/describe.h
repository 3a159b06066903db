// Stored files as text for a person (`weir debug journal|segment|checkpoint FILE`). They take
// whatever a file holds, damaged or not: what does not hold is named where it lies, and the rest is
// printed. Pure code over bytes.
#pragma once

#include <string>

#include "base/bytes.h"

namespace weir::storage {

std::string describe_journal(Bytes file);
std::string describe_segment(Bytes file);
std::string describe_checkpoint(Bytes file);

}  // namespace weir::storage

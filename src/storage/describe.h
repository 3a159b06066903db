// Stored files as text for a person (`weir debug journal|segment|checkpoint FILE`). Accepts any
// content, damaged or not: names each wrong part where it lies, and prints the rest. Pure code over
// bytes.
#pragma once

#include <string>

#include "base/bytes.h"

namespace weir::storage {

std::string describe_journal(Bytes file);
std::string describe_segment(Bytes file);
std::string describe_checkpoint(Bytes file);

}  // namespace weir::storage

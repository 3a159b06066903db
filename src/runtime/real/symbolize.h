// Names for code addresses of this process, from its own symbol table. Slow (it reads the program's
// file): for reports, off the shards.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace weir::runtime {

// One line an address: "function+0x12", or "libc.so.6+0x1234", or the bare address.
std::vector<std::string> symbolize(std::span<const uintptr_t> addresses);

}  // namespace weir::runtime

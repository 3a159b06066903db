#include "runtime/real/symbolize.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>

namespace weir::runtime {
namespace {

// A file in memory, read only.
class MappedFile {
  public:
    explicit MappedFile(const char* path) {
        const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return;
        struct stat status{};
        if (fstat(fd, &status) == 0 && status.st_size > 0) {
            size_ = static_cast<size_t>(status.st_size);
            void* at = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
            if (at != MAP_FAILED) data_ = static_cast<const uint8_t*>(at);
        }
        ::close(fd);
    }
    ~MappedFile() {
        if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
    }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    // `count` things at `offset`, or nothing when they do not lie in the file.
    template <class T>
    std::span<const T> at(uint64_t offset, uint64_t count) const {
        if (data_ == nullptr || offset > size_ || count > (size_ - offset) / sizeof(T)) return {};
        if (offset % alignof(T) != 0) return {};
        return {reinterpret_cast<const T*>(data_ + offset), static_cast<size_t>(count)};
    }

  private:
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

// Where the main program was loaded: what its symbols' values are relative to.
uintptr_t load_address() {
    uintptr_t address = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* out) {
            *static_cast<uintptr_t*>(out) = info->dlpi_addr;
            return 1;  // the first is the program itself
        },
        &address);
    return address;
}

struct Found {
    std::string_view name;
    uintptr_t start = 0;
};

// The function of the program that each address lies in.
std::vector<Found> find_functions(const MappedFile& file, std::span<const uintptr_t> addresses) {
    std::vector<Found> found(addresses.size());
    const auto header = file.at<Elf64_Ehdr>(0, 1);
    if (header.empty() || std::memcmp(header[0].e_ident, ELFMAG, SELFMAG) != 0) return found;
    const auto sections = file.at<Elf64_Shdr>(header[0].e_shoff, header[0].e_shnum);
    for (const Elf64_Shdr& section : sections) {
        if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
        const Elf64_Shdr& strings = sections[section.sh_link];
        const auto names = file.at<char>(strings.sh_offset, strings.sh_size);
        for (const Elf64_Sym& symbol :
             file.at<Elf64_Sym>(section.sh_offset, section.sh_size / sizeof(Elf64_Sym))) {
            if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_name >= names.size())
                continue;
            for (size_t i = 0; i < addresses.size(); ++i) {
                if (addresses[i] - symbol.st_value >= symbol.st_size) continue;
                const char* name = names.data() + symbol.st_name;
                found[i] = {{name, strnlen(name, names.size() - symbol.st_name)}, symbol.st_value};
            }
        }
    }
    return found;
}

std::string demangle(std::string_view name) {
    int status = 0;
    const std::string text(name);
    const std::unique_ptr<char, void (*)(void*)> readable(
        abi::__cxa_demangle(text.c_str(), nullptr, nullptr, &status), &std::free);
    return status == 0 && readable ? readable.get() : text;
}

// "a::(anonymous namespace)::f<int>(long, b<c>) [clone .resume]" is "a::f<>" to a reader of a
// stack.
std::string shorten(std::string_view name) {
    constexpr std::string_view kAnonymous = "(anonymous namespace)::";
    std::string result;
    int angles = 0;
    for (size_t i = 0; i < name.size(); ++i) {
        const char c = name[i];
        if (name.substr(i).starts_with(kAnonymous)) {
            i += kAnonymous.size() - 1;
        } else if (c == '<') {
            if (angles++ == 0) result += "<>";
        } else if (c == '>') {
            --angles;
        } else if (c == '(' && angles == 0 && !result.ends_with("operator")) {
            break;
        } else if (angles == 0) {
            result += c;
        }
    }
    return result;
}

std::string in_library(uintptr_t address) {
    Dl_info info{};
    if (dladdr(reinterpret_cast<void*>(address), &info) == 0 || info.dli_fname == nullptr) {
        return fmt::format("{:#x}", address);
    }
    const std::string_view path = info.dli_fname;
    return fmt::format("{}+{:#x}", path.substr(path.rfind('/') + 1),
                       address - reinterpret_cast<uintptr_t>(info.dli_fbase));
}

}  // namespace

std::vector<std::string> symbolize(std::span<const uintptr_t> addresses) {
    const uintptr_t base = load_address();
    std::vector<uintptr_t> relative;
    for (const uintptr_t address : addresses) relative.push_back(address - base);
    const MappedFile file("/proc/self/exe");
    const std::vector<Found> found = find_functions(file, relative);
    std::vector<std::string> lines;
    for (size_t i = 0; i < addresses.size(); ++i) {
        lines.push_back(found[i].name.empty()
                            ? in_library(addresses[i])
                            : fmt::format("{}+{:#x}", shorten(demangle(found[i].name)),
                                          relative[i] - found[i].start));
    }
    return lines;
}

}  // namespace weir::runtime

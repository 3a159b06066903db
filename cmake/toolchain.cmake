# Compiler, flags and sanitizers, the same for every target. docs/dependencies.md says why clang-19 alone.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)

if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang" OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
  message(FATAL_ERROR "Weir is built with clang++-19 (see docs/dependencies.md); this is ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # Relative paths, so that every checkout shares one cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
endif()

set(WEIR_SANITIZE "" CACHE STRING "address (with undefined) or thread; empty for none")
add_compile_options(-Wall -Wextra -Wconversion -Wno-sign-conversion -Wno-missing-designated-field-initializers -Werror -fno-omit-frame-pointer
                    -D_GLIBCXX_ASSERTIONS -gz -fdebug-prefix-map=${CMAKE_SOURCE_DIR}=. -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
set(CMAKE_CXX_FLAGS_DEBUG "-Og -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
add_link_options(-fuse-ld=lld -Wl,--gc-sections)
if(WEIR_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
  add_compile_definitions(WEIR_ASAN=1)
elseif(WEIR_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
  add_compile_definitions(WEIR_TSAN=1)
else()
  add_link_options(-static-libstdc++ -static-libgcc)
endif()
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  add_compile_options(-march=x86-64-v2)  # SSE4.2 and POPCNT: every server of the last fifteen years
endif()
set(CMAKE_FIND_LIBRARY_SUFFIXES .a)  # everything but the C library is linked statically

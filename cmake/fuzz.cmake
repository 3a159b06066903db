# weir_fuzz(kafka/records batch_fuzz.cc DEPS base)     one libFuzzer program: what its sources' LLVMFuzzerTestOneInput() is given must
#   never crash, leak, overrun a bound or break what the program CHECKs. It is named <folder>_<source>, and tests/run finds it by
#   its ending `_fuzz`. Built only where WEIR_FUZZ is on (the preset `fuzz`), where all of the tree is instrumented for coverage.
option(WEIR_FUZZ "build the libFuzzer programs, and instrument everything for them" OFF)
if(WEIR_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_custom_target(fuzzers)  # all of them and what they need, nothing else
endif()

function(weir_fuzz folder source)
  if(NOT WEIR_FUZZ)
    return()
  endif()
  cmake_parse_arguments(A "" "" "DEPS;LIBS" ${ARGN})
  weir_target_name(${folder} library)
  get_filename_component(stem ${source} NAME_WE)
  set(program ${library}_${stem})
  add_executable(${program} ${source})
  add_dependencies(fuzzers ${program})
  target_link_options(${program} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${program} PRIVATE ${library} ${A_LIBS})
  foreach(dep ${A_DEPS})
    weir_target_name(${dep} dep_target)
    target_link_libraries(${program} PRIVATE ${dep_target})
  endforeach()
endfunction()

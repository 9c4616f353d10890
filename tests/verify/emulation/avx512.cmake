# Instead of -mavx512NAME each source gets the definitions of emulation/avx512.h for that extension, and the kernels
# find them on every CPU with AVX2. For the runner alone: a library that claims what the CPU lacks belongs in no wheel.
if(NOT MAAM_OPS_RUNNER)
  message(FATAL_ERROR "MAAM_OPS_EMULATE_AVX512 is for the kernels in a process of their own: set MAAM_OPS_RUNNER=ON")
endif()
find_path(MAAM_OPS_SIMDE simde/x86/avx512.h)
if(NOT MAAM_OPS_SIMDE)
  message(FATAL_ERROR "MAAM_OPS_EMULATE_AVX512 needs SIMDe: apt-get install libsimde-dev")
endif()
get_directory_property(flag_variables VARIABLES)
list(FILTER flag_variables INCLUDE REGEX "^isa_flags_avx512")
foreach(flags ${flag_variables})
  set(emulated -include ${CMAKE_SOURCE_DIR}/tests/verify/emulation/avx512.h -Wno-psabi -Wno-ignored-attributes)
  foreach(flag ${${flags}})
    if(flag MATCHES "^-mavx512(.+)")
      string(TOUPPER ${CMAKE_MATCH_1} extension)
      list(APPEND emulated -DMAAM_EMULATE_AVX512${extension})
    elseif(NOT flag MATCHES "vector-width")
      list(APPEND emulated ${flag})
    endif()
  endforeach()
  set(${flags} ${emulated})
endforeach()
set_source_files_properties(csrc/core/isa.cc PROPERTIES COMPILE_DEFINITIONS MAAM_OPS_EMULATE_AVX512)

# Its test knows every extension that is emulated, whether or not kernels use it by now.
set_source_files_properties(tests/verify/runner/vectors/extensions.cc PROPERTIES COMPILE_OPTIONS
                            "${isa_flags_avx512};-DMAAM_EMULATE_AVX512VNNI;-DMAAM_EMULATE_AVX512BF16")

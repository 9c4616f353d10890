# The CUDA library, libmaam_ops_cuda.so: cmake -DMAAM_OPS_CUDA=ON (see docs/cuda.md). Each operator with a cuda*.cu
# is in it, with the same entry points as on CPU.
find_program(MAAM_OPS_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT MAAM_OPS_NVCC)
  message(FATAL_ERROR "MAAM_OPS_CUDA=ON: got no nvcc on the path, in CUDA_HOME or in /usr/local/cuda, expected CUDA 12.0 "
                      "or newer: install the CUDA toolkit, or leave MAAM_OPS_CUDA off for the CPU kernels alone")
endif()
set(CMAKE_CUDA_COMPILER ${MAAM_OPS_NVCC})

# Machine code for what this nvcc knows of these; parts of one major version run what was compiled for a lower minor one.
# PTX, for parts that come after.
set(MAAM_OPS_CUDA_ARCHITECTURES "" CACHE STRING "Architectures as CMAKE_CUDA_ARCHITECTURES; empty: chosen by nvcc")
if(NOT MAAM_OPS_CUDA_ARCHITECTURES)
  execute_process(COMMAND ${MAAM_OPS_NVCC} --list-gpu-arch OUTPUT_VARIABLE known COMMAND_ERROR_IS_FATAL ANY)
  foreach(architecture 70 75 80 86 90 100 120)
    if(known MATCHES "compute_${architecture}[^0-9]")
      list(APPEND MAAM_OPS_CUDA_ARCHITECTURES ${architecture}-real)
      set(newest ${architecture})
    endif()
  endforeach()
  list(APPEND MAAM_OPS_CUDA_ARCHITECTURES ${newest}-virtual)
endif()
set(CMAKE_CUDA_ARCHITECTURES ${MAAM_OPS_CUDA_ARCHITECTURES})
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25, Debian's, does not know the flag for the nvcc of CUDA 13
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()

file(GLOB cuda_kernels CONFIGURE_DEPENDS csrc/*/cuda*.cu)
file(GLOB cuda_core CONFIGURE_DEPENDS csrc/core/cuda/*.cu csrc/core/cuda/*.cc)
foreach(kernel ${cuda_kernels})
  get_filename_component(operator ${kernel} DIRECTORY)
  list(APPEND cuda_entries ${operator}/aot.cc)
endforeach()
list(REMOVE_DUPLICATES cuda_entries)
add_library(maam_ops_cuda SHARED ${cuda_kernels} ${cuda_entries} ${cuda_core}
            csrc/core/aot.cc csrc/core/isa.cc csrc/core/trace.cc)
target_include_directories(maam_ops_cuda PRIVATE csrc)
# Not a word of fast math: NaN, infinity and subnormal numbers are part of the contract.
target_compile_options(maam_ops_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-O3;-ffp-contract=off;-Wno-restrict>"  # GCC bug 105651
  "$<$<COMPILE_LANGUAGE:CUDA>:-O3;-Xptxas=-v;-Xcompiler=-Wall>"
  "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${MAAM_OPS_WERROR}>>:-Werror>"
  "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${MAAM_OPS_WERROR}>>:-Werror=all-warnings>")
set_target_properties(maam_ops_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden)
# Both libraries export the same names: each calls its own. Never unloaded, as the kernels of a module cannot be.
target_link_options(maam_ops_cuda PRIVATE -Wl,-Bsymbolic -Wl,-z,nodelete)

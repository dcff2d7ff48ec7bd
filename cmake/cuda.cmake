# Kernels for GPUs in a second module, `_cuda`, and the same sources built for the host, for tests without a GPU.

set(AGF_CUDA AUTO CACHE STRING "Build the CUDA module: AUTO (where a CUDA compiler is found and works), ON or OFF")
set_property(CACHE AGF_CUDA PROPERTY STRINGS AUTO ON OFF)
option(AGF_CUDA_SHIM "Build the sources of the CUDA module for the host as well, for tests" OFF)
if(NOT AGF_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "AGF_CUDA: got '${AGF_CUDA}', expected AUTO, ON or OFF")
endif()

file(GLOB AGF_CUDA_KERNELS CONFIGURE_DEPENDS cuda/*.cu)
list(FILTER AGF_CUDA_KERNELS EXCLUDE REGEX "/device\\.cu$")
# The engines for a block: they take what is constexpr to the device, and call through tables of functions.
set(AGF_CUDA_ENGINE "${CMAKE_CURRENT_SOURCE_DIR}/cuda/block/engine.cu")
list(APPEND AGF_CUDA_KERNELS "${AGF_CUDA_ENGINE}")
file(GLOB AGF_CUDA_HOST_SOURCES CONFIGURE_DEPENDS cuda/block/*.cpp)
file(GLOB AGF_CUDA_BIND_SOURCES CONFIGURE_DEPENDS cuda/bind/*.cpp)

# ---- the compiler: $CUDACXX, on the path, of an installed toolkit, or of the nvidia-cuda-nvcc package
set(AGF_HAS_CUDA FALSE)
if(NOT AGF_CUDA STREQUAL "OFF")
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    execute_process(
      COMMAND "${Python_EXECUTABLE}" -c
              "import glob, sysconfig; print(*glob.glob(sysconfig.get_paths()['purelib'] + '/nvidia/*/bin'), sep=';', end='')"
      OUTPUT_VARIABLE AGF_NVCC_FOLDERS ERROR_QUIET)
    find_program(AGF_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda/bin
                                                                                        ${AGF_NVCC_FOLDERS})
    if(AGF_NVCC)
      set(CMAKE_CUDA_COMPILER "${AGF_NVCC}")
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER OR DEFINED ENV{CUDACXX})
    # Set before the language is enabled: later the list is ignored. Releases before 12.8 do not know Blackwell.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      execute_process(COMMAND "${CMAKE_CUDA_COMPILER}$ENV{CUDACXX}" --list-gpu-arch OUTPUT_VARIABLE AGF_KNOWN
                      ERROR_QUIET)
      if(AGF_KNOWN MATCHES "compute_100")
        set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
      else()
        set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
      endif()
    endif()
    # Tried in a project of its own, so that a compiler which does not work costs no CPU build.
    include(CheckLanguage)
    set(AGF_NVCC_TRIED "${CMAKE_CUDA_COMPILER}$ENV{CUDACXX}")
    if(CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
      set(ENV{CUDACXX} "${CMAKE_CUDA_COMPILER}")
    endif()
    unset(CMAKE_CUDA_COMPILER)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      enable_language(CUDA)
      set(AGF_HAS_CUDA TRUE)
    elseif(AGF_CUDA STREQUAL "AUTO")
      message(WARNING "The CUDA compiler ${AGF_NVCC_TRIED} does not work: this build of agf_fast computes on the CPU "
                      "alone. Mend it, name another in CUDACXX, or say AGF_CUDA=OFF.")
    endif()
  endif()
  if(NOT AGF_HAS_CUDA AND AGF_CUDA STREQUAL "ON")
    message(FATAL_ERROR "AGF_CUDA=ON, and no CUDA compiler works: name one in CUDACXX, or say AGF_CUDA=AUTO")
  endif()
endif()
message(STATUS "CUDA module: ${AGF_HAS_CUDA}")

if(AGF_HAS_CUDA)
  # A CMake older than the compiler does not know how it is told its dialect, and would refuse.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  function(agf_kernel_options target)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--extended-lambda;-Xcompiler=-Wall,-Wextra>")
    if(AGF_WERROR)
      target_compile_options(${target}
                             PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>")
    endif()
  endfunction()
  add_library(agf_cuda OBJECT ${AGF_CUDA_KERNELS} ${AGF_CUDA_HOST_SOURCES} cuda/device.cu)
  target_include_directories(agf_cuda PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/cpp" "${CMAKE_CURRENT_SOURCE_DIR}/cuda")
  set_target_properties(agf_cuda PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_VISIBILITY_PRESET hidden)
  agf_kernel_options(agf_cuda)
  # Younger options of the compiler, by its own word.
  execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --help OUTPUT_VARIABLE AGF_NVCC_HELP ERROR_QUIET)
  # A third of the size, and the driver unpacks what it loads.
  if(AGF_NVCC_HELP MATCHES "--compress-mode")
    target_compile_options(agf_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size>")
  endif()
  # The engine is one long program of a thread that calls and calls: ptxas takes minutes to inline it, for nothing.
  if(AGF_NVCC_HELP MATCHES "--Ofast-compile")
    set(AGF_FAST_COMPILE -Ofc=min)
  endif()
  set_source_files_properties(
    "${AGF_CUDA_ENGINE}"
    PROPERTIES COMPILE_OPTIONS
               "--expt-relaxed-constexpr;-Xptxas=--suppress-stack-size-warning;--threads=2;${AGF_FAST_COMPILE}")
  target_link_libraries(agf_cuda PUBLIC Threads::Threads ${CMAKE_DL_LIBS})
endif()

# ---- the same sources for the host
# Each by a file of its own: a source has one language in a directory.
function(agf_shim_sources result prefix)
  set(sources)
  foreach(kernel ${ARGN})
    get_filename_component(name "${kernel}" NAME_WE)
    set(source "${CMAKE_CURRENT_BINARY_DIR}/shim/${prefix}${name}.cpp")
    file(CONFIGURE OUTPUT "${source}" CONTENT "#include \"${kernel}\"\n" @ONLY)
    list(APPEND sources "${source}")
  endforeach()
  set(${result} ${sources} PARENT_SCOPE)
endfunction()

if(AGF_CUDA_SHIM)
  agf_shim_sources(AGF_SHIM_SOURCES "" ${AGF_CUDA_KERNELS})
  # As wide as on a GPU, and in blocks of a few threads: for whole runs, and for threads of the system.
  foreach(shim agf_shim_wide agf_shim_narrow)
    add_library(${shim} OBJECT EXCLUDE_FROM_ALL ${AGF_SHIM_SOURCES} ${AGF_CUDA_HOST_SOURCES} cuda/shim.cpp
                                            cuda/device_host.cpp)
    target_link_libraries(${shim} PUBLIC agf_flags Threads::Threads)
    target_include_directories(${shim} PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/cuda")
    target_compile_options(${shim} PUBLIC -Wno-unknown-pragmas)
    if(AGF_SANITIZE MATCHES "thread")
      target_compile_definitions(${shim} PUBLIC AGF_SHIM_THREADS)
    endif()
  endforeach()
  target_compile_definitions(agf_shim_narrow PUBLIC AGF_NARROW)
endif()

# ---- the modules: `_cuda` for the package, and that of the shim, which tests load by its path
function(agf_cuda_module target library)
  pybind11_add_module(${target} MODULE NO_EXTRAS ${AGF_CUDA_BIND_SOURCES})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME _cuda)
  string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
  target_compile_definitions(${target} PRIVATE AGF_VERSION="${AGF_VERSION}" AGF_CUDA_ARCHITECTURES="${architectures}")
  target_link_libraries(${target} PRIVATE ${library} agf_flags)
endfunction()
if(Python_Development.Module_FOUND AND (AGF_HAS_CUDA OR AGF_CUDA_SHIM))
  find_package(pybind11 CONFIG)
endif()
if(AGF_HAS_CUDA AND SKBUILD)
  agf_cuda_module(_cuda agf_cuda)
  install(TARGETS _cuda LIBRARY DESTINATION agf_fast)
endif()
if(AGF_CUDA_SHIM AND pybind11_FOUND)
  agf_cuda_module(_cuda_shim agf_shim_narrow)
  set_target_properties(_cuda_shim PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/shim")
endif()

# ---- the smoke test of either: `agf_cuda_smoke` on a GPU, `agf_shim_smoke` on the host
file(GLOB AGF_CUDA_SMOKE CONFIGURE_DEPENDS tests/smoke/cuda/*.cpp)
file(GLOB AGF_CUDA_SMOKE_KERNELS CONFIGURE_DEPENDS tests/smoke/cuda/*.cu)
if(AGF_HAS_CUDA AND AGF_CUDA_SMOKE)
  # Apart from the executable, whose flags of the host's compiler nvcc does not know.
  add_library(agf_cuda_smoke_kernels OBJECT EXCLUDE_FROM_ALL ${AGF_CUDA_SMOKE_KERNELS})
  agf_kernel_options(agf_cuda_smoke_kernels)
  target_link_libraries(agf_cuda_smoke_kernels PRIVATE agf_cuda)
  add_executable(agf_cuda_smoke EXCLUDE_FROM_ALL ${AGF_CUDA_SMOKE})
  target_link_libraries(agf_cuda_smoke PRIVATE agf_cuda_smoke_kernels agf_cuda agf_cpu)
endif()
if(AGF_CUDA_SHIM AND AGF_CUDA_SMOKE)
  agf_shim_sources(AGF_SHIM_SMOKE smoke_ ${AGF_CUDA_SMOKE_KERNELS})
  add_executable(agf_shim_smoke EXCLUDE_FROM_ALL ${AGF_CUDA_SMOKE} ${AGF_SHIM_SMOKE})
  target_include_directories(agf_shim_smoke PRIVATE tests/smoke/cuda)
  if(AGF_SANITIZE MATCHES "thread")
    target_link_libraries(agf_shim_smoke PRIVATE agf_shim_narrow agf_cpu)
  else()
    target_link_libraries(agf_shim_smoke PRIVATE agf_shim_wide agf_cpu)
  endif()
  add_custom_command(
    TARGET agf_shim_smoke POST_BUILD COMMAND "${CMAKE_COMMAND}" -E copy_if_different ${AGF_BLAS_FILES}
                                             "$<TARGET_FILE_DIR:agf_shim_smoke>")
  # Products alone, as wide as on a GPU, where threads of the system are too slow for the rest.
  agf_shim_sources(AGF_SHIM_PRODUCTS wide_ "${CMAKE_CURRENT_SOURCE_DIR}/tests/smoke/cuda/kernels.cu"
                   "${CMAKE_CURRENT_SOURCE_DIR}/cuda/product.cu")
  file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/shim/wide_main.cpp"
       CONTENT "int kernel_failures();\nint main() { return kernel_failures(); }\n" @ONLY)
  add_executable(agf_shim_products EXCLUDE_FROM_ALL ${AGF_SHIM_PRODUCTS} "${CMAKE_CURRENT_BINARY_DIR}/shim/wide_main.cpp"
                                                    cuda/shim.cpp cuda/device_host.cpp)
  target_include_directories(agf_shim_products PRIVATE cuda tests/smoke/cuda)
  target_compile_options(agf_shim_products PRIVATE -Wno-unknown-pragmas)
  target_link_libraries(agf_shim_products PRIVATE agf_flags Threads::Threads)
  if(AGF_SANITIZE MATCHES "thread")
    target_compile_definitions(agf_shim_products PRIVATE AGF_SHIM_THREADS)
  endif()
endif()

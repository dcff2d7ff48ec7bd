// What every leaf needs to compile for the host, for the device, and several times for the host.
#pragma once

// Leaf functions run on host and device.
#if defined(__CUDACC__)
#define AGF_HD __host__ __device__ __forceinline__
#else
#define AGF_HD inline
#endif

// Leaves live in agf::AGF_LEAF. A translation unit built for a wider instruction set names its own namespace: otherwise
// the linker may keep the wide copy of a shared inline function and run it where it cannot run.
#if !defined(AGF_LEAF)
#define AGF_LEAF leaf
#endif

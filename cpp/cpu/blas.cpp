#include "cpu/blas.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/isa.hpp"
#include "cpu/scratch.hpp"

namespace agf::cpu::blas {
namespace {

// The library's own symbols carry a prefix. SciPy's copy has the same names, so ours is opened by path, privately, and
// every entry is looked up in that handle: nothing is left to the order in which a process loads its libraries.
#define AGF_BLAS_PREFIX "scipy_"
#if defined(__APPLE__)
#define AGF_BLAS_FILE "libscipy_openblas.dylib"
#else
#define AGF_BLAS_FILE "libscipy_openblas.so"
#endif

constexpr int row_major = 101;
constexpr int lower = 122;

// Fortran entries take every argument by address, and the length of each character argument after them.
struct Library {
  void (*set_num_threads)(int);
  char* (*get_config)();
  char* (*get_corename)();
  void (*cblas_sgemm)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  void (*cblas_dgemm)(int, int, int, int, int, int, double, const double*, int, const double*, int, double, double*,
                      int);
  void (*cblas_ssyrk)(int, int, int, int, int, float, const float*, int, float, float*, int);
  void (*cblas_dsyrk)(int, int, int, int, int, double, const double*, int, double, double*, int);
  void (*potrf)(const char*, const int*, double*, const int*, int*, std::size_t);
  void (*potrs)(const char*, const int*, const int*, const double*, const int*, double*, const int*, int*, std::size_t);
  void (*getrf)(const int*, const int*, double*, const int*, int*, int*);
  void (*getrs)(const char*, const int*, const int*, const double*, const int*, const int*, double*, const int*, int*,
                std::size_t);
  void (*syevd)(const char*, const char*, const int*, double*, const int*, double*, double*, const int*, int*,
                const int*, int*, std::size_t, std::size_t);
  void (*gelqf)(const int*, const int*, double*, const int*, double*, double*, const int*, int*);
  void (*geqp3)(const int*, const int*, double*, const int*, int*, double*, double*, const int*, int*);
  void (*orgqr)(const int*, const int*, const int*, double*, const int*, const double*, double*, const int*, int*);
};

template <typename F>
void find(void* handle, const char* name, F*& entry) {
  void* symbol = dlsym(handle, name);
  if (!symbol) throw std::runtime_error(std::string("the BLAS library lacks ") + name + "; reinstall agf_fast");
  entry = reinterpret_cast<F*>(symbol);
}

// The folder of the binary that holds this code.
std::string folder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&folder), &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// The library reads this as it is loaded, and with one thread starts none, which would wait beside ours, busily at
// first.
class OneThread {
 public:
  OneThread() {
    const char* value = std::getenv(name);
    set_ = value != nullptr;
    if (set_) before_ = value;
    setenv(name, "1", 1);
  }
  ~OneThread() {
    if (set_) {
      setenv(name, before_.c_str(), 1);
    } else {
      unsetenv(name);
    }
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  static constexpr const char* name = "OPENBLAS_NUM_THREADS";
  bool set_ = false;
  std::string before_;
};

Library open() {
  const std::string path = folder() + "/" AGF_BLAS_FILE;
  int mode = RTLD_NOW | RTLD_LOCAL;
#if defined(RTLD_DEEPBIND) && !defined(AGF_SANITIZED)
  // Its calls to itself stay inside it even where another copy's symbols are global. Sanitizers refuse this.
  mode |= RTLD_DEEPBIND;
#endif
  void* handle = nullptr;
  {
    const OneThread one;
    handle = dlopen(path.c_str(), mode);
  }
  if (!handle)
    throw std::runtime_error("cannot load the BLAS library: " + std::string(dlerror()) + "; reinstall agf_fast");
  Library lib{};
#define AGF_FIND(name, symbol) find(handle, AGF_BLAS_PREFIX symbol, lib.name)
  AGF_FIND(set_num_threads, "openblas_set_num_threads");
  AGF_FIND(get_config, "openblas_get_config");
  AGF_FIND(get_corename, "openblas_get_corename");
  AGF_FIND(cblas_sgemm, "cblas_sgemm");
  AGF_FIND(cblas_dgemm, "cblas_dgemm");
  AGF_FIND(cblas_ssyrk, "cblas_ssyrk");
  AGF_FIND(cblas_dsyrk, "cblas_dsyrk");
  AGF_FIND(potrf, "dpotrf_");
  AGF_FIND(potrs, "dpotrs_");
  AGF_FIND(getrf, "dgetrf_");
  AGF_FIND(getrs, "dgetrs_");
  AGF_FIND(syevd, "dsyevd_");
  AGF_FIND(gelqf, "dgelqf_");
  AGF_FIND(geqp3, "dgeqp3_");
  AGF_FIND(orgqr, "dorgqr_");
#undef AGF_FIND
  lib.set_num_threads(1);
  return lib;
}

const Library& library() {
  static const Library lib = open();
  return lib;
}

int as_int(std::size_t n) { return static_cast<int>(n); }

}  // namespace

void load() { library(); }

std::string description() {
  std::string config = library().get_config();
  // The words after the version list build options.
  const std::size_t name = config.find(' ');
  const std::size_t version = name == std::string::npos ? name : config.find(' ', name + 1);
  return config.substr(0, version) + " (" + library().get_corename() + ", 1 thread per call)";
}

namespace {

// Products up to this many multiply-adds are made here: the library takes its buffers from one list, and threads that
// ask for them a hundred thousand times a second wait for each other. It has kernels without a buffer for a row or a
// column.
constexpr std::size_t small_product = 1u << 20;

bool is_small(std::size_t m, std::size_t n, std::size_t k) { return m > 1 && n > 1 && m * n * k <= small_product; }

// B and C are filled up to whole vectors. B takes the factor on, so that a factor of 0 hides no NaN.
template <typename T>
void small_gemm(Op a_op, Op b_op, std::size_t m, std::size_t n, std::size_t k, T alpha, const T* a, std::size_t lda,
                const T* b, std::size_t ldb, T beta, T* c, std::size_t ldc) {
  constexpr std::size_t most_lanes = 64 / sizeof(T);
  const std::size_t width = (n + most_lanes - 1) / most_lanes * most_lanes;
  Scratch scratch;
  T* const right = scratch.take<T>(k * width);
  T* const product = scratch.take<T>(m * width);
  if (b_op == Op::none) {
    for (std::size_t p = 0; p < k; ++p) std::copy_n(b + p * ldb, n, right + p * width);
  } else {
    loops<T>().transpose(n, k, b, ldb, right, width);
  }
  for (std::size_t p = 0; p < k; ++p) {
    if (alpha != T(1))
      std::transform(right + p * width, right + p * width + n, right + p * width,
                     [alpha](T value) { return alpha * value; });
    std::fill(right + p * width + n, right + (p + 1) * width, T(0));
  }
  (a_op == Op::none ? loops<T>().outer : loops<T>().outer_columns)(m, width, k, a, lda, right, width, false, product,
                                                                   width);
  for (std::size_t i = 0; i < m; ++i) {
    const T* from = product + i * width;
    T* to = c + i * ldc;
    if (beta == T(0)) {
      std::copy_n(from, n, to);
    } else {
      for (std::size_t j = 0; j < n; ++j) to[j] = beta * to[j] + from[j];
    }
  }
}

}  // namespace

template <>
void gemm<float>(Op a_op, Op b_op, std::size_t m, std::size_t n, std::size_t k, float alpha, const float* a,
                 std::size_t lda, const float* b, std::size_t ldb, float beta, float* c, std::size_t ldc) {
  if (is_small(m, n, k)) return small_gemm(a_op, b_op, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  library().cblas_sgemm(row_major, static_cast<int>(a_op), static_cast<int>(b_op), as_int(m), as_int(n), as_int(k),
                        alpha, a, as_int(lda), b, as_int(ldb), beta, c, as_int(ldc));
}

template <>
void gemm<double>(Op a_op, Op b_op, std::size_t m, std::size_t n, std::size_t k, double alpha, const double* a,
                  std::size_t lda, const double* b, std::size_t ldb, double beta, double* c, std::size_t ldc) {
  if (is_small(m, n, k)) return small_gemm(a_op, b_op, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  library().cblas_dgemm(row_major, static_cast<int>(a_op), static_cast<int>(b_op), as_int(m), as_int(n), as_int(k),
                        alpha, a, as_int(lda), b, as_int(ldb), beta, c, as_int(ldc));
}

template <>
void syrk<float>(std::size_t n, std::size_t k, float alpha, const float* a, std::size_t lda, float beta, float* c,
                 std::size_t ldc) {
  library().cblas_ssyrk(row_major, lower, static_cast<int>(Op::none), as_int(n), as_int(k), alpha, a, as_int(lda), beta,
                        c, as_int(ldc));
}

template <>
void syrk<double>(std::size_t n, std::size_t k, double alpha, const double* a, std::size_t lda, double beta, double* c,
                  std::size_t ldc) {
  library().cblas_dsyrk(row_major, lower, static_cast<int>(Op::none), as_int(n), as_int(k), alpha, a, as_int(lda), beta,
                        c, as_int(ldc));
}

// LAPACK is column-major: the lower triangle of a row-major matrix is its upper one.
bool cholesky(int n, double* matrix) {
  int info = 0;
  library().potrf("U", &n, matrix, &n, &info, 1);
  return info == 0;
}

void cholesky_solve(int n, const double* factor, double* rhs, int count) {
  if (count == 1) {
    // The solver for several right-hand sides copies the whole factor into the layout of its kernels, and that for one
    // takes its buffers from a list that all threads share.
    const auto size = static_cast<std::size_t>(n);
    isa().solve_lower(size, factor, rhs);
    isa().solve_lower_transposed(size, factor, rhs);
    return;
  }
  int info = 0;
  library().potrs("U", &n, &count, factor, &n, rhs, &n, &info, 1);
}

bool lu(int n, double* matrix, int* pivots) {
  int info = 0;
  library().getrf(&n, &n, matrix, &n, pivots, &info);
  return info == 0;
}

// The factors are those of the transpose.
void lu_solve(int n, const double* factor, const int* pivots, double* rhs, int count) {
  int info = 0;
  library().getrs("T", &n, &count, factor, &n, pivots, rhs, &n, &info, 1);
}

void eigen(int n, double* matrix, double* values) {
  int info = 0;
  double work_size = 0;
  int integer_size = 0;
  const int query = -1;
  library().syevd("V", "U", &n, matrix, &n, values, &work_size, &query, &integer_size, &query, &info, 1, 1);
  const int work_length = static_cast<int>(work_size);
  std::vector<double> work(static_cast<std::size_t>(work_length));
  std::vector<int> integers(static_cast<std::size_t>(integer_size));
  library().syevd("V", "U", &n, matrix, &n, values, work.data(), &work_length, integers.data(), &integer_size, &info, 1,
                  1);
  if (info != 0) throw std::runtime_error("the symmetric eigenvalue problem did not converge");
}

std::size_t row_space(std::size_t n, std::size_t d, double* a, double tolerance, double* basis) {
  // Column-major, the array is A^T (d, n), whose columns span the row space of A. With n > d its LQ factorisation comes
  // first: L has the same column space, and pivoting is slow only on the small matrix.
  const int rows = as_int(d);
  int columns = as_int(n);
  int info = 0;
  const int query = -1;
  std::vector<double> scales(std::min(n, d)), work(1);
  const auto sized = [&] {
    work.resize(static_cast<std::size_t>(work[0]));
    return as_int(work.size());
  };
  if (n > d) {
    library().gelqf(&rows, &columns, a, &rows, scales.data(), work.data(), &query, &info);
    const int length = sized();
    library().gelqf(&rows, &columns, a, &rows, scales.data(), work.data(), &length, &info);
    for (std::size_t j = 1; j < d; ++j) std::fill(a + j * d, a + j * d + j, 0.0);
    columns = rows;
  }
  std::vector<int> pivots(static_cast<std::size_t>(columns), 0);
  work.assign(1, 0.0);
  library().geqp3(&rows, &columns, a, &rows, pivots.data(), scales.data(), work.data(), &query, &info);
  int length = sized();
  library().geqp3(&rows, &columns, a, &rows, pivots.data(), scales.data(), work.data(), &length, &info);
  const std::size_t most = std::min(d, static_cast<std::size_t>(columns));
  std::size_t rank = 0;
  while (rank < most && std::abs(a[rank * d + rank]) > tolerance * std::abs(a[0])) ++rank;
  if (rank == 0) return 0;
  const int kept = as_int(rank);
  work.assign(1, 0.0);
  library().orgqr(&rows, &kept, &kept, a, &rows, scales.data(), work.data(), &query, &info);
  length = sized();
  library().orgqr(&rows, &kept, &kept, a, &rows, scales.data(), work.data(), &length, &info);
  for (std::size_t k = 0; k < rank; ++k) {
    for (std::size_t i = 0; i < d; ++i) basis[i * rank + k] = a[k * d + i];
  }
  return rank;
}

}  // namespace agf::cpu::blas

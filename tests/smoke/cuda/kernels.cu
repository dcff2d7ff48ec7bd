// What all kernels are made of: threads that share and wait, sums in a fixed order, products of every shape.
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "../check.hpp"
#include "each.cuh"
#include "leaves.hpp"
#include "product.hpp"
#include "tile_sums.cuh"

namespace {

int failures = 0;

using namespace agf::cuda;

// Every thread reads what its neighbour wrote. With `held` false a barrier is left out, which must be found.
struct Neighbours {
  double* out;
  bool held;
  AGF_DEVICE void operator()(const Team& team) const {
    double* at = team.shared<double>();
    at[team.thread()] = team.thread();
    if (held) team.barrier();
    out[team.block() * team.threads() + team.thread()] = at[(team.thread() + 1) % team.threads()];
  }
};

int strangers(bool held) {
  constexpr unsigned width = 8, blocks = 3;
  const Stream stream;
  Room room(stream);
  double* const out = room.take<double>(width * blocks);
  launch(stream, blocks, width, width * sizeof(double), Neighbours{out, held});
  std::vector<double> got(width * blocks);
  download(got.data(), out, got.size() * sizeof(double), stream);
  int wrong = 0;
  for (unsigned i = 0; i < width * blocks; ++i) wrong += got[i] != (i % width + 1) % width;
  return wrong;
}

template <typename T>
void products(double eps) {
  const Stream stream;
  struct Size {
    std::size_t m, n, k, batch;
  };
#if defined(AGF_NARROW)
  const Size sizes[] = {{1, 1, 1, 1}, {13, 5, 17, 2}, {20, 19, 40, 1}, {3, 3, 600, 2}, {4, 4, 0, 1}};
#else
  const Size sizes[] = {{1, 1, 1, 1},     {33, 5, 17, 3},    {5, 70, 1, 2}, {7, 3, 700, 2},
                        {70, 131, 40, 1}, {150, 140, 33, 1}, {4, 4, 0, 1}};
#endif
  for (const Size s : sizes) {
    for (const Op a_op : {Op::none, Op::transpose})
      for (const Op b_op : {Op::none, Op::transpose}) {
        const std::size_t room_of_c = s.n + 2;
        const auto draw = [](std::size_t size, unsigned seed) {
          const auto wide = smoke::normal(size, seed);
          return std::vector<T>(wide.begin(), wide.end());
        };
        const auto a = draw(s.batch * s.m * s.k, 1), b = draw(s.batch * s.k * s.n, 2);
        auto c = draw(s.batch * s.m * room_of_c, 3);
        const auto before = c;
        Room room(stream);
        const T* left = room.take(a.data(), a.size());
        const T* right = room.take(b.data(), b.size());
        T* out = room.take(c.data(), c.size());
        product<T>(stream, a_op, b_op, s.m, s.n, s.k, 1.5, {left, a_op == Op::none ? s.k : s.m, s.m * s.k},
                   {right, b_op == Op::none ? s.n : s.k, s.k * s.n}, -0.5, {out, room_of_c, s.m * room_of_c}, s.batch);
        download(c.data(), out, c.size() * sizeof(T), stream);
        // Each of k + 2 roundings is at most eps times the sum of absolute values.
        const double roundings = static_cast<double>(s.k + 2);
        for (std::size_t e = 0; e < c.size(); ++e) {
          const std::size_t w = e / (s.m * room_of_c), i = e / room_of_c % s.m, j = e % room_of_c;
          double sum = j < s.n ? -0.5 * before[e] : before[e], size = std::abs(sum);
          for (std::size_t p = 0; j < s.n && p < s.k; ++p) {
            const double left_entry = a[w * s.m * s.k + (a_op == Op::none ? i * s.k + p : p * s.m + i)];
            const double term = 1.5 * left_entry * b[w * s.k * s.n + (b_op == Op::none ? p * s.n + j : j * s.k + p)];
            sum += term;
            size += std::abs(term);
          }
          CHECK(std::abs(sum - c[e]) <= roundings * eps * size);
        }
      }
  }
}

// What tensor cores make of the numbers that lanes hand them, by PTX's description of mma.m16n8k16 in double, is the
// product where lanes look for it. A device alone shows that its cores do so; `products` does.
void lanes_of_a_piece() {
  const auto a = smoke::normal(16 * 16, 1), b = smoke::normal(16 * 8, 2);
  double left[16][16] = {}, right[16][8] = {}, sum[16][8] = {};
  for (unsigned lane = 0; lane < 32; ++lane) {
    const WarpPiece piece(lane);
    const unsigned group = lane >> 2, member = lane & 3;
    for (unsigned i = 0; i < 8; ++i)
      left[i % 2 == 0 ? group : group + 8][i % 2 == 0 ? 2 * i + member : 2 * i - 2 + member] =
          a[piece.left_row(i) * 16 + piece.left_inner(i)];
    for (unsigned i = 0; i < 4; ++i) right[member + 4 * i][group] = b[piece.right_inner(i) * 8 + piece.right_column()];
  }
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned j = 0; j < 8; ++j)
      for (unsigned k = 0; k < 16; ++k) sum[i][j] += left[i][k] * right[k][j];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const WarpPiece piece(lane);
    for (unsigned e = 0; e < 4; ++e) {
      double expected = 0;
      for (unsigned k = 0; k < 16; ++k) expected += a[piece.row(e) * 16 + k] * b[k * 8 + piece.column(e)];
      CHECK(std::abs(sum[e < 2 ? lane >> 2 : (lane >> 2) + 8][2 * (lane & 3) + (e & 1)] - expected) <= 1e-13);
    }
  }
}

void sums_in_order() {
  const Stream stream;
  const auto values = smoke::normal(40000, 5);
  Room room(stream);
  const double* at = room.take(values.data(), values.size());
  const double sum = total(stream, values.size(), AGF_LAMBDA(std::size_t i) { return at[i]; });
  double expected = 0;
  for (const double value : values) expected += value;
  CHECK(std::abs(sum - expected) <= 1e-10);
  CHECK(sum == total(stream, values.size(), AGF_LAMBDA(std::size_t i) { return at[i]; }));
}

}  // namespace

int kernel_failures() {
  CHECK(strangers(true) == 0);
#if !defined(AGF_SHIM_THREADS)
  // Threads of the system may be in luck.
  CHECK(strangers(false) > 0);
#endif
  products<double>(2.2e-16);
  products<float>(1.2e-7);
  lanes_of_a_piece();
  sums_in_order();
  return failures;
}

// What ThreadSanitizer is to report.
void without_a_barrier() { strangers(false); }

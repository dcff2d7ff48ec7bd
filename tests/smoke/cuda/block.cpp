// Problems as a block has them: every leaf beside the same problem as the host drives it.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "block/launch.hpp"
#include "block/messages.hpp"
#include "block/numbers.hpp"
#include "dense.hpp"
#include "leaves.hpp"
#include "modular.hpp"
#include "moments.hpp"

namespace {

using agf::shared::LineHead;
using agf::shared::Message;
using agf::shared::ProblemView;
using Leaves = std::vector<std::vector<double>>;

constexpr const char* leaf_names[] = {"loss",           "utility",       "gradient",     "curvature",
                                      "curvature of L", "Hessians of U", "Hessian of L", "contribution"};
constexpr std::size_t leaf_count = std::size(leaf_names);

// As block/leaves.cuh reports them.
Leaves expected(const agf::Problem& problem, const std::vector<double>& theta, std::size_t count) {
  const std::size_t m = problem.params(), size = count * m;
  const std::vector<double> v(theta.rbegin(), theta.rend());
  const auto r = problem.make_signal(), dr = problem.make_signal();
  Leaves found;
  const auto room = [&](std::size_t entries) {
    found.emplace_back(entries);
    return found.back().data();
  };
  for (const bool leading : {false, true}) {
    const agf::Shape shape{leading, nullptr};
    room(1)[0] = problem.residual(theta.data(), count, *r, shape);
    double* const value = room(count);
    problem.utility(theta.data(), count, *r, value, room(size), shape);
    problem.curvature_vector(theta.data(), v.data(), count, *r, nullptr, room(size), shape);
    problem.residual_derivative(theta.data(), v.data(), count, *dr, shape);
    problem.curvature_vector(theta.data(), v.data(), count, *r, dr.get(), room(size), shape);
    problem.utility_hessian(theta.data(), count, *r, room(count * m * m), shape);
    problem.loss_hessian(theta.data(), count, *r, room(size * size), shape);
    problem.contribution(theta.data(), count, room(count));
  }
  return found;
}

// What is known of one run.
struct Run {
  std::string label;
  const agf::Problem* problem;
  ProblemView view;
  std::size_t count;
  std::vector<double> theta;
  Leaves got;
  bool over = false;
};

struct Unpinned {
  void operator()(void* at) const { agf::cuda::unpin(at); }
};
template <typename T>
std::unique_ptr<T, Unpinned> pinned(std::size_t count) {
  return std::unique_ptr<T, Unpinned>(static_cast<T*>(agf::cuda::pin(count * sizeof(T))));
}

// What has come of one block's line.
struct Inbox {
  std::size_t read = 0, run = 0;
  std::vector<double> waiting;
};

// Lets blocks of so much memory carry all runs; false where they do not come to an end.
bool carry(std::vector<Run>& runs, unsigned blocks, std::size_t bytes) {
  // Shorter than some messages, so that they go round.
  constexpr std::size_t ring = 1000;
  std::vector<ProblemView> problems;
  std::vector<std::size_t> order, offsets;
  std::vector<double> numbers;
  for (Run& run : runs) {
    run.got.clear();
    run.over = false;
    order.push_back(problems.size());
    problems.push_back(run.view);
    offsets.push_back(numbers.size());
    agf::State start;
    start.count = run.count;
    start.params = run.problem->params();
    start.direction = run.theta;
    agf::cuda::ToNumbers to(numbers);
    agf::pass(to, start);
  }
  const agf::cuda::Stream stream;
  agf::cuda::Room room(stream);
  const auto heads = pinned<LineHead>(blocks);
  const auto rings = pinned<double>(blocks * ring);
  const auto stop = pinned<agf::shared::Word<std::int32_t>>(1);
  stop->store(agf::shared::go_on);
  for (unsigned b = 0; b < blocks; ++b) ::new (heads.get() + b) LineHead{};
  const unsigned long long taken = 0;
  agf::shared::Launch launch{};
  launch.verb = agf::shared::Verb::leaves;
  launch.runs = runs.size();
  launch.problems = room.take(problems.data(), problems.size());
  launch.problem = launch.which = room.take(order.data(), order.size());
  launch.numbers = room.take(numbers.data(), numbers.size());
  launch.offsets = room.take(offsets.data(), offsets.size());
  launch.taken = room.take(&taken, 1);
  launch.blocks = blocks;
  launch.memory = room.take<unsigned char>(blocks * bytes);
  launch.bytes = bytes;
  launch.heads = heads.get();
  launch.rings = rings.get();
  launch.ring = ring;
  launch.stop = stop.get();
  agf::cuda::wait(stream);
  agf::shared::carry(stream.handle, launch);
  agf::cuda::check_launch();

  std::vector<Inbox> inboxes(blocks);
  const auto hear = [&](Inbox& inbox, Message kind, const double* begin, const double* end) {
    if (kind == Message::begun) inbox.run = static_cast<std::size_t>(*begin);
    if (kind == Message::over) runs[inbox.run].over = true;
    if (kind != Message::state) return;
    agf::State shown;
    agf::cuda::FromNumbers from(begin, end);
    agf::pass(from, shown);
    runs[inbox.run].got.push_back(std::move(shown.direction));
  };
  const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (bool ended = false; !ended;) {
    ended = true;
    for (unsigned b = 0; b < blocks; ++b) {
      // Asked first: what was written before the end is then seen.
      ended &= heads.get()[b].ended.load() != 0;
      Inbox& inbox = inboxes[b];
      const auto written = static_cast<std::size_t>(heads.get()[b].written.load());
      for (; inbox.read < written; ++inbox.read) inbox.waiting.push_back(rings.get()[b * ring + inbox.read % ring]);
      heads.get()[b].read.store(written);
      const double* at = inbox.waiting.data();
      const double* const end = at + inbox.waiting.size();
      while (end - at >= 2 && end - at >= 2 + static_cast<std::ptrdiff_t>(at[1])) {
        const double* const next = at + 2 + static_cast<std::ptrdiff_t>(at[1]);
        hear(inbox, static_cast<Message>(static_cast<int>(at[0])), at + 2, next);
        at = next;
      }
      inbox.waiting.erase(inbox.waiting.begin(), inbox.waiting.begin() + (at - inbox.waiting.data()));
    }
    if (agf::cuda::failed(stream)) break;
    if (std::chrono::steady_clock::now() > late) {
      stop->store(agf::shared::leave_now);
      std::fprintf(stderr, "block: not at an end after a minute\n");
      std::abort();  // what the blocks use must not go before they have left
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  agf::cuda::wait(stream);
  return !agf::cuda::failed(stream);
}

int compare(const Run& run) {
  // Sums of the same terms in another order.
  constexpr double tolerance = 1e-12;
  if (!run.over) {
    std::fprintf(stderr, "block, %s: not over\n", run.label.c_str());
    return 1;
  }
  const Leaves wanted = expected(*run.problem, run.theta, run.count);
  if (run.got.size() != wanted.size()) {
    std::fprintf(stderr, "block, %s: %zu leaves\n", run.label.c_str(), run.got.size());
    return 1;
  }
  int failures = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const bool same_size = run.got[i].size() == wanted[i].size();
    const double apart = same_size ? smoke::distance(run.got[i], wanted[i]) : 1;
    if (apart <= tolerance) continue;
    std::fprintf(stderr, "block, %s%s: %s differs by %g\n", run.label.c_str(), i < leaf_count ? "" : ", leading",
                 leaf_names[i % leaf_count], apart);
    ++failures;
  }
  return failures;
}

struct Sizes {
  std::size_t n, d, c, count;
};

}  // namespace

int block_failures() {
  using agf::Sigma;
  std::vector<std::pair<Sigma, const char*>> sigmas{{Sigma::relu, "relu"},
                                                    {Sigma::tanh, "tanh"},
                                                    {Sigma::identity, "identity"},
                                                    {Sigma::power2, "power2"},
                                                    {Sigma::leaky_relu, "leaky_relu"}};
  // The last ones are large enough for tiles, and for several chunks of samples.
  std::vector<Sizes> sizes{{1, 1, 1, 1}, {7, 3, 1, 5}, {40, 5, 3, 7}, {40, 12, 3, 24}, {300, 7, 2, 1}};
#if defined(AGF_SHIM_THREADS)
  // ThreadSanitizer is slow.
  sigmas.resize(2);
  sizes = {{7, 3, 1, 5}};
#endif
  std::vector<std::unique_ptr<const agf::Problem>> problems;
  std::vector<Run> runs;
  const auto keep = [&](const std::string& label, std::unique_ptr<const agf::Problem> problem, const ProblemView& view,
                        std::size_t count) {
    const std::size_t size = count * problem->params();
    runs.push_back(
        {label + ", " + std::to_string(count) + " neurons", problem.get(), view, count, smoke::normal(size, 3), {}});
    problems.push_back(std::move(problem));
  };
  const auto add = [&](Sigma sigma, const char* name, Sizes of) {
    const auto x = smoke::normal(of.n * of.d, 1), y = smoke::normal(of.n * of.c, 2);
    auto problem = std::make_unique<const agf::cuda::DenseCuda<double>>(0, agf::cuda::Stream{}, x.data(), of.n, of.d,
                                                                        y.data(), of.c, true, sigma, 0.3);
    ProblemView view{};
    view.model = agf::shared::Model::dense;
    view.dense = problem->view();
    keep(std::string(name) + ", " + std::to_string(of.n) + " samples", std::move(problem), view, of.count);
  };
  const auto add_modular = [&](std::size_t p, const std::vector<std::size_t>& frequencies, std::size_t count) {
    const std::string label =
        "modular, p = " + std::to_string(p) + ", " + std::to_string(frequencies.size()) + " frequencies";
    const auto x = smoke::normal(p, 4);
    auto problem = std::make_unique<const agf::cuda::ModularCuda>(0, x.data(), p, frequencies);
    ProblemView view{};
    view.model = agf::shared::Model::modular;
    std::vector<double> basis;
    auto compact = problem->reduced(basis);
    view.modular = static_cast<const agf::cuda::ModularCuda&>(*compact).view();
    keep(label + ", compact", std::move(compact), view, count);
    view.modular = problem->view();
    keep(label, std::move(problem), view, count);
  };
  const auto add_moments = [&](const char* label, agf::ProductLayout product, const agf::PseudoSamples& samples,
                               std::size_t count) {
    const auto target = smoke::normal(agf::sizes_of(samples).entries(), 5);
    auto problem = std::make_unique<const agf::cuda::MomentsCuda>(0, product, samples, target, 0.3);
    ProblemView view{};
    view.model = agf::shared::Model::moments;
    view.moments = problem->view();
    keep(label, std::move(problem), view, count);
  };
  for (const auto& [sigma, name] : sigmas)
    for (const Sizes& of : sizes) add(sigma, name, of);
  using agf::ProductLayout, agf::PseudoSamples, smoke::normal;
  add_modular(5, {1, 2}, 2);
  add_moments("linear", ProductLayout::bilinear(6, 4), PseudoSamples::grid(4, 6, {}, normal(9 * 6, 1)), 3);
  add_moments("attention", ProductLayout::trilinear(5), PseudoSamples::grid(5, 5, normal(4 * 5, 1), normal(7 * 5, 2)),
              2);
  add_moments("attention on samples", ProductLayout::trilinear(3), PseudoSamples::list(3, 3, normal(11 * 9, 1)), 2);
#if !defined(AGF_SHIM_THREADS)
  add(Sigma::tanh, "tanh", {400, 12, 3, 24});
  add_modular(2, {1}, 1);
  add_modular(5, {2}, 7);
  // With all frequencies, in turns and by products of matrices.
  for (const std::size_t count : {1, 2, 6}) add_modular(20, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, count);
  add_moments("linear, wide", ProductLayout::bilinear(50, 3), PseudoSamples::grid(3, 50, {}, normal(120 * 50, 1)), 3);
  add_moments("attention, wide", ProductLayout::trilinear(24),
              PseudoSamples::grid(24, 24, normal(40 * 24, 1), normal(30 * 24, 2)), 3);
  add_moments("attention on samples, wide", ProductLayout::trilinear(12),
              PseudoSamples::list(12, 12, normal(150 * 144, 1)), 3);
#endif

  constexpr std::size_t enough = std::size_t{1} << 25;
  int failures = carry(runs, 3, enough) ? 0 : 1;
  std::vector<Leaves> first;
  for (const Run& run : runs) {
    failures += compare(run);
    first.push_back(run.got);
  }
  // Bits do not depend on which block carries a run, nor on what it carried before.
  if (!carry(runs, 1, enough)) ++failures;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].got == first[i]) continue;
    std::fprintf(stderr, "block, %s: other bits in another block\n", runs[i].label.c_str());
    ++failures;
  }
  // A block without the memory for its first run leaves it, and the launch ends.
  if (!carry(runs, 2, 512)) ++failures;
  for (const Run& run : runs) {
    if (!run.over) continue;
    std::fprintf(stderr, "block, %s: over without memory\n", run.label.c_str());
    ++failures;
  }
  return failures;
}

#include "block/carrier.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <new>
#include <numeric>
#include <optional>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>

#include "block/carrier_of.hpp"
#include "block/launch.hpp"
#include "block/messages.hpp"
#include "block/numbers.hpp"
#include "block/view.hpp"
#include "room.hpp"

namespace agf::cuda {
namespace {

using shared::Launch;
using shared::LineHead;
using shared::Message;
using shared::Verb;
using shared::Word;

// Evaluations and unknowns above which the whole device serves one run better than one of its blocks does: a block has
// about a hundredth of the device, and an evaluation from the host is bound by its ten launches below.
constexpr double most_flops = 4e6;
constexpr std::size_t most_unknowns = 1500;
// Eigenvectors of a block: see algebra.cuh.
constexpr std::size_t most_params = 256;

// Numbers of each block's line: a second of a run's records, so that it need not wait for a host that is busy.
constexpr std::size_t ring = std::size_t{1} << 13;

constexpr std::chrono::microseconds between_looks{200};

// By the frames that ptxas tells of (tools/kernel_resources.py), the deepest calls of the thread that steers take some
// 20 KB: a flow, its integration, a race, its repetition, a step, a leaf.
constexpr std::size_t stack_bytes = std::size_t{1} << 15;

// Memory of the host that a device sees too.
class Pinned {
 public:
  explicit Pinned(std::size_t bytes) : at_(pin(bytes)) {}
  ~Pinned() { unpin(at_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  void* get() const { return at_; }

 private:
  void* at_;
};

// What blocks need beside the device's memory. The stacks may be gigabytes: a device that is short of them is driven
// from the host.
struct Quay {
  explicit Quay(std::size_t blocks)
      : deep(stack_bytes),
        heads(blocks * sizeof(LineHead)),
        rings(blocks * ring * sizeof(double)),
        stop(sizeof(Word<std::int32_t>)) {}

  const DeepStack deep;
  const Pinned heads, rings, stop;
};

// The host's end of a block's line.
class Inbox {
 public:
  // Takes what has come; message(kind, begin, end) for each that is whole.
  template <typename Hear>
  bool look(LineHead& head, const double* numbers, const Hear& hear) {
    const std::uint64_t written = head.written.load();
    if (written == read_) return false;
    while (read_ < written) {
      const std::size_t at = static_cast<std::size_t>(read_ % ring);
      const std::size_t count = std::min(ring - at, static_cast<std::size_t>(written - read_));
      waiting_.insert(waiting_.end(), numbers + at, numbers + at + count);
      read_ += count;
    }
    head.read.store(read_);
    const double* at = waiting_.data();
    const double* const end = at + waiting_.size();
    while (end - at >= 2 && static_cast<std::size_t>(end - at) >= 2 + static_cast<std::size_t>(at[1])) {
      const double* const next = at + 2 + static_cast<std::size_t>(at[1]);
      hear(static_cast<Message>(static_cast<int>(at[0])), at + 2, next);
      at = next;
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + (at - waiting_.data()));
    return true;
  }
  void answer(LineHead& head, bool stop) {
    head.answer.store(stop ? 1 : 0);
    head.answered.store(++answered_);
  }

  std::size_t run = 0;      // that its block carries
  std::size_t records = 0;  // of it that somebody watches
  Trajectory path;

 private:
  std::uint64_t read_ = 0, answered_ = 0;
  std::vector<double> waiting_;
};

// How many records of a run have been seen, and whether the last one was to stop it.
struct Seen {
  std::size_t records = 0;
  bool stop = false;
};

// Nothing that blocks use may go while they run: whatever happens to the host.
class Listener {
 public:
  Listener(const Launch& launch, Word<std::int32_t>* told, Stream stream)
      : launch_(launch), told_(told), stream_(stream) {}
  ~Listener() {
    if (!over()) told_->store(shared::leave_now);
    while (!over() && !failed(stream_)) std::this_thread::sleep_for(between_looks);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  bool over() const {
    return std::all_of(launch_.heads, launch_.heads + launch_.blocks,
                       [](const LineHead& head) { return head.ended.load() != 0; });
  }

 private:
  const Launch& launch_;
  Word<std::int32_t>* told_;
  Stream stream_;
};

std::size_t rounded_up(std::size_t numbers) {
  return (numbers * sizeof(double) * 3 / 2 + 0xffff) & ~std::size_t{0xffff};
}

// What runs of `count` neurons take at first: a few matrices of all unknowns, some tens of vectors, a few matrices of
// each neuron. Runs that need more find out, and are begun again with twice as much.
std::size_t memory_of(const Problem& problem, std::size_t count) {
  const std::size_t m = problem.params(), unknowns = count * m, samples = problem.samples() * problem.outputs();
  const std::size_t numbers =
      6 * unknowns * unknowns + 100 * unknowns + 6 * count * m * m + 12 * samples + 8 * problem.samples() * count;
  return rounded_up(numbers);
}

// Of a diagonal network: triangles and matrices of the active, X^T X where it may be made, and a matrix of the samples
// where more neurons than these may be felt; some tens of vectors.
std::size_t memory_of(const Design& design, std::size_t depth) {
  const std::size_t n = design.rows(), d = design.columns(), most = std::min(n, d);
  const std::size_t numbers =
      5 * most * most + (d <= 3 * n ? d * (d + 8) : 0) + (d > n ? n * n : 0) + 80 * (n + d) + 12 * d * depth;
  return rounded_up(numbers);
}

bool refused() {
  static const bool told = [] {
    const char* const said = std::getenv("AGF_CUDA_BLOCKS");
    return said && std::string_view(said) == "0";
  }();
  return told;
}

// Runs as blocks take them up.
struct Cargo {
  Room& room;  // for what they need beside
  Verb verb{};
  bool watched = false;
  std::size_t bytes = 0;  // that each is given at first
  std::vector<double> numbers;
  std::vector<std::size_t> offsets;
  std::vector<shared::ProblemView> views;
  std::vector<std::size_t> of;

  template <typename Options>
  void put(Options options, State start) {
    offsets.push_back(numbers.size());
    ToNumbers to(numbers);
    to(watched);
    pass(to, options);
    pass(to, start);
  }
};

}  // namespace

bool BlockCarrier::carries(const Problem& problem, std::size_t count) const {
  return !refused() && problem.params() <= most_params && count * problem.params() <= most_unknowns &&
         problem.evaluation_flops(count) <= most_flops;
}

bool BlockCarrier::carries(const Design& design) const {
  // The residual and its products with all columns.
  const double evaluation = 4 * static_cast<double>(design.rows()) * static_cast<double>(design.columns());
  return !refused() && design.columns() <= most_unknowns && evaluation <= most_flops;
}

// load(cargo) fills it in; false where blocks do not know a problem.
template <typename Load>
std::vector<std::size_t> BlockCarrier::carry(std::size_t runs, const Load& load, Bystander& bystander) const {
  const OnDevice on(device_);
  wait(Stream{});  // for the problems
  const LoneStream lone;
  const Stream stream = lone.get();
  std::vector<std::size_t> left(runs);
  std::iota(left.begin(), left.end(), std::size_t{0});
  Room room(stream);
  Cargo cargo{room, {}, false, 0, {}, {}, {}, {}};
  Launch launch{};
  try {
    if (!load(cargo)) return left;
    launch.numbers = room.take(cargo.numbers.data(), cargo.numbers.size());
    launch.offsets = room.take(cargo.offsets.data(), cargo.offsets.size());
    launch.problems = room.take(cargo.views.data(), cargo.views.size());
    launch.problem = room.take(cargo.of.data(), cargo.of.size());
  } catch (const std::bad_alloc&) {
    return left;  // driven from the host they need less: nothing of them is copied
  }
  launch.verb = cargo.verb;
  std::size_t bytes = least_ < usual_bytes ? least_ : std::max(least_, cargo.bytes);
  wait(stream);

  const shared::Shape shape = shared::block_shape();
  launch.ring = ring;
  // Blocks wait for who watches, and he may want the device for himself.
  const std::size_t together = cargo.watched ? std::max(1u, shape.blocks / 2) : shape.blocks;
  const std::size_t most_blocks = std::min(together, runs);
  std::optional<Quay> quay;
  try {
    quay.emplace(most_blocks);
  } catch (const std::bad_alloc&) {
    return left;
  }
  launch.heads = static_cast<LineHead*>(quay->heads.get());
  launch.rings = static_cast<double*>(quay->rings.get());
  auto* const told = static_cast<Word<std::int32_t>*>(quay->stop.get());
  launch.stop = told;
  told->store(shared::go_on);

  std::vector<char> done(runs, 0);
  std::vector<Seen> shown(runs);
  Status reason{};
  for (bool stopped = false; !left.empty() && !stopped;) {
    wait(stream);  // what was given back is free only then
    const std::size_t room_left = free_bytes() / 2;
    if (bytes > room_left) break;
    launch.runs = left.size();
    launch.blocks = static_cast<unsigned>(std::min({most_blocks, left.size(), room_left / bytes}));
    launch.bytes = bytes;
    std::vector<Inbox> inboxes(launch.blocks);
    Room own(stream);
    try {
      launch.memory = own.take<unsigned char>(launch.blocks * bytes);
      launch.which = own.take(left.data(), left.size());
      launch.taken = own.take<unsigned long long>(1);
      clear(launch.taken, sizeof(unsigned long long), stream);
      wait(stream);
      for (std::size_t b = 0; b < launch.blocks; ++b) ::new (launch.heads + b) LineHead{};
      shared::carry(stream.handle, launch);
      check_launch();
    } catch (const std::bad_alloc&) {
      break;  // another process has taken it, or there is none for the stacks
    }
    const Listener listener(launch, told, stream);

    for (bool over = false; !over;) {
      // Asked first: what was written before the end is then seen below.
      over = listener.over();
      bool heard = false;
      for (std::size_t b = 0; b < launch.blocks; ++b) {
        Inbox& inbox = inboxes[b];
        LineHead& head = launch.heads[b];
        const auto hear = [&](Message kind, const double* begin, const double* end) {
          FromNumbers from(begin, end);
          const auto record = [&](auto made) {
            pass(from, made);
            return made;
          };
          // A run that begins again makes the same records: nobody sees one twice.
          const auto show = [&](const auto&... made) {
            Seen& seen = shown[inbox.run];
            if (++inbox.records > seen.records) seen = {inbox.records, bystander.seen(inbox.run, made...)};
            inbox.answer(head, seen.stop && inbox.records == seen.records);
          };
          switch (kind) {
            case Message::begun:
              from(inbox.run);
              inbox.records = 0;
              inbox.path = Trajectory{};
              break;
            case Message::point:
              inbox.path.points.push_back(record(Point{}));
              break;
            case Message::state:
              inbox.path.states.push_back(record(State{}));
              break;
            case Message::jump:
              inbox.path.jumps.push_back(record(Jump{}));
              break;
            case Message::seen_point:
              show(record(Point{}), static_cast<const State*>(nullptr));
              break;
            case Message::seen_state: {
              const Point point = record(Point{});
              const State state = record(State{});
              show(point, static_cast<const State*>(&state));
              break;
            }
            case Message::seen_jump:
              show(record(Jump{}));
              break;
            case Message::over:
              pass(from, inbox.path);
              done[inbox.run] = 1;
              bystander.over(inbox.run, std::exchange(inbox.path, Trajectory{}));
              break;
          }
        };
        heard |= inbox.look(head, launch.rings + b * ring, hear);
      }
      if (!stopped && bystander.stops(reason)) {
        stopped = true;
        told->store(static_cast<std::int32_t>(reason));
      }
      if (heard || over) continue;
      if (failed(stream)) break;
      std::this_thread::sleep_for(between_looks);
    }
    wait(stream);  // tells a failure
    left.erase(std::remove_if(left.begin(), left.end(), [&](std::size_t run) { return done[run] != 0; }), left.end());
    const bool lacking = std::any_of(launch.heads, launch.heads + launch.blocks,
                                     [](const LineHead& head) { return head.ended.load() == shared::lacked_memory; });
    if (lacking) bytes *= 2;
    // Runs that a stop found not begun are nobody's any more.
    if (stopped) left.clear();
  }
  return left;
}

template <typename Options>
std::vector<std::size_t> BlockCarrier::carry_problems(const Freight& freight, const std::vector<Options>& options,
                                                      Bystander& bystander) const {
  const auto load = [&](Cargo& cargo) {
    constexpr bool alternates = std::is_same_v<Options, AlternateOptions>;
    cargo.verb = alternates ? (freight.directions ? Verb::alternate_directions : Verb::alternate)
                            : (freight.directions ? Verb::flow_of_directions : Verb::flow);
    cargo.watched = freight.watched;
    std::map<const Problem*, std::size_t> known;
    for (std::size_t run = 0; run < freight.starts.size(); ++run) {
      cargo.put(options[run], freight.starts[run]);
      const Problem* const problem = freight.problems[run];
      cargo.bytes = std::max(cargo.bytes, memory_of(*problem, freight.starts[run].count));
      const auto [at, first] = known.emplace(problem, cargo.views.size());
      if (first && !view_of(*problem, cargo.views.emplace_back())) return false;
      cargo.of.push_back(at->second);
    }
    return true;
  };
  return carry(freight.starts.size(), load, bystander);
}

template <typename Options>
std::vector<std::size_t> BlockCarrier::carry_designs(const DiagonalFreight& freight,
                                                     const std::vector<Options>& options, Bystander& bystander) const {
  const auto load = [&](Cargo& cargo) {
    constexpr bool alternates = std::is_same_v<Options, DiagonalPathOptions>;
    cargo.verb = alternates ? Verb::diagonal_path : Verb::diagonal_flow;
    cargo.watched = freight.watched;
    std::map<std::pair<const Design*, const double*>, std::size_t> known;
    for (std::size_t run = 0; run < freight.starts.size(); ++run) {
      cargo.put(options[run], freight.starts[run]);
      const Design* const design = freight.designs[run];
      const double* const target = freight.targets[run];
      std::size_t depth = freight.starts[run].params;
      if constexpr (alternates) depth = options[run].depth;
      cargo.bytes = std::max(cargo.bytes, memory_of(*design, depth));
      const auto [at, first] = known.emplace(std::pair(design, target), cargo.views.size());
      if (first && !view_of(*design, target, cargo.room, cargo.views.emplace_back())) return false;
      cargo.of.push_back(at->second);
    }
    return true;
  };
  return carry(freight.starts.size(), load, bystander);
}

std::vector<std::size_t> BlockCarrier::alternate(const Freight& freight, const std::vector<AlternateOptions>& options,
                                                 Bystander& bystander) const {
  return carry_problems(freight, options, bystander);
}

std::vector<std::size_t> BlockCarrier::flow(const Freight& freight, const std::vector<FlowOptions>& options,
                                            Bystander& bystander) const {
  return carry_problems(freight, options, bystander);
}

std::vector<std::size_t> BlockCarrier::alternate(const DiagonalFreight& freight,
                                                 const std::vector<DiagonalPathOptions>& options,
                                                 Bystander& bystander) const {
  return carry_designs(freight, options, bystander);
}

std::vector<std::size_t> BlockCarrier::flow(const DiagonalFreight& freight, const std::vector<FlowOptions>& options,
                                            Bystander& bystander) const {
  return carry_designs(freight, options, bystander);
}

const Carrier* carrier_of(int device) {
  constexpr int most_devices = 64;
  static const std::vector<BlockCarrier> carriers = [] {
    std::vector<BlockCarrier> made;
    for (int at = 0; at < most_devices; ++at) made.emplace_back(at);
    return made;
  }();
  return device >= 0 && device < most_devices ? &carriers[static_cast<std::size_t>(device)] : nullptr;
}

}  // namespace agf::cuda

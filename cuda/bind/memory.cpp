// DLPack for libraries that are known by no name: arrays of theirs as they lie, and memory of our own for results.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device.hpp"
#include "kernels.hpp"

namespace agf::cuda::bind {

namespace py = pybind11;

namespace {

// The structures of DLPack before its version 1, which every library gives unless asked for more.
struct Device {
  std::int32_t type, id;
};
struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

constexpr const char* unused = "dltensor";
constexpr const char* used = "used_dltensor";
constexpr std::int32_t cuda_type = 2;
constexpr std::uint8_t float_code = 2, bool_code = 6;

// Memory of a device that outlives its call.
struct Block {
  Block(int d, std::size_t bytes) : device(d) {
    const OnDevice on(device);
    at = allocate(bytes, {});
    wait({});
  }
  ~Block() { release_at_rest(at, device); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  int device;
  void* at;
};

class Memory {
 public:
  Memory(int device, std::vector<std::int64_t> shape, const std::string& dtype)
      : shape_(std::move(shape)), bits_(dtype == "float32" ? 32 : 64) {
    std::size_t size = 1;
    for (const std::int64_t length : shape_) size *= static_cast<std::size_t>(length);
    block_ = std::make_shared<Block>(device, size * bits_ / 8);
  }

  std::uintptr_t pointer() const { return reinterpret_cast<std::uintptr_t>(block_->at); }

  // Work on the memory is done before anyone is given it, so there is nothing to wait for on any stream.
  py::capsule dlpack() const {
    struct Held {
      ManagedTensor managed;
      std::shared_ptr<Block> block;
      std::vector<std::int64_t> shape, strides;
    };
    auto held = std::make_unique<Held>();
    held->block = block_;
    held->shape = shape_;
    held->strides.assign(shape_.size(), 1);
    for (std::size_t k = shape_.size(); k-- > 1;) held->strides[k - 1] = held->strides[k] * shape_[k];
    held->managed = {{block_->at,
                      {cuda_type, block_->device},
                      static_cast<std::int32_t>(shape_.size()),
                      {float_code, static_cast<std::uint8_t>(bits_), 1},
                      held->shape.data(),
                      held->strides.data(),
                      0},
                     held.get(),
                     [](ManagedTensor* self) { delete static_cast<Held*>(self->context); }};
    PyObject* const capsule = PyCapsule_New(&held->managed, unused, [](PyObject* object) {
      if (!PyCapsule_IsValid(object, unused)) return;  // someone took it
      auto* const managed = static_cast<ManagedTensor*>(PyCapsule_GetPointer(object, unused));
      managed->deleter(managed);
    });
    if (!capsule) throw py::error_already_set();
    held.release();
    return py::reinterpret_steal<py::capsule>(capsule);
  }

  py::dict interface() const {
    py::dict facts;
    facts["shape"] = py::tuple(py::cast(shape_));
    facts["typestr"] = bits_ == 32 ? "<f4" : "<f8";
    facts["data"] = py::make_tuple(pointer(), false);
    facts["version"] = 3;
    facts["strides"] = py::none();
    facts["stream"] = py::none();
    return facts;
  }

  int device() const { return block_->device; }

 private:
  std::vector<std::int64_t> shape_;
  unsigned bits_;
  std::shared_ptr<Block> block_;
};

// A tensor that another library lent in a capsule.
class Borrowed {
 public:
  explicit Borrowed(const py::capsule& capsule) {
    if (!PyCapsule_IsValid(capsule.ptr(), unused)) {
      throw py::type_error("got a capsule that is used or of another version, expected a fresh one of DLPack");
    }
    managed_ = static_cast<ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), unused));
    PyCapsule_SetName(capsule.ptr(), used);
  }
  ~Borrowed() {
    if (managed_->deleter) managed_->deleter(managed_);
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  std::uintptr_t pointer() const { return reinterpret_cast<std::uintptr_t>(tensor().data) + tensor().byte_offset; }
  std::vector<std::int64_t> shape() const { return {tensor().shape, tensor().shape + tensor().ndim}; }
  py::object strides() const {
    if (!tensor().strides) return py::none();
    return py::cast(std::vector<std::int64_t>(tensor().strides, tensor().strides + tensor().ndim));
  }
  std::string dtype() const {
    const auto [code, bits, lanes] = tensor().dtype;
    constexpr const char* kinds[] = {"int", "uint", "float"};
    if (code == bool_code && lanes == 1) return "bool";
    if (lanes != 1 || code > float_code) return "of DLPack code " + std::to_string(code);
    return kinds[code] + std::to_string(bits);
  }
  int device() const { return tensor().device.id; }

 private:
  const Tensor& tensor() const { return managed_->tensor; }

  ManagedTensor* managed_;
};

}  // namespace

void bind_memory(py::module_& m) {
  py::class_<Memory>(m, "Memory")
      .def(py::init<int, std::vector<std::int64_t>, const std::string&>(), py::arg("device"), py::arg("shape"),
           py::arg("dtype"))
      .def_property_readonly("pointer", &Memory::pointer)
      .def_property_readonly("__cuda_array_interface__", &Memory::interface)
      .def("__dlpack__", [](const Memory& self, const py::args&, const py::kwargs&) { return self.dlpack(); })
      .def("__dlpack_device__", [](const Memory& self) { return py::make_tuple(cuda_type, self.device()); });
  py::class_<Borrowed>(m, "Borrowed")
      .def(py::init<const py::capsule&>(), py::arg("capsule"))
      .def_property_readonly("pointer", &Borrowed::pointer)
      .def_property_readonly("shape", &Borrowed::shape)
      .def_property_readonly("strides", &Borrowed::strides)
      .def_property_readonly("dtype", &Borrowed::dtype)
      .def_property_readonly("device", &Borrowed::device);
}

}  // namespace agf::cuda::bind

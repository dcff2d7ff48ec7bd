"""Arrays of a GPU in place: read where they lie, results of the same library on the same device, nothing moved
silently.

Stand-ins for the libraries (support.device) run wherever the CUDA module does, its build for the host included
(AGF_CUDA_MODULE); on a GPU the same bodies also run over CuPy and torch themselves.
"""

from __future__ import annotations

import gc
import importlib.util
import pickle
import sys
import weakref

import numpy as np
import pytest

import agf_fast as agf
from agf_fast import _arrays, _cuda_status, _device
from support import device
from support.problems import generic_data

needs_module = pytest.mark.skipif(not agf.cuda.is_available(), reason=f"no CUDA: {agf.cuda.why()}")
ON_HOST = agf.cuda.is_available() and "in place of a GPU" in agf.cuda.module().info()["devices"][0]
STAND_INS = {
    "cupy": device.cupy_library,
    "torch": device.torch_library,
    "interface": device.interface_library,
    "dlpack": device.dlpack_library,
}
REAL = {"real-cupy": device.real_cupy, "real-torch": device.real_torch}


@pytest.fixture(params=[*STAND_INS, *REAL])
def library(request, monkeypatch):
    if request.param in STAND_INS:
        found = STAND_INS[request.param]()
        monkeypatch.setitem(sys.modules, found.name, found.module)
        return found
    if ON_HOST:
        pytest.skip("needs a GPU")
    name = request.param.removeprefix("real-")
    # Where there is a GPU, none of its tests is left out.
    if importlib.util.find_spec(name) is None:
        pytest.fail(f"this machine has a GPU, and {name}, whose arrays are tested on it, is not installed")
    return REAL[request.param]()


@pytest.fixture
def cupy(monkeypatch):
    found = device.cupy_library()
    monkeypatch.setitem(sys.modules, "cupy", found.module)
    return found


@pytest.fixture
def torch(monkeypatch):
    found = device.torch_library()
    monkeypatch.setitem(sys.modules, "torch", found.module)
    return found


@pytest.fixture
def in_place(monkeypatch):
    """Nothing may be brought to the host."""

    def refuse(*_):
        raise AssertionError("an array of a device was brought to the host")

    monkeypatch.setattr(_device, "download", refuse)
    monkeypatch.setattr(_arrays, "download", refuse)


def check_kind(library, array, shape, dtype):
    assert type(array).__module__.partition(".")[0] == library.name
    assert tuple(array.shape) == shape
    assert str(array.dtype).endswith(str(dtype))


@needs_module
@pytest.mark.parametrize("flat", [False, True], ids=["matrix", "flat"])
def test_leaves_in_place(library, dtype, flat, in_place):
    """The bits of the same kernels on arrays of the host, as arrays of the caller's library, without a download."""
    X, Y, theta, residual, v = generic_data(n=37, d=5, c=1 if flat else 3, H=6, seed=3, dtype=dtype)
    if flat:
        Y, residual = Y[:, 0].copy(), residual[:, 0].copy()
    host = agf.Dense(X, Y, activation="tanh")._kernel("cuda")
    column = (lambda array: array[:, None]) if flat else (lambda array: array)
    problem = agf.Dense(library.make(X), library.make(Y), activation="tanh")
    there = library.make(theta)
    assert problem.loss(there) == host.loss(theta)
    cases = [
        (problem.residual(there), host.residual(theta)),
        (problem.predict(there, library.make(X[:7].copy())), host.predict(theta, X[:7].copy())),
        (problem.utility(there), host.utility(theta)),
        (problem.utility(there, library.make(residual)), host.utility(theta, column(residual))),
        (problem.utility_gradient(there), host.utility_gradient(theta)),
        (problem.utility_gradient(there, library.make(residual)), host.utility_gradient(theta, column(residual))),
        (problem.hessian_vector(there, library.make(v)), host.hessian_vector(theta, v)),
    ]
    for place, (got, expected) in enumerate(cases):
        wanted = expected[:, 0] if flat and place < 2 else expected
        check_kind(library, got, wanted.shape, dtype)
        np.testing.assert_array_equal(library.read(got), wanted)


@needs_module
@pytest.mark.parametrize("name", ["linear", "attention", "samples"])
def test_leaves_of_moments_in_place(library, dtype, name, request):
    """Their data come to the host for the moments; afterwards nothing does."""
    make = {
        "linear": lambda give, X: agf.Linear(give(X), give(X[:, :2].copy())),
        "attention": lambda give, X: agf.Attention(give(np.diag(X[0] ** 2 + 0.1)), context=4),
        "samples": lambda give, X: agf.Attention.from_samples(give(X[:30].reshape(10, 3, 4).copy())),
    }[name]
    X = np.random.default_rng(8).standard_normal((37, 4)).astype(dtype)
    problem = make(library.make, X)
    host = make(lambda array: array, X)._kernel("cuda")
    rng = np.random.default_rng(9)
    theta, v = (rng.standard_normal((6, problem.n_params)).astype(dtype) for _ in range(2))
    residual = rng.standard_normal(host.shape).astype(dtype)
    request.getfixturevalue("in_place")
    there = library.make(theta)
    assert problem.loss(there) == host.loss(theta)
    cases = [
        (problem.residual(there), host.residual(theta)),
        (problem.utility(there), host.utility(theta)),
        (problem.utility_gradient(there, library.make(residual)), host.utility_gradient(theta, residual)),
        *zip(problem.utility_and_gradient(there), host.utility_and_gradient(theta), strict=True),
        (problem.hessian_vector(there, library.make(v)), host.hessian_vector(theta, v)),
    ]
    for got, expected in cases:
        check_kind(library, got, expected.shape, dtype)
        np.testing.assert_array_equal(library.read(got), expected)


@needs_module
def test_data_are_the_problem_s_own(library):
    """The caller may change the arrays before the kernel is made, and let go of results' problem and inputs."""
    X, Y, theta, _, _ = generic_data(seed=5)
    given = library.make(X)
    problem = agf.Dense(given, library.make(Y))
    if not library.real:
        given.fill(np.zeros_like(X))
    assert problem.loss(library.make(theta)) == agf.Dense(X, Y)._kernel("cuda").loss(theta)
    residual = problem.residual(library.make(theta))
    del problem, given
    gc.collect()
    np.testing.assert_array_equal(library.read(residual), agf.Dense(X, Y)._kernel("cuda").residual(theta))


@needs_module
def test_backends(library):
    """auto is where the data are; nothing goes elsewhere by itself."""
    X, Y, theta, _, _ = generic_data(seed=6)
    problem = agf.Dense(library.make(X), library.make(Y))
    state = problem.initialize(4)
    for name in ("cpp", "numpy"):
        for verb in (
            lambda: agf.alternating_gradient_flow(problem, state, backend=name),  # noqa: B023
            lambda: agf.gradient_flow(problem, state, 1.0, backend=name),  # noqa: B023
            lambda: agf.gradient_descent(problem, library.make(theta), 0.1, 2, backend=name),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=f"backend is '{name}' for data on device cuda:0.*build the problem"):
                verb()
    # The explicit choice takes data of the host there.
    host = agf.Dense(X, Y)
    path = agf.gradient_flow(host, host.initialize(4), 1.0, backend="cuda")
    same = agf.gradient_flow(problem, state, 1.0)
    np.testing.assert_array_equal(path.loss, same.loss)
    assert isinstance(path.state.direction, np.ndarray)


@needs_module
def test_runs(library, dtype, tmp_path):
    """Directions of states and jumps are the library's; times, losses and log-norms NumPy's; runs go on, are saved."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)).astype(dtype)
    Y = (X @ rng.normal(size=(3, 2))).astype(dtype)
    problem = agf.Dense(library.make(X), library.make(Y), activation="identity")
    state = problem.initialize(5, seed=1)
    check_kind(library, state.direction, (5, 5), dtype)
    assert type(state.log_norm) is np.ndarray and type(state.active) is np.ndarray
    check_kind(library, state.parameters(), (5, 5), dtype)
    host = agf.Dense(X, Y, activation="identity")
    expected = agf.alternating_gradient_flow(host, host.initialize(5, seed=1), backend="cuda")

    path = agf.alternating_gradient_flow(problem, state)
    assert len(path.jumps) == 2
    for ours, theirs in zip(path.jumps, expected.jumps, strict=True):
        check_kind(library, ours.direction, (5,), dtype)
        np.testing.assert_array_equal(library.read(ours.direction), theirs.direction)
        check_kind(library, ours.state.direction, (5, 5), dtype)
    assert path.jumps[0] == path.jumps[0] and path.jumps[0] != path.jumps[1]
    for name in ("time", "loss", "elapsed"):
        assert type(getattr(path, name)) is np.ndarray
        np.testing.assert_array_equal(getattr(path, name), getattr(expected, name))
    np.testing.assert_array_equal(library.read(path.state.direction), expected.state.direction)
    assert "5 neurons" in repr(path.state)
    assert path.state == path.state and path.state != path.states[0]

    first = agf.alternating_gradient_flow(problem, state, max_jumps=1)
    rest = agf.alternating_gradient_flow(problem, first.state)
    np.testing.assert_allclose(rest.loss[-1], path.loss[-1], rtol=1e-3, atol=1e-7)
    path.save(tmp_path / "x.npz")
    loaded = agf.load(tmp_path / "x.npz")
    np.testing.assert_array_equal(loaded.state.direction, expected.state.direction)
    assert problem.loss(loaded.state) == problem.loss(path.state)

    both = agf.gradient_flow(problem, problem.initialize(5, seed=range(2)), 1.0, save_at=[0.5, 1.0])
    check_kind(library, both[1].states[0].direction, (5, 5), dtype)
    at = library.make(rng.normal(size=(5, 5)).astype(dtype))
    seen = []
    gd = agf.gradient_descent(problem, at, 0.01, 4, batch=10, callback=lambda record: seen.append(record.state))
    check_kind(library, gd.state.direction, (5, 5), dtype)
    check_kind(library, seen[0].direction, (5, 5), dtype)
    found = agf.utility_maxima(problem, starts=4)
    check_kind(library, found.direction, (len(found), 5), dtype)
    assert agf.kernel_movement(problem, state, path.state).distance > 0.0


@needs_module
def test_descent_in_batches_is_that_of_the_host(library):
    X, Y, theta, _, _ = generic_data(n=24, seed=8)
    options = {"lr": 0.05, "steps": 7, "batch": 5, "momentum": 0.5}
    ours = agf.gradient_descent(agf.Dense(library.make(X), library.make(Y)), library.make(theta), **options)
    theirs = agf.gradient_descent(agf.Dense(X, Y), theta, backend="cuda", **options)
    np.testing.assert_array_equal(ours.loss, theirs.loss)
    np.testing.assert_array_equal(library.read(ours.state.direction), theirs.state.direction)


@needs_module
def test_problems_known_by_moments(library):
    """They hold what they need of the data on the host, and give results where the data are."""
    rng = np.random.default_rng(2)
    X, Y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    theta = rng.normal(size=(2, 5))
    linear = agf.Linear(library.make(X), library.make(Y))
    got = linear.linear_map(library.make(theta))
    check_kind(library, got, (2, 3), "float64")
    np.testing.assert_array_equal(library.read(got), agf.Linear(X, Y).linear_map(theta))
    assert linear.theory().levels == pytest.approx(agf.Linear(X, Y).theory().levels)
    check_kind(library, agf.Attention(library.make(np.eye(2))).initialize(3).direction, (3, 5), "float64")
    template = np.cos(2 * np.pi * np.arange(5) / 5)
    check_kind(library, agf.ModularAddition(library.make(template)).initialize(3).direction, (3, 15), "float64")
    diagonal = agf.Diagonal(library.make(X), library.make(Y[:, 0].copy()))
    got = diagonal.coefficients(library.make(rng.normal(size=(3, 2))))
    check_kind(library, got, (3,), "float64")
    assert len(diagonal.theory().jumps) == 3


@needs_module
def test_diagonal(library):
    """Leaves take arrays of the device where they lie, and runs start from states there."""
    rng = np.random.default_rng(3)
    X, y, theta, v = (rng.normal(size=size) for size in ((30, 4), 30, (4, 2), (4, 2)))
    host = agf.Diagonal(X, y)
    problem = agf.Diagonal(library.make(X), library.make(y))
    at, along = library.make(theta), library.make(v)
    assert problem.loss(at) == pytest.approx(host.loss(theta), rel=1e-13)
    r = problem.residual(at)
    check_kind(library, r, (30,), "float64")
    for got, expected in (
        (r, host.residual(theta)),
        (problem.utility(at, r), host.utility(theta)),
        (problem.utility_gradient(at), host.utility_gradient(theta)),
        (problem.hessian_vector(at, along), host.hessian_vector(theta, v)),
        (problem.predict(at, library.make(X[:5].copy())), host.predict(theta, X[:5])),
    ):
        check_kind(library, got, expected.shape, "float64")
        np.testing.assert_allclose(library.read(got), expected, rtol=1e-11, atol=1e-13)
    path, beside = (agf.alternating_gradient_flow(p, p.initialize(1e-3)) for p in (problem, host))
    assert [jump.neuron for jump in path.jumps] == [jump.neuron for jump in beside.jumps]
    np.testing.assert_allclose(path.loss, beside.loss, rtol=1e-10)
    check_kind(library, path.state.direction, (4, 2), "float64")


@needs_module
def test_pickles(library):
    """As data are: where the other process has the library and the device."""
    X, Y, theta, _, _ = generic_data(seed=9)
    problem = agf.Dense(library.make(X), library.make(Y))
    again = pickle.loads(pickle.dumps(problem))
    assert again.loss(library.make(theta)) == problem.loss(library.make(theta))


@needs_module
def test_what_is_refused(library, in_place, monkeypatch):
    X, Y, theta, _, _ = generic_data()
    make, name = library.make, library.name
    problem = agf.Dense(make(X), make(Y))
    host = agf.Dense(X, Y)
    with pytest.raises(TypeError, match=r"theta is in host memory, expected it on device cuda:0 .*move theta there"):
        problem.loss(theta)
    with pytest.raises(TypeError, match=r"theta is on device cuda:0, expected it in host memory .*nothing is moved"):
        host.loss(make(theta))
    with pytest.raises(TypeError, match="Y is in host memory, expected it on device cuda:0"):
        agf.Dense(make(X), Y)
    with pytest.raises(TypeError, match="Y is on device cuda:0, expected it in host memory"):
        agf.Dense(X, make(Y))
    with pytest.raises(TypeError, match="theta has dtype float32, expected float64"):
        problem.loss(make(theta.astype(np.float32)))
    error = "X has dtype int64, expected float32 or float64"
    if name == "dlpack_arrays":
        error = r"X \(Tensor\) could not be read through DLPack \(int64 cannot be lent\)"
    with pytest.raises(TypeError, match=error):
        agf.Dense(make(np.arange(6).reshape(3, 2)), make(Y))
    with pytest.raises(ValueError, match=r"theta has shape .*, expected \(H, m\)"):
        problem.loss(make(theta[:, :-1].copy()))
    with pytest.raises(ValueError, match="X has a mean square"):
        agf.Dense(make(np.full((2, 2), 1e200)), make(np.ones((2, 1))))
    transposed = make(np.ascontiguousarray(theta.T)).T
    if library.name != "dlpack_arrays":
        with pytest.raises(ValueError, match=r"theta is not C-contiguous.*nothing is copied silently: pass"):
            problem.loss(transposed)
    assert name in str(problem._kind)


@needs_module
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_finite(library, dtype, value):
    X, Y, _, _, _ = generic_data(dtype=dtype)
    X[3, 1] = value
    with pytest.raises(ValueError, match=r"X holds 1 value\(s\) that are NaN or infinite, the first at index \(3, 1\)"):
        agf.Dense(library.make(X), library.make(Y))


@needs_module
def test_finite_to_the_last_number(cupy):
    """Of many parts of a sum."""
    X = np.ones((9000, 5))
    X[-1, -1] = np.nan
    with pytest.raises(ValueError, match=r"the first at index \(8999, 4\)"):
        agf.Dense(cupy.make(X), cupy.make(np.ones((9000, 1))))


@needs_module
@pytest.mark.parametrize("which", ["cupy", "torch"])
def test_devices_do_not_mix(which, request):
    library = request.getfixturevalue(which)
    X, Y, theta, _, _ = generic_data()
    with pytest.raises(TypeError, match=r"Y is on device cuda:1, expected it on device cuda:0.*nothing is moved"):
        agf.Dense(library.make(X), library.make(Y, ordinal=1))
    problem = agf.Dense(library.make(X), library.make(Y))
    with pytest.raises(TypeError, match="theta is on device cuda:1, expected it on device cuda:0"):
        problem.loss(library.make(theta, ordinal=1))
    if ON_HOST:
        other = agf.Dense(library.make(X, ordinal=1), library.make(Y, ordinal=1))
        residual = other.residual(library.make(theta, ordinal=1))
        assert residual.ordinal == 1
        with pytest.raises(TypeError, match=r"problem\[1\] is in float64 of .* on device cuda:1, expected float64 of"):
            agf.gradient_flow([problem, other], problem.initialize(3), 1.0)


@needs_module
def test_libraries_do_not_mix(cupy, torch):
    X, Y, theta, _, _ = generic_data()
    with pytest.raises(TypeError, match="Y is an array of torch, expected cupy"):
        agf.Dense(cupy.make(X), torch.make(Y))
    with pytest.raises(TypeError, match="theta is an array of torch, expected cupy"):
        agf.Dense(cupy.make(X), cupy.make(Y)).loss(torch.make(theta))


@needs_module
def test_torch_outside_autograd(torch):
    X, Y, _, _, _ = generic_data()
    tensor = torch.make(X)
    tensor.requires_grad = True
    with pytest.raises(TypeError, match=r"X is a torch tensor that requires grad.*X\.detach\(\)"):
        agf.Dense(tensor, torch.make(Y))
    tensor = torch.make(X)
    tensor.layout = "torch.sparse_coo"
    with pytest.raises(TypeError, match=r"X is a torch tensor of layout torch.sparse_coo"):
        agf.Dense(tensor, torch.make(Y))
    tensor = torch.make(np.ascontiguousarray(X.T)).T
    with pytest.raises(ValueError, match=r"X is not C-contiguous.*pass X\.contiguous\(\)"):
        agf.Dense(tensor, torch.make(Y))


@needs_module
def test_streams(cupy, torch):
    """CuPy and torch: the one that is current when work is queued, 0 being the legacy default stream, 1."""
    for library in (cupy, torch):
        seen = _device.view(library.make(np.ones((2, 2))), "X", library.name)
        assert seen.stream == 1
        assert seen.empty((3,)).stream == 1
        library.module.stream = 0x51
        assert seen.stream == 0x51
        assert seen.empty((3,)).stream == 0x51


@needs_module
def test_streams_of_the_interface(monkeypatch):
    library = device.interface_library()
    monkeypatch.setitem(sys.modules, library.name, library.module)
    waited = []
    module = _cuda_status.module()
    monkeypatch.setattr(module, "wait", lambda device, stream: waited.append(stream))
    array = library.make(np.ones((2, 2)))
    for given, stream in ((None, 1), (1, 1), (2, 2), (0x51, 0x51)):
        array.stream = given
        seen = _device.view(array, "X", library.name)
        assert seen.stream == seen.empty((3,)).stream == stream
    assert waited == [1, 2, 0x51]
    # Version 2 knew of no streams.
    monkeypatch.setattr(module, "rest", lambda device: waited.append("all"))
    older = {**array.__cuda_array_interface__, "version": 2}
    del older["stream"]
    with monkeypatch.context() as patch:
        patch.setattr(library.module.array, "__cuda_array_interface__", older)
        assert _device.view(array, "X", library.name).stream == 1
    assert waited[3:] == ["all"]
    array.stream = 0
    with pytest.raises(ValueError, match="X names stream 0 in its __cuda_array_interface__, expected None, 1"):
        agf.Dense(array, array)


@needs_module
def test_stream_of_dlpack(monkeypatch):
    """The library is asked to have the array ready on the legacy default stream, where our work is then queued."""
    library = device.dlpack_library()
    monkeypatch.setitem(sys.modules, library.name, library.module)
    seen = _device.view(library.make(np.ones((2, 2))), "X", library.name)
    assert (library.module.array.asked, seen.stream) == (1, 1)
    # One that has both is asked so too; where it cannot lend, its other interface is read.
    both = library.make(np.ones((2, 2)))
    monkeypatch.setattr(library.module.array, "__cuda_array_interface__", both._interface(stream=7), raising=False)
    assert _device.view(both, "X", library.name).stream == 1
    monkeypatch.setattr(_cuda_status.module(), "wait", lambda device, stream: None)
    flags = library.make(np.array([True, False]))
    monkeypatch.setattr(library.module.array, "__cuda_array_interface__", flags._interface(stream=7))
    seen = _device.view(flags, "active", library.name)
    assert (seen.dtype, seen.pointer, seen.stream) == ("bool", flags.pointer, 7)


@needs_module
def test_arrays_that_cannot_be_given_back(monkeypatch):
    library = device.interface_library()
    del library.module.from_dlpack
    monkeypatch.setitem(sys.modules, library.name, library.module)
    with pytest.raises(TypeError, match=r"X is an array of device_arrays, to which results could not be given back"):
        agf.Dense(library.make(np.eye(2)), library.make(np.eye(2)))


@needs_module
def test_other_byte_orders_and_masks(monkeypatch):
    library = device.interface_library()
    monkeypatch.setitem(sys.modules, library.name, library.module)
    array = library.make(np.eye(2))
    plain = array.__cuda_array_interface__
    for change, error in (({"typestr": ">f8"}, "byte order of another machine"), ({"mask": array}, "masked array")):
        monkeypatch.setattr(library.module.array, "__cuda_array_interface__", {**plain, **change})
        with pytest.raises(TypeError, match=error):
            agf.Dense(array, array)


@needs_module
def test_a_view_holds_its_array(library):
    array = library.make(np.eye(3))
    seen = _device.view(array, "X", library.name)
    try:
        alive = weakref.ref(array)
    except TypeError:
        pytest.skip("these arrays take no weak references")
    del array
    gc.collect()
    assert alive() is not None
    held = seen.column()
    del seen
    gc.collect()
    assert alive() is not None
    del held
    gc.collect()
    assert alive() is None


@needs_module
def test_states_on_a_device(library):
    direction = library.make(np.eye(2))
    state = agf.State(direction, [0.0, -3.0])
    check_kind(library, state.direction, (2, 2), "float64")
    assert state.direction is not direction
    np.testing.assert_array_equal(state.log_norm, [0.0, -3.0])
    if library.name != "dlpack_arrays":
        again = agf.State(direction, library.make(np.array([0.0, -3.0])), library.make(np.array([True, False])))
        assert again == state
    check_kind(library, agf.State.from_parameters(library.make(2.0 * np.eye(2))).direction, (2, 2), "float64")


def test_without_cuda_the_reason_is_given(monkeypatch):
    """Whatever the library: the argument, where it is, why that is out of reach, and what to do."""

    class ndarray:  # noqa: N801
        __cuda_array_interface__ = None

        def __dlpack_device__(self):
            return (2, 0)

    monkeypatch.setattr(_cuda_status, "why", lambda: "no driver was found")
    ndarray.__module__ = "cupy"
    with pytest.raises(TypeError, match=r"X is an array of cupy .*: no driver was found\. .*use cupy\.asnumpy"):
        agf.Dense(ndarray(), np.eye(2))


def test_other_devices_are_refused():
    class ndarray:  # noqa: N801
        device = "sycl:0"

        def __dlpack__(self):
            raise AssertionError

        def __dlpack_device__(self):
            return (14, 0)

    with pytest.raises(TypeError, match="on sycl:0, expected host memory or a CUDA device"):
        agf.Dense(ndarray(), np.eye(2))

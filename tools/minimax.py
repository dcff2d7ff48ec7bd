"""The polynomials of cpp/agf/elementary.hpp: `python tools/minimax.py` prints each with its bound. Needs mpmath.

Remez exchange in 250 bits: the polynomial whose largest weighted error is least, its coefficients then rounded.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

Real = Callable[[mp.mpf], mp.mpf]


def remez(f: Real, weight: Real, low: mp.mpf, high: mp.mpf, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """Coefficients, constant first, of the p that minimises max |weight (f - p)| on [low, high], and that maximum."""
    count = degree + 2
    middle, half = (low + high) / 2, (high - low) / 2
    grid = [middle - half * mp.cos(mp.pi * j / (30 * count)) for j in range(30 * count + 1)]
    values, weights = [f(x) for x in grid], [weight(x) for x in grid]
    nodes = [30 * j * count // (count - 1) for j in range(count)]
    while True:
        equations, right = mp.matrix(count, count), mp.matrix(count, 1)
        for row, i in enumerate(nodes):
            for j in range(degree + 1):
                equations[row, j] = grid[i] ** j
            equations[row, degree + 1] = (-1) ** row / weights[i]
            right[row] = values[i]
        solution = mp.lu_solve(equations, right)
        coefficients = [solution[j] for j in range(degree + 1)]
        errors = [w * (v - mp.polyval(coefficients[::-1], x)) for x, v, w in zip(grid, values, weights, strict=True)]
        worst = max(abs(error) for error in errors)
        if worst <= abs(solution[degree + 1]) * mp.mpf("1.01"):
            return coefficients, worst
        # The next nodes: the largest error of every run of one sign.
        nodes = []
        for i, error in enumerate(errors):
            if nodes and error * errors[nodes[-1]] > 0:
                if abs(error) > abs(errors[nodes[-1]]):
                    nodes[-1] = i
            elif error != 0:
                nodes.append(i)
        while len(nodes) > count:
            nodes.pop(0 if abs(errors[nodes[0]]) < abs(errors[nodes[-1]]) else -1)


def exponential_tail(r: mp.mpf) -> mp.mpf:
    """(e^r - 1 - r) / r^2"""
    return mp.hyp1f1(1, 3, r) / 2


def normal_tail(t: mp.mpf) -> mp.mpf:
    """(x + 3) e^(x^2/2) Phi(-x) with t = (x - 3) / (x + 3)"""
    x = 3 * (1 + t) / (1 - t)
    return (x + 3) * mp.exp(x * x / 2) * mp.erfc(x / mp.sqrt(2)) / 2


def erf_core(s: mp.mpf) -> mp.mpf:
    """erf(x) / x with s = x^2"""
    return 2 / mp.sqrt(mp.pi) * mp.hyp1f1(mp.mpf(1) / 2, mp.mpf(3) / 2, -s)


def erfc_scaled(x: mp.mpf) -> mp.mpf:
    """e^(x^2) erfc(x)"""
    return mp.exp(x * x) * mp.erfc(x)


def main() -> None:
    mp.mp.prec = 250
    # The reduced argument is at most ln 2 / 2 and the rounding of n; relative to e^r - 1, of size r.
    reach = mp.log(2) / 2 * mp.mpf("1.01")

    def reduced(r: mp.mpf) -> mp.mpf:
        return max(abs(r), reach / 50)

    def relative(f: Real) -> Real:
        return lambda x: 1 / f(x)

    # erf = 1 - e^(-x^2) p(x): the error that counts is that of erf.
    def faded(x: mp.mpf) -> mp.mpf:
        return mp.exp(-x * x) / mp.erf(x)

    fits = (
        ("float", 9, exponential_tail, reduced, -reach, reach, 4),
        ("double", 17, exponential_tail, reduced, -reach, reach, 9),
        ("float", 9, normal_tail, relative(normal_tail), -1, mp.mpf(15 - 3) / (15 + 3), 10),
        ("double", 17, normal_tail, relative(normal_tail), -1, mp.mpf(39 - 3) / (39 + 3), 24),
        ("float", 9, erf_core, relative(erf_core), 0, 1, 6),
        ("double", 17, erf_core, relative(erf_core), 0, 1, 11),
        ("float", 9, erfc_scaled, faded, 1, 4, 8),
        ("double", 17, erfc_scaled, faded, 1, 6, 20),
    )
    for kind, digits, f, weight, low, high, degree in fits:
        coefficients, error = remez(f, weight, mp.mpf(low), mp.mpf(high), degree)
        print(f"{kind} {f.__name__}, degree {degree}, 2^{mp.nstr(mp.log(error, 2), 4)}")
        suffix = "f" if kind == "float" else ""
        print("  " + ", ".join(mp.nstr(c, digits, strip_zeros=False) + suffix for c in coefficients))


if __name__ == "__main__":
    main()

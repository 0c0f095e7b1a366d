"""Fits the polynomials of model/src/kernels/isa/exp.rs and prints them with the errors they reach in float32.

exp: 2^n * p(r), r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2].
erf: x * p(x^2) up to |x| = 0.85; 1 - exp(q(|x|)) above, q fitted to ln erfc.
Remez exchange on the relative error, in double precision (mpmath for ln erfc).
"""

import mpmath
import numpy as np

mpmath.mp.dps = 40


def remez(f, weight, degree, low, high, rounds=30):
    """Coefficients (constant first) of the polynomial with the least maximum of |weight * (p - f)| on [low, high]."""
    k = np.arange(degree + 2)
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * k / (degree + 1))[::-1]
    grid = np.linspace(low, high, 20001)
    f_grid, w_grid = f(grid), weight(grid)
    for _ in range(rounds):
        system = np.vander(x, degree + 1, increasing=True)
        system = np.hstack([system, ((-1.0) ** k / weight(x))[:, None]])
        c = np.linalg.solve(system, f(x))[:-1]
        error = w_grid * (np.polyval(c[::-1], grid) - f_grid)
        # One extremum per interval between sign changes.
        edges = np.concatenate([[0], np.where(np.diff(np.sign(error)) != 0)[0] + 1, [len(grid)]])
        peaks = [a + np.argmax(np.abs(error[a:b])) for a, b in zip(edges[:-1], edges[1:])]
        if len(peaks) != degree + 2:
            break
        x = grid[peaks]
    return c


def show(name, c):
    print(name, ", ".join(f"{float(np.float32(v)):.9e}" for v in c))


def horner32(c, x):
    c = [np.float32(v) for v in c]
    y = np.full_like(x, c[-1])
    for v in c[-2::-1]:
        y = y * x + v
    return y


def exp32(c, x):
    n = np.round(x * np.float32(1 / np.log(2)))
    r = x - n * np.float32(0.693359375)
    r = r - n * np.float32(-2.12194440e-4)
    p = horner32(c, r) * r * r + r + np.float32(1)
    return np.ldexp(p, n.astype(int)).astype(np.float32)


half = np.log(2) / 2 * 1.001
# exp(r) = 1 + r + r^2 p(r)
f = lambda r: np.where(np.abs(r) < 1e-3, 0.5 + r / 6 + r**2 / 24 + r**3 / 120, (np.expm1(r) - r) / np.where(r == 0, 1, r) ** 2)
c_exp = remez(f, lambda r: r**2 / np.exp(r) + 1e-9, 4, -half, half)
show("exp ", c_exp)
x = np.linspace(-87, 88, 2000001).astype(np.float32)
true = np.exp(x.astype(np.float64))
print("  float32 error in ulp:", np.max(np.abs(exp32(c_exp, x) - true) / np.spacing(true.astype(np.float32))))

vec = lambda g: np.vectorize(lambda v: float(g(mpmath.mpf(float(v)))), otypes=[np.float64])
split = 0.85
erf_over_x = lambda s: vec(lambda v: mpmath.erf(mpmath.sqrt(v)) / mpmath.sqrt(v) if v > 0 else 2 / mpmath.sqrt(mpmath.pi))(s)
c_small = remez(erf_over_x, lambda s: 1 / erf_over_x(s), 6, 0.0, split**2)
show("erf small", c_small)
ln_erfc = lambda t: vec(lambda v: mpmath.log(mpmath.erfc(v)))(t)
erfc = lambda t: vec(mpmath.erfc)(t)
c_large = remez(ln_erfc, lambda t: erfc(t) + 1e-10, 8, split, 4.0)
show("erf large", c_large)
x = np.linspace(-6, 6, 400001).astype(np.float32)
a = np.minimum(np.abs(x), np.float32(4))
c_rest = np.concatenate([[c_small[0] - 1], c_small[1:]])
show("erf small, first coefficient less one", c_rest[:1])
small = x + x * horner32(c_rest, x * x)
large = np.copysign(1 - exp32(c_exp, horner32(c_large, a)), x)
got = np.where(np.abs(x) < split, small, large)
true = np.array([float(mpmath.erf(float(v))) for v in x])
print("  float32 error:", np.max(np.abs(got - true)), "relative, in ulp:", np.max(np.abs(got - true) / np.spacing(np.abs(true).astype(np.float32) + 1e-30)))

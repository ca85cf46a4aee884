"""Compiled geometry: blend shapes, normals, a z-buffer.

Camera space: metres, x to the image's right, y up, z towards the camera. Arrays are float32. The code is
single-threaded, so that a picture does not depend on the number of cores.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from aunet.data.rendered.head import LASH, Floats, Ints

P = ParamSpec("P")
T = TypeVar("T")


Scalar = float | np.floating[Any]


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compile with numba at the first call, and keep the machine code on disk for later processes."""
    reorder = {"contract", "reassoc", "arcp", "nsz"}  # as fast maths, but NaN still means NaN
    return cast(Callable[P, T], numba.njit(cache=True, error_model="numpy", fastmath=reorder)(function))


@compiled
def vertex_normals(vertices: Floats, triangles: Ints) -> Floats:
    """Unit normals (V, 3), area-weighted over each vertex's triangles."""
    normals = np.zeros_like(vertices)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        e0, e1, e2 = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        f0, f1, f2 = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        n0, n1, n2 = e1 * f2 - e2 * f1, e2 * f0 - e0 * f2, e0 * f1 - e1 * f0
        for v in (a, b, c):
            normals[v, 0] += n0
            normals[v, 1] += n1
            normals[v, 2] += n2
    for v in range(vertices.shape[0]):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + np.float32(1e-12)
        normals[v] /= length
    return normals


@compiled
def rasterise(
    points: Floats, triangles: Ints, material: npt.NDArray[np.int8], size: int
) -> tuple[Ints, Floats]:
    """Z-buffer of triangles in pixels.

    Args:
        points: (V, 3) x and y in pixels (pixel centres at .5, y down), and nearness (greater is nearer).
        triangles: (T, 3).
        material: (T,): lashes show from both sides, all else only from outside.
        size: side of the square picture in pixels.

    Returns:
        (size, size) triangle index, -1 where there is none, and (size, size, 2) barycentric weights of the
        triangle's second and third vertex.
    """
    index = np.full((size, size), -1, np.int32)
    weights = np.zeros((size, size, 2), np.float32)
    nearest = np.full((size, size), -1e30, np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = (
            points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1],
        )  # fmt: skip
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area > -1e-6 and (material[t] != LASH or area < 1e-6):
            continue  # y points down, so triangles seen from outside have a negative area
        scale = np.float32(1) / area
        x0 = max(int(np.floor(min(ax, bx, cx) - 0.5)) + 1, 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - 0.5)), size - 1)
        y0 = max(int(np.floor(min(ay, by, cy) - 0.5)) + 1, 0)
        y1 = min(int(np.floor(max(ay, by, cy) - 0.5)), size - 1)
        for y in range(y0, y1 + 1):
            dy = np.float32(y + 0.5) - ay
            for x in range(x0, x1 + 1):
                dx = np.float32(x + 0.5) - ax
                wb = (dx * (cy - ay) - dy * (cx - ax)) * scale
                wc = ((bx - ax) * dy - (by - ay) * dx) * scale
                if wb < 0 or wc < 0 or wb + wc > 1:
                    continue
                near = points[a, 2] * (1 - wb - wc) + points[b, 2] * wb + points[c, 2] * wc
                if near > nearest[y, x]:
                    nearest[y, x] = near
                    index[y, x] = t
                    weights[y, x, 0] = wb
                    weights[y, x, 1] = wc
    return index, weights


@compiled
def add_offsets(base: Floats, offsets: Floats, weights: Floats) -> Floats:
    """``base + sum(weights[i] * offsets[i])`` for base (V, 3), offsets (A, V, 3), weights (A,)."""
    total = base.copy()
    for i in range(weights.shape[0]):
        if weights[i] != 0:
            for v in range(base.shape[0]):
                total[v, 0] += weights[i] * offsets[i, v, 0]
                total[v, 1] += weights[i] * offsets[i, v, 1]
                total[v, 2] += weights[i] * offsets[i, v, 2]
    return total


@compiled
def pool_lengths(vectors: Floats, index: Ints, weights: Floats, triangles: Ints, cells: int) -> Floats:
    """Mean length of per-vertex vectors (V, 3) over each of (cells, cells) squares, zero off the mesh."""
    size = index.shape[0]
    cell = size // cells
    pooled = np.zeros((cells, cells), np.float32)
    for y in range(0, size, 2):
        for x in range(0, size, 2):
            t = index[y, x]
            if t >= 0:
                wb, wc = weights[y, x, 0], weights[y, x, 1]
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                wa = 1 - wb - wc
                square = np.float32(0)
                for k in range(3):
                    square += (vectors[a, k] * wa + vectors[b, k] * wb + vectors[c, k] * wc) ** 2
                pooled[y // cell, x // cell] += np.sqrt(square)
    return pooled / np.float32(cell * cell / 4)

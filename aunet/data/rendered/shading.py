"""Compiled per-pixel shading: skin with relief, lips, eyes, teeth; and what else draws on a picture.

Pictures are (size, size, 3) float32 in linear light, about [0, 1].
"""

from typing import NamedTuple

import numpy as np

from aunet.data.rendered.head import CAVITY, EYE, LASH, SKIN, TEETH, Floats, Ints, Surface
from aunet.data.rendered.raster import Scalar, compiled

TEXTURE_SIZE = 256
"""Texels along each side of a skin texture."""
TEXTURE_LEFT, TEXTURE_TOP, TEXEL = -0.128, 0.106, 0.001
"""Surface coordinates of the texture's corner, and a texel's side, in metres."""

IRIS_RADIUS = 0.0057
"""Metres."""


class Light(NamedTuple):
    """The light on a face. Colours are linear, (r, g, b).

    Attributes:
        direction: (3,) unit vector to the key light, in camera space.
        key: colour of the key light; likewise ``above`` and ``below``, of the light from all round.
        above: see ``key``.
        below: see ``key``.
        gloss: shine of the skin, and ``lip_gloss`` of the lips.
        lip_gloss: see ``gloss``.
        exponent: sharpness of the shine.
        openness: share of the light that gets into the mouth.
        up: (2,) the head's up direction in the picture, unit length, y up.
    """

    direction: tuple[float, float, float]
    key: tuple[float, float, float]
    above: tuple[float, float, float]
    below: tuple[float, float, float]
    gloss: float
    lip_gloss: float
    exponent: float
    openness: float
    up: tuple[float, float]


@compiled
def shade(  # noqa: C901  # one pass over the pixels, with a branch for each material
    picture: Floats,
    index: Ints,
    weights: Floats,
    normals: Floats,
    surface: Surface,
    texture: Floats,
    height: Floats,
    palette: Floats,
    light: Light,
) -> None:
    """Colour every pixel that the mesh covers.

    Args:
        picture: (size, size, 3), holds the background; changed in place.
        index: (size, size) triangles, as of ``raster.rasterise``.
        weights: (size, size, 2) their barycentric weights.
        normals: (V, 3) in camera space.
        surface: the mesh's materials and coordinates.
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 4) colour of the skin, linear, and how much of it is hair.
        height: (TEXTURE_SIZE, TEXTURE_SIZE) relief of the skin in metres.
        palette: (7, 3) colours: lips, iris, sclera, teeth, inside of the mouth, lashes, bare skin.
        light: the light, and what it meets.
    """
    triangles, material, uv, lip, ear = surface
    colours = np.array((light.key, light.above, light.below), np.float32)
    key, above, below = colours[0], colours[1], colours[2]
    l0, l1, l2 = (
        np.float32(light.direction[0]),
        np.float32(light.direction[1]),
        np.float32(light.direction[2]),
    )
    up0, up1, openness = np.float32(light.up[0]), np.float32(light.up[1]), np.float32(light.openness)
    skin_gloss, lip_gloss = np.float32(light.gloss), np.float32(light.lip_gloss)
    skin_exponent = np.float32(light.exponent)
    size = index.shape[0]
    h0, h1, h2 = l0, l1, l2 + np.float32(1)
    hn = np.float32(1) / np.sqrt(h0 * h0 + h1 * h1 + h2 * h2)
    h0, h1, h2 = h0 * hn, h1 * hn, h2 * hn
    colour = np.zeros(3, np.float32)
    wrap = np.array((0.30, 0.18, 0.13), np.float32)  # light leaves skin beyond the terminator, red most
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)  # keep the arithmetic in float32
    left, top, per_texel = np.float32(TEXTURE_LEFT), np.float32(TEXTURE_TOP), np.float32(1 / TEXEL)
    last = np.float32(TEXTURE_SIZE - 2.001)
    for y in range(size):
        for x in range(size):
            t = index[y, x]
            if t < 0:
                continue
            wb, wc = weights[y, x, 0], weights[y, x, 1]
            wa = one - wb - wc
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            n0 = normals[a, 0] * wa + normals[b, 0] * wb + normals[c, 0] * wc
            n1 = normals[a, 1] * wa + normals[b, 1] * wb + normals[c, 1] * wc
            n2 = normals[a, 2] * wa + normals[b, 2] * wb + normals[c, 2] * wc
            u = uv[a, 0] * wa + uv[b, 0] * wb + uv[c, 0] * wc
            v = uv[a, 1] * wa + uv[b, 1] * wb + uv[c, 1] * wc
            kind = material[t]
            gloss: Scalar = zero
            exponent: Scalar = skin_exponent
            occlusion: Scalar = one
            if kind == SKIN:
                tx = min(max((u - left) * per_texel - half, np.float32(1)), last)
                ty = min(max((top - v) * per_texel - half, np.float32(1)), last)
                ix, iy = int(tx), int(ty)
                fx, fy = tx - np.float32(ix), ty - np.float32(iy)
                w00, w01, w10, w11 = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
                upper, lower = texture[iy, ix : ix + 2], texture[iy + 1, ix : ix + 2]
                hair = w00 * upper[0, 3] + w01 * upper[1, 3] + w10 * lower[0, 3] + w11 * lower[1, 3]
                ears = ear[a] * wa + ear[b] * wb + ear[c] * wc
                red = lip[a] * wa + lip[b] * wb + lip[c] * wc
                red = min(max((red - np.float32(0.3)) * np.float32(2.2), zero), one)
                for k in range(3):
                    value = w00 * upper[0, k] + w01 * upper[1, k] + w10 * lower[0, k] + w11 * lower[1, k]
                    value += (palette[6, k] - value) * ears * hair
                    colour[k] = value + (palette[0, k] - value) * red
                hair *= one - ears
                gloss = (skin_gloss * (one - red) + lip_gloss * red) * (one - np.float32(0.7) * hair)
                z00, z01, z10, z11 = (
                    height[iy, ix],
                    height[iy, ix + 1],
                    height[iy + 1, ix],
                    height[iy + 1, ix + 1],
                )
                z = w00 * z00 + w01 * z01 + w10 * z10 + w11 * z11
                occlusion = min(max(one + z * np.float32(450), np.float32(0.35)), np.float32(1.08))
                du = ((z01 - z00) * (one - fy) + (z11 - z10) * fy) * per_texel
                dv = ((z00 - z10) * (one - fx) + (z01 - z11) * fx) * per_texel
                # Tangents along and up the face: the head's up direction across the normal.
                t0, t1, t2 = up1 * n2, -up0 * n2, up0 * n1 - up1 * n0
                tn = one / np.sqrt(t0 * t0 + t1 * t1 + t2 * t2 + np.float32(1e-9))
                t0, t1, t2 = t0 * tn, t1 * tn, t2 * tn
                b0, b1, b2 = n1 * t2 - n2 * t1, n2 * t0 - n0 * t2, n0 * t1 - n1 * t0
                n0 -= du * t0 + dv * b0
                n1 -= du * t1 + dv * b1
                n2 -= du * t2 + dv * b2
            elif kind == EYE:
                r = np.sqrt(u * u + v * v) / np.float32(IRIS_RADIUS)
                for k in range(3):
                    iris = palette[1, k] * (0.6 + 0.8 * r * (1.2 - r))
                    if r < 0.42:
                        iris = 0.01
                    elif r > 0.85:
                        iris *= 0.55
                    edge = min(max((r - np.float32(0.95)) / np.float32(0.15), zero), one)
                    colour[k] = iris + (palette[2, k] * (1 - 0.06 * r * r) - iris) * edge
                occlusion = np.float32(min(max(0.95 - 70 * (v - 0.002), 0.4), 0.95))
                gloss, exponent = np.float32(1.2), np.float32(180)
            elif kind == LASH:
                for k in range(3):
                    colour[k] = palette[5, k]
            else:
                row = 3 if kind == TEETH else 4
                for k in range(3):
                    colour[k] = palette[row, k]
                occlusion = np.float32(0.12 if kind == CAVITY else 0.85 if kind == TEETH else 0.26) * openness
                if kind == TEETH:  # those at the back, far along the arch, are in the shadow of the cheeks
                    back = min(max((abs(u) - np.float32(0.015)) / np.float32(0.014), zero), one)
                    occlusion *= one - np.float32(0.94) * back
                    gloss = np.float32(0.25) * openness
            nn = one / np.sqrt(n0 * n0 + n1 * n1 + n2 * n2 + np.float32(1e-12))
            n0, n1, n2 = n0 * nn, n1 * nn, n2 * nn
            facing = n0 * l0 + n1 * l1 + n2 * l2
            shine = n0 * h0 + n1 * h1 + n2 * h2
            if shine > np.float32(0.6):  # below it the highlight cannot be seen
                lit_side = min(max(facing * np.float32(4) + half, zero), one)
                shine = gloss * np.exp(exponent * np.log(shine)) * lit_side
            else:
                shine = zero
            rim = half + half * n1
            for k in range(3):
                diffuse = max((facing + wrap[k]) / (one + wrap[k]), zero)
                ambient = below[k] + (above[k] - below[k]) * rim
                lit = colour[k] * (key[k] * diffuse + ambient) + key[k] * shine
                picture[y, x, k] = lit * occlusion


@compiled
def draw_strokes(picture: Floats, path: Floats, radius: np.float32, colour: Floats) -> None:
    """Draw a path (n, 2) in pixels with a round pen, in place; NaN rows lift the pen."""
    size = picture.shape[0]
    for i in range(path.shape[0] - 1):
        ax, ay, bx, by = path[i, 0], path[i, 1], path[i + 1, 0], path[i + 1, 1]
        if np.isnan(ax + bx):
            continue
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy + 1e-6
        x0, x1 = max(int(min(ax, bx) - radius - 1), 0), min(int(max(ax, bx) + radius + 1), size - 1)
        y0, y1 = max(int(min(ay, by) - radius - 1), 0), min(int(max(ay, by) + radius + 1), size - 1)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                s = min(max(((x + 0.5 - ax) * dx + (y + 0.5 - ay) * dy) / length, 0.0), 1.0)
                ex, ey = x + 0.5 - ax - s * dx, y + 0.5 - ay - s * dy
                cover = min(max(radius + 0.5 - np.sqrt(ex * ex + ey * ey), 0.0), 1.0)
                if cover > 0:
                    for k in range(3):
                        picture[y, x, k] += cover * (colour[k] - picture[y, x, k])


@compiled
def halve(picture: Floats) -> Floats:
    """Mean over 2 x 2 squares: (n, n, 3) to (n / 2, n / 2, 3)."""
    size = picture.shape[0] // 2
    small = np.empty((size, size, 3), np.float32)
    for y in range(size):
        for x in range(size):
            for k in range(3):
                small[y, x, k] = np.float32(0.25) * (
                    picture[2 * y, 2 * x, k] + picture[2 * y, 2 * x + 1, k]
                    + picture[2 * y + 1, 2 * x, k] + picture[2 * y + 1, 2 * x + 1, k]
                )  # fmt: skip
    return small

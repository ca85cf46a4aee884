"""From the face to the crop: head rotation, pinhole camera, alignment, and the outlines of strokes."""

from dataclasses import dataclass

import numpy as np

from aunet import facs
from aunet.data.rendered.head import Floats, Head
from aunet.data.rendered.people import Person

_PEN_UP = (np.nan, np.nan, np.nan)
HAIR_PATH: Floats = np.array(
    [
        (-0.045, 0.085, -0.05), (-0.066, 0.04, -0.06), (-0.070, -0.04, -0.04), (-0.078, -0.15, -0.01),
        _PEN_UP,
        (0.045, 0.085, -0.05), (0.066, 0.04, -0.06), (0.070, -0.04, -0.04), (0.078, -0.15, -0.01),
    ],
    np.float32,
)  # fmt: skip
"""Where long hair hangs, (n, 3) in metres from between the eyes."""


@dataclass(frozen=True)
class View:
    """How a head is seen in the crop.

    Attributes:
        origin: (3,) point between the eyes, in metres on the head.
        rotation: (3, 3) of the head.
        distance: from the camera to the origin, in metres.
        similarity: (a, b, tx, ty), from the camera's plane to the crop: x' = ax - by + tx, y' = bx + ay + ty.
    """

    origin: Floats
    rotation: Floats
    distance: float
    similarity: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)

    def turned(self, points: Floats) -> Floats:
        """Points on the head (n, 3) to camera space: x to the image's right, y up, z to the camera."""
        x, y, z = (points[:, i] - self.origin[i] for i in range(3))
        # Written out, so that no linear algebra library decides the last bit.
        return np.stack([r[0] * x + r[1] * y + r[2] * z for r in self.rotation], axis=1).astype(np.float32)

    def pixels(self, turned: Floats) -> Floats:
        """Points in camera space (n, 3) to pixels (n, 2) of the crop, x to the right, y down."""
        x, y = (turned[:, i] / (self.distance - turned[:, 2]) for i in (0, 1))
        a, b, tx, ty = self.similarity
        return np.stack([a * x + b * y + tx, b * x - a * y + ty], axis=1)

    @property
    def scale(self) -> float:
        """Pixels of the crop for each metre at the distance of the eyes."""
        return float(np.hypot(*self.similarity[:2]) / self.distance)


def five_points(head: Head, face: Floats) -> Floats:
    """facs.TEMPLATE's points (5, 3) of a face (V, 3), in metres on the head."""
    right, left = (face[eye].mean(axis=0) for eye in head.eyes)
    return np.stack([right, left, *face[list(head.landmarks)]])


def aligned_view(
    head: Head, person: Person, face: Floats, turn: tuple[float, float, float], distance: float, noise: Floats
) -> tuple[View, Floats]:
    """The view that alignment gives.

    Args:
        head: the mesh.
        person: whose face.
        face: (V, 3) whose points are aligned: as it moves, or at rest.
        turn: yaw, pitch, roll of the head in radians.
        distance: from the camera in metres.
        noise: (5, 2) pixels of the crop that the landmarks are off.

    Returns:
        The view, and the landmarks (5, 2) in pixels of the crop.
    """
    right, left = five_points(head, person.vertices)[:2]
    plain = View((right + left) / 2, _rotation(*turn), distance)
    marks = plain.pixels(plain.turned(five_points(head, face)))
    target = np.array(facs.TEMPLATE) - noise
    # Least squares over similarities.
    m, t = marks - marks.mean(axis=0), target - target.mean(axis=0)
    spread = (m**2).sum()
    a = (m * t).sum() / spread
    b = (m[:, 0] * t[:, 1] - m[:, 1] * t[:, 0]).sum() / spread
    (mx, my), (tx, ty) = marks.mean(axis=0), target.mean(axis=0)
    similarity = float(a), float(b), float(tx - a * mx + b * my), float(ty - b * mx - a * my)
    x, y = marks.T
    aligned = np.stack([a * x - b * y + similarity[2], b * x + a * y + similarity[3]], axis=1)
    return View(plain.origin, plain.rotation, distance, similarity), aligned.astype(np.float32)


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Roll after yaw after pitch. Positive yaw turns the face to the person's left, positive pitch up."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, -pitch, roll))
    turn = np.array([[cy, sy * sp, sy * cp], [0, cp, -sp], [-sy, cy * sp, cy * cp]])
    return np.stack([cr * turn[0] - sr * turn[1], sr * turn[0] + cr * turn[1], turn[2]])


def glasses_path(head: Head, person: Person, size: float, view: View) -> Floats:
    """Outline of a pair of glasses (n, 3) on the head in metres, NaN between strokes."""
    right, left = (person.vertices[eye] for eye in head.eyes)
    front = max(right[:, 2].max(), left[:, 2].max()) + 0.012
    angle = np.linspace(0, 2 * np.pi, 25)
    half_width, half_height = 0.026 * size, 0.019 * size
    pen_up = np.array([_PEN_UP])
    path = []
    for eye in (right.mean(axis=0), left.mean(axis=0)):
        centre, outward = eye[0] * 1.04, np.sign(eye[0])
        x = centre + half_width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.7
        y = eye[1] - 0.004 + half_height * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.7
        rim = np.stack([x, y, front - 0.25 * np.maximum(np.abs(x) - 0.03, 0)], axis=1)
        hinge = (centre + outward * half_width, eye[1], front - 0.006)
        temple = np.array([hinge, (outward * 0.078, eye[1] + 0.003, front - 0.09)])
        behind_face = outward * view.rotation[2, 0] < -0.1
        path += [rim, pen_up] if behind_face else [rim, pen_up, temple, pen_up]
    inner, level = abs(right[:, 0].mean()) * 1.04 - half_width, right[:, 1].mean()
    bridge = np.array([(-inner, level, front), (0, level + 0.004, front + 0.002), (inner, level, front)])
    return np.concatenate([*path, bridge]).astype(np.float32)

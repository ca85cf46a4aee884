"""A page on this machine on which one drops a picture or a video, and sees AUs and attention.

``serving`` begins and ends it, ``server`` answers the browser, ``jobs`` works on what was dropped; page,
style and script lie beside them.
Nothing is asked of any other machine, and nothing is kept: see ``jobs``.
"""

from aunet.demo.serving import serve

__all__ = ["serve"]

"""Where networks look, scored where that can be known: on rendered faces.

For validation frames: the network's own attention and Grad-CAM, laid over the crop (``maps``); how well they
agree with where each AU moved the surface (``scores``), with intervals over videos and seeds (``study``), as
tables (``tables``) and pictures (``sheets``).

What this shows, and what not. A score says whether a map lies where the face moved, next to maps that know
nothing (uniform), only that faces are aligned (centre prior), or only the network's shape (random weights;
Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018). It does not say that the network decides by
what it attends to: attention weights are not an explanation (Jain and Wallace, NAACL 2019), and each position
that they weight has seen much more than its place in the map: in the custom CNN a square of 190 pixels for
maps of 2x2, of 158 for 3x3 and 4x4, of 110 for 7x7, where the whole crop has 112. Nor does all that shows an
AU lie in its region: folds and shading change where the surface hardly moves.
"""

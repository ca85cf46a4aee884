"""Submissions to the ABAW competitions: from a run to the files, and what is wrong with files.

    abaw3   a folder with a file <video>.txt for each listed video, _left and _right included:
            AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26, then a line of 0 and 1 for each frame
    abaw5   one file, also of the later competitions:
            image_location,AU1,...,AU26, then a line <video>/00001.jpg,0,1,... for each frame

Every frame that the organisers count has a line, whether it has a crop or not.
"""

"""Draw the README's picture of rendered faces: ``python experiments/contact_sheet.py [PATH]``."""

import sys

from aunet.data.rendered import contact_sheet

if __name__ == "__main__":
    print(contact_sheet(sys.argv[1] if len(sys.argv) > 1 else ".github/images/faces.png", people=4, seed=7))

"""A first look at a card: our assumptions, each held against what the card does.

``python -m attnlib.tests.first_contact`` runs ten steps in processes of their own, the most telling first, within four
minutes, and writes a page. It needs a checkout and what attnlib itself needs; no network and no other package.
"""

import time

STARTED = time.monotonic()  # before torch is imported, which counts too

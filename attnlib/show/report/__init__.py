"""The report: saved runs as one HTML page that needs no network, no script and no other file.

``page`` fills the templates; ``answers``, ``machine`` and ``cases`` make what ``attnlib.show`` has no table for.
"""

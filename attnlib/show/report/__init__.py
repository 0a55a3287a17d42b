"""The report: saved runs as one HTML page that needs no network, no script and no other file.

``page`` fills the templates; ``answers``, ``machine`` and ``cases`` are what it says that no table of ours says yet.
"""

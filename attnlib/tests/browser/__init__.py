"""The report in a real browser: ``pytest -m browser``, where there is a chromium and playwright."""

"""Trainings on labelled data, and their comparison: equal accuracy of two encodings, and the effect of depth."""

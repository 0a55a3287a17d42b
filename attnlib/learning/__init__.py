"""Trainings on labelled data, and what they say together: whether an encoding learns as well, and what depth does."""

"""Figures of saved runs, by what they show; ``plots.py`` at the top of the checkout draws them all."""

"""The suite is a pytest plugin, which lies in the package."""

pytest_plugins = ["attnlib.plugin"]

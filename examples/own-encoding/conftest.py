pytest_plugins = ["attnlib.plugin"]

def pytest_collection_modifyitems(items):
    items.sort(key=lambda i: (i.callspec.params["k"], i.callspec.params["order"]))

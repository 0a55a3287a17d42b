"""A pytest plugin that keeps the card at products for a second right before the first test."""


def pytest_collection_finish():
    """Warm the card, where there is one."""
    import torch  # after attnlib's plugin has set what must precede it

    if torch.cuda.is_available():
        from attnlib.tests.first_contact.card import Card

        Card().work(1.0)

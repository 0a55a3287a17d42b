"""How a plan is cut."""

from hypothesis import given
from hypothesis import strategies as st

from attnlib.sweep.cut import cut

TESTS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 100)), min_size=1)


@given(TESTS, st.integers(1, 9))
def test_every_test_lies_in_one_shard_with_its_block(tests, shards):
    """Nothing is lost, dealt twice or parted, no shard is empty, and there are no more than were asked for."""
    blocks = [block for block, _ in tests]
    found = cut(blocks, [seconds for _, seconds in tests], shards)

    assert sorted(number for own in found for number in own) == list(range(len(tests)))
    assert len(found) == min(shards, len(set(blocks)))
    assert all(own == sorted(own) and own for own in found)
    held = [{blocks[number] for number in own} for own in found]
    assert sum(map(len, held)) == len(set(blocks))


@given(TESTS, st.integers(1, 9))
def test_shards_take_about_as_long(tests, shards):
    """The longest takes at most the mean and a block more."""
    blocks, seconds = [block for block, _ in tests], [seconds for _, seconds in tests]
    found = [sum(seconds[number] for number in own) for own in cut(blocks, seconds, shards)]
    longest = max(sum(s for b, s in tests if b == block) for block in blocks)

    assert max(found) <= (sum(seconds) / len(found) + longest) * (1 + 1e-9)


def test_the_longest_blocks_are_dealt_first():
    """Otherwise the last one would be waited for."""
    assert cut("abcd", [1, 1, 1, 3], 2) == [[3], [0, 1, 2]]

"""Cutting a plan into shards: blocks stay whole, so that no ratio spans machines, and shards take about as long."""

import heapq
from collections.abc import Sequence


def cut(blocks: Sequence[str], seconds: Sequence[float], shards: int) -> list[list[int]]:
    """Deal blocks out, the longest first, each to the shard that has the least to do.

    No shard then takes longer than 4/3 of the best that is possible (Graham 1969).

    Args:
        blocks: of each test.
        seconds: that each should take.
        shards: how many at most; none is empty.

    Returns:
        the numbers of the tests of each shard, in order.
    """
    members: dict[str, list[int]] = {}
    for number, block in enumerate(blocks):
        members.setdefault(block, []).append(number)
    # at least an instant each: a shard that was dealt a block of no time would get the next one too
    whole = {block: max(1e-9, sum(seconds[number] for number in own)) for block, own in members.items()}
    dealt: list[list[int]] = [[] for _ in range(min(shards, len(members)))]
    heap = [(0.0, number) for number in range(len(dealt))]
    for block in sorted(members, key=lambda name: (-whole[name], name)):
        busy, number = heapq.heappop(heap)
        dealt[number] += members[block]
        heapq.heappush(heap, (busy + whole[block], number))
    return [sorted(own) for own in dealt]

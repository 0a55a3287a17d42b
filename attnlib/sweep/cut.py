"""Cutting a plan into shards of about equal time; a block stays in one shard, so that no ratio spans two machines."""

import heapq
from collections.abc import Sequence


def cut(blocks: Sequence[str], seconds: Sequence[float], shards: int) -> list[list[int]]:
    """Assign blocks of tests to shards, the longest block first, each to the shard with the least time so far.

    No shard then takes longer than 4/3 of the best possible assignment (Graham 1969).

    Args:
        blocks: block name of each test; tests of a block stay together.
        seconds: expected time of each test.
        shards: largest number of shards; fewer where there are fewer blocks.

    Returns:
        for each shard the indices of its tests, in order; no shard is empty.
    """
    members: dict[str, list[int]] = {}
    for number, block in enumerate(blocks):
        members.setdefault(block, []).append(number)
    # never 0: a shard whose only block takes no time would be the least loaded again and get the next block too
    total = {block: max(1e-9, sum(seconds[number] for number in numbers)) for block, numbers in members.items()}
    assigned: list[list[int]] = [[] for _ in range(min(shards, len(members)))]
    heap = [(0.0, number) for number in range(len(assigned))]
    for block in sorted(members, key=lambda name: (-total[name], name)):
        load, number = heapq.heappop(heap)
        assigned[number] += members[block]
        heapq.heappush(heap, (load + total[block], number))
    return [sorted(numbers) for numbers in assigned]

"""Token sequences that share beginnings, packed so that each shared token goes through the network once.

The sequences of a batch form a trie. One forward pass over its nodes, each at the position of its depth and seeing only
its ancestors, gives for every sequence what a pass of its own would have given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrefixTree:
    """The N nodes of a trie of token sequences, parents before children.

    tokens     (N,)    token id of each node
    positions  (N,)    its depth, from 0
    mask       (N, N)  bool: mask[i, j] where node i sees node j, its ancestors and itself
    paths              the nodes of each sequence, in its order: tokens[paths[s]] == sequences[s]
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    paths: list[list[int]]

    @staticmethod
    def pack(sequences: Sequence[Sequence[int]]) -> PrefixTree:
        """Return the tree of token sequences: those that begin alike share nodes, and an empty one has an empty path."""
        children: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        positions: list[int] = []
        paths = []
        for sequence in sequences:
            node, path = -1, []
            for depth, token in enumerate(sequence):
                key = (node, int(token))
                if key not in children:
                    children[key] = len(tokens)
                    tokens.append(int(token))
                    positions.append(depth)
                node = children[key]
                path.append(node)
            paths.append(path)
        mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
        filled: set[int] = set()
        for path in paths:
            on_path = torch.tensor(path, dtype=torch.long)
            for depth, node in enumerate(path):
                if node not in filled:
                    filled.add(node)
                    mask[node, on_path[: depth + 1]] = True
        return PrefixTree(
            torch.tensor(tokens, dtype=torch.long), torch.tensor(positions, dtype=torch.long), mask, paths
        )

    def __len__(self) -> int:
        return len(self.tokens)


def split(sequences: Sequence[Sequence[int]], cap: int) -> Iterator[list[int]]:
    """Divide token sequences into parts whose trees have at most `cap` nodes; yield the indices of the sequences of
    each part, in the order of the sorted sequences.

    A longer sequence is a part of its own. Sequences that share a beginning are put into one part, so that its tree stays
    small: the mask grows with the square of the nodes.
    """
    order = sorted(range(len(sequences)), key=lambda index: list(sequences[index]))
    part: list[int] = []
    nodes = 0
    for index in order:
        sequence = sequences[index]
        # In sorted order a sequence shares most with its neighbour, so what it adds is counted exactly.
        added = len(sequence) - (_shared(sequences[part[-1]], sequence) if part else 0)
        if part and nodes + added > cap:
            yield part
            part, nodes, added = [], 0, len(sequence)
        part.append(index)
        nodes += added
    if part:
        yield part


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length

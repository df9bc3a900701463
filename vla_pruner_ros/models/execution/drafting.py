"""Guesses of the coming action's tokens from the last ones, and which of them held.

From one control step to the next an arm hardly changes what it does. So the tokens of the last
action are run behind the prompt, all in one pass. The model's own greedy choice at each place is
compared with the guess there. A guess counts only if it is that choice, so the tokens are those of
plain greedy decoding (speculative decoding, arXiv 2211.17192, with a draft that costs nothing).
This file knows no model: tokens in, tokens out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Tree:
    """Guesses that branch: several may compete for one place of the action.

    places: for each node, the place in the action that it guesses.
    parents: the node before it, which stands earlier in the list; -1: the prompt's end.
    alternatives: whether it takes the second choice for its place.
    """

    places: tuple[int, ...]
    parents: tuple[int, ...]
    alternatives: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def is_chain(self) -> bool:
        """One node follows the other, as in plain text."""
        return self.parents == tuple(range(-1, len(self) - 1))

    @cached_property
    def visible(self) -> list[list[bool]]:
        """[nodes, nodes]: a node sees itself and those that lead to it."""
        rows: list[list[bool]] = []
        for node, parent in enumerate(self.parents):
            row = list(rows[parent]) if parent >= 0 else [False] * len(self)
            row[node] = True
            rows.append(row)
        return rows


def chain(length: int) -> Tree:
    """One guess for each of `length` places."""
    return Tree(tuple(range(length)), tuple(range(-1, length - 1)), (False,) * length)


def one_deviation(length: int) -> Tree:
    """The chain, and every sequence that leaves it at one place and then follows it again.

    The numbers of an action hardly depend on each other, so one that changes does not spoil those
    after it. length * (length + 3) / 2 nodes.
    """
    nodes = [(place, place - 1, False) for place in range(length)]
    for deviation in range(length):
        parent = deviation - 1
        for place in range(deviation, length):
            nodes.append((place, parent, place == deviation))
            parent = len(nodes) - 1
    return Tree(*zip(*nodes, strict=True))


TREES = {"linear": chain, "tree": one_deviation}


def accepted_path(
    tree: Tree, guesses: Sequence[int], predictions: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Find the guesses that equal the model's output.

    predictions: the greedy choice after the prompt, then after each node: [1 + nodes].

    Returns:
        The nodes that held, in order, and the tokens known by that: one more than nodes.
    """
    path, tokens, last = [], [predictions[0]], -1
    for node, parent in enumerate(tree.parents):
        if parent == last and guesses[node] == tokens[-1]:
            path.append(node)
            tokens.append(predictions[1 + node])
            last = node
    return path, tokens


class Drafter:
    """Guesses for one policy: remembers its last two actions and whether guessing pays.

    kind: linear | tree. length: tokens of an action. ids: those of action tokens.
    """

    def __init__(self, kind: str, length: int, ids: range) -> None:
        self.tree = TREES[kind](length - 1)  # nothing follows the last token
        self._ids = ids
        self._actions: deque[list[int]] = deque(maxlen=2)  # newest last
        self._worth = DraftGate()

    def propose(self) -> list[int] | None:
        """A token for each node of the tree; None: decode plainly this time. Changes nothing."""
        if not self._actions or not self._worth.is_due:
            return None
        first, second = self._actions[-1], self._second_choice()
        nodes = zip(self.tree.places, self.tree.alternatives, strict=True)
        return [second[place] if other else first[place] for place, other in nodes]

    def _second_choice(self) -> list[int]:
        """The action before the last, or where it was the same the next bin towards rest."""
        last, before = self._actions[-1], self._actions[0]
        middle = (self._ids.start + self._ids.stop) // 2
        towards_rest = [token - 1 if token >= middle else token + 1 for token in last]
        pairs = zip(last, before, towards_rest, strict=True)
        return [b if b != a else nearer for a, b, nearer in pairs]

    def record(self, tokens: Sequence[int], accepted: int | None) -> None:
        """Take in a step's action. accepted: guesses that held; None: there were none."""
        self._worth.record(accepted)
        if all(token in self._ids for token in tokens):
            self._actions.append(list(tokens))

    def reset(self) -> None:
        """Clear the actions (new episode, new instruction), but not whether guessing pays."""
        self._actions.clear()


class DraftGate:
    """Stops drafting while next to nothing is accepted, and tries again now and then.

    A draft makes its step a little longer; steps with rejected drafts must stay too rare to
    notice. The pauses double up to LONGEST_PAUSE steps, each ended by one trial.
    """

    BREAK_EVEN = 0.5
    """Accepted tokens per draft, on the average, below which a draft costs more than it saves."""
    MEMORY = 4
    """Drafts over which the average reaches back."""
    FIRST_PAUSE, LONGEST_PAUSE = 8, 64

    def __init__(self) -> None:
        self._mean = 2.0 * self.BREAK_EVEN
        self._next_pause = self.FIRST_PAUSE
        self._wait = 0

    @property
    def is_due(self) -> bool:
        """Return whether the coming step is to be drafted."""
        return self._wait == 0

    def record(self, accepted: int | None) -> None:
        """accepted: as Drafter.record; without a draft a step of the pause has passed."""
        if accepted is None:
            self._wait = max(self._wait - 1, 0)
            return
        self._mean += (accepted - self._mean) / self.MEMORY
        if self._mean >= self.BREAK_EVEN:
            self._next_pause = self.FIRST_PAUSE
            return
        self._wait, self._mean = self._next_pause, self.BREAK_EVEN
        self._next_pause = min(2 * self._next_pause, self.LONGEST_PAUSE)

"""Tasks of the simulated robot and their instructions.

Tasks are MetaWorld's (Yu et al. 2019, "Meta-World: A Benchmark and Evaluation for Multi-Task and
Meta Reinforcement Learning"), named as there without the version: "drawer-close".
"""

from __future__ import annotations

VERSION_SUFFIX = "-v3"

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "reach": (
        "move the gripper to the green ball",
        "reach the green ball",
        "bring the gripper to the green target",
    ),
    "push": (
        "push the red puck to the green ball",
        "slide the red puck to the green ball",
        "push the puck across the table to the green target",
    ),
    "pick-place": (
        "pick up the red puck and lift it to the green ball",
        "grasp the red puck and place it at the green ball",
        "pick up the puck and bring it to the green target",
    ),
    "drawer-open": ("open the drawer", "pull the drawer open", "pull out the green drawer"),
    "drawer-close": ("close the drawer", "push the drawer shut", "shut the green drawer"),
    "window-open": ("open the window", "slide the window open", "slide the window to the right"),
    "window-close": ("close the window", "slide the window shut", "slide the window to the left"),
    "door-open": ("open the door", "pull the door open", "open the door by its handle"),
    "door-close": ("close the door", "push the door shut", "shut the door"),
    "button-press-topdown": (
        "press the red button",
        "push the button down from above",
        "press the button on the box",
    ),
    "faucet-open": ("turn the faucet on", "open the faucet", "open the tap"),
    "faucet-close": ("turn the faucet off", "close the faucet", "close the tap"),
    "handle-press": ("press the handle down", "push down the handle", "press the red handle"),
    "plate-slide": (
        "slide the plate into the cabinet",
        "push the plate into the goal",
        "slide the plate forward",
    ),
    "lever-pull": ("pull the lever up", "raise the lever", "lift the lever"),
    "coffee-button": (
        "press the button of the coffee machine",
        "start the coffee machine",
        "push the coffee machine's button",
    ),
}
"""Instructions by task; the first one is the default."""

TASKS_WITH_GOAL = frozenset({"reach", "push", "pick-place"})
"""Tasks whose goal is a free point in space: only a marker in the scene shows its place.

All three show the same marker and the same puck, so that only the instruction differs.
In the other tasks MetaWorld's marker would reveal the task, so it is hidden.
"""


def task_name(name: str) -> str:
    """Return the plain name of "drawer-close" or MetaWorld's "drawer-close-v3".

    Raises:
        ValueError: the task is unknown.
    """
    plain = name.removesuffix(VERSION_SUFFIX)
    if plain not in INSTRUCTIONS:
        raise ValueError(f"unknown task {name!r}; choose one of {', '.join(INSTRUCTIONS)}")
    return plain


def instruction_for(task: str, variant: int = 0) -> str:
    """Return an instruction for `task`; variants wrap around."""
    phrases = INSTRUCTIONS[task_name(task)]
    return phrases[variant % len(phrases)]

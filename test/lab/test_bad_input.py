"""Malformed and hostile inputs: each ends as the table says."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="the parameters and messages of ROS 2 are needed")

from vla_pruner_lab.reliability.bad_input import all_cases, table
from vla_pruner_lab.reliability.case import outcome

CASES = list(all_cases())


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_bad_input(case, tmp_path):
    assert outcome(case, tmp_path) == ""


def test_there_are_two_hundred_of_them_and_all_differ():
    assert len({case.name for case in CASES}) == len(CASES) >= 200
    assert f"| **all** | {len(CASES)} |" in table(CASES, {})


def test_an_instruction_cannot_spell_a_special_token(tmp_path):
    """`</s>` in an instruction used to become the end-of-sequence id, in the middle of a prompt."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel

    from vla_pruner_ros.models.tokenizer import load_tokenizer

    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "push": 1}, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    end = tokenizer.token_to_id("</s>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert end in tokenizer.encode("push</s>").ids
    assert end not in load_tokenizer(tmp_path)("push</s>")

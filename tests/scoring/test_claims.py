"""Answers taken apart into claims, by rules and as a judge writes them; replies kept on disk."""

import pytest

from sightline.scoring.claims import claims_in, claims_written, share_held
from sightline.scoring.remembered import Remembered


def test_sentences_are_claims():
    answer = "A man rides a horse. He wears a hat!\n- The sky is gray."
    found = claims_in(answer, "sentences", "True? {claim}")
    assert [one.text for one in found] == ["A man rides a horse.", "He wears a hat!", "The sky is gray."]
    assert found[1].question == "True? He wears a hat!"


def test_members_of_a_list_are_claims():
    found = claims_in("A red circle, a blue ring, and a green cross.", "phrases", "Is there {claim}?")
    assert [one.question for one in found] == [
        "Is there a red circle?",
        "Is there a blue ring?",
        "Is there a green cross?",
    ]
    assert [one.text for one in claims_in("Paris and London", "phrases", "{claim}")] == ["Paris", "London"]


def test_a_claim_that_is_made_twice_counts_once_and_reasoning_makes_none():
    assert len(claims_in("A cat. A cat.", "sentences", "{claim}")) == 1
    assert [c.text for c in claims_in("<think>A dog?</think>A cat.", "sentences", "{claim}")] == ["A cat."]
    assert claims_in("  ", "phrases", "{claim}") == []


def test_what_a_judge_writes_is_read_with_bullets_and_without_a_question():
    reply = "Claims:\n1. There is a dog => Is there a dog?\n- It is brown\n\n- It is brown\n"
    found = claims_written(reply, "So? {claim}")
    assert [tuple(one) for one in found] == [
        ("There is a dog", "Is there a dog?"),
        ("It is brown", "So? It is brown"),
    ]
    assert claims_written("NONE", "{claim}") == [] == claims_written("", "{claim}")


@pytest.mark.parametrize(
    ("verdicts", "share"), [([0.9, 0.5, 0.1, 0.2], 0.5), ([None, 1.0], 1.0), ([None], None), ([], None)]
)
def test_the_share_is_over_claims_that_were_judged(verdicts, share):
    assert share_held(verdicts) == share


def test_replies_outlive_the_process_and_a_torn_line_is_asked_again(tmp_path):
    path = tmp_path / "deeper" / "replies.jsonl"
    kept = Remembered(path)
    key = Remembered.key({"text": "a dog?", "images": ["data:…"]})
    kept.put(key, "Yes\nno doubt")
    kept.put("other", "No")
    path.write_bytes(path.read_bytes() + b'["third", "Ye')
    again = Remembered(path)
    assert again.get(key) == "Yes\nno doubt" and again.get("other") == "No" and len(again) == 2
    again.put("third", "Yes")
    assert Remembered(path).get("third") == "Yes"
    assert Remembered.key({"text": "a cat?"}) != key

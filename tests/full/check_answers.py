"""5,000 random wordings of truths and answers: how often the reward's verdict is not math-verify's own."""

from tests.scoring.test_answers import disagreements


def test_five_thousand_wordings_get_math_verify_s_own_verdict() -> None:
    count = 5000
    found = disagreements(count, seed=20)
    print(f"\n{len(found)} of {count} disagree: {100 * len(found) / count:.2f}%")
    for one in found:
        print(f"  truth {one.solution!r}, answer {one.completion!r}: math-verify says {one.verdict}")
    assert len(found) <= count // 200

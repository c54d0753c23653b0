"""How the scores that several tasks share are shown."""

from collections.abc import Sequence
from dataclasses import replace

from sightline.evaluation.task import Metric

YES_NO = (
    Metric(name="accuracy", label="Accuracy", better="higher", explanation="right answers, read as officially"),
    Metric(name="precision", label="Precision", better="higher", explanation="of the answers of the positive class"),
    Metric(name="recall", label="Recall", better="higher", explanation="of the questions of the positive class"),
    Metric(name="f1", label="F1", better="higher", explanation="harmonic mean of precision and recall"),
    Metric(name="tolerant_accuracy", label="Accuracy, tolerant", better="higher", explanation="first yes or no counts"),
    Metric(name="tolerant_f1", label="F1, tolerant", better="higher", explanation="F1 of the tolerant reading"),
    Metric(name="inexact", label="Not “Yes”/“No”", better="lower", explanation="answers the official parser refuses"),
    Metric(name="unparsed", label="Unparsed", better="lower", explanation="answers without any yes or no"),
    Metric(name="yes_rate", label="Yes rate", better="neither", explanation="answers that are a yes"),
    Metric(name="words", label="Words", better="neither", unit="number", explanation="words an answer"),
)

CAPTIONS = (
    Metric(name="chair", label="CHAIR", better="lower", explanation="mentioned objects that are not there"),
    Metric(name="cover", label="Cover", better="higher", explanation="objects there that are mentioned"),
    Metric(name="hal", label="Hal", better="lower", explanation="descriptions with at least one hallucination"),
    Metric(name="cog", label="Cog", better="lower", explanation="expected but absent objects that are mentioned"),
    Metric(name="mentions", label="Mentions", better="neither", unit="number", explanation="objects a description"),
    Metric(name="words", label="Words", better="neither", unit="number", explanation="words a description"),
)


def metrics_of(truths: Sequence[str], *, reading: str, without: Sequence[str] = ()) -> tuple[Metric, ...]:
    """`YES_NO` for a benchmark. truths: the true answer to every question. reading: how its own script reads."""
    share = 100 * sum(truth == "yes" for truth in truths) / max(1, len(truths))
    explanations = {
        "accuracy": f"right answers, {reading}",
        "yes_rate": f"answers that are a yes; of the true answers {share:.1f}%",
    }
    return tuple(
        replace(m, explanation=explanations.get(m.name, m.explanation)) for m in YES_NO if m.name not in without
    )

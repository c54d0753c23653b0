"""What tasks may be told besides where their files are."""

from dataclasses import dataclass
from pathlib import Path

from sightline.scoring.judge import Judge


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """judge: grades or extracts answers where a task has such a way. spacy: AMBER's descriptions as officially, by
    spaCy's similarity. synonyms: CHAIR's file of names where it does not lie beside the captions."""

    judge: Judge | None = None
    spacy: bool = False
    synonyms: Path | None = None

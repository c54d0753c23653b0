"""Where rows come from and how they are read."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.strict import STRICT, Options


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """Rows for training. The source `scenes` draws them; any other is a file, a folder or a hub id."""

    source: str = ""
    """File (parquet, JSON, JSONL), folder, hub id, or `scenes`."""
    split: str = "train"
    """Split to train on; slices such as `train[:1%]` work."""
    eval_source: str | None = None
    """Rows for evaluation while training; without it `val_size` rows are held out of `source`."""
    eval_split: str = "test"
    """Split of `eval_source`."""
    format: Literal["auto", "conversational", "columns"] = "auto"
    """Row format; auto recognises it and says which."""
    media_dir: str | None = None
    """Folder that picture paths are relative to; next to the file when left out. Paths cannot leave it."""
    limit: int | None = Field(None, ge=1)
    """Read at most this many rows."""
    val_size: float = Field(0.0, ge=0)
    """Rows held out for evaluation: a share below 1, a count from 1 on. Cut by picture, never by row."""
    on_bad_row: Literal["error", "skip"] = "error"
    """error stops at the first bad row; skip leaves bad rows out, counts and reports them."""
    max_length: int | None = Field(None, ge=1)
    """Longest prompt + response in tokens; None is no limit. Pictures are never cut."""
    on_overlong: Literal["error", "skip", "truncate"] = "error"
    """What to do with a longer one: stop, skip the row, or trim the response."""
    share_pictures: bool = False
    """Make neighbouring rows on one picture one group: picture and common prompt are computed once."""
    seed: int = 0
    """Seed of drawn scenes and of the held-out cut."""
    scenes: Options = Field(default_factory=dict)
    """Options of the `scenes` source, see docs/scenes.md."""

"""Where rows come from and how they are read."""

from dataclasses import field
from typing import Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.paths import FileName, OutputName
from sightline.config.strict import STRICT, Options, one_or_several

DATA_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".arrow", ".tar")
"""Kinds of files that rows are read from."""

RowFormat = Literal[
    "auto", "conversational", "columns", "openai", "sharegpt", "alpaca", "mmpr", "kto", "rendered"
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SourceConfig:
    """One source of a mixture."""

    source: FileName
    """File, folder or hub id."""
    subset: str | None = None
    """Configuration of a hub data set that has several."""
    split: str = "train"
    """Split to read; slices such as `train[:1%]` work."""
    format: RowFormat = "auto"
    """Row format; auto recognises it."""
    columns: dict[str, str] = field(default_factory=dict)
    """What the format calls a column → what this source calls it."""
    ignore_columns: list[str] = field(default_factory=list)
    """Columns that no format reads; rewards and reports get them."""
    media_dir: FileName | None = None
    """Folder that image paths are relative to; next to the file when left out."""
    allow_urls: bool = False
    """Fetch images that are given as http(s) addresses; otherwise they are bad rows."""
    limit: Whole | None = Field(default=None, ge=1, le=10**12)
    """Read at most this many of its rows."""
    weight: Real = Field(default=1.0, gt=0, le=1000)
    """How often its rows are seen in a pass: 0.5 a random half of them, 2 each twice."""

    _one_or_several = field_validator("ignore_columns", mode="before")(one_or_several)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """Rows for training. The source `scenes` draws them; any other is a file, a folder or a hub id."""

    source: FileName = ""
    """File (parquet, JSON, JSONL, CSV, arrow, tar), folder, hub id, or `scenes`."""
    subset: str | None = None
    """Configuration of a hub data set that has several."""
    split: str = "train"
    """Split to train on; slices such as `train[:1%]` work."""
    eval_source: FileName | None = None
    """Rows for evaluation while training; without it `val_size` rows are held out of `source`."""
    eval_split: str = "test"
    """Split of `eval_source`."""
    format: RowFormat = "auto"
    """Row format; auto recognises it and says which."""
    columns: dict[str, str] = field(default_factory=dict)
    """What the format calls a column → what this source calls it, for instance `question: prompt_en`."""
    ignore_columns: list[str] = field(default_factory=list)
    """Columns that no format reads, though they hold images, video, sound or tools; rewards and reports get them."""
    allow_tokens: list[str] = field(default_factory=list)
    """Special tokens that texts may hold, for instance `<|box_start|>`; any other is a bad row."""
    system: str | None = None
    """System turn for rows that have none, for instance how to answer where a reward wants a format."""
    media_dir: FileName | None = None
    """Folder that image paths are relative to; next to the file when left out. Paths cannot leave it."""
    allow_urls: bool = False
    """Fetch images that are given as http(s) addresses; otherwise they are bad rows."""
    registry: FileName | None = None
    """LLaMA-Factory's `dataset_info.json`, read as it is; `names` says which of its data sets."""
    names: list[str] = field(default_factory=list)
    """Data sets of the registry."""
    mixture: list[SourceConfig] = field(default_factory=list)
    """Several sources instead of one, with weights and limits."""
    streaming: bool = False
    """Read the source from front to back while training, without an index or a copy; needs `max_steps`."""
    shuffle_buffer: Whole = Field(default=1000, ge=1, le=10**7)
    """Rows that a streaming run shuffles among."""
    limit: Whole | None = Field(default=None, ge=1, le=10**12)
    """Read at most this many rows."""
    val_size: Real = Field(default=0.0, ge=0, le=10**9)
    """Rows held out for evaluation: a share below 1, a count from 1 on. Cut by image, never by row."""
    on_bad_row: Literal["error", "skip"] = "error"
    """error stops at the first bad row; skip leaves bad rows out, counts and reports them."""
    max_length: Whole | None = Field(default=None, ge=1, le=10**7)
    """Longest prompt + response in tokens; None is no limit. Images are never cut."""
    on_overlong: Literal["error", "skip", "truncate"] = "error"
    """What to do with a longer one: stop, skip the row, or trim the response."""
    cache_tokens: bool = False
    """Tokenise all rows before training and keep the result, without pixels: bad rows show before the first step."""
    cache_dir: OutputName | None = None
    """Folder of that result; in the user's cache folder when left out."""
    dataset_num_proc: Whole = Field(default=1, ge=1, le=512)
    """Processes that tokenise."""
    share_images: bool = False
    """Make neighbouring rows on one image one group: image and common prompt are computed once."""
    seed: Whole = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of drawn scenes, of the held-out cut and of mixtures."""
    scenes: Options = Field(default_factory=dict)
    """Options of the `scenes` source, see docs/scenes.md."""

    _one_or_several = field_validator("names", "ignore_columns", "allow_tokens", mode="before")(one_or_several)

    @property
    def is_given(self) -> bool:
        """Whether any source is named."""
        return bool(self.source or self.registry or self.mixture)

    @property
    def holds_out(self) -> bool:
        """Whether rows are held out for evaluation."""
        return self.val_size > 0 or self.eval_source is not None

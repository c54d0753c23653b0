"""Names of files and folders in a recipe: what can be no name anywhere is refused when it is read."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from sightline.errors import shown

LONGEST = 4000
LONGEST_PART = 255
"""Bytes of a whole path, and of one name in it, that file systems take."""
VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def name_of_file(text: str) -> str:
    """A path or a hub id, `~` spelled out. Raises `ValueError` for what no file system can hold, and for `~nobody`."""
    if text and not text.strip():
        raise ValueError(f"`{shown(text)}` is blank where a name is due.")
    try:
        bare = os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"`{shown(text)}` holds half a character, which no file's name can.") from None
    if b"\0" in bare:
        raise ValueError(f"`{shown(text)}` holds a NUL, which no file's name can.")
    if len(bare) > LONGEST or any(len(part) > LONGEST_PART for part in bare.split(b"/")):
        limits = f"a path has at most {LONGEST} bytes, each name in it {LONGEST_PART}"
        raise ValueError(f"`{shown(text, 60)}` is too long for a name: {limits}.")
    spelled = os.path.expanduser(text)
    if text.startswith("~") and spelled == text:
        user = shown(text[1:].partition("/")[0])
        raise ValueError(f"`{shown(text)}`: there is no user {user!r} with a home folder here.")
    return spelled


def name_to_write(text: str) -> str:
    """The same for what is going to be written: a name that every terminal shows as it is, and that is meant."""
    spelled = name_of_file(text)
    if not text:
        raise ValueError("A name is empty where a folder is due. Give one, such as `runs/mine`.")
    if not spelled.isprintable():
        raise ValueError(
            f"`{shown(text)}` holds control characters, or such as turn the direction of writing: terminals would show "
            "another name than the folder's. Leave them out."
        )
    variable = VARIABLE.search(text)
    if variable is not None:
        raise ValueError(f"`{shown(text)}`: variables such as {variable[0]} are not filled in. Write the path itself.")
    return spelled


FileName = Annotated[str, AfterValidator(name_of_file)]
"""A file, folder or hub id that is read."""
OutputName = Annotated[str, AfterValidator(name_to_write)]
"""A folder that is written."""


def state_of(name: str) -> str:
    """What there is by a name: a file, a folder, nothing, or neither (a pipe, a device): reading that may never end."""
    path = Path(name)
    if path.is_dir():
        return "a folder"
    if path.is_file():
        return "a file"
    return "neither file nor folder" if path.exists() else "nothing"


def looks_like_path(name: str, suffixes: tuple[str, ...] = ()) -> bool:
    """Whether a name is a path and no hub id (`owner/name`)."""
    return name.startswith(("/", ".", "~")) or Path(name).suffix in suffixes or name.count("/") > 1


def folder_complaint(name: str) -> str | None:
    """Why no folder can be made or written by this name; None where one can."""
    path = Path(name).absolute()
    there = next(one for one in (path, *path.parents) if one.exists() or one.is_symlink())
    if not there.is_dir():
        return f"{shown(there)} is {state_of(str(there)).replace('nothing', 'a link to nothing')}"
    if there.resolve().parts[:2] in (("/", "proc"), ("/", "sys")):
        return f"{shown(there)} is the system's own"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{shown(there)} may not be written"

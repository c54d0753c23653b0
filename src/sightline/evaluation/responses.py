"""Answers made elsewhere: a file of `{"id", "response"}`, as AMBER's own scorer reads it; no model is loaded."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from sightline.errors import DataError
from sightline.evaluation.lmms_eval import from_sample
from sightline.evaluation.record import Record, append, read, records_of
from sightline.evaluation.summary import write_summary
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.files import field, read_rows


def read_responses(path: Path, tasks: Sequence[Task]) -> dict[str, list[Record]]:
    """Scored answers by task name, in the tasks' order of items; a task without answers has an empty list.

    JSON array or JSON lines, or the samples that lmms-eval logs of an exported task. A row may name its `task`;
    otherwise its id must belong to one task only. Raises `DataError` for an id that no task has, that several have, or
    that comes twice.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}. `--responses` names a JSON file of {{id, response}} objects.")
    of_task = {task.name: {item.id: item for item in task.items} for task in tasks}
    answers: dict[str, dict[str, str]] = {task.name: {} for task in tasks}
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        if "doc_id" in row and "filtered_resps" in row:
            row = from_sample(row, path, tasks, where)
        identity = str(field(row, ("id", "question_id"), where))
        text = field(row, ("response", "answer", "text"), where)
        named = row.get("task")
        owners = [name for name, items in of_task.items() if identity in items and named in (None, name)]
        if len(owners) != 1:
            raise DataError(_whose(where, identity, named, owners, list(of_task)))
        if identity in answers[owners[0]]:
            raise DataError(f"{where} answers question {identity} a second time. Keep one answer.")
        if not isinstance(text, str):
            raise DataError(f"{where}: the response is a {type(text).__name__}, expected text.")
        answers[owners[0]][identity] = text
    return {
        task.name: records_of(task, [(i, answers[task.name][i.id]) for i in task.items if i.id in answers[task.name]])
        for task in tasks
    }


def write_responses(folder: Path, source: Path, answered: Sequence[tuple[Task, Sequence[Record]]]) -> None:
    """Scored answers and a summary a task, in the form of a model's, for those tasks that have answers.

    source: the file that they came from. Files of the same source are replaced; raises `DataError` for a model's.
    """
    origin = {"responses": str(source), "versions": {"sightline": version("sightline")}}
    folder.mkdir(parents=True, exist_ok=True)
    for task, records in answered:
        if not records:
            continue
        path = folder / f"{task.name}.jsonl"
        read(path, origin)
        path.unlink(missing_ok=True)
        append(path, records, origin)
        write_summary(folder / f"{task.name}.json", task, records, origin)


def _whose(where: str, identity: str, named: str | None, owners: list[str], known: list[str]) -> str:
    if owners:
        return (
            f"{where} answers question {identity}, which several tasks have ({', '.join(owners)}). Score them one "
            f"by one with --task {owners[0]}, or give every row its `task`."
        )
    of = f"task {named}" if named else " or ".join(known)
    return f"{where} answers question {identity}, which {of} does not have. Give the file of this benchmark's answers."

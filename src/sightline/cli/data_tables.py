"""How `sightline data` prints a report and a row on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sightline.data.checks.report import Report, spread
from sightline.data.checks.show import Shown


def print_report(console: Console, report: Report) -> None:
    """What is there, then every defect."""
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_row("rows", ", ".join(f"{count:,} {split}" for split, count in report.num_rows.items()))
    for source, name in report.formats.items():
        facts.add_row("format", f"{escape(source)}: {name}")
    facts.add_row("images", f"{report.num_images:,}")
    if report.num_images:
        width, height = spread(report.widths), spread(report.heights)
        assert width is not None and height is not None
        facts.add_row("", f"width {_spread(width)}; height {_spread(height)} pixels")
    for name, values in report.lengths.items():
        found = spread(values)
        if found is not None:
            facts.add_row(name, f"{_spread(found)} characters")
    tokens = spread(report.tokens)
    if tokens is not None:
        facts.add_row("tokens a row", _spread(tokens))
    facts.add_row("scripts", ", ".join(f"{script} in {count:,}" for script, count in report.scripts.most_common()))
    if report.shortcuts.num_pairs:
        facts.add_row("length", report.length_sentence)
    console.print(facts)
    if report.is_clean:
        console.print("\n[green]No defect found.[/green]")
        return
    table = Table(title="Defects", title_justify="left", show_lines=True)
    table.add_column("defect", style="bold")
    table.add_column("count", justify="right")
    table.add_column("first rows, what to do")
    for defect in report.sorted_defects():
        rows = ", ".join(defect.rows[:3]) + (" …" if defect.count > 3 else "")
        table.add_row(defect.name, f"{defect.count:,}", escape(f"{rows}\n{defect.example}\n→ {defect.fix}".strip()))
    console.print()
    console.print(table)


def print_row(console: Console, row: Shown) -> None:
    """One row: prompt, then each side with the words that only it has in bold."""
    console.rule(escape(row.name), align="left")
    if row.error:
        console.print(f"[red]{escape(row.error)}[/red]")
    for role, text in row.prompt:
        console.print(f"[dim]{role}[/dim] {escape(text)}")
    colours = {"chosen": "green", "rejected": "red"}
    for side, words in row.sides:
        marked = "".join(f"[bold {colours.get(side, '')}]{escape(t)}[/]" if m else escape(t) for t, m in words)
        console.print(f"[dim]{side}[/dim] {marked}")
    for side, claims in row.claims:
        signs = {"held": "[green]✓[/green]", "refuted": "[red]✗[/red]"}
        said = "  ".join(f"{signs.get(verdict, '?')} {escape(claim)}" for claim, verdict in claims)
        console.print(f"[dim]claims of {side}[/dim] {said}")
    if row.rendered:
        console.print(f"[dim]as read[/dim] {escape(repr(row.rendered)[1:-1])}")
    for one in row.targets:
        # what is not trained (an earlier turn, a weight of 0) is dim
        marked = "".join(escape(text) if is_target else f"[dim]{escape(text)}[/dim]" for text, is_target in one)
        console.print(f"[dim]trained[/dim] {marked}")
    if row.seen:
        console.print(f"[dim]image for the model[/dim] {row.seen}")
    if row.tokens:
        console.print(f"[dim]tokens[/dim] prompt {row.tokens[0]}, responses {', '.join(map(str, row.tokens[1:]))}")


def _spread(values: dict[str, int | float]) -> str:
    return f"{values['min']:g} to {values['max']:g}, median {values['median']:g}, 95% up to {values['p95']:g}"

"""An entry of step.json: everything the table says of one setting, and the table itself as text."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.step.case import PROGRAMS, Case, Measured, Program
from benchmarks.step.plan import SETTINGS
from benchmarks.step.ratios import gate, spread, step_cpu, step_seconds, tower_passes, waiting_share

Run = tuple[Case, Measured]
RIVALS: tuple[Program, ...] = ("trl", "compact")
MB = 2**20


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of one setting.

    exact: one thread, eight steps, FLOPs counted: the gate and the CPU times. timed: rounds of one run a program.
    recut: the step cut into forwards the other way. loading: two loader workers.
    """

    exact: dict[Program, Run]
    timed: list[dict[Program, Run]]
    recut: list[Run]
    loading: list[Run]

    def all(self) -> list[Run]:
        return [*self.exact.values(), *(run for one in self.timed for run in one.values()), *self.recut, *self.loading]


def figures_of(setting: str, runs: Runs) -> dict[str, Any]:
    """One entry of step.json. Time ratios are theirs over ours, memory ratios ours over theirs."""
    exact, timed = runs.exact, runs.timed
    entry: dict[str, Any] = {"setting": setting, "k": SETTINGS[setting].responses, "beta": SETTINGS[setting].beta}
    for rival in RIVALS:
        time_ratio = spread([step_seconds(*one[rival]) / step_seconds(*one["sightline"]) for one in timed])
        memory_ratio = spread([one["sightline"][1].memory / one[rival][1].memory for one in timed])
        entry[f"time_vs_{rival}"] = time_ratio.median
        entry[f"memory_vs_{rival}"] = memory_ratio.median
        entry[f"time_spread_vs_{rival}"] = [time_ratio.low, time_ratio.high]
        entry[f"memory_spread_vs_{rival}"] = [memory_ratio.low, memory_ratio.high]
        entry[f"cpu_vs_{rival}"] = step_cpu(*exact[rival]) / step_cpu(*exact["sightline"])
        entry[f"flops_vs_{rival}"] = sum(exact[rival][1].flops.values()) / sum(exact["sightline"][1].flops.values())
    entry["tower_passes"] = tower_passes(*exact["sightline"])
    entry["pairs"] = len(timed)
    entry["threads"] = timed[0]["sightline"][0].threads
    entry["load"] = [{program: round(one[program][1].load, 2) for program in PROGRAMS} for one in timed]
    gates = {rival: gate(exact["sightline"][1], exact[rival][1]) for rival in RIVALS}
    holds = all(one.holds for one in gates.values()) and entry["tower_passes"] == 1
    entry["gate"] = {"holds": holds, **{rival: asdict(one) for rival, one in gates.items()}}
    entry["programs"] = {program: program_figures(program, runs) for program in PROGRAMS}
    entry["other_cut"] = {case.program: other_cut_figures(case, one) for case, one in runs.recut}
    entry["waiting_with_two_workers"] = {case.program: waiting_share(case, one) for case, one in runs.loading}
    return entry


def program_figures(program: Program, runs: Runs) -> dict[str, Any]:
    """What one program took."""
    seconds = spread([step_seconds(*one[program]) for one in runs.timed])
    case, exact = runs.exact[program]
    return {
        "step_s": seconds.median,
        "step_spread_s": [seconds.low, seconds.high],
        "cpu_s": step_cpu(case, exact),
        "memory_mb": spread([one[program][1].memory for one in runs.timed]).median / MB,
        "gflop": sum(exact.flops.values()) / 1e9,
        "tower_passes": tower_passes(case, exact),
        "language_tokens": exact.language_tokens[case.counted.start],
        "waiting": waiting_share(*runs.timed[0][program]),
    }


def other_cut_figures(case: Case, one: Measured) -> dict[str, Any]:
    return {"forward_groups": case.forward_groups, "cpu_s": step_cpu(case, one), "memory_mb": one.memory / MB}


def table(entry: dict[str, Any]) -> str:
    """The entry as text."""
    header = ("step s", "low-high", "CPU s", "MB", "GFLOP", "tower", "tokens", "waiting")
    lines = ["  " + " " * 10 + "".join(f"{name:>12s}" for name in header)]
    for program, one in entry["programs"].items():
        low, high = one["step_spread_s"]
        cells = (
            f"{one['step_s']:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{one['cpu_s']:.2f}",
            f"{one['memory_mb']:.0f}",
            f"{one['gflop']:.0f}",
            f"{one['tower_passes']:.0f}",
            f"{one['language_tokens']}",
            f"{one['waiting']:.1%}",
        )
        lines.append(f"  {program:10s}" + "".join(f"{cell:>12s}" for cell in cells))
    for rival in RIVALS:
        low, high = entry[f"time_spread_vs_{rival}"]
        least, most = entry[f"memory_spread_vs_{rival}"]
        apart = entry["gate"][rival]
        lines += [
            f"  against {rival}: {entry[f'time_vs_{rival}']:.2f}x the speed ({low:.2f}-{high:.2f}, {entry['pairs']} "
            f"pairs, {entry['threads']} threads), {entry[f'cpu_vs_{rival}']:.2f}x by CPU time of one thread (one run), "
            f"{entry[f'flops_vs_{rival}']:.2f}x by FLOPs, {entry[f'memory_vs_{rival}']:.2f}x the memory "
            f"({least:.2f}-{most:.2f})",
            f"    gate: losses within {apart['loss']:.1e}; gradient norms within {apart['gradient_norm']:.1e}, "
            f"adapters' ways within {apart['way']:.1e}, relative",
        ]
    for program, one in entry["other_cut"].items():
        lines.append(
            f"  {program} with {one['forward_groups']} prompt(s) a forward: {one['cpu_s']:.2f} CPU s, "
            f"{one['memory_mb']:.0f} MB"
        )
    loads = [load for one in entry["load"] for load in one.values()]
    lines.append(f"  load when the timed runs began, the programs' own included: {min(loads):.1f}-{max(loads):.1f}")
    waiting = ", ".join(f"{name} {share:.1%}" for name, share in entry["waiting_with_two_workers"].items())
    return "\n".join([*lines, f"  waiting for data with two workers: {waiting}"])

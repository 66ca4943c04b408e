#!/usr/bin/env python3
"""Joins the parts that gpu.sh has kept so far: OUT/gpu.json has all of them, OUT/gpu.md a table of results and times.

A part is parts/NAME.status (one line), NAME.json (its output: JSON, or lines of which the last JSON object counts) and
NAME.log. This script runs after every part, so it must not fail on incomplete output.
"""
import json
import pathlib
import re
import sys


def parsed(text):
    """The JSON value of a text, else that of its last line that is a JSON object, else the text itself."""
    for candidate in [text, *(line for line in reversed(text.splitlines()) if line.startswith("{"))]:
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return text


def read(path):
    return path.read_text(errors="replace") if path.exists() else ""


def results(name, part, log):
    """The entries of a benchmark. If the benchmark was ended, the entries that its log reported until then."""
    if isinstance(part, dict) and "results" in part:
        return part["results"]
    if not name.startswith("bench-"):
        return []
    told = re.findall(r"^(\S.*): ([0-9.]+) ms$", log, re.MULTILINE)
    return [{"name": what, "median_ms": float(ms)} for what, ms in told]


def row(kind, entry, theirs):
    def number(key, digits):
        return f"{entry[key]:.{digits}f}" if entry.get(key) else ""

    share = f"{100 * entry['limit_fraction']:.0f} %" if entry.get("limit_fraction") else ""
    cells = [f"{kind}: {entry['name']}", entry.get("shape", ""), number("median_ms", 3), number("gflops", 0), number("gbs", 0)]
    return "| " + " | ".join([*cells, share, number("images_per_s", 0), f"{theirs:.3f}" if theirs else ""]) + " |"


def main(out):
    # The parts are in the order in which they ran.
    files = sorted((out / "parts").glob("*.status"), key=lambda file: file.stat().st_mtime_ns)
    status = {file.stem: read(file).strip() for file in files}
    parts = {name: parsed(read(out / "parts" / f"{name}.json")) for name in status}
    logs = {name: read(out / "parts" / f"{name}.log") for name in status}
    ends = {name: logs[name][-2000:] for name in status if status[name] != "ok" and logs[name].strip()}

    lines = ["# pixtape on a GPU", "", "| part | result |", "|---|---|"]
    for name, result in status.items():
        cases = parts[name].get("cases") if isinstance(parts[name], dict) else None
        if cases:
            result += f", {sum(case['pass'] for case in cases)} of {len(cases)} cases pass"
        lines.append(f"| {name} | {result} |")
    if isinstance(parts.get("nvidia-smi"), str):
        lines += ["", *parts["nvidia-smi"].splitlines()]
    lines += ["", "| what | shape | median ms | GFLOP/s | GB/s | of the limit | images/s | PyTorch ms |", "|---|---|---|---|---|---|---|---|"]
    for name in status:
        for entry in results(name, parts[name], logs[name]):
            torch = parts.get(f"torch-{entry['name']}") if "steps" in name else None
            theirs = torch.get("train", {}).get("ms") if isinstance(torch, dict) else None
            lines.append(row(name.split("-")[1], entry, theirs))
    for name, end in ends.items():
        lines += ["", f"## {name}: {status[name]}", "", "```", *end.splitlines()[-20:], "```"]

    whole = json.dumps({"status": status, "parts": parts, "logs": ends}, indent=1)
    for file, text in [("gpu.json", whole), ("gpu.md", "\n".join(lines))]:
        # The file is written under another name and then renamed, so that there is never half a report.
        (out / f"{file}.new").write_text(text + "\n")
        (out / f"{file}.new").replace(out / file)


main(pathlib.Path(sys.argv[1]))

"""Measure the catalogue on labelled texts: `python tools/measure_diagnosis.py FILE.jsonl... [--wrong] [--json]`.

Each line is {"id", "text", "kind", "label", "scenario", "service"}, `also` names further correct labels. It prints
the figures that docs/diagnosis.md states, each with its 95 % bound (Clopper-Pearson), and with --wrong every miss.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from importlib import resources
from pathlib import Path

from scipy.special import betaincinv

from backout.analysis.diagnosis.signatures import Classifier
from backout.model.incident.diagnosis import UNKNOWN, LogKind
from backout.providers.files.signatures import read_catalogue

NOISE = {"user_error_4xx", "client_disconnected", "bot_noise"}


def bound(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share."""
    if not n:
        return 0.0, 1.0
    low = betaincinv(hits, n - hits + 1, 0.025) if hits else 0.0
    high = betaincinv(hits + 1, n - hits, 0.975) if hits < n else 1.0
    return float(low), float(high)


def calibration_error(rows: list[tuple[float, bool]], bins: int = 10) -> float:
    """Return the expected calibration error over equal bins of confidence."""
    total = 0.0
    for index in range(bins):
        inside = [
            (p, hit) for p, hit in rows if index / bins <= p < (index + 1) / bins or (p == 1 and index == bins - 1)
        ]
        if inside:
            total += abs(sum(p for p, _ in inside) - sum(hit for _, hit in inside))
    return total / len(rows) if rows else 0.0


def measure(rows: list[dict[str, object]]) -> dict[str, object]:
    """Classify every row and return the figures, the confusions and the misses."""
    classifier = Classifier(read_catalogue([resources.files("backout") / "catalogue" / "signatures"]))
    right, right_scenario, right_service, abstained, blamed, noise = 0, 0, 0, 0, 0, 0
    answered: list[tuple[float, bool]] = []
    confusion: Counter[tuple[str, str]] = Counter()
    misses = []
    for row in rows:
        found = classifier.classify(str(row["text"]), LogKind(str(row["kind"])))
        wanted, also = str(row["label"]), [str(each) for each in row.get("also") or []]
        label = wanted if found.label in also else found.label
        hit = label == wanted
        right += hit
        right_scenario += (found.scenario == row["scenario"]) or (found.label in also)
        right_service += found.service == row["service"]
        confusion[wanted, label] += 1
        if wanted in NOISE:
            noise += 1
            blamed += found.is_known and found.label not in NOISE
        if found.is_known:
            answered.append((found.confidence, hit))
        elif wanted != UNKNOWN:
            abstained += 1
        if not hit:
            misses.append(
                {**row, "found": found.label, "by": found.signature, "confidence": round(found.confidence, 3)}
            )
    labels = {wanted for wanted, _ in confusion} - {UNKNOWN}
    f1 = []
    for each in labels:
        true = confusion[each, each]
        guessed = sum(n for (_, label), n in confusion.items() if label == each)
        there = sum(n for (wanted, _), n in confusion.items() if wanted == each)
        f1.append(2 * true / (guessed + there) if guessed + there else 0.0)
    known = sum(1 for row in rows if row["label"] != UNKNOWN)
    precise = sum(hit for _, hit in answered)
    return {
        "n": len(rows),
        "label_accuracy": [right / len(rows), *bound(right, len(rows))],
        "scenario_accuracy": [right_scenario / len(rows), *bound(right_scenario, len(rows))],
        "service_accuracy": [right_service / len(rows), *bound(right_service, len(rows))],
        "macro_f1": sum(f1) / len(f1) if f1 else 0.0,
        "precision": [precise / len(answered) if answered else 0.0, *bound(precise, len(answered))],
        "abstained": [abstained / known if known else 0.0, *bound(abstained, known)],
        "noise_blamed": [blamed, noise],
        "calibration_error": calibration_error(answered),
        "confusion": sorted(([*pair, n] for pair, n in confusion.items() if pair[0] != pair[1]), key=lambda c: -c[2]),
        "misses": misses,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--wrong", action="store_true", help="print every miss")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", help="only rows whose `part` is this")
    options = parser.parse_args()
    rows = [
        json.loads(line) for path in options.files for line in path.read_text(encoding="utf-8").splitlines() if line
    ]
    rows = [row for row in rows if options.part is None or row.get("part") == options.part]
    found = measure(rows)
    misses = found.pop("misses")
    if not options.json:
        print("\n".join(_lines(found)))
        print("\n".join(_missed(miss) for miss in misses) if options.wrong else "")
    else:
        print(json.dumps(found))
    return 0


def _lines(found: dict[str, object]) -> list[str]:
    lines = []
    for name, value in found.items():
        if name == "confusion":
            lines += (f"  {n:3} {wanted} -> {label}" for wanted, label, n in value)
        else:
            figures = value if isinstance(value, list) else [value]
            lines.append(
                f"{name:20} " + " ".join(f"{each:.3f}" if isinstance(each, float) else str(each) for each in figures)
            )
    return lines


def _missed(miss: dict[str, object]) -> str:
    text = " ⏎ ".join(str(miss["text"]).splitlines())[:400]
    verdict = f"{miss['label']} -> {miss['found']} ({miss['by']} {miss['confidence']})"
    return f"\n{miss['id']} [{miss['kind']}] {verdict}\n   {text}"


if __name__ == "__main__":
    sys.exit(main())

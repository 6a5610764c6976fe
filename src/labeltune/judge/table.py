"""The comparison as a table for the terminal: what tuning changed, within 100 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from labeltune.judge.metrics import by_errors
from labeltune.judge.runs import Pair, RunsComparison
from labeltune.summary import Epoch, Hardware, Judgement, Summary, Time
from labeltune.summary.scores import Scores, TopAccuracy
from labeltune.text import (
    MISSING,
    capitalised,
    count,
    duration,
    interval,
    number,
    one_line,
    p_value,
    percent,
    points,
    points_interval,
    shorten,
    signed,
)

WIDTH = 100
MOST_LABELS, MOST_EPOCHS = 8, 12


def comparison_table(summary: Judgement, title: str = "") -> RenderableType:
    """Show a run's summary: before, after, change, labels, epochs, and what they mean in words.

    Long lists are cut to the labels that changed most and to the last epochs, and say so.
    """
    rows = _rows(summary.after, summary.scored_split)
    parts: list[RenderableType] = [_heading(title or "before and after", rows), _figures(summary)]
    parts += [Text(""), _baselines(summary), _labels(summary)]
    if summary.epochs:
        parts.append(_epochs(summary.epochs))
    parts.append(_words(_findings(summary)))
    return Padding(Group(*parts), (0, 1))


def runs_table(comparison: RunsComparison) -> RenderableType:
    """Show what `compare_runs` returned: several tuned models on the same rows, and every pair of them."""
    names = _run_names(comparison.runs)
    rows = _rows(comparison.comparison, comparison.scored_split)
    two = len(names) == 2
    table: RenderableType = _two_runs(comparison, names) if two else _many_runs(comparison, names)
    words = [(_verdict_name(pair, names), pair.sentence + _adjusted(pair, len(comparison.pairs)))
             for pair in comparison.pairs]  # fmt: skip
    for name, values in comparison.signature_differences.items():
        words.append((f"{name} differs", " | ".join(value or MISSING for value in values)))
    return Padding(Group(_heading(f"{len(names)} runs", rows), table, Text(""), _words(words)), (0, 1))


def _run_names(runs: Sequence[str]) -> list[str]:
    """The folders' names, cut to fit, with a number where two are the same."""
    names = [shorten(one_line(name), 24) for name in runs]
    return [f"{name} ({place})" if names.count(name) > 1 else name for place, name in enumerate(names, 1)]


def _two_runs(comparison: RunsComparison, names: Sequence[str]) -> Group:
    (first, second), result = comparison.after, comparison.comparison
    table = _grid("", *names, "difference")
    gain = f"{points(result.accuracy_gain)} points"
    table.add_row("accuracy", *_accuracies(first, second), _with_interval(gain, points_interval(result.gain_interval)))
    _add_top(table, first, second)
    table.add_row("macro F1", *_numbers(first.macro_f1, second.macro_f1))
    table.add_row(_loss_row(first), *_numbers(first.loss, second.loss))
    shown = _most_changed(first, second)
    for label in shown:
        scores = [side.per_label[label].f1 for side in (first, second)]
        table.add_row(_label(label, "F1 "), *_numbers(*scores))
    left_out = len(first.predicted_share) - len(shown)
    return Group(table, _note(left_out, "whose shares differ no more; --json prints all"))


def _many_runs(comparison: RunsComparison, names: Sequence[str]) -> Table:
    table = _grid("run", "accuracy", "macro F1", "loss")
    for name, scores in zip(names, comparison.after, strict=True):
        table.add_row(Text(name), *_accuracies(scores), number(scores.macro_f1), number(scores.loss))
    return table


def _verdict_name(pair: Pair, names: Sequence[str]) -> str:
    return "verdict" if len(names) == 2 else f"{names[pair.first]} → {names[pair.second]}"


def _adjusted(pair: Pair, pairs: int) -> str:
    """The p-value after correction for several pairs; nothing for one."""
    if pairs == 1:
        return ""
    verdict = "is shown" if pair.significant else "is not shown"
    return f" Corrected for {pairs} comparisons, p {p_value(pair.p_holm)}: a difference {verdict}."


def guessing_loss(scores: Scores) -> float:
    """The loss in nats of a model that knows the label words and guesses between them: ln K."""
    return math.log(len(scores.gold_share))


def _loss_row(scores: Scores) -> str:
    return f"loss (guessing: {number(guessing_loss(scores))})"


def scores_table(scores: Scores, split: str) -> RenderableType:
    """Show what `evaluate` returned for one model."""
    figures = _grid("", "score")
    figures.add_row("accuracy", _accuracies(scores)[0])
    if scores.top:
        figures.add_row(scores.top.name, _top(scores.top))
    figures.add_row("macro F1", number(scores.macro_f1))
    figures.add_row(_loss_row(scores), number(scores.loss))
    if scores.invalid_outputs:
        figures.add_row("outputs with no label", f"{scores.invalid_outputs:,}")
    labels = _grid("label", "rows", "gold", "answered", "precision", "recall", "F1")
    shown = _most_wrong(scores)
    for label in shown:
        row = scores.per_label[label]
        shares = [percent(share[label]) for share in (scores.gold_share, scores.predicted_share)]
        rates = [number(rate) for rate in (row.precision, row.recall, row.f1)]
        labels.add_row(_label(label), f"{row.support:,}", *shares, *rates)
    note = _note(len(scores.per_label) - len(shown), "with fewer wrong rows; --json prints all")
    return Padding(Group(_heading("scores", _rows(scores, split)), figures, Text(""), labels, note), (0, 1))


def _rows(scores: Scores | Pair, split: str) -> str:
    return f"{count(scores.rows, 'row')} of the {split} split, {scores.confidence * 100:g} % intervals"


def _heading(title: str, rows: str) -> Text:
    return Text.assemble((one_line(title), "bold"), (f"  {rows}", "dim"), "\n")


def _grid(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, header in enumerate(headers):
        first = index == 0
        table.add_column(header, justify="left" if first else "right", min_width=13 * first, max_width=30, no_wrap=True)
    return table


def _figures(summary: Judgement) -> Table:
    before, after, result = summary.before, summary.after, summary.comparison
    table = _grid("", "before", "after", "change")
    gain = f"{points(result.accuracy_gain)} points"
    style = ("green" if result.accuracy_gain > 0 else "red") if result.significant else ""
    change = _with_interval(gain, points_interval(result.gain_interval), style)
    table.add_row("accuracy", *_accuracies(before, after), change)
    _add_top(table, before, after)
    table.add_row("macro F1", *_numbers(before.macro_f1, after.macro_f1))
    table.add_row(_loss_row(after), *_numbers(before.loss, after.loss))
    if before.invalid_outputs or after.invalid_outputs:
        old, new = before.invalid_outputs, after.invalid_outputs
        table.add_row("outputs with no label", f"{old:,}", f"{new:,}", signed(new - old, 0))
    return table


def _baselines(summary: Judgement) -> Table:
    """What the accuracy is to be compared with: simple models, and the annotators where there are votes."""
    table = _grid("compared with", "accuracy", "tuned model", "difference", "p")
    for one in summary.baselines:
        gain = _with_interval(points(one.gain), points_interval(one.gain_interval))
        accuracy = _with_interval(percent(one.accuracy), interval(one.interval))
        p = Text(p_value(one.p).lstrip("= "), "" if one.beaten else "yellow")
        table.add_row(_label(one.name), accuracy, percent(summary.after.accuracy), gain, p)
    if summary.annotators:
        people = summary.annotators
        accuracy = _with_interval(percent(people.accuracy), interval(people.interval))
        ahead = points(people.tuned_accuracy - people.accuracy)
        table.add_row("a single annotator", accuracy, percent(people.tuned_accuracy), ahead, "")
    return table


def _accuracies(*sides: Scores) -> list[Text]:
    return [_with_interval(percent(side.accuracy), interval(side.accuracy_interval), "bold") for side in sides]


def _add_top(table: Table, before: Scores, after: Scores) -> None:
    """The likeliest labels' accuracy of both, where both have it."""
    old, new = before.top, after.top
    if old and new:
        table.add_row(new.name, _top(old), _top(new), f"{points(new.accuracy - old.accuracy)} points")


def _top(top: TopAccuracy) -> Text:
    return _with_interval(percent(top.accuracy), interval(top.interval))


def _label(label: str, prefix: str = "") -> Text:
    return Text(prefix + one_line(label), overflow="ellipsis", no_wrap=True)


def _with_interval(figure: str, bounds: str, style: str = "") -> Text:
    return Text.assemble((figure, style), (f" {bounds}" if bounds else "", "dim"))


def _numbers(old: float | None, new: float | None) -> list[str]:
    return [number(old), number(new), signed(None if old is None or new is None else new - old)]


def _most_changed(before: Scores, after: Scores) -> list[str]:
    """All labels where they fit, else those whose predicted share changed most, of equals the most frequent, in their
    usual order."""
    shares = {
        label: (abs(after.predicted_share[label] - share), after.predicted_share[label])
        for label, share in before.predicted_share.items()
    }
    shown = set(sorted(shares, key=lambda label: shares[label], reverse=True)[:MOST_LABELS])
    return [label for label in shares if label in shown]


def _most_wrong(scores: Scores) -> list[str]:
    """All labels where they fit, else those of which most rows get another answer, in their usual order."""
    shown = list(by_errors(scores))[:MOST_LABELS]
    return [label for label in scores.confusion if label in shown]


def _note(left_out: int, which: str) -> Text:
    return Text(f"and {count(left_out, 'more label')}, {which}\n" if left_out else "", "dim")


def _labels(summary: Judgement) -> Group:
    before, after = summary.before, summary.after
    table = _grid("label", "gold", "answered before", "after", "F1 before", "after", "change")
    shown = _most_changed(before, after)
    for label in shown:
        share = [percent(scores.predicted_share[label]) for scores in (before, after)]
        f1 = _numbers(before.per_label[label].f1, after.per_label[label].f1)
        style = "yellow" if summary.bias.before.found and label == summary.bias.before.label else ""
        table.add_row(_label(label), percent(after.gold_share[label]), Text(share[0], style), share[1], *f1)
    left_out = len(before.predicted_share) - len(shown)
    return Group(Text(""), table, _note(left_out, "whose shares changed no more; report.html has all"))


def _epochs(epochs: Sequence[Epoch]) -> Group:
    table = _grid("epochs", "", "step", "training loss", "validation loss", "validation accuracy")
    shown = [epoch for index, epoch in enumerate(epochs) if epoch.chosen or index >= len(epochs) - MOST_EPOCHS]
    for epoch in shown:
        accuracy = _with_interval(percent(epoch.validation_accuracy), interval(epoch.validation_accuracy_interval))
        table.add_row(
            f"{epoch.epoch:g}",
            Text("kept" if epoch.chosen else "", "green"),
            f"{epoch.step:,}",
            number(epoch.train_loss),
            number(epoch.validation_loss),
            accuracy,
        )
    left_out = len(epochs) - len(shown)
    note = Text(f"and {left_out} earlier scorings\n" if left_out else "", "dim")
    return Group(table, note)


def _findings(summary: Judgement) -> list[tuple[str, str]]:
    """What the figures mean, as pairs of a keyword and a sentence."""
    bias, overfitting = summary.bias, summary.overfitting
    verdict = {True: "found", False: "not found", None: "cannot be decided"}[overfitting.found]
    split, learning = bias.split, summary.learning
    findings = [
        ("training", learning.sentence if learning and learning.stands_out else ""),
        ("change", f"{summary.comparison.sentence} {summary.baselines_sentence}"),
        ("never answered", _never_answered(summary)),
        ("annotators", summary.annotators.sentence if summary.annotators else ""),
        ("bias", f"{bias.before.sentence} {bias.sentence} {split.sentence if split else ''}".rstrip()),
        ("kept", capitalised(summary.choice.why) + "."),
        ("overfitting", f"{capitalised(verdict)}: {overfitting.why}."),
        ("cost", cost(summary)),
        ("signature", summary.signature),
    ]
    return [(keyword, sentence) for keyword, sentence in findings if sentence]


def _never_answered(summary: Judgement) -> str:
    """What the findings say of labels that are never answered; `compare` makes none."""
    found = summary.findings if isinstance(summary, Summary) else []
    return " ".join(one.sentence for one in found if one.kind == "label never answered")


def cost(summary: Judgement, total: bool = True) -> str:
    """Time, memory and energy in one line; what was not measured is left out, and on request the whole time."""
    time, hardware = summary.time or Time(), summary.hardware or Hardware()
    parts = []
    if time.total_s is not None:
        details = [
            ("training", time.train_s),
            ("scoring", time.score_s),
            ("loading", time.load_s),
            ("explaining", time.explain_s),
        ]
        known = ", ".join(f"{what} {duration(elapsed_s)}" for what, elapsed_s in details if elapsed_s is not None)
        whole = duration(time.total_s)
        parts.append(known if known and not total else f"{whole} ({known})" if known else whole)
    if hardware.device:
        parts.append(f"on {hardware.device}")
    if hardware.gpu_memory_mib_peak is not None:
        parts.append(f"GPU memory peak {number(hardware.gpu_memory_mib_peak, 0)} MiB")
    elif hardware.host_memory_mib_peak is not None:
        parts.append(f"host memory peak {number(hardware.host_memory_mib_peak, 0)} MiB")
    if hardware.gpu_load_percent_mean is not None:
        parts.append(f"GPU load {hardware.gpu_load_percent_mean:.0f} %")
    if hardware.energy_wh is not None:
        parts.append(f"energy {number(hardware.energy_wh, 1)} Wh")
    return ", ".join(parts)


def _words(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, max_width=24)
    table.add_column(max_width=WIDTH - 16, overflow="fold")
    for keyword, sentence in pairs:
        table.add_row(Text(one_line(keyword)), Text(one_line(sentence), "dim" if keyword == "signature" else ""))
    return table

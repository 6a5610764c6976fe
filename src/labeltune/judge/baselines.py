"""What an accuracy has to beat: always the same answer, and a bag of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labeltune.judge.metrics import wilson_interval
from labeltune.judge.paired import compare, holm
from labeltune.rows import Prediction
from labeltune.summary.scores import Agreement, Baseline
from labeltune.text import count, listed, percent, points


def against_baselines(
    tuned: Sequence[Prediction], others: Mapping[str, Sequence[Prediction]], **options: Any
) -> list[Baseline]:
    """Compare the tuned model with simple ones on the same rows, row by row.

    The most frequent gold label of these very rows is always among them: no constant answer can do better.

    Args:
        others: predictions of further simple models, by name.
        options: `confidence`, `samples` and `seed` of `compare`.
    """
    frequent = Counter(row.gold for row in tuned).most_common(1)[0][0]
    models = {f"always answering {frequent}": [replace(row, predicted=frequent) for row in tuned], **others}
    results = {name: compare(rows, tuned, **options) for name, rows in models.items()}
    adjusted = holm([result.mcnemar_p for result in results.values()])
    records = []
    for (name, result), p in zip(results.items(), adjusted, strict=True):
        right = sum(row.correct for row in models[name])
        records.append(
            Baseline(
                name=name,
                accuracy=right / len(tuned),
                interval=wilson_interval(right, len(tuned), result.confidence),
                gain=result.accuracy_gain,
                gain_interval=result.gain_interval,
                p=p,
                beaten=result.accuracy_gain > 0 and p < 1 - result.confidence,
            )
        )
    return records


def baselines_sentence(records: Sequence[Baseline]) -> str:
    """What the comparison comes to, such as "It beats always answering no (50.0 %) by 20.0 points."."""
    parts = []
    beaten = [
        f"{one.name} ({percent(one.accuracy)}) by {points(one.gain).lstrip('+')}" for one in records if one.beaten
    ]
    if beaten:
        parts.append(f"It beats {listed(beaten)} points.")
    unbeaten = [f"{one.name} ({percent(one.accuracy)})" for one in records if not one.beaten]
    if unbeaten:
        parts.append(f"It has not shown to be better than {listed(unbeaten)}.")
    return " ".join(parts)


def agreement(predictions: Sequence[Prediction]) -> Agreement | None:
    """How often generated text names the label that the probabilities favour; None where no text was generated.

    >>> row = Prediction("1", "a", "b", {"a": 0.9, "b": 0.1}, None, {}, generated="b")
    >>> result = agreement([row])
    >>> result.agree, result.accuracy_by_text, result.accuracy_by_probability
    (0, 0.0, 1.0)
    """
    if not predictions or any(row.generated is None for row in predictions):
        return None
    rows = len(predictions)
    agree = sum(row.predicted == row.likeliest for row in predictions)
    by_text = sum(row.correct for row in predictions) / rows
    by_probability = sum(row.gold == row.likeliest for row in predictions) / rows
    return Agreement(
        rows=rows,
        agree=agree,
        share=agree / rows,
        interval=wilson_interval(agree, rows),
        accuracy_by_text=by_text,
        accuracy_by_probability=by_probability,
        sentence=f"The generated text names the likeliest label in {agree:,} of {count(rows, 'row')} "
        f"({percent(agree / rows)}). Text is right in {percent(by_text)}, that label in {percent(by_probability)}.",
    )

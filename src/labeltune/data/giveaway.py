"""What the task gives away: how well a bag of words does on each text column alone, and on all of them.

On SNLI a classifier that never sees the premise gets two thirds of the labels right (Gururangan et al. 2018,
"Annotation Artifacts in Natural Language Inference Data"; Poliak et al. 2018, "Hypothesis Only Baselines").
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from labeltune.data.store import Rows
from labeltune.rows import Prediction
from labeltune.text import words

# N rows, K labels, F features
Array = np.ndarray[Any, np.dtype[Any]]

TRAIN_ROWS = 20_000
EVALUATION_ROWS = 10_000
HASHED_FEATURES = 2**18
MOST_FEATURES = 30_000
MOST_WEIGHTS = 1_500_000
"""Features times labels: what bounds the memory of the fit."""
ITERATIONS = 20
ONE_LABEL = "the training rows have one label only"
NO_FEATURES = "no word appears in two training rows"
CONFIDENCE = 0.95


def style_baseline(train: Rows, evaluation: Rows, label_names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Fit a logistic regression on TF-IDF of single words and word pairs, for each text column and for all of them.

    At most 20,000 training and 10,000 evaluation rows are used, random ones by seed where there are more.

    Returns:
        one record per set of columns: `columns`, `accuracy`, its 95 % Wilson `interval`, and `why_not`. Accuracy and
        interval are None where nothing could be fitted, and `why_not` says why; else it is None.
    """
    random = np.random.default_rng(seed)
    train_texts, train_gold_N = _sample(train, TRAIN_ROWS, label_names, random)
    test_texts, test_gold_N = _sample(evaluation, EVALUATION_ROWS, label_names, random)
    columns = train.text_columns
    choices = [(name,) for name in columns] + ([columns] if len(columns) > 1 else [])
    if len(np.unique(train_gold_N)) < 2:
        return [_record(chosen, None, ONE_LABEL) for chosen in choices]
    features = {name: _features(train_texts[name], test_texts[name], len(label_names)) for name in columns}
    records = []
    for chosen in choices:
        p_NK, classes_K = _fit([features[name] for name in chosen], train_gold_N, seed)
        right_N = None if p_NK is None else classes_K[p_NK.argmax(1)] == test_gold_N
        records.append(_record(chosen, right_N, None if p_NK is not None else NO_FEATURES))
    return records


def bag_of_words(
    train: Rows, evaluation: Rows, label_names: Sequence[str], seed: int
) -> tuple[list[Prediction] | None, str | None]:
    """The same classifier on all text columns, as one more model: its predictions of every evaluation row.

    Returns:
        the predictions, and None; or None, and why there are none.
    """
    train_texts, train_gold_N = _sample(train, TRAIN_ROWS, label_names, np.random.default_rng(seed))
    if len(np.unique(train_gold_N)) < 2:
        return None, ONE_LABEL
    columns = train.text_columns
    texts = {name: evaluation.column(name).to_pylist() for name in columns}
    features = [_features(train_texts[name], texts[name], len(label_names)) for name in columns]
    p_NK, classes_K = _fit(features, train_gold_N, seed)
    if p_NK is None:
        return None, NO_FEATURES
    names = [label_names[place] for place in classes_K]
    zeros = dict.fromkeys(label_names, 0.0)
    return [
        Prediction(
            example.id, example.gold, names[int(p_K.argmax())],
            zeros | dict(zip(names, p_K.tolist(), strict=True)), None, example.columns,
        )
        for example, p_K in zip(evaluation, p_NK, strict=True)
    ], None  # fmt: skip


def _sample(
    rows: Rows, most: int, label_names: Sequence[str], random: np.random.Generator
) -> tuple[dict[str, list[str]], Array]:
    gold_N = rows.gold_ids_N(label_names)
    places = np.arange(len(rows))
    if len(rows) > most:
        places = np.sort(random.choice(len(rows), most, replace=False))
    return {name: rows.column(name).take(places).to_pylist() for name in rows.text_columns}, gold_N[places]


def _features(train: list[str], test: list[str], labels: int) -> tuple[Any, Any]:
    """TF-IDF of both, over the features that most training texts share."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashing = HashingVectorizer(
        n_features=HASHED_FEATURES, ngram_range=(1, 2), tokenizer=words, token_pattern=None, lowercase=False,
        alternate_sign=False, norm=None,
    )  # fmt: skip
    train_NF, test_NF = hashing.transform(train), hashing.transform(test)
    rows_with_F = np.bincount(train_NF.indices, minlength=HASHED_FEATURES)
    most = min(MOST_FEATURES, MOST_WEIGHTS // labels)
    kept = np.argsort(-rows_with_F, kind="stable")[:most]
    kept = np.sort(kept[rows_with_F[kept] >= min(2, len(train))])
    if not len(kept):
        return train_NF[:, kept], test_NF[:, kept]
    tfidf = TfidfTransformer(sublinear_tf=True)
    return tfidf.fit_transform(train_NF[:, kept]), tfidf.transform(test_NF[:, kept])


def _fit(features: list[tuple[Any, Any]], train_gold_N: Array, seed: int) -> tuple[Array | None, Array]:
    """Probabilities of the evaluation rows, and the labels of their columns; None where no feature is left."""
    from scipy.sparse import hstack
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train_NF, test_NF = (hstack(blocks, format="csr") for blocks in zip(*features, strict=True))
    if train_NF.shape[1] == 0:
        return None, np.zeros(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier = LogisticRegression(C=2.0, solver="saga", max_iter=ITERATIONS, tol=1e-2, random_state=seed)
        classifier.fit(train_NF, train_gold_N)
    return classifier.predict_proba(test_NF), classifier.classes_


def _record(columns: Sequence[str], right_N: Array | None, why_not: str | None) -> dict[str, Any]:
    from scipy.stats import binomtest

    accuracy = interval = None
    if right_N is not None and len(right_N):
        right = int(right_N.sum())
        accuracy = right / len(right_N)
        limits = binomtest(right, len(right_N)).proportion_ci(CONFIDENCE, method="wilson")
        interval = [float(limits.low), float(limits.high)]
    return {"columns": list(columns), "accuracy": accuracy, "interval": interval, "why_not": why_not}

import shutil

import numpy as np
import pytest
import torch

from labeltune.prompt.tree import label_tree
from labeltune.recipe import ScoreSettings
from labeltune.score import collect, labels, score_batches, to_predictions
from labeltune.score.sofar import SoFar, checked_line
from tiny import ANSWERS, make_classifier, make_ready

LONG_ANSWERS = {"red": "yes no", "green": "maybe so", "blue": "maybe no so no", "other": "0"}


def score(classifier, examples, batch_size, mode="labels"):
    encoded = classifier.prompter.encode_rows(examples)
    settings = ScoreSettings(mode=mode, per_device_eval_batch_size=batch_size, max_new_tokens=4)
    batches = list(score_batches(classifier, encoded, settings))
    return encoded, batches, collect(batches, len(encoded), len(classifier.words.names))


def brute_force(classifier, encoded):
    """Log-probability of every word after every prompt, each row alone, without padding, cache or hook."""
    scores = np.zeros((len(encoded), len(classifier.words.names)))
    with torch.inference_mode():
        for row in range(len(encoded)):
            prompt = encoded.prompt(row).tolist()
            for k, word in enumerate(classifier.words.token_ids):
                ids = torch.tensor([[*prompt, *word]])
                log_probs = classifier.model(input_ids=ids).logits[0].log_softmax(-1)
                scores[row, k] = sum(float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(word))
    return scores


@pytest.mark.parametrize("answers", [ANSWERS, LONG_ANSWERS], ids=["one token", "several tokens"])
def test_label_scores_equal_brute_force_whatever_the_batch(tiny_model, examples, answers):
    classifier = make_classifier(tiny_model, answers)
    assert classifier.words.single == (answers is ANSWERS)
    for batch_size in (1, 7, 64):
        encoded, _, scores = score(classifier, examples, batch_size)
        expected = brute_force(classifier, encoded)
        np.testing.assert_allclose(scores.words_NK, expected, atol=2e-5)
        assert (scores.words_NK.argmax(1) == expected.argmax(1)).all()
        np.testing.assert_allclose(np.exp(scores.labels_NK).sum(1), 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_of_words_has_each_beginning_once(seed):
    random = np.random.default_rng(seed)
    words = list({tuple(random.integers(0, 3, 4).tolist()) for _ in range(random.integers(2, 40))})
    tree = label_tree(words)
    for word, way in zip(words, tree.ways, strict=True):
        assert tuple(tree.branch_tokens[branch] for branch in way) == word
        assert [tree.paths[tree.branch_nodes[branch]] for branch in way] == [word[:size] for size in range(len(word))]
    assert len(set(tree.paths)) == len(tree.paths)
    for node, path in enumerate(tree.paths):
        behind = [other for other, longer in enumerate(tree.paths) if longer[: len(path)] == path]
        assert behind == list(range(node, tree.ends[node]))


def prompts_of(classifier, lists):
    words = classifier.words.token_ids
    assert not classifier.words.single
    lists = [*lists, lists[0], lists[0][:-1], [*lists[1], *words[0][:1]], [*lists[1], *words[2]], [lists[0][0]]]
    return [np.array(ids, dtype=np.int32) for ids in lists]


def test_prompts_that_are_the_same_nest_or_go_on_like_a_label_keep_their_scores(tiny_model, examples):
    classifier, notes = make_ready(make_classifier(tiny_model, LONG_ANSWERS))
    assert classifier.packed, notes
    encoded = classifier.prompter.encode_rows(examples[:5])
    prompts = prompts_of(classifier, [encoded.prompt(row).tolist() for row in range(5)])
    with torch.inference_mode():
        together = labels.score_labels(classifier, prompts)
        for row, prompt in enumerate(prompts):
            for k, word in enumerate(classifier.words.token_ids):
                ids = torch.tensor([[*prompt.tolist(), *word]])
                with classifier.unpacked() as model:
                    log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
                expected = sum(float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(word))
                assert float(together[row, k]) == pytest.approx(expected, abs=3e-4)
        same = labels.score_labels(classifier, [prompts[0]] * 3)
        torch.testing.assert_close(same, together[:1].expand(3, -1), atol=2e-5, rtol=0)


def test_a_single_row_is_scored_with_packing_as_without(classifier, examples):
    packed, notes = make_ready(classifier)
    assert packed.packed, notes
    alone, several = (score(packed, rows, None)[2] for rows in (examples[:1], examples[:3]))
    np.testing.assert_allclose(alone.words_NK[0], several.words_NK[0], atol=1e-4)


def test_generation_does_not_depend_on_the_batch(classifier, examples):
    texts = [score(classifier, examples, size, "generate")[2].texts for size in (1, 9)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_generated_text_is_the_greedy_continuation(classifier, examples):
    encoded, _, scores = score(classifier, examples[:3], 3, "generate")
    for row in range(3):
        ids = encoded.prompt(row).tolist()
        with torch.inference_mode():
            for _ in range(4):
                ids.append(int(classifier.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        continued = ids[len(encoded.prompt(row)) :]
        assert scores.texts[row] == classifier.prompter.tokenizer.decode(continued, skip_special_tokens=True)


def test_predictions_join_rows_and_scores(classifier, examples):
    encoded, _, scores = score(classifier, examples, 8)
    predictions = list(to_predictions(classifier, examples, encoded, scores))
    assert [p.id for p in predictions] == [e.id for e in examples]
    for row, prediction in enumerate(predictions):
        assert prediction.predicted == max(prediction.probabilities, key=prediction.probabilities.get)
        gold = classifier.words.names.index(prediction.gold)
        assert prediction.loss == pytest.approx(-scores.words_NK[row, gold])
        assert prediction.columns == examples[row].columns


def test_generated_text_without_a_label_is_an_invalid_output(classifier, examples):
    encoded, _, scores = score(classifier, examples, 8, "generate")
    predictions = list(to_predictions(classifier, examples, encoded, scores))
    for prediction in predictions:
        names_a_label = any(word in prediction.generated for word in ANSWERS.values())
        assert (prediction.predicted is not None) <= names_a_label
        assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_answers_are_kept_beside_texts_and_a_file_without_them_is_not_used(classifier, examples, tmp_path):
    _, batches, scores = score(classifier, examples, 8, "generate")
    with SoFar(tmp_path / "whole", "k").opened() as so_far:
        so_far.add(batches[0])
        shutil.copy(tmp_path / "whole", tmp_path / "a")
    with SoFar(tmp_path / "a", "k").opened() as so_far:
        assert so_far.batches[0].answers == [scores.answers[row] for row in batches[0].rows]
        assert so_far.batches[0].texts == batches[0].texts
    (tmp_path / "b").write_bytes(checked_line({"key": "k"}) + checked_line({"rows": [0], "texts": ["1"]}))
    with SoFar(tmp_path / "b", "k").opened() as so_far:
        assert so_far.batches == []


def test_rows_are_scored_longest_first(classifier, examples):
    encoded, batches, _ = score(classifier, examples, 4)
    lengths = [encoded.lengths[row] for batch in batches for row in batch.rows]
    assert lengths == sorted(lengths, reverse=True)


def test_out_of_memory_halves_the_batch_and_changes_no_score(classifier, examples, monkeypatch):
    _, _, expected = score(classifier, examples, 16)
    real = labels.score_labels

    def tight(classifier, prompts):
        if len(prompts) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(classifier, prompts)

    monkeypatch.setattr("labeltune.score.score_labels", tight)
    _, batches, scores = score(classifier, examples, 16)
    assert scores.shrunk
    assert scores.batch_size == 4
    assert not expected.shrunk
    assert max(len(batch.rows) for batch in batches) == 4
    np.testing.assert_allclose(scores.labels_NK, expected.labels_NK, atol=1e-5)


def test_out_of_memory_on_one_row_says_what_to_do(classifier, examples, monkeypatch):
    def full(classifier, prompts):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("labeltune.score.score_labels", full)
    with pytest.raises(ValueError, match=r"lower prompt\.max_length"):
        score(classifier, examples, 16)


def test_other_errors_are_not_taken_for_a_lack_of_memory(classifier, examples, monkeypatch):
    def broken(classifier, prompts):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("labeltune.score.score_labels", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        score(classifier, examples, 16)


def test_scoring_leaves_training_mode_and_random_state_alone(classifier, examples):
    classifier.model.train()
    state = torch.get_rng_state()
    score(classifier, examples, 8)
    assert classifier.model.training
    assert torch.equal(torch.get_rng_state(), state)

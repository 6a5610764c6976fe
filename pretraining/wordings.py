"""Inference stated in words, in many wordings: a pair and its label become a short text that a language model can read.

The answer parts of a text carry more weight in the loss. No wording asks for a digit.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple


class Part(NamedTuple):
    """A piece of a text."""

    text: str
    answer: bool = False
    says: str | None = None
    """The sentence that ends here and whose vector is to be learned."""


Text = list[Part]
ENTAILMENT, NEUTRAL, CONTRADICTION = "entailment", "neutral", "contradiction"

# how a question about the second statement is answered, per label: entailment, neutral, contradiction
ANSWERS = (
    ("Yes", "Maybe", "No"),
    ("yes", "maybe", "no"),
    ("True", "Unknown", "False"),
    ("true", "unclear", "false"),
    ("certainly", "possibly", "never"),
    ("right", "open", "wrong"),
    ("follows", "may hold", "cannot hold"),
    ("entailment", "neutral", "contradiction"),
)
QUESTIONS = (
    "{p} Is it true that {h_low}?",
    "{p} Question: {h} Answer:",
    "{p}\n{h}\nDoes the second follow from the first?",
    "First: {p} Second: {h} Is the second right?",
    "Premise: {p}\nHypothesis: {h}\nVerdict:",
    "We know this: {p} Someone says: {h} Is that so?",
    'If "{p}" is true, what about "{h}"?',
    "Text: {p}\nClaim: {h}\nThe claim is",
    "{p} => {h} :",
    "Here is a premise, {p} Here is a hypothesis, {h} Does the one follow from the other? Please give one word.",
    "Read both. {p} {h} Say whether the second statement must be so, may be so, or cannot be so. Just say which:",
    "Statement A is {p_bare} and statement B is {h_bare}, and the task is to tell whether B is implied by A, left open "
    "by it, or ruled out by it. Reply with nothing but the verdict.",
    "Suppose {p_bare}. Decide whether it follows that {h_bare}. Give the answer in a word and nothing else. Answer:",
    "Take the premise {p} and the hypothesis {h}, and judge how they stand to each other. Write only the verdict.",
)
SAYINGS = {
    ENTAILMENT: ("From this it follows that {h_low}.", "So {h_low}.", "Therefore, {h_low}.", "That is to say, {h_low}.",
                 "In that case it must be true that {h_low}.", "Clearly, {h_low}."),
    NEUTRAL: ("Perhaps {h_low}, perhaps not.", "It may be that {h_low}.", "We cannot tell whether {h_low}.",
              "It is not said whether {h_low}.", "Possibly, {h_low}."),
    CONTRADICTION: ("It cannot be that {h_low}.", "So it is false that {h_low}.", "That rules out that {h_low}.",
                    "It is impossible that {h_low}.", "Therefore it is not the case that {h_low}."),
}  # fmt: skip
# the meaning of the letters is said in the text, and changes from text to text
KEYS = ("Write {e} if it follows, {n} if it is open, {c} if it is ruled out.",
        "{c} means that both cannot be true, {n} that nothing can be said, {e} that the second follows.",
        "Choose {n} for maybe, {e} for yes, {c} for no.")  # fmt: skip
# what comes before a reason
LEADS = ("{p} {h} Because:", "{p}\n{h}\nReason:", "Premise: {p} Hypothesis: {h} Why?", "{p} And {h} Note:",
         "Take the premise {p} and the hypothesis {h}, and say what is the matter with them.")  # fmt: skip
LETTERS = ("A", "B", "C", "X", "Y", "Z", "P", "Q", "R")


def _forms(premise: str, hypothesis: str) -> dict[str, str]:
    """The sentences as the wordings want them: as they are, or without their full stop, or in mid-sentence."""
    bare = hypothesis.rstrip(" .")
    low = bare[:1].lower() + bare[1:] if bare[:2] in ("A ", "An", "Th", "So", "Tw", "Pe") else bare
    return {"p": premise, "h": hypothesis, "p_bare": premise.rstrip(" ."), "h_bare": bare, "h_low": low}


def question(rng: Random, premise: str, hypothesis: str, label: str) -> Text:
    """The pair, a question about it, and the answer in words.

    >>> question(Random(1), "A man naps.", "A man sleeps.", "entailment")[-1].answer
    True
    """
    forms = _forms(premise, hypothesis)
    place = (ENTAILMENT, NEUTRAL, CONTRADICTION).index(label)
    if rng.random() < 0.25:
        e, n, c = rng.sample(LETTERS, 3)
        meaning = rng.choice(KEYS).format(e=e, n=n, c=c)
        body = f"{forms['p']} {forms['h']}"
        asked = f"{body} {meaning} Answer:" if rng.random() < 0.7 else f"{meaning} {body} Answer:"
        return [Part(asked), Part(f" {(e, n, c)[place]}", answer=True)]
    answers = ANSWERS[int(rng.random() ** 1.5 * len(ANSWERS))]
    return [Part(rng.choice(QUESTIONS).format(**forms)), Part(f" {answers[place]}", answer=True)]


def saying(rng: Random, premise: str, hypothesis: str, label: str) -> Text:
    """The premise, and a sentence that says what it does to the hypothesis, before saying the hypothesis."""
    forms = _forms(premise, hypothesis)
    return [Part(f"{premise} {rng.choice(SAYINGS[label]).format(**forms)}")]


def judged(rng: Random, premise: str, hypothesis: str, label: str) -> Text:
    """Mostly a question with its answer; now and then a saying."""
    wording: Callable[[Random, str, str, str], Text] = question if rng.random() < 0.85 else saying
    return wording(rng, premise, hypothesis, label)


def explained(rng: Random, premise: str, hypothesis: str, reasons: list[str]) -> Text:
    """Two sentences and the reason that someone gave for how they stand to each other."""
    lead = rng.choice(LEADS)
    return [Part(lead.format(p=premise, h=hypothesis)), Part(" " + rng.choice(reasons), answer=True)]


def same_picture(rng: Random, premise: str, hypothesis: str, other: str) -> Text:
    """Whether the second sentence was written about the first one's picture, or about another."""
    matched = rng.random() < 0.5
    second = hypothesis if matched else other
    lead = rng.choice(("{p} {h} Same picture?", "{p}\n{h}\nIs this about the same thing?", "{p} Also: {h} Together?"))
    return [Part(lead.format(p=premise, h=second)), Part(" Yes" if matched else " No", answer=True)]


def told(rng: Random, sentences: list[str]) -> Text:
    """Sentences one after the other, each with its vector at its end."""
    gap = rng.choice((" ", "\n"))
    return [Part(sentence if place == 0 else gap + sentence, says=sentence) for place, sentence in enumerate(sentences)]

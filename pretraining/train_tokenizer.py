"""Train the byte-level BPE tokenizer of the small base and save it as transformers loads it.

python pretraining/train_tokenizer.py --text FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from corpus import END_OF_TEXT, books, generated_texts, real_texts, wikitext
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 8192
# a word with its space, one digit with its space, punctuation, line breaks
SPLIT = r"'(?:s|t|d|m|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def texts(folder: Path) -> Iterator[str]:
    """The sources in the proportion in which the vocabulary is to serve them."""
    whole = books(folder)
    yield from (whole[start : start + 100_000] for start in range(0, len(whole), 400_000))
    yield wikitext(folder, "valid")
    for source in ("captions", "explanations", "mnli", "wanli"):
        for document in real_texts(folder, source, 0):
            yield "".join(part.text for part in document)
    for document in generated_texts(0, 20_000):
        yield "".join(part.text for part in document)
    for digit in "0123456789":  # rare in these texts, and each must be one token with its space
        yield f" {digit}" * 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(args.text), trainer)
    for digit in "0123456789":
        ids = tokenizer.encode(f" {digit}").ids
        if len(ids) != 1:
            raise ValueError(f"' {digit}' became {len(ids)} tokens; give the trainer more of it")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(args.out)
    settings_file = args.out / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # a name that every release of transformers knows
    settings_file.write_text(json.dumps(settings, indent=2) + "\n")
    print(f"{args.out}: {len(fast):,} tokens; digits are single tokens")


if __name__ == "__main__":
    main()

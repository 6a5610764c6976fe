"""Words in scripts with and without blanks, and what stands on them."""

import itertools

import pytest

from labeltune.explain.measures import numbers, overlap
from labeltune.explain.variants import raise_numbers, swap_label_words
from labeltune.recipe import PromptSettings
from labeltune.text import WORD, words

TEXTS = {
    "The dogs don’t run: __init__ card_arrival O'Neill's": "the dogs don't run init card_arrival o'neill's",
    "我有2只猫。C++": "我 有 2 只 猫 c",
    "混合English文字123": "混 合 english 文 字 123",
    "コーヒーを飲む々": "コ ー ヒ ー を 飲 む 々",
    "２０２４年": "２０２４ 年",
    "नमस्ते हिन्दी में": "नमस्ते हिन्दी में",
    "اَلْعَرَبِيَّةُ لغة": "اَلْعَرَبِيَّةُ لغة",
    "می\u200cروم": "می\u200cروم",
    "สวัสดี ๑๒๓": "ส วั ส ดี ๑๒๓",
    "ສະບາຍດີ": "ສ ະ ບ າ ຍ ດີ",
    "ខ្មែរ": "ខ្ មែ រ",
    "မြန်မာ": "မြ န် မာ",
    "བོད་ཡིག": "བོད ཡིག",
    "안녕하세요 세계": "안녕하세요 세계",
    "Tôi không biết": "tôi không biết",
    "To\u0302i khong": "tôi khong",
    "É E\u0301": "é é",
    "😀👍🏽 ❤️ 🇩🇪 👩\u200d👩\u200d👧": "😀 👍🏽 ❤️ 🇩🇪 👩\u200d👩\u200d👧",
    "3.5 -10 12:30": "3 5 10 12 30",
    "x² + y": "x² y",
    "!!! :) _ '": "",
    "": "",
}


@pytest.mark.parametrize("text", TEXTS)
def test_words_of_any_script(text):
    assert words(text) == TEXTS[text].split()


@pytest.mark.parametrize("text", TEXTS)
def test_each_word_has_its_place_in_the_text(text):
    spans = [match.span() for match in WORD.finditer(text)]
    assert len(spans) == len(words(text))
    assert all(before <= start for (_, before), (start, _) in itertools.pairwise(spans))


def test_ascii_takes_the_short_way_to_the_same_words():
    for text in ("It's a_b __c d__ 'e' f'g'h 1.5 A-B i--j k''l m_'n", "a_b'c_d", "x__'y", "_'_", "a'_b"):
        assert words(text) == words(text + "\u00a0")


def test_measures_see_single_characters():
    assert overlap({"one": "我有一只猫", "other": "我没有猫"}) == 3 / 4
    assert numbers("我有14只猫和2只狗") == {14, 2}
    assert raise_numbers({"one": "我有14只猫"}) == {"one": "我有15只猫"}


def test_label_words_without_blanks_around_them_are_swapped():
    settings = PromptSettings(template="{text}\n答案是好评还是差评：", answers={"good": "好评", "bad": "差评"})
    swapped = swap_label_words(settings)
    assert swapped is not None
    assert swapped.template == "{text}\n答案是差评还是好评："
    within = PromptSettings(template="{text} Unsafe or safely?", answers={"yes": "safe", "no": "Unsafe"})
    assert swap_label_words(within) is None

"""The parallel sentences hold what their users count on: the same messages, fit for comparing lengths."""

import unicodedata

from utils import data

SCRIPTS = {  # languages whose letters are not Latin -> how Unicode's names of their letters begin
    "Russian": ("CYRILLIC",),
    "Arabic": ("ARABIC",),
    "Hindi": ("DEVANAGARI",),
    "Chinese": ("CJK",),
    "Japanese": ("CJK", "HIRAGANA", "KATAKANA"),
    "Korean": ("HANGUL",),
}


def test_every_language_has_the_same_messages():
    sentences = data.parallel_sentences()
    assert len(sentences) == 10 and next(iter(sentences)) == "English"
    for language, messages in sentences.items():
        assert len(messages) == len(set(messages)) == len(sentences["English"]) == 10, language
        for english, message in zip(sentences["English"], messages, strict=True):
            assert language == "English" or message != english
            assert message == unicodedata.normalize("NFC", message).strip()
            assert not any(character.isdigit() for character in message), message


def test_letters_are_those_of_the_language():
    for language, messages in data.parallel_sentences().items():
        expected = SCRIPTS.get(language, ("LATIN",))
        for character in "".join(messages):
            if character.isalpha() and not unicodedata.name(character).startswith(expected):
                assert unicodedata.category(character) == "Lm", f"{language}: {character!r}"

"""The committed corpus, input by input, without the fuzzer."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_of_each_target_holds(target: str) -> None:
    """Every target has a corpus, and no input in it breaks the target."""
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            error.add_note(f"of {path}")
            raise


def test_the_corpus_is_small_and_everything_in_it_is_used() -> None:
    """The corpus is smaller than 200 KB, since it is committed, and each of its folders has a target."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 200_000

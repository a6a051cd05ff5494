import os

import pytest

from fedjax_kd import kernels
from fedjax_kd.doctor import examine, report_lines
from fedjax_kd.kernels.native import library


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_bytes(bytes(1_500_000))
    return tmp_path


def answers():
    return {finding.subject: finding.answer for finding in examine()}


def test_every_question_has_one_answer_on_one_line(folders):
    found = examine()
    assert len({finding.subject for finding in found}) == len(found)
    for finding in found:
        assert finding.answer.strip() == finding.answer != ""
        assert "\n" not in finding.answer
    lines = report_lines()
    assert len(lines) == len(found)
    column = lines[0].index(found[0].answer)
    for line, finding in zip(lines, found, strict=True):
        assert line[column:] == finding.answer


def test_it_says_what_jax_says(folders):
    said = answers()
    assert said["platform"] == "cpu"
    assert said["devices"].startswith("2 ")
    assert "digits" in said["data ready"]
    assert said["data folder"] == f"{folders / 'data'} (1 files, 1.5 MB)"


def test_it_says_what_the_kernels_will_do(folders, monkeypatch):
    status = kernels.native_status()
    if not status.available:
        pytest.skip(f"no native kernels: {status.reason}")
    monkeypatch.delenv("FEDJAX_KD_KERNELS", raising=False)
    said = answers()
    assert said["kernels asked for"].startswith("auto")
    assert said["convolution"] == "native"
    assert said["dense layer"].startswith("native, for batches of")
    assert said["native library"] == f"{status.library} ({status.reason})"
    assert said["instruction set"] == status.instruction_set


def test_it_says_that_the_canonical_form_was_asked_for(folders, monkeypatch):
    monkeypatch.setenv("FEDJAX_KD_KERNELS", "canonical")
    said = answers()
    assert said["native library"] == "not looked for"
    assert said["convolution"] == "canonical: asked for"


@pytest.mark.parametrize(
    ("form", "verdict"),
    [
        ("auto", "canonical: no native library"),
        ("native", "refused, as native is asked for: no native library"),
    ],
)
def test_it_says_why_there_is_no_native_library(folders, monkeypatch, form, verdict):
    why = library.NativeStatus(False, "there is no C++ compiler")
    monkeypatch.setattr(library, "_status", lambda: why)
    monkeypatch.setenv("FEDJAX_KD_KERNELS", form)
    said = answers()
    assert said["native library"] == "none: there is no C++ compiler"
    assert said["convolution"] == verdict
    assert said["batch normalisation"] == "canonical: there is no other form"


def test_a_folder_that_is_not_there_is_told(folders, monkeypatch):
    monkeypatch.setenv("FEDJAX_KD_CACHE_DIR", str(folders / "elsewhere"))
    expected = os.path.join(folders, "elsewhere", "native")
    assert answers()["native libraries"] == f"{expected} (not there yet)"

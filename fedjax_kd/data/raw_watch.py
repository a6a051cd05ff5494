"""Smartwatch recordings of shoulder exercises, cut into windows.

Burns et al. 2018 (arXiv:1802.01489): 10 people did 7 exercises with either arm, wearing a watch
that measures acceleration and angular velocity at 50 Hz. The seglearn package (1.2.5, BSD-3) has
the 140 recordings as `seglearn/data/watch_dataset.npy`. Windows of 100 samples (2 s) start every 50
samples, so that consecutive windows of a recording share half of their samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedjax_kd.data.errors import RawFilesError
from fedjax_kd.data.raw_files import RawDataSet, RawSplit, check_digest, read_raw_files
from fedjax_kd.data.raw_pickle import load_object_array

WINDOW_SAMPLES = 100
STEP_SAMPLES = 50
CLASS_NAMES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")

_FILE = "watch_dataset.npy"
_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"


def read_watch(name: str, source: Path, *, verify: bool = True) -> RawDataSet:
    """All windows in one training split, with the user, the recording and the window's place.

    Further features: `client_id` (0..9, the person), `series` (0..139, the recording) and
    `position` (0, 1, ...: the window within its recording).

    Args:
      name: `watch`.
      source: folder with the wheel or the .npy file, or the wheel itself.
      verify: compare the .npy file with its known SHA-256 checksum.

    Raises:
      RawFilesError: the file is absent, damaged or another one.
    """
    del name
    content = read_raw_files(source, [_FILE])[_FILE]
    what = f"{source}: {_FILE}"
    if verify:
        check_digest(content, _SHA256, what=what, kind="sha256")
    recordings = load_object_array(content, what)
    loaded = recordings.item() if recordings.shape == () else None
    if not isinstance(loaded, dict):
        raise RawFilesError(f"{what}: not a dictionary of recordings")
    fields = {key.decode() if isinstance(key, bytes) else key: loaded[key] for key in loaded}
    if not {"X", "y", "subject"} <= fields.keys():
        raise RawFilesError(f"{what}: no X, y and subject in it, but {', '.join(map(str, fields))}")
    return RawDataSet(
        splits={"train": cut_windows(fields["X"], fields["y"], fields["subject"])}, label_names={}
    )


def cut_windows(series: list[np.ndarray], labels: np.ndarray, subjects: np.ndarray) -> RawSplit:
    """Overlapping windows of every recording.

    Args:
      series: one [samples, 6] array a recording.
      labels: [recordings] class of each.
      subjects: [recordings] who made it; ids are renumbered from 0 in ascending order.

    Returns:
      Inputs float32 [E, 100, 6], labels [E], and `client_id`, `series`, `position`, each [E].
    """
    windows, which, position = [], [], []
    for index, samples in enumerate(series):
        starts = range(0, len(samples) - WINDOW_SAMPLES + 1, STEP_SAMPLES)
        windows += [np.asarray(samples[s : s + WINDOW_SAMPLES], np.float32) for s in starts]
        which += [index] * len(starts)
        position += range(len(starts))
    recording = np.asarray(which, np.int64)
    users = np.unique(np.asarray(subjects), return_inverse=True)[1]
    return RawSplit(
        np.stack(windows),
        np.asarray(labels, np.int64)[recording],
        {
            "client_id": users.astype(np.int64)[recording],
            "series": recording,
            "position": np.asarray(position, np.int64),
        },
    )

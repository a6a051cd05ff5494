"""Two processes of one study: one writes, both save and restore the same, and stop together."""

import json
from pathlib import Path

from process_pair import run_pair


def test_two_processes_save_restore_and_stop_together(tmp_path):
    script = Path(__file__).with_name("checkpoint_pair_process.py")
    first, second = run_pair(script, str(tmp_path))
    assert first.code == 0, first.err
    assert second.code == 0, second.err
    said, other = (dict(map(json.loads, ended.out.splitlines())) for ended in (first, second))
    for told in (said, other):
        assert told["nothing"] is None
        assert told["made"] == [1]  # due by the clock of process 0 only
        assert told["stopped"] == [15, 2]  # asked for in process 1 only
        assert told["step"] == 2
        assert told["same"] is True
        assert told["notes"] == []
    assert said["refused"] == "own"
    assert other["refused"].startswith("process 0 has stopped: cannot write")
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "p").iterdir()) == ["1", "2"]

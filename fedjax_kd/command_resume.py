"""What `fedjax-kd resume` finds in a folder: the settings of its study, if they are still whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedjax_kd.study.folder import MANIFEST, SETTINGS, FolderError, differences, read_manifest
from fedjax_kd.study.load import (
    load_settings,
    settings_from_dict,
    settings_hash,
    settings_to_dict,
)
from fedjax_kd.study.studies import Study


def settings_of(folder: Path) -> tuple[Study, bool]:
    """The settings of the study in a folder, and whether it is complete.

    Args:
      folder: a folder of results.

    Raises:
      FolderError: there is no study in it, it belongs to a grid, or its settings are not those that
        it was started with.
      SettingsError: its settings cannot be used by this version.
    """
    if not folder.exists():
        raise FolderError(f"{folder}: there is no such folder")
    manifest = read_manifest(folder)
    if manifest.get("kind") == "batch":
        grid = folder.absolute().parent.parent
        raise FolderError(
            f"{folder} is a part of a grid; `fedjax-kd resume {grid}` goes on with the grid"
        )
    said = manifest.get("settings")
    if not isinstance(said, dict):
        raise FolderError(f"{folder / MANIFEST} holds no settings, so nothing can be resumed")
    settings = settings_from_dict(said, where=str(folder / MANIFEST))
    _require_same_file(folder, settings)
    _require_same_hash(folder, settings, manifest)
    return settings, manifest.get("status") == "complete"


def _require_same_file(folder: Path, settings: Study) -> None:
    path = folder / SETTINGS
    if not path.exists():
        return
    edited = load_settings(path)
    if edited != settings:
        differing = differences(settings_to_dict(settings), settings_to_dict(edited))
        raise FolderError(
            f"{path} was changed since the study began{differing} (there: {MANIFEST}, here: the "
            f"file). Put it back to resume the study, or run what it says now as another one: "
            f"fedjax-kd run {path} --out NEW"
        )


def _require_same_hash(folder: Path, settings: Study, manifest: dict[str, Any]) -> None:
    digest, recorded = settings_hash(settings), manifest["settings_hash"]
    if digest != recorded:
        raise FolderError(
            f"{folder}: its study has the hash {recorded}, its settings now give {digest}: the "
            f"device profile {settings.system.profile} or the settings in {MANIFEST} were changed "
            f"since the study began. Put them back to resume it, or run it anew: "
            f"fedjax-kd run {folder / SETTINGS} --out NEW"
        )

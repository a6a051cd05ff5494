"""The names that a settings file may use for models, data sources and device profiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedjax_kd.study.studies import Study, models_of


def unknown_names(settings: Study) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yields path, name and known names for every name that does not exist."""
    from fedjax_kd.data import SOURCES
    from fedjax_kd.models import MODELS

    if settings.data.source not in SOURCES:
        yield "data.source", settings.data.source, tuple(SOURCES)
    public = getattr(settings.data, "public", None)  # only some studies have any
    if public is not None and public.kind == "source" and public.source not in SOURCES:
        yield "data.public.source", public.source, tuple(SOURCES)
    for path, spec in models_of(settings):
        if spec.name not in MODELS:
            yield f"{path}.name", spec.name, tuple(MODELS)


def refused_options(settings: Study) -> Iterator[str]:
    """Yields a message for every option that its model does not have."""
    from fedjax_kd.models import MODELS

    for path, spec in models_of(settings):
        if spec.name not in MODELS:
            continue
        options = MODELS[spec.name].options
        for option in ("width", "hidden", "norm"):
            value = getattr(spec, option)
            if value is not None and option not in options:
                allowed = " | ".join(options) or "none"
                yield f"{path}.{option}: found {value}; the options of {spec.name} are {allowed}"


def refused_profile(settings: Study) -> Iterator[str]:
    """Yields a message if the device profile is unknown or its file is wrong."""
    from fedjax_kd.system import load_profile

    try:
        load_profile(settings.system.profile)
    except ValueError as error:
        yield f"system.profile: {error}"


def require_source(name: str, data_dir: Path | None = None) -> None:
    """Looks whether a data set is on this machine, without reading it.

    Args:
      name: a known source.
      data_dir: where prepared data sets lie; None for the default.

    Raises:
      DataSetMissing: it is not; the text says how to get it.
    """
    from fedjax_kd.data import DataSetMissing, data_sources_overview

    for source in data_sources_overview(data_dir):
        if source.name == name and not source.available:
            raise DataSetMissing(f"data.source: {name} is not on this machine; {source.how_to_get}")

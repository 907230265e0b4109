"""How a machine joins a service that is there already."""

from __future__ import annotations

import os
from pathlib import Path

from gridtune_common.errors import ConfigurationError
from gridtune_steering import logs, tracing
from gridtune_steering.assembly import assemble
from gridtune_steering.services import founding
from gridtune_steering.settings import Settings


def join(data: Path | None) -> Settings:
    """The settings, after a look at whether this machine and the service's database fit together.

    Raises:
        ConfigurationError: They do not; with what to do.
    """
    settings = Settings.from_environment(data=data)
    logs.set_up(settings)
    tracing.check(settings)
    os.umask(0o077)
    settings.data.mkdir(parents=True, exist_ok=True)
    if not (settings.data / "service.key").exists():
        raise ConfigurationError(
            f"{settings.data / 'service.key'} is not there; copy it from the machine that ran 'gridtune migrate'"
        )
    steering, bell = assemble(settings)
    founding.check(steering)
    steering.database.close()
    bell.close()
    return settings

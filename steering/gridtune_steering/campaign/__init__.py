"""The domain: how a task's search goes on, free of frameworks, clocks and databases (see README.md here)."""

from gridtune_steering.campaign.campaign import Campaign
from gridtune_steering.campaign.events import (
    Action,
    Credit,
    Event,
    Failed,
    Finish,
    Known,
    Note,
    Origin,
    Result,
    StopRule,
    Suggest,
    Tick,
    Told,
    Wish,
)
from gridtune_steering.campaign.snapshot import Snapshot

__all__ = [
    "Action",
    "Campaign",
    "Credit",
    "Event",
    "Failed",
    "Finish",
    "Known",
    "Note",
    "Origin",
    "Result",
    "Snapshot",
    "StopRule",
    "Suggest",
    "Tick",
    "Told",
    "Wish",
]

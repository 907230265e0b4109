"""The domain: how a task's search goes on, free of frameworks, clocks and databases (see README.md here)."""

from gridtune_steering.campaign.campaign import Campaign
from gridtune_steering.campaign.events import Action, Credit, Event, Failed, Finish, StopRule, Suggest, Tick, Told

__all__ = ["Action", "Campaign", "Credit", "Event", "Failed", "Finish", "StopRule", "Suggest", "Tick", "Told"]

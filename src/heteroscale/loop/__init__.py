"""The control loop: observe, plan, record, act. The only caller of ports.

Time passes and things fail here, and nowhere below: one failing service, sub-cluster or source
never stops the rest.
"""

from heteroscale.loop.control import ControlLoop, TickReport, actions_digest

__all__ = ["ControlLoop", "TickReport", "actions_digest"]

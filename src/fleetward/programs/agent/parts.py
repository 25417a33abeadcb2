"""What every part of the agent is given."""

from dataclasses import dataclass

from fleetward.base.agent_config import AgentConfig
from fleetward.outside.http.device import DeviceHttp
from fleetward.programs.agent.clock import DeviceClock
from fleetward.programs.agent.log import AgentLog
from fleetward.programs.agent.loop import Loop


@dataclass(frozen=True)
class Parts:
    """Settings, time, the loop, the log, and the way to the platform."""

    config: AgentConfig
    clock: DeviceClock
    loop: Loop
    log: AgentLog
    http: DeviceHttp

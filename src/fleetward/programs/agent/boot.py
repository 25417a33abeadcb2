"""The reference boot stage: verifies and measures the firmware, then starts it and the agent.

1. The boot pointer says which slot is on trial or active; a start of a trial costs one of its tries.
2. A slot starts only when its manifest is signed by keys pinned at provisioning, for this model, its image
   is the one the manifest names, and its security counter is not below the device's (TPM NV, or a file).
3. Boot stage and pinned keys go into PCR 8, image and manifest into PCR 9, before anything of them runs.
4. When no slot may start, the agent runs alone (`--degraded`): the platform hears of it, and can send more.

A real device does 1 to 3 in its boot loader and keeps the slots under dm-verity; this stage shares the disk
with what it starts, so who writes the disk as its user can change an image after it was verified.
"""

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from fleetward import __version__
from fleetward.base.agent_config import AgentConfig, TpmKeys
from fleetward.base.clock import SystemClock
from fleetward.base.errors import ConfigError
from fleetward.base.files import write_secret
from fleetward.features.updates.boot.measurement import digest_boot_stage, measure_start
from fleetward.features.updates.boot.pointer import BootPointer
from fleetward.features.updates.boot.record import make_record, render_record
from fleetward.features.updates.boot.selection import (
    BootRules,
    Selection,
    Verified,
    select,
    verify_slot,
)
from fleetward.features.updates.device.settings import Firmware
from fleetward.features.updates.ports import BootChip
from fleetward.outside.slots.counter import COUNTER_FILE, FileCounter
from fleetward.outside.slots.folder import SlotFolder
from fleetward.programs.agent.config import load_agent_config
from fleetward.programs.agent.log import AgentLog
from fleetward.programs.agent.pinned import boot_record_file, load_pinned_keys
from fleetward.programs.agent.supervise import Program, Supervisor
from fleetward.wire.event_log import render_event_log


@dataclass(frozen=True)
class Start:
    """What this start found and decided."""

    selection: Selection
    rules: BootRules
    slots: SlotFolder

    def is_unchanged(self) -> bool:
        """Whether the slot still holds the firmware that was verified and measured."""
        chosen = self.selection.chosen
        if chosen is None:
            return False
        found = verify_slot(chosen.slot, self.slots.read(chosen.slot), self.rules)
        return isinstance(found, Verified) and found.envelope == chosen.envelope

    def is_on_trial(self) -> bool:
        """Whether the firmware has not been confirmed since it was started."""
        pointer = self.slots.read_pointer()
        return self.selection.is_trial and pointer is not None and pointer.trial is not None


def run_boot(config_file: Path) -> int:
    """Boot the device and watch over it; return the exit code, 75 to ask for a reboot.

    Raises:
        ConfigError: settings, or what provisioning pinned, are missing or wrong.
        KeyUnavailableError: the TPM does not answer; nothing starts without its counter.
    """
    config = load_agent_config(config_file)
    firmware = config.find(Firmware)
    if firmware is None:
        raise ConfigError(
            f"{config_file}: firmware: expected the section, found none",
            hint="A device without firmware slots runs the agent alone: fleetward agent run --config FILE",
        )
    log = AgentLog(SystemClock(), level=config.log_level)
    start = start_firmware(config, firmware, open_chip(config), log)
    supervisor = Supervisor(
        _agent(config, config_file, is_degraded=start.selection.chosen is None),
        _application(config, firmware, start),
        is_on_trial=start.is_on_trial,
        may_start=start.is_unchanged,
        log=log,
    )
    return supervisor.run()


def open_chip(config: AgentConfig) -> BootChip:
    """Return the TPM, or a file that counts in its place."""
    if isinstance(config.keys, TpmKeys):
        from fleetward.outside.keys.tpm import TpmKeyStore  # noqa: PLC0415 - only this tier pays

        return TpmKeyStore(config.keys.tcti, config.keys.folder)
    return FileCounter(config.state_dir / COUNTER_FILE)


def start_firmware(config: AgentConfig, firmware: Firmware, chip: BootChip, log: AgentLog) -> Start:
    """Choose, verify, measure and record; all but starting it.

    Raises: as `run_boot`.
    """
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    pinned = load_pinned_keys(firmware.keys_file)
    rules = BootRules(pinned, firmware.model, chip.read_counter())
    slots = SlotFolder(firmware.slots_dir)
    selection = _select(slots, rules, log)
    entries = measure_start(
        digest_boot_stage(), firmware.keys_file.read_bytes(), selection.chosen, version=__version__
    )
    for entry in entries:
        chip.extend_pcr(entry.pcr, entry.digest)
    record = render_record(make_record(selection, secrets.token_hex(8)))
    _store(config.event_log, render_event_log(entries), log)
    _store(boot_record_file(config.state_dir), record, log)
    for refused in selection.refused:
        log.error("boot_refused", slot=refused.slot, reason=refused.refusal, message=refused.message)
    chosen = selection.chosen
    if chosen is None:
        log.error("boot_degraded", reason="no slot holds firmware that may start; the agent runs alone")
    else:
        log.info("boot_verified", slot=chosen.slot, version=chosen.manifest.version, trial=selection.is_trial)
    return Start(selection, rules, slots)


def _select(slots: SlotFolder, rules: BootRules, log: AgentLog) -> Selection:
    pointer = slots.read_pointer()
    selection = select(pointer, slots.read, rules)
    if selection.pointer == pointer:
        return selection
    try:
        slots.write_pointer(selection.pointer)
    except OSError as error:
        log.warning("pointer_not_stored", reason=error.strerror)
        if selection.is_trial:
            # A try that cannot be counted may not be taken, or a crash loop would never end.
            confirmed = BootPointer(selection.pointer.active, None, selection.pointer.failed)
            return select(confirmed, slots.read, rules)
    return selection


def _store(path: Path, content: bytes, log: AgentLog) -> None:
    """Write a record of this start; one that cannot be written must at least not tell of an earlier start."""
    try:
        path.unlink(missing_ok=True)
        write_secret(path, content)
    except OSError as error:
        log.warning("boot_record_not_stored", path=str(path), reason=error.strerror)


def _agent(config: AgentConfig, config_file: Path, *, is_degraded: bool) -> Program:
    command = [sys.executable, "-m", "fleetward", "agent", "run", "--config", str(config_file.resolve())]
    return Program("agent", [*command, *(["--degraded"] if is_degraded else [])], config.state_dir)


def _application(config: AgentConfig, firmware: Firmware, start: Start) -> Program | None:
    chosen = start.selection.chosen
    if chosen is None:
        return None
    values = {"{python}": sys.executable, "{image}": str(start.slots.image(chosen.slot).resolve())}
    command = list(firmware.command)
    for name, value in values.items():
        command = [part.replace(name, value) for part in command]
    environment = {
        "FLEETWARD_AGENT_SOCKET": str(config.agent_socket.resolve()),
        "FLEETWARD_FIRMWARE_VERSION": chosen.manifest.version,
    }
    return Program("application", command, config.state_dir, environment)

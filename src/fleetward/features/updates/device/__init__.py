"""The device's side of updates: a machine that takes events and gives commands; the agent does the I/O.

    IDLE → CHECKING → DOWNLOADING → VERIFYING → WRITING → SWITCHING → REBOOTING → (boot stage) →
    TRIAL → CONFIRMING → IDLE,   or   TRIAL → ROLLING_BACK → REBOOTING → (boot stage) → IDLE

Rules:
- Nothing is written to the inactive slot before signature, model, counter, length and digests have been seen
  to be right, and the boot pointer moves only after the slot was read back.
- The security counter moves only after a trial is confirmed: a bad release can always be rolled back.
- A release that failed its trial, or whose manifest no pinned key signed, is remembered and never tried
  again. What another attempt may mend (network, disk, a damaged download) is tried again, in growing pauses.
- Times are seconds of a clock that only moves forward: a corrected wall clock must not end a trial.

How to drive it:

    machine = UpdateMachine(settings, saved)          # saved: content of the last Save, or None
    for command in machine.handle(Started(…), now_s): perform it, in order; hand in the event that answers it
    hand in Tick() when machine.wake_at_s has come

Answers: `Check` → `Offered` | `CheckFailed`; `Locate` → `Located` | `CheckFailed`; `Download` → `Progressed`
(the machine asks again) | `Downloaded` | `DownloadFailed`; `Verify` → `Verified` | `VerifyFailed`; `Write` →
`Written` | `WriteFailed`; `Switch` → `Switched` | `WriteFailed`; `Confirm` → `Confirmed` | `WriteFailed`;
`RollBack` → `RolledBack` | `WriteFailed`. The others have none. `Save.content` replaces the state file before
the command after it is touched; a kill anywhere is then recovered from by a new machine and `Started`.
"""

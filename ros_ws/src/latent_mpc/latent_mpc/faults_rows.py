"""The fault table: each fault and the bar for it, in the words of the design."""

from __future__ import annotations

ROWS: dict[str, str] = {
    "camera stale, frozen stamp, duplicate frames": "hold above 100 ms, ramp to stop above 300 ms, no plan from a stale frame",
    "joint states lost": "noticed within 60 ms, jerk-limited stop",
    "planner or driver killed": "noticed within 100 ms",
    "NaN/inf from the network or a message": "0 non-finite values published in 10^6",
    "position, velocity, acceleration, jerk": "0 violations in 20,000 adversarial cycles",
    "self-collision, scene, workspace": "distance above the margin at every published step, checked each cycle and over the horizon",
    "planner overrun": "last validated plan up to its horizon, then ramp",
    "(re)activation": "first command within 1e-3 rad of the measured position; explicit re-arm",
    "clock jump, sim reset": "history cleared, re-arm",
    "second commander on the command topic": "hold and an ERROR diagnostic",
    "malformed payloads, 10^4 fuzzed": "no crash, no command change",
    "wrong joint order / names / length": "reordered by name; missing or duplicate rejected and counted",
    "wrong image encoding, size, step, endianness": "rejected, no exception",
    "30 % drop + 200 ms delay": "no violation",
    "tracking error above tolerance for N cycles": "stop",
    "e-stop": "latched, within one cycle; release needs an explicit call",
    "recorder slow, disk full": "control loop untouched, drops counted",
}

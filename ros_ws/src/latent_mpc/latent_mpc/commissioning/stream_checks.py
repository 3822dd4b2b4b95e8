"""Topics that somebody must publish: are they there, of the right type, compatible, fast enough, and on this machine's time?"""

from __future__ import annotations

import numpy as np

from latent_mpc.commissioning.findings import Finding, judged, skipped
from latent_mpc.commissioning.observation import Observation

LEAST_SHARE = 0.7
"""Of the rate that was stated a stream must have: it is measured over seconds on a machine that also does other things."""
# Stamps that lie in the future, or that far in the past, come from another clock: no driver buffers for a second.
_FUTURE_S, _PAST_S = -0.01, 1.0


def check_stream(name: str, topic: str, kind: str, rate_hz: float, latency_ms: float, seen: Observation) -> list[Finding]:
    """Six findings ``name.present``, ``.type``, ``.qos``, ``.rate``, ``.clock`` and ``.latency`` of a stamped ``topic`` of type ``kind``."""
    keys = ("present", "type", "qos", "rate", "clock", "latency")
    publishers = seen.publishers.get(topic, ())
    if not publishers:
        elsewhere = sorted(other for other, found in seen.publishers.items() if any(endpoint.type == kind for endpoint in found))
        hint = f"; of that type there are {', '.join(elsewhere)}" if elsewhere else ""
        absent = judged(f"{name}.present", False, f"nobody publishes {topic}", f"start the driver, or name its topic in the robot's file{hint}")
        return [absent, *(skipped(f"{name}.{key}", "no publisher") for key in keys[1:])]
    findings = [
        judged(f"{name}.present", len(publishers) == 1, f"{topic} from {_names(publishers)}", "two publishers contradict each other: stop one")
    ]
    wrong = sorted({endpoint.type for endpoint in publishers} - {kind})
    findings.append(judged(f"{name}.type", not wrong, ", ".join(wrong) or kind, f"this software reads {kind} there"))
    if wrong:
        return [*findings, *(skipped(f"{name}.{key}", "another type") for key in keys[2:])]
    objections = [endpoint.objection for endpoint in publishers if endpoint.objection]
    findings.append(judged(f"{name}.qos", not objections, "; ".join(objections) or "compatible", "change the publisher's quality of service"))
    stream = seen.streams.get(topic)
    if stream is None or not stream.arrivals.size:
        silent = judged(f"{name}.rate", False, f"no message in {seen.seconds:.1f} s", "it is announced but silent: look at the driver's log")
        return [*findings, silent, *(skipped(f"{name}.{key}", "no message") for key in keys[4:])]
    needed = LEAST_SHARE * rate_hz
    findings.append(
        judged(
            f"{name}.rate",
            stream.rate_hz >= needed,
            f"{stream.rate_hz:.1f} Hz of {rate_hz:g}",
            f"at least {needed:.0f} Hz are needed: raise the driver's rate, or correct rate_hz in the robot's file",
        )
    )
    # Two publishers' stamps take turns, and may agree; only those of a clock that stands are few.
    fresh = stream.stamps.size < 3 or 4 * np.unique(stream.stamps).size > stream.stamps.size
    unstamped = bool((stream.stamps == 0).all())
    good = not unstamped and fresh and _FUTURE_S <= stream.lag_s <= _PAST_S
    told = "no stamps" if unstamped else "the stamp stands still" if not fresh else f"stamps {1e3 * stream.lag_s:.1f} ms before arrival"
    findings.append(judged(f"{name}.clock", good, told, "let both machines follow one clock (chrony), or have the driver stamp; see docs/deploy.md"))
    if not good:
        return [*findings, skipped(f"{name}.latency", "stamps cannot tell")]
    late = 1e3 * stream.lag_s
    advice = "shorten the way: wired network, smaller pictures, no compression on the way"
    findings.append(judged(f"{name}.latency", late <= latency_ms, f"{late:.1f} ms of at most {latency_ms:g}", advice))
    return findings


def _names(endpoints: tuple[object, ...]) -> str:
    return ", ".join(str(getattr(endpoint, "node", endpoint)) for endpoint in endpoints)
